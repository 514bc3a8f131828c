"""Pretrain the face encoder as a masked autoencoder (paper §3.2).

In:  <data-dir>/prepared/manifest.csv (01), every image that is not held out for validation or test.
Out: <run-dir>/mae/model.safetensors   the encoder, with timm's parameter names
                  autoencoder.safetensors (encoder.* and decoder_*), reconstructions.png,
                  metrics.csv, run.json

Examples
  python 02_pretrain_mae.py --config configs/demo.toml
  accelerate launch 02_pretrain_mae.py --global-batch 4096 --batch-size 128 --run-dir runs/vit_b
  python 02_pretrain_mae.py --init timm:vit_base_patch16_224.mae --epochs 5 --probe 1
"""

from __future__ import annotations

import argparse

from common.script.config import make_parser, parse_arguments
from common.script.flags import count, fraction, positive, positive_float
from common.script.main import run_script

# Other modules are imported in functions, so that --help and a wrong flag need not wait for torch.


def arguments():
    parser = make_parser(
        __doc__,
        *("data_dir", "run_dir", "seed", "epochs", "global_batch", "batch_size", "workers"),
        *("mixed_precision", "model", "model_options", "image_size", "mean", "std", "init"),
        *("ema", "compile", "grad_checkpointing", "limit", "save_minutes", "report_to"),
        *("weight_decay", "warmup_epochs", "clip_grad", "crop_area"),
        epochs=20,  # the authors' code loads an encoder named model-20
        global_batch=4096,  # paper §4.3
        warmup_epochs=2.0,
        crop_area=[0.2, 1.0],
        init="none",
    )
    add = parser.group("masked autoencoder").add_argument
    add("--mask-ratio", type=fraction, default=0.75, help="share of hidden patches")  # paper §3.2
    add(
        "--norm-pix-loss",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="predict each patch normalised by its own mean and deviation",
    )
    add("--decoder-dim", type=positive, default=512, help="features of the decoder")
    add("--decoder-depth", type=positive, default=8, help="blocks of the decoder")
    add("--decoder-heads", type=positive, default=16, help="attention heads of the decoder")
    parser.group("optimisation").add_argument(
        "--blr", type=positive_float, default=1.5e-4, help="peak learning rate for a batch of 256"
    )
    add = parser.group("run").add_argument
    add("--picture-every", type=positive, default=5, help="epochs between reconstructions.png")
    add("--probe", type=count, default=0, help="epochs between linear probes, 0: none")
    return parse_arguments(parser, "pretrain_mae")


def main() -> None:
    args = arguments()
    from common import manifest, splits
    from common.script import files
    from common.training import checks, runs

    checks.check_encoder(args)
    path = args.data_dir / "prepared" / "manifest.csv"
    table = manifest.read_manifest(path)
    held_out = splits.hold_out(table)
    training = splits.training_rows(table, held_out)
    shown = splits.thin_out(table[training], args.limit)
    checks.check_images(len(shown), path.parent)
    facts = {"manifest_sha256": files.file_digest(path), **runs.init_facts(args.init)}
    run = runs.start_run(args, "mae", facts)
    if run is None:
        return
    run.say(
        f"mae: {len(shown):,} images on {run.hardware} ({held_out.sum():,} held out for validation"
        f"{splits.held_back(table, training, held_out)})"
    )
    train(run, run.images(shown), table, training, held_out)
    runs.finish_run(run)
    run.say(f"mae: encoder in {run.folder / 'model.safetensors'}")


def train(run, store, table, training, held_out) -> None:
    """Train the autoencoder on the images of a store, and keep the encoder.

    table: the manifest; training, held_out: bool [n], its rows that a probe may fit and judge by.
    """
    import numpy as np

    from common.batches import augment, images, loading
    from common.networks import classifier, mae, weights
    from common.training import loop, optimization, probe
    from common.training.experiment import Experiment

    settings = run.settings
    encoder = classifier.create_encoder(
        settings["model"], settings["image_size"], settings["model_options"]
    )
    model = mae.MaskedAutoencoder(
        encoder,
        mask_ratio=settings["mask_ratio"],
        decoder_dim=settings["decoder_dim"],
        decoder_depth=settings["decoder_depth"],
        decoder_heads=settings["decoder_heads"],
        norm_pix_loss=settings["norm_pix_loss"],
    )
    if settings["init"] != "none":
        report, decoder = weights.start_autoencoder(model, settings["init"])
        run.say(f"{report}\n  the decoder: {'too' if decoder else 'starts at random'}")
        run.notes["weights"] = [report.record()]
    probing = settings["probe"] and probe.linear_probe(run, encoder, table, training, held_out)
    epochs, size = settings["epochs"], settings["global_batch"]
    steps = -(-len(store) // size)  # an epoch

    def plan(epoch):
        order = np.random.default_rng([settings["seed"], epoch]).permutation(len(store))
        return loading.Plan(order, np.zeros((len(store), 0), dtype=np.float32))

    def loss(network, batch):
        pixels = augment.normalise(batch.images, settings["mean"], settings["std"])
        return network(pixels, batch.uniform)[0]

    def validate(epoch):
        def due(every):
            return (epoch + 1) % every == 0 or epoch + 1 == epochs

        if due(settings["picture_every"]) and run.main:
            probe.save_reconstructions(run, model, store)
        return probing() if probing and due(settings["probe"]) else {}

    rate = mae.learning_rate_of(settings["blr"], size)
    experiment = Experiment(
        name="mae",
        epochs=epochs,
        plan=plan,
        loss=loss,
        geometry=images.Geometry(
            settings["image_size"], tuple(settings["crop_area"]), crop_ratio=(3 / 4, 4 / 3)
        ),
        randoms=model.patches,
        optimizer=optimization.make_optimizer(
            model, rate, settings["weight_decay"], betas=(0.9, 0.95)
        ),
        schedule=optimization.cosine(epochs * steps, round(settings["warmup_epochs"] * steps)),
        validate=validate,
    )
    loop.fit(run, model, store, experiment)
    if run.main:
        weights.save_model(run.folder, encoder)
        weights.save_weights(run.folder / "autoencoder.safetensors", model)


if __name__ == "__main__":
    run_script(main)

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

from common.script.config import make_parser, parse_arguments, run_script
from common.script.flags import count, fraction, not_negative, positive, positive_float


def arguments():
    parser = make_parser(
        __doc__,
        *("data_dir", "run_dir", "seed", "epochs", "global_batch", "batch_size", "workers"),
        *("mixed_precision", "model", "model_options", "image_size", "mean", "std", "init"),
        *("ema", "compile", "grad_checkpointing", "limit", "save_minutes", "report_to"),
        epochs=20,  # the authors' code loads an encoder named model-20
        global_batch=4096,  # paper §4.3
        init="none",
    )
    add = parser.add_argument
    add("--mask-ratio", type=fraction, default=0.75, help="share of hidden patches")  # paper §3.2
    add("--blr", type=positive_float, default=1.5e-4, help="learning rate for a batch of 256")
    add("--weight-decay", type=fraction, default=0.05, help="of AdamW")
    add("--warmup-epochs", type=not_negative, default=2.0, help="epochs of rising learning rate")
    add("--crop-area", type=fraction, nargs=2, default=[0.2, 1.0], help="range of the random crop")
    add("--norm-pix-loss", action=argparse.BooleanOptionalAction, default=False,
        help="target: each patch normalised by itself")  # fmt: skip
    add("--decoder-dim", type=positive, default=512, help="features of the decoder")
    add("--decoder-depth", type=positive, default=8, help="blocks of the decoder")
    add("--decoder-heads", type=positive, default=16, help="attention heads of the decoder")
    add("--picture-every", type=positive, default=5, help="epochs between reconstructions.png")
    add("--probe", type=count, default=0,
        help="epochs between linear probes of the frozen encoder, 0: none")  # fmt: skip
    return parse_arguments(parser, "pretrain_mae")


def main() -> None:
    args = arguments()
    # Here, so that --help and a mistyped flag are answered before torch is imported.
    import numpy as np

    from common.batches.augment import normalise
    from common.batches.images import Geometry, ImageStore
    from common.batches.loading import Plan
    from common.manifest import hold_out, read_manifest, thin_out, training_rows
    from common.networks.classifier import create_encoder
    from common.networks.mae import MaskedAutoencoder, learning_rate_of
    from common.networks.weights import save_model, save_weights, start_autoencoder
    from common.script.files import UserError, file_digest
    from common.training.loop import fit
    from common.training.optimization import cosine, make_optimizer
    from common.training.probe import linear_probe, save_reconstructions
    from common.training.runs import finish_run, init_facts, start_run

    prepared = args.data_dir / "prepared"
    manifest = read_manifest(prepared / "manifest.csv")
    held = hold_out(manifest)
    training = training_rows(manifest, held)
    seen = thin_out(manifest[training], args.limit)
    if seen.empty:
        raise UserError(f"{prepared} has no image that is not held out for validation or test.")
    facts = {"manifest_sha256": file_digest(prepared / "manifest.csv"), **init_facts(args.init)}
    run = start_run(args, "mae", facts)
    if run is None:
        return
    store = ImageStore(prepared, seen.image)
    run.say(
        f"mae: {len(store):,} images on {run.hardware} ({held.sum():,} held out for validation)"
    )

    encoder = create_encoder(args.model, args.image_size, args.model_options)
    model = MaskedAutoencoder(
        encoder,
        mask_ratio=args.mask_ratio,
        decoder_dim=args.decoder_dim,
        decoder_depth=args.decoder_depth,
        decoder_heads=args.decoder_heads,
        norm_pix_loss=args.norm_pix_loss,
    )
    if args.init != "none":
        decoder = "too" if start_autoencoder(model, args.init)[1] else "starts at random"
        run.say(f"mae: encoder from {args.init}; its decoder {decoder}")
    probe = linear_probe(run, encoder, prepared, manifest, training, held) if args.probe else None
    steps_an_epoch = -(-len(store) // args.global_batch)
    rate = learning_rate_of(args.blr, args.global_batch)

    def plan(epoch: int) -> Plan:
        order = np.random.default_rng([args.seed, epoch]).permutation(len(store))
        return Plan(order, np.zeros((len(store), 0), dtype=np.float32))

    def loss(network, batch):
        return network(normalise(batch.images, args.mean, args.std), batch.uniform)[0]

    def look(epoch: int) -> dict:
        def due(every):
            return (epoch + 1) % every == 0 or epoch + 1 == args.epochs

        if due(args.picture_every) and run.main:
            save_reconstructions(run, model, store)
        return probe() if probe and due(args.probe) else {}

    fit(
        run,
        model,
        store,
        name="mae",
        epochs=args.epochs,
        plan=plan,
        loss=loss,
        geometry=Geometry(args.image_size, tuple(args.crop_area), crop_ratio=(3 / 4, 4 / 3)),
        randoms=model.patches,
        optimizer=make_optimizer(model, rate, args.weight_decay, betas=(0.9, 0.95)),
        schedule=cosine(args.epochs * steps_an_epoch, round(args.warmup_epochs * steps_an_epoch)),
        validate=look,
    )
    if run.main:
        save_model(run.folder, encoder)
        save_weights(run.folder / "autoencoder.safetensors", model)
    finish_run(run)
    run.say(f"mae: encoder in {run.folder / 'model.safetensors'}")


if __name__ == "__main__":
    run_script(main)

"""Train the six-emotion classifier on single expressions (paper §3.2 and §3.3).

Two phases: the encoder is adapted to expressions on AffectNet and Aff-Wild2 (eight classes, a head
that is thrown away), then six sigmoid logits are trained on the other sets' single expressions,
without Neutral.

In:  <data-dir>/prepared/manifest.csv (01), <run-dir>/mae/model.safetensors (02)
Out: <run-dir>/single/model.safetensors   of the epoch with the best validation macro-F1
                     metrics.csv, confusion.png, curves.png, run.json

Examples
  python 03_finetune_single.py --config configs/demo.toml
  accelerate launch 03_finetune_single.py --global-batch 256 --run-dir runs/vit_b
  python 03_finetune_single.py --adapt-epochs 0 --datasets RAF-DB-basic --init weights.safetensors
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from common.augment import RANDOMS, augment, normalise
from common.classifier import create_classifier, read_weights, save_model, start_from
from common.config import fraction, make_parser, parse_arguments, positive_float, run_script
from common.emotions import ADAPTATION, BASIC, multi_hot
from common.files import UserError, file_digest
from common.loading import Geometry, ImageStore, Plan
from common.manifest import hold_out, read_manifest, thin_out
from common.metrics import confusion, macro_f1
from common.report import save_confusion, save_curves
from common.runs import finish_run, init_facts, start_run
from common.training import cosine, fit, make_optimizer, predict


def arguments():
    parser = make_parser(
        __doc__,
        *("data_dir", "run_dir", "seed", "epochs", "global_batch", "batch_size", "workers"),
        *("mixed_precision", "model", "model_options", "image_size", "mean", "std", "init"),
        *("limit", "save_minutes", "report_to"),
        epochs=20,
    )
    add = parser.add_argument
    add("--datasets", nargs="+", help="sets of the single phase (default: all but those to adapt)")
    add("--adapt-datasets", nargs="*", default=["AffectNet", "Aff-Wild2"], help="sets to adapt on")
    add("--adapt-epochs", type=int, default=5, help="epochs of the adaptation, 0 for none")
    add("--adapt-lr", type=positive_float, default=1e-5, help="learning rate of the adaptation")
    add("--lr", type=positive_float, default=1e-5, help="learning rate of the single phase")
    add("--weight-decay", type=float, default=0.05, help="of AdamW")
    add("--layer-decay", type=fraction, default=1.0, help="factor of the rate, block by block")
    add("--warmup-epochs", type=float, default=1.0, help="epochs of rising learning rate")
    add("--drop-path", type=fraction, default=0.0, help="share of skipped blocks in the last block")
    add("--crop-area", type=fraction, nargs=2, default=[0.6, 1.0], help="range of the random crop")
    add("--jitter", type=fraction, default=0.3, help="strength of the colour jitter")
    add("--cutout", type=fraction, default=0.5, help="share of images with a square cut out")
    return parse_arguments(parser, "finetune_single")


def main() -> None:
    args = arguments()
    args.init = args.init or str(args.run_dir / "mae" / "model.safetensors")
    prepared = args.data_dir / "prepared"
    manifest = read_manifest(prepared / "manifest.csv")
    held = hold_out(manifest)
    manifest = thin_out(manifest[manifest.kind == "single"], args.limit)
    held = held[manifest.index]
    facts = {"manifest_sha256": file_digest(prepared / "manifest.csv"), **init_facts(args.init)}
    # Both phases are checked before either is trained: a night of adaptation must not end in an
    # error that could have been told at once.
    adapting = manifest.dataset.isin(args.adapt_datasets)
    named = manifest.dataset.isin(args.datasets) if args.datasets else ~adapting
    emotional = manifest.labels.isin(BASIC)  # paper §3.3: without Neutral
    chosen, neutral = named & emotional, int((named & ~emotional).sum())
    counts = len(trainable(manifest[chosen], held[chosen])), int(held[chosen].sum())
    if not all(counts):
        raise UserError(
            f"The single phase finds {counts[0]} images to train on and {counts[1]} to validate on "
            f"in {', '.join(args.datasets or ['all data sets but those to adapt on'])}; labelled "
            f"sets prepared are: {', '.join(sorted(set(manifest.dataset))) or 'none'}."
        )
    run = start_run(args, "single", facts)
    if run is None:
        return
    start = None if args.init == "none" else args.init
    if adapting.any() and args.adapt_epochs:
        start = adapt(run, args, start, prepared, manifest[adapting], held[adapting])
    elif args.adapt_epochs:
        run.say(f"adapt: none of {', '.join(args.adapt_datasets)} prepared; phase left out")
    run.say(f"single: {neutral:,} images of no basic emotion left out")
    train_single(run, args, start, prepared, manifest[chosen], held[chosen])
    finish_run(run)
    run.say(f"single: classifier in {run.folder / 'model.safetensors'}")


def adapt(run, args, start, prepared, rows: pd.DataFrame, held: pd.Series) -> str:
    """Train the encoder on the eight classes of AffectNet, and return the file it is kept in."""
    path = run.folder / "adapted" / "model.safetensors"
    labels = np.array([ADAPTATION.index(label) for label in rows.labels])
    checking = np.flatnonzero(held)
    network = create_classifier(args.model, args.image_size, options(args), classes=len(ADAPTATION))
    if start:
        start_from(network, start)
    one_hot = np.eye(len(ADAPTATION), dtype=np.float32)[labels]

    def loss(network, batch):
        logits = network(network_input(args, batch))
        return functional.cross_entropy(logits, batch["targets"], reduction="none")

    def score(logits):
        return macro_f1(labels[checking], logits.argmax(1), len(ADAPTATION))

    store = ImageStore(prepared, rows.image)
    phase(
        run, args, network, store, "adapt", trainable(rows, held), checking, one_hot, loss, score,
        args.adapt_epochs, args.adapt_lr,
    )  # fmt: skip
    if run.main:
        save_model(path.parent, network)
    run.accelerator.wait_for_everyone()
    return str(path)


def train_single(run, args, start, prepared, rows: pd.DataFrame, held: pd.Series) -> None:
    """Train six sigmoid logits with binary cross-entropy (eq. 1); keep the best epoch."""
    checking = np.flatnonzero(held)
    targets = np.stack([multi_hot(label) for label in rows.labels])
    truth = targets.argmax(1)
    network = create_classifier(args.model, args.image_size, options(args))
    if start:
        start_from(network, start)

    def loss(network, batch):
        logits = network(network_input(args, batch))
        return functional.binary_cross_entropy_with_logits(
            logits, batch["targets"], reduction="none"
        ).sum(1)  # eq. 1: summed over classes, averaged over images

    def score(logits):
        return macro_f1(truth[checking], logits.argmax(1), len(BASIC))

    store = ImageStore(prepared, rows.image)
    table, validation = phase(
        run, args, network, store, "single", trainable(rows, held), checking, targets, loss, score,
        args.epochs, args.lr, keep=True,
    )  # fmt: skip
    network.load_state_dict(read_weights(run.folder / "model.safetensors"))
    matrix = confusion(truth[checking], validation().argmax(1), len(BASIC))
    if run.main:
        save_confusion(run.folder / "confusion.png", matrix, BASIC, "Single expressions")
        save_curves(run.folder / "curves.png", table, ["loss", "val_macro_f1"], "Single phase")
    run.say(f"single: best validation macro-F1 {table.val_macro_f1.max():.4f}")


def phase(
    run, args, network, store, name, training, checking, targets, loss, score, epochs, rate,
    keep=False,
):  # fmt: skip
    """Fit one phase, validating after each epoch; return its table and the validation function."""
    run.say(f"{name}: {len(training):,} images, {len(checking):,} to validate")
    network.to(run.accelerator.device)
    steps_an_epoch = -(-len(training) // args.global_batch)

    def plan(epoch: int) -> Plan:
        order = np.random.default_rng([args.seed, epoch]).permutation(training)
        return Plan(order, targets[order])

    def validation() -> np.ndarray:
        return predict(
            run, network, store, checking, targets.shape[1],
            lambda images: normalise(images, args.mean, args.std),
        )  # fmt: skip

    def validate(_: int) -> dict:
        return {"val_macro_f1": score(validation())} if len(checking) else {}

    table = fit(
        run,
        network,
        store,
        name=name,
        epochs=epochs,
        plan=plan,
        loss=loss,
        geometry=Geometry(args.image_size, crop_area=tuple(args.crop_area)),
        randoms=RANDOMS,
        optimizer=make_optimizer(network, rate, args.weight_decay, args.layer_decay),
        schedule=cosine(epochs * steps_an_epoch, round(args.warmup_epochs * steps_an_epoch)),
        validate=validate,
        best="val_macro_f1" if keep else None,
        keep=lambda: save_model(run.folder, network),
    )
    return table, validation


def trainable(rows: pd.DataFrame, held: pd.Series) -> np.ndarray:
    """Return the positions of the rows to train on."""
    return np.flatnonzero(~held & rows.split.isin(["train", ""]))


def network_input(args, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Augment and normalise a batch on the device (paper §3.3: flip, crop, jitter, cutout)."""
    return augment(
        batch, jitter=args.jitter, cutout_probability=args.cutout, mean=args.mean, std=args.std
    )


def options(args) -> dict:
    """Return the model's options with the drop rate that training adds."""
    return {**args.model_options, "drop_path_rate": args.drop_path}


if __name__ == "__main__":
    run_script(main)

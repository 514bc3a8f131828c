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

from common.augment import RANDOMS
from common.classifier import create_classifier
from common.config import (
    FINETUNING,
    count,
    make_parser,
    parse_arguments,
    positive_float,
    run_script,
)
from common.emotions import ADAPTATION, ADAPTATION_SETS, BASIC, multi_hot
from common.files import UserError, file_digest
from common.finetuning import (
    choose_sets,
    evaluation_input,
    expression_loss,
    model_options,
    network_input,
)
from common.images import Geometry, ImageStore
from common.loading import Plan
from common.manifest import hold_out, read_manifest, thin_out, training_rows
from common.metrics import confusion, macro_f1, single_emotion_f1
from common.optimization import cosine, make_optimizer
from common.pictures import save_confusion, save_curves
from common.runs import finish_run, init_facts, start_run
from common.training import fit, predict
from common.weights import read_weights, save_model, start_from


def arguments():
    parser = make_parser(
        __doc__,
        *FINETUNING,
        "epochs",
        epochs=20,
    )
    add = parser.add_argument
    add("--adapt-datasets", nargs="+",
        help=f"sets to adapt on (default: {' and '.join(ADAPTATION_SETS)})")  # fmt: skip
    add("--adapt-epochs", type=count, default=5, help="epochs of the adaptation, 0 for none")
    add("--adapt-lr", type=positive_float, default=1e-5, help="its highest learning rate")
    return parse_arguments(parser, "finetune_single")


def main() -> None:
    args = arguments()
    args.init = args.init or str(args.run_dir / "mae" / "model.safetensors")
    prepared = args.data_dir / "prepared"
    manifest = read_manifest(prepared / "manifest.csv")
    held = hold_out(manifest)
    training = training_rows(manifest, held)
    manifest = thin_out(manifest[manifest.kind == "single"], args.limit)
    held, training = held[manifest.index], training[manifest.index]
    # Both phases are checked before either is trained: a night of adaptation must not end in an
    # error that could have been told at once.
    if args.adapt_datasets:
        adapting = choose_sets(manifest, args.adapt_datasets, "--adapt-datasets")
    else:
        adapting = manifest.dataset.isin(ADAPTATION_SETS)
    chosen = choose_sets(manifest, args.datasets, "--datasets")
    if args.adapt_datasets and not args.datasets:
        chosen &= ~adapting
    emotional = manifest.labels.isin(BASIC)  # paper §3.3: without Neutral
    chosen, neutral = chosen & emotional, int((chosen & ~emotional).sum())
    counts = int((chosen & training).sum()), int((chosen & held).sum())
    if not all(counts):
        raise UserError(
            f"The single phase finds {counts[0]} images to train on and {counts[1]} to validate on "
            f"in {', '.join(sorted(set(manifest.dataset))) or 'no labelled set'}; a fifth of the "
            "persons of a table without a `split` is held out, so it needs several (`subject`)."
        )
    run = start_run(args, "single", facts(args, prepared))
    if run is None:
        return
    start = None if args.init == "none" else args.init
    if args.adapt_epochs and (adapting & training).any():
        parts = (part[adapting] for part in (manifest, training, held))
        start = adapt(run, args, start, prepared, *parts)
    elif args.adapt_epochs:
        run.say(f"adapt: no image of {' or '.join(ADAPTATION_SETS)} to train on; left out")
    run.say(f"single: {neutral:,} images of no basic emotion left out")
    parts = (part[chosen] for part in (manifest, training, held))
    train_single(run, args, start, prepared, *parts)
    finish_run(run)
    run.say(f"single: classifier in {run.folder / 'model.safetensors'}")


def facts(args, prepared) -> dict:
    """Return what else the result depends on, to compare when a run goes on."""
    return {"manifest_sha256": file_digest(prepared / "manifest.csv"), **init_facts(args.init)}


def adapt(run, args, start, prepared, rows: pd.DataFrame, training, held) -> str:
    """Train the encoder on the eight classes of AffectNet, and return the file it is kept in."""
    path = run.folder / "adapted" / "model.safetensors"
    labels = np.array([ADAPTATION.index(label) for label in rows.labels])
    checking = np.flatnonzero(held)
    options = model_options(args)
    network = create_classifier(args.model, args.image_size, options, classes=len(ADAPTATION))
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
        run, args, network, store, "adapt", np.flatnonzero(training), checking, one_hot, loss,
        score, args.adapt_epochs, args.adapt_lr,
    )  # fmt: skip
    if run.main:
        save_model(path.parent, network)
    run.accelerator.wait_for_everyone()
    return str(path)


def train_single(run, args, start, prepared, rows: pd.DataFrame, training, held) -> None:
    """Train six sigmoid logits with binary cross-entropy (eq. 1); keep the best epoch."""
    checking = np.flatnonzero(held)
    targets = np.stack([multi_hot(label) for label in rows.labels])
    truth = targets.argmax(1)
    # The head's first weights are the same whether this process has adapted or found that done.
    torch.manual_seed(args.seed)
    network = create_classifier(args.model, args.image_size, model_options(args))
    if start:
        start_from(network, start)

    def score(logits):
        return single_emotion_f1(truth[checking], logits)

    store = ImageStore(prepared, rows.image)
    table, validation = phase(
        run, args, network, store, "single", np.flatnonzero(training), checking, targets,
        expression_loss(args), score, args.epochs, args.lr, keep=True,
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
        shown = evaluation_input(args)
        return predict(run, network, store, checking, targets.shape[1], shown)

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


if __name__ == "__main__":
    run_script(main)

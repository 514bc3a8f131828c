"""Train the six-emotion classifier on single expressions (paper §3.2 and §3.3).

Two phases: the encoder is adapted to expressions on AffectNet and Aff-Wild2 (eight classes, a head
that is thrown away), then six sigmoid logits are trained on the other sets' single expressions,
without Neutral.

In:  <data-dir>/prepared/manifest.csv (01), <run-dir>/mae/model.safetensors (02)
Out: <run-dir>/single/model.safetensors   of the epoch with the best validation macro-F1
                     metrics.csv, validation.csv and report.json (each image, each emotion),
                     confusion.png, curves.png, run.json
     with --folds: a folder fold-1, fold-2 … of these each, to start each fold of 04 from

Examples
  python 03_finetune_single.py --config configs/demo.toml
  accelerate launch 03_finetune_single.py --global-batch 256 --run-dir runs/vit_b --layer-decay 0.75
  python 03_finetune_single.py --adapt-epochs 0 --datasets RAF-DB-basic --init weights.safetensors
"""

from __future__ import annotations

from common.script.config import make_parser, parse_arguments
from common.script.flags import EXCLUSIVE_LOSSES, FINETUNING, count, positive, positive_float
from common.script.main import run_script

# Other modules are imported in functions, so that --help and a wrong flag need not wait for torch.


def arguments():
    parser = make_parser(__doc__, "epochs", *FINETUNING, epochs=20)
    parser.group("data").add_argument(
        "--adapt-datasets",
        nargs="+",
        metavar="NAME",
        help="data sets to adapt on (default: AffectNet, AffectNet+, Aff-Wild2, s-Aff-Wild2)",
    )
    adaptation = parser.group("adaptation")
    adaptation.add_argument(
        "--adapt-epochs", type=count, default=5, help="epochs of the adaptation, 0 for none"
    )
    adaptation.add_argument(
        "--adapt-lr", type=positive_float, default=1e-5, help="its peak learning rate"
    )
    small = parser.group("optimisation")
    small.add_argument(
        "--small-epochs",
        type=count,
        default=0,
        metavar="N",
        help="first epochs of the single phase with images of --small-size, which cost less: "
        "progressive resizing, for networks that take images of any size; --early-stop counts "
        "from the epoch after them",
    )
    small.add_argument(
        "--small-size", type=positive, default=80, help="side of the images of these, pixels"
    )
    return parse_arguments(parser, "finetune_single")


def main() -> None:
    args = arguments()
    from common.training import checks

    checks.check_settings(args)
    checks.check_small_size(args)
    checks.check_validation(args, args.small_epochs, args.epochs, "--epochs after --small-epochs")
    from common import emotions, manifest, splits
    from common.batches import targets
    from common.training import finetuning, folds, runs

    table = manifest.read_manifest(args.data_dir / "prepared" / "manifest.csv")
    planned = folds.plan_singles(args, table)
    table = splits.thin_out(table[targets.usable(table, args.loss)], args.limit)
    single, taught = table.kind == "single", targets.taught(table, args.loss)
    adapting = table.dataset.isin(emotions.ADAPTATION_SETS)
    if args.adapt_datasets:
        adapting = finetuning.choose_sets(table, args.adapt_datasets, "--adapt-datasets")
    chosen = finetuning.choose_sets(table, args.datasets, "--datasets")
    if args.adapt_datasets and not args.datasets:
        chosen &= ~adapting
    adaptation, singles = table[adapting & single], table[chosen & taught]
    left_out = table.labels[chosen & ~taught].astype(str).value_counts()
    left_out = ", ".join(f"{number:,} {label}" for label, number in left_out.items())
    for fold in planned:  # a night of adaptation must not end in an error known before it
        split = fold.split(singles)
        checks.check_singles(split.training.sum(), split.held_out.sum(), fold.number, table.dataset)

    for fold in planned:
        run = runs.start_run(args, fold.folder("single"), fold.facts)
        if run is None:
            continue
        start = adapt(run, fold.split(adaptation)) if args.adapt_epochs else run.settings["init"]
        if args.loss not in EXCLUSIVE_LOSSES:
            run.say(f"single: left out, not one of the six emotions: {left_out or 'no image'}")
        train_single(run, start, fold.split(singles))
        runs.finish_run(run, last=fold is planned[-1])
        run.say(f"single: classifier in {run.folder / 'model.safetensors'}")


def adapt(run, split) -> str:
    """Train the encoder on the eight classes of AffectNet; return the file of its weights."""
    import numpy as np
    from torch.nn import functional

    from common import emotions, metrics
    from common.networks import weights
    from common.training import finetuning, losses

    settings = run.settings
    if not split.training.any():
        sets = settings["adapt_datasets"] or emotions.ADAPTATION_SETS
        run.say(f"adapt: no image of {', '.join(sets)} to train on; left out")
        return settings["init"]
    classes = len(emotions.ADAPTATION)
    labels = np.array([emotions.ADAPTATION.index(label) for label in split.rows.labels])
    targets = np.eye(classes, dtype=np.float32)[labels]
    network = finetuning.make_classifier(run, settings["init"], classes)
    prior = losses.label_prior(settings, targets[split.training], exclusive=True)
    prior = prior.to(run.accelerator.device)

    def loss(network, batch):
        logits = losses.augmented_logits(settings, network, batch)
        logits = logits + prior.to(logits.device)
        aims = losses.smooth(batch.targets, settings["label_smoothing"])
        return functional.cross_entropy(logits, aims, reduction="none")

    finetuning.fit_phase(
        run,
        network,
        split,
        targets,
        name="adapt",
        epochs=settings["adapt_epochs"],
        rate=settings["adapt_lr"],
        loss=loss,
        score=lambda logits: {
            "val_macro_f1": metrics.macro_f1(labels[split.held_out], logits.argmax(1), classes)
        },
    )
    if run.main:
        weights.save_model(run.folder / "adapted", network)
    run.accelerator.wait_for_everyone()
    return str(run.folder / "adapted" / "model.safetensors")


def train_single(run, start: str, split) -> None:
    """Train the emotions' logits (eq. 1), keep an epoch's weights, report on held-out images."""
    import numpy as np
    import torch

    from common import emotions
    from common.batches.targets import describe, targets_of
    from common.networks import formats, weights
    from common.training import evaluation, finetuning, losses

    settings = run.settings
    targets = targets_of(split.rows, settings["loss"], settings["least_votes"])
    held_out = split.rows[split.held_out]
    if settings["loss"] in EXCLUSIVE_LOSSES:
        run.say(f"single: {describe(split.rows[split.training])}")
    absent = np.flatnonzero(~targets[split.training].any(0))
    if lacking := ", ".join(emotions.ADAPTATION[index] for index in absent):
        run.say(f"warning: no training image shows {lacking}, so it is not learnt")
    # The head's first weights are the same whether this process has adapted or found that done.
    torch.manual_seed(settings["seed"])
    network = finetuning.make_classifier(run, start, targets.shape[1])
    prior = losses.label_prior(settings, targets[split.training])
    choosing = settings["keep"] == "best"
    epochs = finetuning.fit_phase(
        run,
        network,
        split,
        targets,
        name="single",
        epochs=settings["epochs"],
        rate=settings["lr"],
        loss=losses.expression_loss(
            settings, prior.to(run.accelerator.device), settings["small_epochs"]
        ),
        score=lambda logits: evaluation.single_figures(held_out.labels, logits),
        keep=(lambda: weights.save_model(run.folder, network)) if choosing else None,
        early=settings["small_epochs"],
    )
    if choosing:
        network.load_state_dict(formats.read_tensors(run.folder / "model.safetensors")[0])
    elif run.main:
        weights.save_model(run.folder, network)
    finetuning.evaluate(run, network, held_out, emotions.BASIC)
    if choosing and (warning := evaluation.chosen_on_test(held_out)):
        run.say(f"single: {warning}; --keep last chooses none")
    finetuning.save_curves(run, epochs, "Single phase")


if __name__ == "__main__":
    run_script(main)

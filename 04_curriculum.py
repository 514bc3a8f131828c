"""Curriculum from single to compound expressions (paper §3.4).

Sub-stages of 5, 5, 3, 3 epochs draw 0, 20, 40, 100 % compound images: natural ones, and ones
generated from pairs of single expressions by CutMix and Mixup.

In:  <data-dir>/prepared/manifest.csv (01), <run-dir>/single/model.safetensors (03)
Out: <run-dir>/curriculum/model.safetensors   of the epoch with the best validation macro-F1 over
                         the seven compounds (the last epoch, where no compound is held out)
                         metrics.csv (with what was drawn), validation.csv and report.json,
                         confusion.png, curves.png, run.json
     with --folds: a folder fold-1, fold-2 … of these each, and oof.csv, report.json, confusion.png
                         over the out-of-fold predictions of all

Examples
  python 04_curriculum.py --config configs/demo.toml
  accelerate launch 04_curriculum.py --run-dir runs/vit_b --folds 5
  python 04_curriculum.py --stage-epochs 5 5 5 --compound-shares 0 0.5 1     (table 2, row 3)
  python 04_curriculum.py --mixes cutmix --cutmix facs --natural-share 0     (after action units)
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from accelerate import PartialState

from common.augment import RANDOMS
from common.classifier import create_classifier
from common.config import (
    FINETUNING,
    fraction,
    make_parser,
    not_negative,
    parse_arguments,
    positive,
    positive_float,
    run_script,
)
from common.curriculum import (
    CUTMIX,
    PAIRS,
    Mixing,
    Sources,
    draw_epoch,
    epoch_size,
    stage_of,
    stage_warmup,
    without_effect,
)
from common.emotions import BASIC, CHALLENGE, challenge_class, multi_hot
from common.files import UserError, file_digest
from common.finetuning import (
    THRESHOLDS,
    choose_sets,
    evaluation_input,
    expression_loss,
    model_options,
    no_better_for,
)
from common.images import Geometry, ImageStore
from common.manifest import folds, hold_out, read_manifest, thin_out, training_rows
from common.optimization import make_optimizer, plateau
from common.pictures import save_curves
from common.runs import finish_run, init_facts, start_run
from common.training import fit, predict
from common.validation import (
    compound_f1,
    prediction_table,
    report_validation,
    say_scores,
    score_predictions,
)
from common.weights import read_weights, save_model, start_from


def arguments():
    parser = make_parser(__doc__, *FINETUNING, warmup_epochs=0.5)
    add = parser.add_argument
    add("--stage-epochs", type=positive, nargs="+", default=[5, 5, 3, 3], help="of each sub-stage")
    add("--compound-shares", type=fraction, nargs="+", default=[0.0, 0.2, 0.4, 1.0],
        help="share of compound images in each sub-stage")  # fmt: skip
    add(
        "--compound-share-of",
        choices=("batch", "set"),
        default="batch",
        help="share of the "
        "images drawn (paper), or all singles and this share of the compound set (released code)",
    )
    add("--natural-share", type=fraction, default=0.5, help="of natural among compound images")
    add("--mixes", nargs="*", choices=("mixup", "cutmix"), default=["mixup", "cutmix"],
        help="generators; none: natural compounds alone")  # fmt: skip
    add("--mixup-weight", type=fraction, default=0.1, help="of the first image")  # table 1
    add("--mixup-beta", type=positive_float, metavar="A", help="draw the weight from Beta(A, A)")
    add("--cutmix", choices=CUTMIX, default="box", help="what CutMix exchanges: a box, the left or "
        "right half, the top or bottom half; facs: the upper face of one emotion over the lower of "
        "the other, after the compound's action units; facs-exchanged: its control")  # fmt: skip
    add("--mixed-label", choices=("union", "soft"), default="union",
        help="both emotions in full, or each by its share of the image")  # fmt: skip
    add("--pairs", choices=PAIRS, default="challenge7", help="compounds that are valid")
    add("--stage-warmup-epochs", type=not_negative, default=0.0,
        help="epochs of rising learning rate at the start of every sub-stage")  # fmt: skip
    add("--epoch-images", type=positive,
        help="images an epoch, of the singles with --compound-share-of set "
        "(default: the single training images)")  # fmt: skip
    add("--validate-on", nargs="+", metavar="NAME", help="sets whose held-out compounds validate "
        "(default: all)")  # fmt: skip
    add("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    add("--folds", type=positive, metavar="N", help="validate on each of N folds of the compounds "
        "that are in no test split, grouped by person or video, in turn")  # fmt: skip
    add("--fold", type=positive, metavar="K", help="of these only fold K, from 1")
    return parse_arguments(parser, "curriculum")


def main() -> None:
    args = arguments()
    refuse_bad_settings(args)
    args.init = args.init or str(args.run_dir / "single" / "model.safetensors")
    manifest = read_manifest(args.data_dir / "prepared" / "manifest.csv")
    labels = manifest.labels.astype(str)
    single = labels.isin(BASIC) & (manifest.kind == "single")
    single &= choose_sets(manifest, args.datasets, "--datasets")
    valid = {" ".join(sorted((BASIC[a], BASIC[b]))) for a, b in PAIRS[args.pairs].values()}
    natural = (manifest.kind == "compound") & labels.isin(valid)
    rows = thin_out(manifest[single | natural], args.limit).index
    checked = natural & choose_sets(manifest, args.validate_on or sorted(set(manifest.dataset)),
                                    "--validate-on")  # fmt: skip
    if not args.folds:
        train(args, manifest, rows, checked, hold_out(manifest), "curriculum")
        return
    # Owners' test splits stay out; of the others, each compound is trained on in all folds but its
    # own. The folds are the same for every seed, to be compared and averaged.
    folded = natural & (manifest.split != "test")
    manifest.loc[folded, "split"] = "train"
    number = pd.Series(-1, index=manifest.index)
    number[folded] = 1 + folds(manifest[folded], args.folds, seed=0)
    chosen = [args.fold] if args.fold else range(1, args.folds + 1)
    for fold in chosen:
        folder = f"curriculum/fold-{fold}"
        train(args, manifest, rows, checked, number == fold, folder, fold == chosen[-1])
    gather_folds(args)


def refuse_bad_settings(args) -> None:
    """Raise UserError for settings that are each possible, but not together."""
    if len(args.stage_epochs) != len(args.compound_shares):
        raise UserError(
            f"--stage-epochs ({args.stage_epochs}) and --compound-shares ({args.compound_shares}) "
            "must name the same number of sub-stages."
        )
    if args.folds == 1 or (args.fold or 0) > (args.folds or 0):
        raise UserError(
            f"--folds {args.folds} --fold {args.fold}: --folds must be 2 or more, and --fold, "
            "where given, one of them, from 1."
        )
    if "cutmix" in args.mixes and args.cutmix.startswith("facs") and args.pairs != "challenge7":
        raise UserError(
            f"--cutmix {args.cutmix} knows upper and lower face of the challenge's seven compounds "
            f"alone, so it cannot make --pairs {args.pairs}."
        )


def train(args, manifest, rows, checked, held, folder: str, last: bool = True) -> None:
    """Train one model on what is not held out, validate it on what is."""
    prepared = args.data_dir / "prepared"
    training = training_rows(manifest, held)[rows]
    used = manifest.loc[rows]
    sources = Sources(
        targets=np.array([multi_hot(text) for text in used.labels]).reshape(-1, len(BASIC)),
        single=np.flatnonzero(training & (used.kind == "single")),
        natural=np.flatnonzero(training & (used.kind == "compound")),
    )
    truth = used.labels.astype(str).map(challenge_class).to_numpy()
    checking = np.flatnonzero((held & checked)[rows] & (truth >= 0))
    if not len(sources.single):
        raise UserError(
            f"There is no single expression to train on in {prepared}; prepare a labelled set (01),"
            f" or name others in --datasets (prepared: {', '.join(sorted(set(manifest.dataset)))})."
        )
    facts = {"manifest_sha256": file_digest(prepared / "manifest.csv"), **init_facts(args.init)}
    run = start_run(args, folder, facts)
    if run is None:
        return
    run.say(
        f"curriculum: {len(sources.single):,} singles, {len(sources.natural):,} natural compounds, "
        f"{len(checking):,} compounds to validate"
    )

    network = create_classifier(args.model, args.image_size, model_options(args))
    if args.init != "none":
        start_from(network, args.init, keep_head=True)
    network.to(run.accelerator.device)
    store = ImageStore(prepared, used.image)
    mixing = Mixing(
        natural_share=args.natural_share, forms=tuple(args.mixes), cutmix=args.cutmix,
        weight=args.mixup_weight, beta=args.mixup_beta, label=args.mixed_label, pairs=args.pairs,
    )  # fmt: skip
    for warning in without_effect(sources, mixing) if any(args.compound_shares) else ():
        run.say(f"warning: {warning}")
    images = args.epoch_images or len(sources.single)
    sizes = [  # of an epoch of each sub-stage: images, compounds among them
        epoch_size(share, args.compound_share_of, images, sources, args.natural_share)
        for share in args.compound_shares
    ]
    stages = [stage_of(epoch, args.stage_epochs) for epoch in range(sum(args.stage_epochs))]
    steps = np.array([-(-sizes[stage][0] // args.global_batch) for stage in stages])
    schedule = plateau(steps.sum(), round(args.warmup_epochs * steps[0]))
    if args.stage_warmup_epochs:
        begins = [steps[: stages.index(stage)].sum() for stage in sorted(set(stages))]
        schedule = stage_warmup(schedule, begins, round(args.stage_warmup_epochs * steps[0]))
    accounts = {}

    def plan(epoch: int):
        random = np.random.default_rng([args.seed, epoch])
        drawn, accounts[epoch] = draw_epoch(sources, *sizes[stages[epoch]], mixing, random)
        return drawn

    def validation() -> np.ndarray:
        return predict(run, network, store, checking, len(BASIC), evaluation_input(args))

    def validate(epoch: int) -> dict:
        score = (
            {"val_macro_f1": compound_f1(truth[checking], validation())} if len(checking) else {}
        )
        return {"stage": stages[epoch] + 1, **score, **accounts[epoch]}

    selected = bool(len(checking)) and args.keep == "best"
    table = fit(
        run,
        network,
        store,
        name="curriculum",
        epochs=len(stages),
        plan=plan,
        loss=expression_loss(args),
        geometry=Geometry(args.image_size, crop_area=tuple(args.crop_area)),
        randoms=RANDOMS,
        optimizer=make_optimizer(network, args.lr, args.weight_decay, args.layer_decay),
        schedule=schedule,
        validate=validate,
        best="val_macro_f1" if selected else None,
        keep=lambda: save_model(run.folder, network),
        # Not before the last sub-stage: a curriculum that ends early has left out its compounds.
        stop_early=no_better_for(args.early_stop, first=stages.index(stages[-1])),
    )
    if selected:
        network.load_state_dict(read_weights(run.folder / "model.safetensors"))
    elif run.main:
        save_model(run.folder, network)
    if len(checking):
        predictions = prediction_table(used.iloc[checking], validation())
        if run.main:
            save_validation(args, run.say, run.folder, "validation.csv", predictions)
    else:
        run.say("curriculum: no compound is held out, so the last epoch is kept, unvalidated")
    if run.main:
        shown = [name for name in ("loss", "val_macro_f1") if name in table]
        save_curves(run.folder / "curves.png", table, shown, "Curriculum")
    finish_run(run, last)
    run.say(f"curriculum: classifier in {run.folder / 'model.safetensors'}")


def gather_folds(args) -> None:
    """Score the out-of-fold predictions together, once every fold has its own."""
    folder = args.run_dir / "curriculum"
    paths = [folder / f"fold-{fold}" / "validation.csv" for fold in range(1, args.folds + 1)]
    if PartialState().is_main_process and all(path.is_file() for path in paths):
        tables = [pd.read_csv(path, keep_default_na=False) for path in paths]
        together = pd.concat(tables, keys=range(1, args.folds + 1), names=["fold", None])
        save_validation(args, print, folder, "oof.csv", together.reset_index("fold"))


def save_validation(args, say, folder, file_name: str, predictions: pd.DataFrame) -> None:
    """Score predictions, say how good they are, and write them and their report."""
    score = score_predictions(predictions, CHALLENGE, THRESHOLDS[args.loss], args.seed)
    report_validation(folder, file_name, predictions, score, "Compounds, validation")
    say_scores(say, score)


if __name__ == "__main__":
    run_script(main)

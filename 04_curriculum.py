"""Curriculum from single to compound expressions (paper §3.4).

Sub-stages of 5, 5, 3, 3 epochs draw 0, 20, 40, 100 % compound images: natural ones, and ones
generated from pairs of single expressions by CutMix and Mixup.

In:  <data-dir>/prepared/manifest.csv (01), <run-dir>/single/model.safetensors (03)
Out: <run-dir>/curriculum/model.safetensors   of the epoch with the best validation macro-F1 over
                         the seven compounds (the last epoch, where no compound is held out)
                         metrics.csv (with what was drawn), validation.csv and report.json,
                         confusion.png, curves.png, generated.png, run.json
     with --folds: a folder fold-1, fold-2 … of these each, and folds/ with oof.csv, report.json,
                         confusion.png over the out-of-fold predictions of all

Examples
  python 04_curriculum.py --config configs/demo.toml
  accelerate launch 04_curriculum.py --run-dir runs/vit_b --folds 5
  python 04_curriculum.py --stage-epochs 5 5 5 --compound-shares 0 0.5 1     (table 2, row 3)
  python 04_curriculum.py --mixes cutmix --cutmix facs --natural-share 0     (after action units)
"""

from __future__ import annotations

from common.script.config import make_parser, parse_arguments, run_script
from common.script.files import UserError
from common.script.flags import FINETUNING, fraction, not_negative, positive, positive_float

# Other modules are imported where they are used: --help and a wrong flag need not wait for torch.


def arguments():
    parser = make_parser(__doc__, *FINETUNING, warmup_epochs=0.5)
    add = parser.add_argument
    add("--stage-epochs", type=positive, nargs="+", default=[5, 5, 3, 3], help="of each sub-stage")
    add("--compound-shares", type=fraction, nargs="+", default=[0.0, 0.2, 0.4, 1.0],
        help="share of compound images in each sub-stage")  # fmt: skip
    add("--compound-share-of", choices=("batch", "set"), default="batch", help="share of the "
        "images drawn (paper), or all singles and this share of the compound set (released "
        "code)")  # fmt: skip
    add("--natural-share", type=fraction, default=0.5, help="of natural among compound images")
    add("--mixes", nargs="*", choices=("mixup", "cutmix"), default=["mixup", "cutmix"],
        help="generators; none: natural compounds alone")  # fmt: skip
    add("--mixup-weight", type=fraction, default=0.1, help="of the first image")  # table 1
    add("--mixup-beta", type=positive_float, metavar="A", help="draw the weight from Beta(A, A)")
    add("--cutmix", choices=("box", "halves-lr", "halves-tb", "facs", "facs-exchanged"),
        default="box", help="what CutMix exchanges: a box, the left or "
        "right half, the top or bottom half; facs: the upper face of one emotion over the lower of "
        "the other, after the compound's action units; facs-exchanged: its control")  # fmt: skip
    add(
        "--mixed-label",
        choices=("union", "soft"),
        default="union",
        help="both emotions in full, or each by its share of the image (facs: of the whole face)",
    )
    add(
        "--pairs",
        choices=("challenge7", "raf11"),
        default="challenge7",
        help="compounds that are valid",
    )
    add("--stage-warmup-epochs", type=not_negative, default=0.0,
        help="epochs of rising learning rate at the start of every sub-stage")  # fmt: skip
    add("--epoch-images", type=positive,
        help="images an epoch, of the singles with --compound-share-of set "
        "(default: the single training images)")  # fmt: skip
    add("--validate-on", nargs="+", metavar="NAME", help="sets whose held-out compounds validate "
        "(default: all)")  # fmt: skip
    add("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    return parse_arguments(parser, "curriculum")


def main() -> None:
    args = arguments()
    refuse_bad_settings(args)
    from common.batches.curriculum import PAIRS
    from common.emotions import BASIC
    from common.manifest import hold_out, read_manifest, thin_out
    from common.script.files import file_digest
    from common.training.finetuning import choose_sets
    from common.training.folds import gather_folds, plan_folds
    from common.training.runs import init_facts

    path = args.data_dir / "prepared" / "manifest.csv"
    manifest = read_manifest(path)
    labels = manifest.labels.astype(str)
    single = labels.isin(BASIC) & (manifest.kind == "single")
    single &= choose_sets(manifest, args.datasets, "--datasets")
    valid = {" ".join(sorted((BASIC[a], BASIC[b]))) for a, b in PAIRS[args.pairs].values()}
    natural = (manifest.kind == "compound") & labels.isin(valid)
    rows = thin_out(manifest[single | natural], args.limit).index
    checked = natural
    if args.validate_on:
        checked = natural & choose_sets(manifest, args.validate_on, "--validate-on")
    facts = {"manifest_sha256": file_digest(path)}
    if args.folds:
        manifest, planned = plan_folds(args, manifest, checked, facts)
        for fold in planned:
            args.fold, args.init = fold.number, fold.init  # so that each run's record tells its own
            folder, last = f"curriculum/fold-{fold.number}", fold is planned[-1]
            train(args, manifest, rows, checked, fold.held, folder, fold.facts, last)
        gather_folds(args)
        return
    args.init = args.init or str(args.run_dir / "single" / "model.safetensors")
    facts |= init_facts(args.init)
    train(args, manifest, rows, checked, hold_out(manifest), "curriculum", facts)


def refuse_bad_settings(args) -> None:
    """Raise UserError for settings that are each possible, but not together."""
    if len(args.stage_epochs) != len(args.compound_shares):
        raise UserError(
            f"--stage-epochs ({args.stage_epochs}) and --compound-shares ({args.compound_shares}) "
            "must name the same number of sub-stages."
        )
    can_stop = args.stage_epochs[-1] - 2  # the earliest end: an epoch is best, N are worse
    if args.early_stop and args.early_stop > can_stop:
        raise UserError(
            f"--early-stop {args.early_stop} could never end a run: it looks at the last sub-stage "
            f"alone, which has {args.stage_epochs[-1]} epochs; N may be {max(can_stop, 0)} at most."
        )
    if "cutmix" in args.mixes and args.cutmix.startswith("facs") and args.pairs != "challenge7":
        raise UserError(
            f"--cutmix {args.cutmix} knows upper and lower face of the challenge's seven compounds "
            f"alone, so it cannot make --pairs {args.pairs}."
        )


def train(args, manifest, rows, checked, held, folder: str, facts: dict, last=True) -> None:
    """Train one model on what is not held out, validate it on what is.

    manifest: all images. rows: index of those that 04 uses. checked, held: bool, aligned with the
    manifest; held compounds that are checked validate. folder: below the run's. facts: what the
    result depends on beside the settings. last: nothing is trained after it.
    """
    import numpy as np

    from common.batches.batch import RANDOMS
    from common.batches.curriculum import (
        Mixing,
        Sources,
        Timetable,
        draw_epoch,
        draw_examples,
        refuse_unshowable,
        without_effect,
    )
    from common.batches.images import Geometry, ImageStore
    from common.emotions import BASIC, CHALLENGE, challenge_class, multi_hot
    from common.manifest import training_rows
    from common.networks.classifier import create_classifier
    from common.networks.formats import read_tensors
    from common.networks.weights import save_model, start_from
    from common.pictures import save_curves, save_examples
    from common.training.evaluation import predict
    from common.training.finetuning import (
        evaluation_input,
        expression_loss,
        model_options,
        no_better_for,
    )
    from common.training.loop import fit
    from common.training.optimization import make_optimizer
    from common.training.runs import finish_run, start_run
    from common.training.validation import (
        chosen_on_test,
        compound_f1,
        prediction_table,
        save_validation,
    )

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
    mixing = Mixing(
        natural_share=args.natural_share, forms=tuple(args.mixes), cutmix=args.cutmix,
        weight=args.mixup_weight, beta=args.mixup_beta, label=args.mixed_label, pairs=args.pairs,
    )  # fmt: skip
    refuse_unshowable(sources, mixing, args.compound_shares)
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
    for warning in without_effect(sources, mixing) if any(args.compound_shares) else ():
        run.say(f"warning: {warning}")
    generates = args.mixes and (args.natural_share < 1 or not len(sources.natural))
    if run.main and generates and (examples := draw_examples(store, sources, mixing, args)):
        title = "Generated compounds: first image, second image, what the network sees"
        save_examples(run.folder / "generated.png", examples, title)
    timetable = Timetable.of(args, sources)
    accounts = {}

    def plan(epoch: int):
        random = np.random.default_rng([args.seed, epoch])
        drawn, accounts[epoch] = draw_epoch(sources, *timetable.size(epoch), mixing, random)
        return drawn

    def validation() -> np.ndarray:
        return predict(run, network, store, checking, len(BASIC), evaluation_input(args))

    def validate(epoch: int) -> dict:
        figures = {"stage": timetable.stages[epoch] + 1, **accounts[epoch]}
        if len(checking):
            figures["val_macro_f1"] = compound_f1(truth[checking], validation())
        return figures

    selected = bool(len(checking)) and args.keep == "best"
    table = fit(
        run,
        network,
        store,
        name="curriculum",
        epochs=len(timetable.stages),
        plan=plan,
        loss=expression_loss(args),
        geometry=Geometry(args.image_size, crop_area=tuple(args.crop_area)),
        randoms=RANDOMS,
        optimizer=make_optimizer(network, args.lr, args.weight_decay, args.layer_decay),
        schedule=timetable.schedule(args.warmup_epochs, args.stage_warmup_epochs),
        validate=validate,
        best="val_macro_f1" if selected else None,
        keep=lambda: save_model(run.folder, network),
        # Not before the last sub-stage: a curriculum that ends early has left out its compounds.
        stop_early=no_better_for(args.early_stop, first=sum(args.stage_epochs[:-1])),
    )
    if selected:
        network.load_state_dict(read_tensors(run.folder / "model.safetensors")[0])
    elif run.main:
        save_model(run.folder, network)
    if len(checking):
        predictions = prediction_table(used.iloc[checking], validation())
        if run.main:
            save_validation(run.folder / "validation.csv", predictions, CHALLENGE, args, run.say)
            if selected and (told := chosen_on_test(used.iloc[checking])):
                run.say(f"curriculum: {told}; --keep last chooses none")
    else:
        run.say("curriculum: no compound is held out, so the last epoch is kept, unvalidated")
    if run.main:
        shown = [name for name in ("loss", "val_macro_f1") if name in table]
        save_curves(run.folder / "curves.png", table, shown, "Curriculum")
    finish_run(run, last)
    run.say(f"curriculum: classifier in {run.folder / 'model.safetensors'}")


if __name__ == "__main__":
    run_script(main)

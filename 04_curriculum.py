"""Curriculum from single to compound expressions (paper §3.4).

Sub-stages of 5, 5, 3, 3 epochs draw 0, 20, 40, 100 % compound images: natural ones, and ones
generated from pairs of single expressions by CutMix and Mixup.

In:  <data-dir>/prepared/manifest.csv (01), <run-dir>/single/model.safetensors (03)
Out: <run-dir>/curriculum/model.safetensors   of the epoch with the best validation macro-F1 over
                         the seven compounds (the last epoch, where no compound is held out)
                         metrics.csv (with what was drawn), validation.csv and report.json,
                         confusion.png, curves.png, generated.png, run.json
     with --folds: fold-1, fold-2 … of these each, and folds/ with the out-of-fold scores of all

Examples
  python 04_curriculum.py --config configs/demo.toml
  python 04_curriculum.py --stage-epochs 5 5 5 --compound-shares 0 0.5 1     (table 2, row 3)
  python 04_curriculum.py --mixes cutmix --cutmix facs --natural-share 0     (after action units)
  accelerate launch 04_curriculum.py --challenge-labels labels.csv --folds 5 --keep last
"""

from __future__ import annotations

from pathlib import Path

from common.script.config import make_parser, parse_arguments
from common.script.flags import FINETUNING, fraction, not_negative, positive, positive_float
from common.script.main import run_script

# Other modules are imported in functions, so that --help and a wrong flag need not wait for torch.


def arguments():
    parser = make_parser(__doc__, *FINETUNING, warmup_epochs=0.5, schedule="plateau")
    add = parser.group("data").add_argument
    add("--validate-on", nargs="+", metavar="NAME", help="sets whose compounds validate (all)")
    add("--challenge-labels", type=Path, metavar="PATH", help="train on the challenge's videos too")
    add("--videos", type=Path, metavar="DIR", help="videos whose times --challenge-labels gives")
    add = parser.group("curriculum").add_argument
    add("--stage-epochs", type=positive, nargs="+", default=[5, 5, 3, 3], help="epochs a sub-stage")
    shares = [0.0, 0.2, 0.4, 1.0]
    add("--compound-shares", type=fraction, nargs="+", default=shares, help="shares of compounds")
    add(
        "--compound-share-of",
        choices=("batch", "set"),
        default="batch",
        help="of the images shown (paper); or of the compounds, beside all singles (released code)",
    )
    add(
        "--order",
        choices=("label", "none", "entropy", "second"),
        default="label",
        help="singles, then compounds (paper); or votes as one scale, with compounds generated "
        "beside it: none, all images in each of K sub-stages; entropy, second: the most certain "
        "K-th of them, two K-ths, … all, by the votes' entropy or the second expression's share",
    )
    add("--natural-share", type=fraction, default=0.5, help="natural share of the compounds")
    add("--epoch-images", type=positive, help="images an epoch; with `set`, singles (default: all)")
    add(
        "--start-share",
        type=fraction,
        default=0.0,
        metavar="S",
        help="what is validated and kept is S of the weights it starts from and 1 - S of its own",
    )
    add("--stage-warmup-epochs", type=not_negative, default=0.0, help="warm-up epochs by sub-stage")
    add = parser.group("generated compounds").add_argument
    add("--pairs", choices=("challenge7", "raf11"), default="challenge7", help="valid compounds")
    add(
        "--mixes",
        nargs="*",
        choices=("mixup", "cutmix"),
        default=["mixup", "cutmix"],
        help="generators, in even parts; none: natural compounds alone",
    )
    add("--mixup-weight", type=fraction, default=0.1, help="weight of the first image")  # table 1
    add("--mixup-beta", type=positive_float, metavar="A", help="draw the weight from Beta(A, A)")
    add(
        "--cutmix",
        choices=("box", "halves-lr", "halves-tb", "facs", "facs-exchanged"),
        default="box",
        help="what CutMix exchanges: a box, the left or right half, the top or bottom half; facs: "
        "the upper face of one emotion over the lower face of the other, after the compound's "
        "action units; facs-exchanged: the reverse, as a control",
    )
    add(
        "--mixed-label",
        choices=("union", "soft"),
        default="union",
        help="both emotions in full, or each by its share of the image (facs: of the whole face)",
    )
    return parse_arguments(parser, "curriculum")


def main() -> None:
    args = arguments()
    from common.training import checks

    checks.check_curriculum_settings(args)
    from common import splits
    from common.batches import curriculum, targets
    from common.training import challenge, finetuning, folds, losses, runs

    table = challenge.read_rows(args)
    learnt = (targets.singles if args.order == "label" else targets.taught)(table, args.loss)
    learnt &= finetuning.choose_sets(table, args.datasets, "--datasets")
    natural = table.labels.isin(curriculum.labels_of(args.pairs)) & (table.kind == "compound")
    checked = natural
    if args.validate_on:
        checked = natural & finetuning.choose_sets(table, args.validate_on, "--validate-on")
    planned = folds.plan_compounds(args, table, checked)
    rows = splits.thin_out(table[learnt | natural], args.limit)
    mixing = curriculum.Mixing.of(vars(args))
    for fold in planned:
        stock = curriculum.Stock.of(rows, fold.split(rows).training, vars(args))
        checks.check_singles_exist(len(stock.single), table.dataset)
        curriculum.check_compounds(stock, mixing, args.compound_shares)

    for fold in planned:
        run = runs.start_run(args, fold.folder("curriculum"), fold.facts)
        if run is None:
            continue
        train(run, fold.split(rows))
        runs.finish_run(run, last=fold is planned[-1])
        run.say(f"curriculum: classifier in {run.folder / 'model.safetensors'}")
    if args.folds:
        folds.gather_folds(args, losses.LOSSES[args.loss].threshold)


def train(run, split) -> None:
    """Train the curriculum, keep the best or the last epoch, and report on held-out compounds."""
    import numpy as np

    from common import emotions, splits
    from common.batches import curriculum, examples
    from common.networks import formats, weights
    from common.training import evaluation, finetuning, loop, losses, optimization

    settings = run.settings
    stock = curriculum.Stock.of(split.rows, split.training, settings)
    mixing = curriculum.Mixing.of(settings)
    stages = curriculum.Stages.of(settings, stock)
    held_out = split.rows[split.held_out]
    truth = held_out.labels.astype(str).map(emotions.challenge_class).to_numpy()
    undecided, compounds = len(stock.no_majority), len(stock.natural)
    run.say(
        f"curriculum: {len(stock.single):,} singles, {compounds - undecided:,} natural compounds, "
        + f"{undecided:,} images without a majority, " * bool(undecided)
        + f"{len(held_out):,} compounds to validate{splits.held_back(*split)}"
    )
    if any(settings["compound_shares"]):
        for warning in curriculum.without_effect(stock, mixing):
            run.say(f"warning: {warning}")
    network = finetuning.make_classifier(run, settings["init"], stock.classes, keep_head=True)
    store, judged = (run.images(rows) for rows in (split.rows, held_out))
    if run.main:
        examples.save_examples(run.folder / "generated.png", store, stock, mixing, settings)
    balanced, epochs = settings["balance"] == "sampling", len(stages.of_epoch)
    prior = losses.label_prior(settings, stock.targets[stock.drawn])
    drawn = {}  # by epoch: how many images of each kind and class

    def plan(epoch):
        random = np.random.default_rng([settings["seed"], epoch])
        pool, size = stock.most_certain(stages.share(epoch), random), stages.size(epoch)
        shown, drawn[epoch] = curriculum.draw_epoch(pool, *size, mixing, random, balanced)
        return shown

    def validate(epoch):
        figures = {"stage": stages.of_epoch[epoch] + 1, **drawn[epoch]}
        if len(held_out) and finetuning.is_validated(settings, epoch, epochs):
            logits = finetuning.predict_logits(run, network, judged)
            figures["val_macro_f1"] = evaluation.compound_f1(truth, logits)
        return figures

    choosing = len(held_out) > 0 and settings["keep"] == "best"
    # Not before the last sub-stage: a curriculum that ends early has left out its compounds.
    earliest = sum(settings["stage_epochs"][:-1])
    experiment = finetuning.make_experiment(
        run,
        network,
        rate=settings["lr"],
        name="curriculum",
        epochs=epochs,
        plan=plan,
        loss=losses.expression_loss(settings, prior.to(run.accelerator.device)),
        head_steps=round(settings["head_epochs"] * stages.steps[0]),
        schedule=optimization.staged(settings, stages.steps, stages.of_epoch),
        validate=validate,
        best="val_macro_f1" if choosing else None,
        keep=lambda: weights.save_model(run.folder, network),
        stop_early=finetuning.no_better_for(settings["early_stop"], earliest),
    )
    table = loop.fit(run, network, store, experiment)
    if choosing:
        network.load_state_dict(formats.read_tensors(run.folder / "model.safetensors")[0])
    elif run.main:
        weights.save_model(run.folder, network)
    if len(held_out):
        finetuning.evaluate(run, network, held_out, emotions.CHALLENGE)
    else:
        run.say("curriculum: no compound is held out, so the last epoch is kept, unvalidated")
    if choosing and (warning := evaluation.chosen_on_test(held_out)):
        run.say(f"curriculum: {warning}; --keep last chooses none")
    finetuning.save_curves(run, table, "Curriculum")


if __name__ == "__main__":
    run_script(main)

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

from common.emotions import ADAPTATION, ADAPTATION_SETS, BASIC, multi_hot
from common.script.config import make_parser, parse_arguments, run_script
from common.script.files import UserError, file_digest
from common.script.flags import FINETUNING, count, positive_float

# Other modules are imported where they are used: --help and a wrong flag need not wait for torch.


def arguments():
    parser = make_parser(__doc__, "epochs", *FINETUNING, epochs=20)
    add = parser.add_argument
    add("--balance", choices=("none", "sampling", "logit-adjustment"), default="none",
        help="answer to emotions that are rare: none; draw all equally often; or learn beside "
        "their frequencies (Menon et al. 2021), in both phases")  # fmt: skip
    add("--adapt-datasets", nargs="+", metavar="NAME",
        help=f"sets to adapt on (default: {', '.join(ADAPTATION_SETS)})")  # fmt: skip
    add("--adapt-epochs", type=count, default=5, help="epochs of the adaptation, 0 for none")
    add("--adapt-lr", type=positive_float, default=1e-5, help="its highest learning rate")
    return parse_arguments(parser, "finetune_single")


def main() -> None:
    args = arguments()
    if args.loss == "bmc" and args.balance == "logit-adjustment":
        raise UserError("--loss bmc is balanced by itself; leave out --balance logit-adjustment.")
    from common.manifest import hold_out, read_manifest, thin_out, training_rows
    from common.training.finetuning import choose_sets
    from common.training.folds import asked_for, leave_persons_out, number_folds
    from common.training.runs import init_facts

    args.init = args.init or str(args.run_dir / "mae" / "model.safetensors")
    path = args.data_dir / "prepared" / "manifest.csv"
    manifest = read_manifest(path)
    held = hold_out(manifest)
    whole = training_rows(manifest, held), held
    parts = {None: whole}
    of_one = manifest.kind == "single"
    if args.folds:
        fold_of = number_folds(manifest, args.folds)
        parts = {
            fold: leave_persons_out(manifest, *whole, fold_of == fold) for fold in asked_for(args)
        }
        without, _ = leave_persons_out(manifest, *whole, fold_of > 0)
        if without[of_one].equals(whole[0][of_one]):
            raise UserError(
                "No compound in folds shows a person whose single expressions 03 would train on: "
                "leave --folds out, one run serves every fold of 04."
            )
    manifest = thin_out(manifest[of_one], args.limit)
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
    left_out = manifest.labels[chosen & ~emotional].astype(str).value_counts()
    chosen &= emotional
    phases = {}
    for fold, (training, held) in parts.items():
        own = manifest, training[manifest.index], held[manifest.index]
        phases[fold] = [part[adapting] for part in own], [part[chosen] for part in own]
        counts = [int(rows.sum()) for rows in phases[fold][1][1:]]
        if not all(counts):
            raise UserError(
                f"The single phase{f' of fold {fold}' if fold else ''} finds {counts[0]} images to "
                f"train on and {counts[1]} to validate on in "
                f"{', '.join(sorted(set(manifest.dataset))) or 'no labelled set'}; a fifth of the "
                "persons of a table without a `split` is held out, so it needs several (`subject`)."
            )
    # What else the result depends on, to compare when a run goes on.
    facts = {"manifest_sha256": file_digest(path), **init_facts(args.init)}
    named = ", ".join(f"{number:,} {label}" for label, number in left_out.items())
    for args.fold, of_fold in phases.items():  # so that each run's record tells its fold
        train(args, *of_fold, named or "no image", facts, last=args.fold == list(phases)[-1])


def train(args, adaptation, singles, left_out: str, facts: dict, last: bool) -> None:
    """Train both phases, each given as rows of the manifest and bools [n]: training, held out.

    left_out: images by label that is none of the six. facts: what the result depends on beside the
    settings. last: nothing is trained after it.
    """
    from common.training.runs import finish_run, start_run

    run = start_run(args, f"single/fold-{args.fold}" if args.fold else "single", facts)
    if run is None:
        return
    start = None if args.init == "none" else args.init
    if args.adapt_epochs and adaptation[1].any():
        start = adapt(run, args, start, *adaptation)
    elif args.adapt_epochs:
        sets = args.adapt_datasets or ADAPTATION_SETS
        run.say(f"adapt: no image of {', '.join(sets)} to train on; left out")
    run.say(f"single: left out as none of the six emotions: {left_out}")
    train_single(run, args, start, *singles)
    finish_run(run, last)
    run.say(f"single: classifier in {run.folder / 'model.safetensors'}")


def adapt(run, args, start, rows, training, held) -> str:
    """Train the encoder on the eight classes of AffectNet, and return the file it is kept in.

    start: weights, or None. rows: of the manifest; training, held: bool, aligned with them.
    """
    import numpy as np
    from torch.nn import functional

    from common.metrics import macro_f1
    from common.networks.classifier import create_classifier
    from common.networks.weights import save_model, start_from
    from common.training.finetuning import fit_phase, model_options, network_input, prior_logits

    path = run.folder / "adapted" / "model.safetensors"
    labels = np.array([ADAPTATION.index(label) for label in rows.labels])
    one_hot = np.eye(len(ADAPTATION), dtype=np.float32)[labels]
    options = model_options(args)
    network = create_classifier(args.model, args.image_size, options, classes=len(ADAPTATION))
    if start:
        start_from(network, start)
    prior = prior_logits(args.balance, one_hot[training], exclusive=True)

    def loss(network, batch):
        logits = network(network_input(args, batch)) + prior.to(batch.targets.device)
        return functional.cross_entropy(logits, batch.targets, reduction="none")

    def score(logits):
        return macro_f1(labels[held], logits.argmax(1), len(ADAPTATION))

    fit_phase(
        run, args, network, rows.image, one_hot, training, held, name="adapt", loss=loss,
        score=score, epochs=args.adapt_epochs, rate=args.adapt_lr,
    )  # fmt: skip
    if run.main:
        save_model(path.parent, network)
    run.accelerator.wait_for_everyone()
    return str(path)


def train_single(run, args, start, rows, training, held) -> None:
    """Train six sigmoid logits with binary cross-entropy (eq. 1); keep the best epoch.

    start: weights, or None. rows: of the manifest; training, held: bool, aligned with them.
    """
    import numpy as np
    import torch

    from common.metrics import single_emotion_f1
    from common.networks.classifier import create_classifier
    from common.networks.formats import read_tensors
    from common.networks.weights import save_model, start_from
    from common.pictures import save_curves
    from common.training.finetuning import expression_loss, fit_phase, model_options, prior_logits
    from common.training.validation import chosen_on_test, prediction_table, save_validation

    targets = np.stack([multi_hot(label) for label in rows.labels])
    truth = targets.argmax(1)
    # The head's first weights are the same whether this process has adapted or found that done.
    torch.manual_seed(args.seed)
    network = create_classifier(args.model, args.image_size, model_options(args))
    if start:
        start_from(network, start)

    def score(logits):
        return single_emotion_f1(truth[held], logits)

    table, validation = fit_phase(
        run, args, network, rows.image, targets, training, held, name="single",
        loss=expression_loss(args, prior_logits(args.balance, targets[training])), score=score,
        epochs=args.epochs, rate=args.lr, keep=lambda: save_model(run.folder, network),
    )  # fmt: skip
    network.load_state_dict(read_tensors(run.folder / "model.safetensors")[0])
    predictions = prediction_table(rows[held], validation())
    if run.main:
        save_validation(run.folder / "validation.csv", predictions, BASIC, args, run.say)
        if told := chosen_on_test(rows[held]):
            run.say(f"single: {told}")
        save_curves(run.folder / "curves.png", table, ["loss", "val_macro_f1"], "Single phase")


if __name__ == "__main__":
    run_script(main)

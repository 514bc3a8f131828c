"""Curriculum from single to compound expressions (paper §3.4).

Sub-stages of 5, 5, 3, 3 epochs draw 0, 20, 40, 100 % compound images: natural ones, and ones
generated from pairs of single expressions by CutMix and Mixup.

In:  <data-dir>/prepared/manifest.csv (01), <run-dir>/single/model.safetensors (03)
Out: <run-dir>/curriculum/model.safetensors   of the epoch with the best validation macro-F1 over
                         the seven compounds (the last epoch, where no compound is held out)
                         metrics.csv (with what was drawn), confusion.png, curves.png, run.json

Examples
  python 04_curriculum.py --config configs/demo.toml
  accelerate launch 04_curriculum.py --run-dir runs/vit_b
  python 04_curriculum.py --stage-epochs 5 5 5 --compound-shares 0 0.5 1     (table 2, row 3)
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from common.augment import RANDOMS
from common.classifier import create_classifier, read_weights, save_model, start_from
from common.config import fraction, make_parser, parse_arguments, positive, run_script
from common.curriculum import MIXES, Sources, draw_epoch, stage_of
from common.emotions import (
    BASIC,
    CHALLENGE,
    CHALLENGE_PAIRS,
    RAF11_PAIRS,
    challenge_class,
    compound_scores,
    multi_hot,
)
from common.files import UserError, file_digest
from common.finetuning import (
    add_flags,
    choose_sets,
    evaluation_input,
    expression_loss,
    model_options,
)
from common.images import Geometry, ImageStore
from common.manifest import hold_out, read_manifest, thin_out, training_rows
from common.metrics import confusion, macro_f1
from common.optimization import make_optimizer, plateau
from common.pictures import save_confusion, save_curves
from common.runs import finish_run, init_facts, start_run
from common.training import fit, predict

PAIRS = {"challenge7": CHALLENGE_PAIRS, "raf11": RAF11_PAIRS}


def arguments():
    parser = make_parser(
        __doc__,
        *("data_dir", "run_dir", "seed", "global_batch", "batch_size", "workers"),
        *("mixed_precision", "model", "model_options", "image_size", "mean", "std", "init"),
        *("ema", "compile", "grad_checkpointing", "limit", "save_minutes", "report_to"),
    )
    add_flags(parser, warmup_epochs=0.5)
    add = parser.add_argument
    add("--stage-epochs", type=positive, nargs="+", default=[5, 5, 3, 3], help="of each sub-stage")
    add("--compound-shares", type=fraction, nargs="+", default=[0.0, 0.2, 0.4, 1.0],
        help="share of compound images in each sub-stage's batches")  # fmt: skip
    add("--natural-share", type=fraction, default=0.5, help="of natural among compound images")
    add("--mixes", nargs="*", choices=MIXES, default=["mixup", "cutmix"], help="generators")
    add("--mixup-weight", type=fraction, default=0.1, help="of the first image")  # table 1
    add("--pairs", choices=PAIRS, default="challenge7", help="compounds that are valid")
    add("--epoch-images", type=positive,
        help="images an epoch (default: the single training images)")  # fmt: skip
    return parse_arguments(parser, "curriculum")


def main() -> None:
    args = arguments()
    if len(args.stage_epochs) != len(args.compound_shares):
        raise UserError(
            f"--stage-epochs ({args.stage_epochs}) and --compound-shares ({args.compound_shares}) "
            "must name the same number of sub-stages."
        )
    args.init = args.init or str(args.run_dir / "single" / "model.safetensors")
    prepared = args.data_dir / "prepared"
    manifest = read_manifest(prepared / "manifest.csv")
    valid = {tuple(sorted((BASIC[a], BASIC[b]))) for a, b in PAIRS[args.pairs]}
    labels = manifest.labels.astype(str)
    single = labels.isin(BASIC) & (manifest.kind == "single")
    single &= choose_sets(manifest, args.datasets, "--datasets")
    natural = (manifest.kind == "compound") & labels.map(lambda text: tuple(text.split()) in valid)
    used = thin_out(manifest[single | natural], args.limit)
    held = hold_out(manifest)
    training = training_rows(manifest, held)[used.index]
    held = held[used.index]
    facts = {"manifest_sha256": file_digest(prepared / "manifest.csv"), **init_facts(args.init)}
    store = ImageStore(prepared, used.image)
    sources = Sources(
        targets=np.array([multi_hot(text) for text in used.labels]).reshape(-1, len(BASIC)),
        single=np.flatnonzero(training & (used.kind == "single")),
        natural=np.flatnonzero(training & (used.kind == "compound")),
    )
    truth = used.labels.astype(str).map(challenge_class).to_numpy()
    checking = np.flatnonzero(held & (truth >= 0))
    if not len(sources.single):
        raise UserError(
            f"There is no single expression to train on in {prepared}; prepare a labelled set (01),"
            f" or name others in --datasets (prepared: {', '.join(sorted(set(manifest.dataset)))})."
        )
    run = start_run(args, "curriculum", facts)
    if run is None:
        return
    run.say(
        f"curriculum: {len(sources.single):,} singles and {len(sources.natural):,} natural "
        f"compounds on {run.hardware} ({len(checking):,} held out for validation)"
    )

    network = create_classifier(args.model, args.image_size, model_options(args))
    if args.init != "none":
        start_from(network, args.init, keep_head=True)
    network.to(run.accelerator.device)
    count = args.epoch_images or len(sources.single)
    epochs = sum(args.stage_epochs)
    steps_an_epoch = -(-count // args.global_batch)
    accounts = {}

    def plan(epoch: int):
        drawn, accounts[epoch] = draw_epoch(
            sources,
            args.compound_shares[stage_of(epoch, args.stage_epochs)],
            count=count,
            natural_share=args.natural_share,
            pairs=PAIRS[args.pairs],
            mixes=args.mixes,
            random=np.random.default_rng([args.seed, epoch]),
        )
        return drawn

    def validation() -> np.ndarray:
        logits = predict(run, network, store, checking, len(BASIC), evaluation_input(args))
        return compound_scores(expit(logits)).argmax(1)

    def validate(epoch: int) -> dict:
        figures = {"stage": stage_of(epoch, args.stage_epochs) + 1, **accounts[epoch]}
        if len(checking):
            figures["val_macro_f1"] = macro_f1(truth[checking], validation(), len(CHALLENGE))
        return figures

    table = fit(
        run,
        network,
        store,
        name="curriculum",
        epochs=epochs,
        plan=plan,
        loss=expression_loss(args),
        geometry=Geometry(args.image_size, crop_area=tuple(args.crop_area)),
        randoms=RANDOMS,
        optimizer=make_optimizer(network, args.lr, args.weight_decay, args.layer_decay),
        schedule=plateau(epochs * steps_an_epoch, round(args.warmup_epochs * steps_an_epoch)),
        validate=validate,
        best="val_macro_f1" if len(checking) else None,
        keep=lambda: save_model(run.folder, network),
    )
    if not len(checking):
        run.say("curriculum: no compound is held out, so the last epoch is kept, unvalidated")
        if run.main:
            save_model(run.folder, network)
    else:
        network.load_state_dict(read_weights(run.folder / "model.safetensors"))
        matrix = confusion(truth[checking], validation(), len(CHALLENGE))
        if run.main:
            save_confusion(run.folder / "confusion.png", matrix, CHALLENGE, "Compounds, validation")
        run.say(f"curriculum: best validation macro-F1 {table.val_macro_f1.max():.4f}")
    if run.main:
        shown = [name for name in ("loss", "val_macro_f1") if name in table]
        save_curves(run.folder / "curves.png", table, shown, "Curriculum")
    finish_run(run)
    run.say(f"curriculum: classifier in {run.folder / 'model.safetensors'}")


if __name__ == "__main__":
    run_script(main)

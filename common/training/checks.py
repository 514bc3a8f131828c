"""What 02, 03 and 04 refuse before they train: settings and data that cannot give a result."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch

from common.networks.classifier import (
    check_model,
    create_classifier,
    create_encoder,
    refuse_image_size,
)
from common.script.files import UserError


def check_encoder(args: argparse.Namespace) -> None:
    """Raise UserError for a model that 02 cannot pretrain; made without memory, in no time."""
    with torch.device("meta"):
        create_encoder(args.model, args.image_size, args.model_options)


def check_images(count: int, prepared: Path) -> None:
    """Raise UserError where 02 has no image to train on."""
    if not count:
        raise UserError(f"{prepared} has no image that is not held out for validation or test.")


def check_settings(args: argparse.Namespace) -> None:
    """Raise UserError for a model that is unknown, and settings that do not go together."""
    check_model(args.model)
    if args.loss == "bmc" and args.balance == "logit-adjustment":
        raise UserError("--loss bmc is balanced by itself; leave out --balance logit-adjustment.")
    if args.loss == "bmc" and args.label_smoothing:
        raise UserError("--loss bmc compares whole labels; leave out --label-smoothing.")
    if args.balance_strength != 1 and args.balance != "logit-adjustment":
        raise UserError(
            f"--balance-strength {args.balance_strength:g} is that of --balance logit-adjustment, "
            f"not of --balance {args.balance}; name that balance, or set --balance-strength 1."
        )
    if args.freeze == "encoder" and args.head_epochs:
        raise UserError("With --freeze encoder the head alone learns; leave out --head-epochs.")


def check_small_size(args: argparse.Namespace) -> None:
    """Raise UserError where the first epochs of 03 cannot be of smaller images."""
    if not args.small_epochs:
        return
    if args.small_epochs >= args.epochs:
        raise UserError(
            f"--small-epochs {args.small_epochs} leaves none of {args.epochs} epochs for images of "
            f"{args.image_size} px, which the network is for."
        )
    if args.small_size >= args.image_size:
        raise UserError(
            f"--small-size {args.small_size} is not smaller than --image-size {args.image_size}; "
            "choose a smaller one, or --small-epochs 0."
        )
    network = create_classifier(args.model, args.image_size, args.model_options)
    refuse_image_size(network, args.model, args.small_size, network.num_classes)


def check_curriculum_settings(args: argparse.Namespace) -> None:
    """Raise UserError for settings of 04 that are possible alone, but not together."""
    check_settings(args)
    if len(args.stage_epochs) != len(args.compound_shares):
        raise UserError(
            f"--stage-epochs ({args.stage_epochs}) and --compound-shares ({args.compound_shares}) "
            "must name the same number of sub-stages."
        )
    if args.start_share == 1:
        raise UserError(
            "--start-share 1 keeps the weights that 04 starts from: nothing is learned."
        )
    if args.start_share and args.init == "none":
        raise UserError(
            f"--start-share {args.start_share:g} is of the weights that 04 starts from, and --init "
            "none has none; leave one of them out."
        )
    if len(set(args.mixes)) < len(args.mixes):
        raise UserError("--mixes names one form twice; all that it names make equal parts.")
    whole = args.mixup_weight in (0, 1) and args.mixed_label == "union" and not args.mixup_beta
    if "mixup" in args.mixes and whole and args.natural_share < 1:
        raise UserError(
            f"--mixup-weight {args.mixup_weight:g} shows one of two faces, labelled as both; "
            "choose a weight between 0 and 1."
        )
    if args.order != "label" and args.balance == "sampling":
        raise UserError(
            f"--order {args.order} draws singles and compounds together, which --balance sampling "
            "cannot make even; leave one of them out, or choose --balance logit-adjustment."
        )
    epochs = sum(args.stage_epochs)
    check_validation(args, epochs - args.stage_epochs[-1], epochs, "the last sub-stage")
    if "cutmix" in args.mixes and args.cutmix.startswith("facs") and args.pairs != "challenge7":
        raise UserError(
            f"--cutmix {args.cutmix} is defined for the challenge's seven compounds only; "
            f"leave out --pairs {args.pairs}."
        )


def check_validation(args: argparse.Namespace, first: int, epochs: int, what: str) -> None:
    """Raise UserError where too few epochs are validated for --keep best, or for --early-stop.

    first: the epoch, from 0 and of so many, from which scores count. what: these epochs in words.
    """
    every, last = args.validate_every, epochs - 1
    validated = range(first + (-(first + 1) % every), last, every)  # see is_validated
    if args.keep == "best" and every > 1 and not validated:
        raise UserError(
            f"--validate-every {every} validates one epoch alone of {what}, so that --keep best "
            "has no choice; validate more often, or choose --keep last."
        )
    # The earliest end: the first score is the best.
    latest = validated[-1] - validated[0] if validated else 0
    if args.early_stop and args.early_stop > latest:
        raise UserError(
            f"--early-stop {args.early_stop} could never end a run: only {what} counts, with "
            f"{epochs - first} epochs{f', every {every}th validated' if every > 1 else ''}; "
            + (f"N may be {latest} at most." if latest else "leave it out.")
        )


def check_singles(training: int, held_out: int, fold: int | None, datasets: Iterable[str]) -> None:
    """Raise UserError where the single phase of 03 has no image to train on, or to validate on.

    training, held_out: numbers of images. datasets: those that have single expressions.
    """
    if not training or not held_out:
        raise UserError(
            f"The single phase{f' of fold {fold}' if fold else ''} finds {training} images to "
            f"train on and {held_out} to validate on in "
            f"{', '.join(sorted(set(datasets))) or 'no labelled set'}; a fifth of the persons of a "
            "table without a `split` is held out, so it needs several (`subject`)."
        )


def check_singles_exist(singles: int, datasets: Iterable[str]) -> None:
    """Raise UserError where 04 has no single expression to train on.

    singles: number of images. datasets: all that are prepared.
    """
    if not singles:
        raise UserError(
            "There are no single expressions to train on; prepare a labelled set (01), or name "
            f"others in --datasets (prepared: {', '.join(sorted(set(datasets)))})."
        )

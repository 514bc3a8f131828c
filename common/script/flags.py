"""Flags that mean the same in every script: their words, types, defaults and help."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from pathlib import Path

from common.script.files import UserError

# The colour statistics of aligned faces, from the authors' released code.
FACE_MEAN = (0.4990, 0.4104, 0.3656)
FACE_STD = (0.2971, 0.2699, 0.2653)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _from(lowest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = _whole(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{text} is not {lowest} or more")
        return number

    return read


# Whole numbers, from 0, 1 and 2 (argparse types).
count, positive, several = map(_from, range(3))


def seed(text: str) -> int:
    """Read the seed of random numbers (argparse type)."""
    number = _whole(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 4294967295")
    return number


def fraction(text: str) -> float:
    """Read a number in 0..1 (argparse type)."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def below_one(text: str) -> float:
    """Read a number from 0 to below 1 (argparse type)."""
    number = fraction(text)
    if number == 1:
        raise argparse.ArgumentTypeError(f"{text} is not below 1")
    return number


def positive_float(text: str) -> float:
    """Read a number above 0 (argparse type)."""
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def not_negative(text: str) -> float:
    """Read a number of 0 or more (argparse type)."""
    number = _number(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return number


def _option(text: str) -> tuple[str, object]:
    """Read `key=value`, the value as a Python literal where it is one."""
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def refuse_impossible(arguments: argparse.Namespace) -> None:
    """Raise UserError for common flags that are each possible, but not together."""
    given = vars(arguments)
    if given.get("fold") and not given["folds"]:
        raise UserError(f"--fold {given['fold']} is one of --folds N, which must be named too.")
    if given.get("fold") and given["fold"] > given["folds"]:
        raise UserError(f"--fold {given['fold']} is none of --folds {given['folds']}, from 1.")
    smallest, largest = given.get("crop_area", (1, 1))
    if not 0 < smallest <= largest:
        raise UserError(
            f"--crop-area {smallest:g} {largest:g}: the smallest share of the area must be above 0 "
            "and not above the largest."
        )


# What 03 and 04 train with; 03 and 04 add to it what is theirs.
FINETUNING = (
    *("data_dir", "run_dir", "seed", "global_batch", "batch_size", "workers", "mixed_precision"),
    *("model", "model_options", "image_size", "mean", "std", "init", "datasets", "loss", "lr"),
    *("weight_decay", "layer_decay", "warmup_epochs", "drop_path", "crop_area", "jitter", "cutout"),
    *("early_stop", "ema", "folds", "fold", "compile", "grad_checkpointing", "limit"),
    *("save_minutes", "report_to"),
)

# Flags that mean the same in every script. A script picks those that it uses.
COMMON: dict[str, dict] = {
    "data_dir": dict(type=Path, default=Path("data"), help="folder of raw/ and prepared/"),
    "run_dir": dict(type=Path, default=Path("runs/paper"), help="folder of this run's results"),
    "seed": dict(type=seed, default=0, help="seed of everything random"),
    "epochs": dict(type=positive, default=10, help="passes over the training images"),
    "global_batch": dict(
        type=positive, default=256, help="images an optimiser step, over all processes"
    ),
    "batch_size": dict(
        type=positive,
        default=None,
        help="images a process computes at once; the rest of the global batch is accumulated "
        "(default: by the memory)",
    ),
    "workers": dict(
        type=count,
        default=None,
        help="loader processes a training process, 0: it loads by itself (default: by cores)",
    ),
    "mixed_precision": dict(
        choices=["no", "bf16", "fp16"],
        default=None,
        help="number format of matrix products (default: bf16 where the hardware has it)",
    ),
    "model": dict(
        default="vit_base_patch16_224",
        help="timm name of the Vision Transformer, or vit_small, vit_base, vit_large, vit_huge",
    ),
    "model_options": dict(
        type=_option,
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="arguments of timm's VisionTransformer that differ from the named model's, beside "
        "those of the recipe (alone, the flag drops these); stem=conv selects a convolutional "
        "stem, global_pool=concat a head that keeps positions",
    ),
    "image_size": dict(type=positive, default=224, help="side of the model's input, pixels"),
    "mean": dict(
        type=fraction, nargs=3, default=list(FACE_MEAN), help="mean colour of faces, R G B in 0..1"
    ),
    "std": dict(
        type=positive_float,
        nargs=3,
        default=list(FACE_STD),
        help="deviation of face colours, R G B",
    ),
    "init": dict(
        default=None,
        help="weights to start from: a file, or timm:NAME to fetch timm's; "
        "`none` starts from random weights; unnamed, 03 and 04 start from the stage before; with "
        "--folds, 04 also takes the folder of another run's 03, such as runs/a/single",
    ),
    "ema": dict(
        type=below_one,
        default=0.0,
        help="decay of a moving average of the weights, which is validated and saved in their "
        "place, such as 0.9999; 0: none",
    ),
    "compile": dict(
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compile the network (default: on CUDA)",
    ),
    "grad_checkpointing": dict(
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compute each block twice instead of keeping it: less memory, one more forward pass",
    ),
    "datasets": dict(
        nargs="+",
        default=None,
        metavar="NAME",
        help="sets of single expressions to train on (default: all labelled ones but those of the "
        "adaptation)",
    ),
    "loss": dict(
        choices=["bce", "bmc"],
        default="bce",
        help="binary cross-entropy (eq. 1), or balanced MSE on the logits (released code)",
    ),
    "lr": dict(type=positive_float, default=1e-5, help="highest learning rate"),
    "weight_decay": dict(type=fraction, default=0.05, help="of AdamW"),
    "layer_decay": dict(type=fraction, default=1.0, help="factor of the rate, block by block"),
    "warmup_epochs": dict(type=not_negative, default=1.0, help="epochs of rising learning rate"),
    "drop_path": dict(
        type=below_one, default=0.0, help="share of skipped blocks in the last block"
    ),
    "crop_area": dict(
        type=fraction, nargs=2, default=[0.6, 1.0], help="range of the random crop, of the area"
    ),
    "jitter": dict(type=fraction, default=0.3, help="strength of the colour jitter"),
    "cutout": dict(type=fraction, default=0.5, help="share of images with a square cut out"),
    "early_stop": dict(
        type=positive,
        default=None,
        metavar="N",
        help="stop after N epochs without a better validation score (default: never)",
    ),
    "folds": dict(
        type=several,
        default=None,
        metavar="N",
        help="N folds of the compounds that are in no test split, grouped by person or video, in "
        "turn: 03 leaves a fold's persons out, 04 starts from that and validates on them; with "
        "--keep last, no fold chooses the epoch that it judges",
    ),
    "fold": dict(type=positive, default=None, metavar="K", help="of these only fold K, from 1"),
    "limit": dict(type=positive, default=None, help="use only N images (a quick look)"),
    "save_minutes": dict(
        type=positive_float, default=10.0, help="minutes between saved states within an epoch"
    ),
    "report_to": dict(
        nargs="*", default=[], help="Accelerate trackers, such as tensorboard or wandb"
    ),
}

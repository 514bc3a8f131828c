"""Flags that mean the same in every script: their names, types, defaults and help, by group."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from pathlib import Path

from common.script.files import UserError

# The colour statistics of aligned faces, from the authors' released code.
FACE_MEAN = (0.4990, 0.4104, 0.3656)
FACE_STD = (0.2971, 0.2699, 0.2653)


def _number(kind: type, accepts: Callable[[float], bool], expected: str) -> Callable:
    """Return an argparse type that reads a number and refuses those out of range, also NaN."""

    def read(text: str):
        try:
            number = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None
        if not accepts(number):
            raise argparse.ArgumentTypeError(f"{text} is not {expected}")
        return number

    return read


INFINITE = float("inf")

# The types of flags, for argparse.
count = _number(int, lambda n: n >= 0, "0 or more")
positive = _number(int, lambda n: n >= 1, "1 or more")
several = _number(int, lambda n: n >= 2, "2 or more")
seed = _number(int, lambda n: 0 <= n < 2**32, "between 0 and 4294967295")
fraction = _number(float, lambda x: 0 <= x <= 1, "between 0 and 1")
below_one = _number(float, lambda x: 0 <= x < 1, "from 0 to below 1")
positive_float = _number(float, lambda x: 0 < x < INFINITE, "a number above 0")
not_negative = _number(float, lambda x: 0 <= x < INFINITE, "a number of 0 or more")


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
    """Raise UserError for common flags that are possible alone, but not together."""
    given = vars(arguments)
    if given.get("fold") and not given["folds"]:
        raise UserError(f"--fold {given['fold']} needs --folds N, the number of folds.")
    if given.get("fold") and given["fold"] > given["folds"]:
        raise UserError(f"--fold {given['fold']} is not one of 1 to {given['folds']} (--folds).")
    smallest, largest = given.get("crop_area", (1, 1))
    if not 0 < smallest <= largest:
        raise UserError(
            f"--crop-area {smallest:g} {largest:g}: the smallest share of the area must be above 0 "
            "and not above the largest."
        )


# The groups of --help, in its order. A script picks the flags that it uses, and adds its own to
# these groups or to new ones: parser.group("data").add_argument(...).
GROUPS: dict[str, dict[str, dict]] = {
    "run": {
        "run_dir": dict(
            type=Path, default=Path("runs/paper"), help="folder for the results of this run"
        ),
        "seed": dict(type=seed, default=0, help="seed of all random numbers"),
        "save_minutes": dict(
            type=positive_float, default=10.0, help="minutes between saved states within an epoch"
        ),
        "report_to": dict(
            nargs="*", default=[], help="Accelerate trackers, such as tensorboard or wandb"
        ),
    },
    "data": {
        "data_dir": dict(type=Path, default=Path("data"), help="folder of raw/ and prepared/"),
        "datasets": dict(
            nargs="+",
            default=None,
            metavar="NAME",
            help="data sets of single expressions to train on (default: all labelled ones except "
            "those of the adaptation)",
        ),
        "folds": dict(
            type=several,
            default=None,
            metavar="N",
            help="cross-validate: split the compounds that are in no test split into N folds by "
            "person or video. 03 leaves out the persons of a fold; 04 starts from that model and "
            "validates on them. With --keep last, no fold chooses the epoch that it judges",
        ),
        "fold": dict(type=positive, default=None, metavar="K", help="train only fold K, from 1"),
        "limit": dict(type=positive, default=None, help="use only N images (for a quick try)"),
    },
    "model": {
        "model": dict(
            default="vit_base_patch16_224",
            help="timm name of the Vision Transformer, or vit_small, vit_base, vit_large, vit_huge",
        ),
        "model_options": dict(
            type=_option,
            nargs="*",
            default=[],
            metavar="KEY=VALUE",
            help="arguments of timm's VisionTransformer that differ from the named model's. They "
            "are added to the recipe's; the flag without values drops the recipe's. stem=conv "
            "selects a convolutional stem, global_pool=concat a head that keeps positions",
        ),
        "image_size": dict(type=positive, default=224, help="side of the model's input, pixels"),
        "mean": dict(
            type=fraction,
            nargs=3,
            default=list(FACE_MEAN),
            help="mean colour of faces, R G B in 0..1",
        ),
        "std": dict(
            type=positive_float,
            nargs=3,
            default=list(FACE_STD),
            help="standard deviation of face colours, R G B",
        ),
        "init": dict(
            default=None,
            help="weights to start from: a file; timm:NAME to download timm's; `none` for random "
            "weights; with --folds, 04 also takes the folder of another run's 03, such as "
            "runs/a/single (default of 03 and 04: the stage before)",
        ),
    },
    "augmentation": {
        "crop_area": dict(
            type=fraction,
            nargs=2,
            default=[0.6, 1.0],
            help="smallest and largest random crop, as shares of the area",
        ),
        "jitter": dict(type=fraction, default=0.3, help="strength of the colour jitter"),
        "cutout": dict(type=fraction, default=0.5, help="share of images with a square cut out"),
    },
    "optimisation": {
        "epochs": dict(type=positive, default=10, help="passes over the training images"),
        "global_batch": dict(
            type=positive, default=256, help="images an optimiser step, over all processes"
        ),
        "loss": dict(
            choices=["bce", "bmc"],
            default="bce",
            help="binary cross-entropy (eq. 1), or balanced MSE on the logits (released code)",
        ),
        "lr": dict(type=positive_float, default=1e-5, help="peak learning rate"),
        "weight_decay": dict(type=fraction, default=0.05, help="weight decay of AdamW"),
        "layer_decay": dict(
            type=fraction, default=1.0, help="factor of the learning rate from block to block"
        ),
        "warmup_epochs": dict(
            type=not_negative, default=1.0, help="epochs of linearly rising learning rate"
        ),
        "drop_path": dict(
            type=below_one, default=0.0, help="stochastic depth: drop rate of the last block"
        ),
        "ema": dict(
            type=below_one,
            default=0.0,
            help="decay of a moving average of the weights, such as 0.9999, which is validated "
            "and saved in place of the weights; 0: none",
        ),
        "early_stop": dict(
            type=positive,
            default=None,
            metavar="N",
            help="stop after N epochs without a better validation score (default: never)",
        ),
    },
    "hardware": {
        "batch_size": dict(
            type=positive,
            default=None,
            help="images a process computes at once; the rest of the global batch is accumulated "
            "(default: by the memory)",
        ),
        "workers": dict(
            type=count,
            default=None,
            help="loader processes a training process; 0: it loads by itself (default: by cores)",
        ),
        "mixed_precision": dict(
            choices=["no", "bf16", "fp16"],
            default=None,
            help="number format of matrix products (default: bf16 where the hardware has it)",
        ),
        "compile": dict(
            action=argparse.BooleanOptionalAction,
            default=None,
            help="compile the network (default: on CUDA)",
        ),
        "grad_checkpointing": dict(
            action=argparse.BooleanOptionalAction,
            default=False,
            help="recompute each block in the backward pass: less memory, one more forward pass",
        ),
    },
}

COMMON = {name: options for group in GROUPS.values() for name, options in group.items()}

# What 03 and 04 share: everything but the epochs, which 04 counts by stage.
FINETUNING = tuple(name for name in COMMON if name != "epochs")

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
# Values of --loss that learn one distribution over the eight expressions; others, six emotions.
EXCLUSIVE_LOSSES = ("softmax",)
# Pictures are shrunk to the first to find faces; where there is none, to the next.
DETECT_SIDES_PX = (160, 480)


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


_WORDS = {"true": True, "false": False, "null": None}  # timm has a value "none" of its own


def _option(text: str) -> tuple[str, object]:
    """Read `key=value`, the value as a Python literal where it is one, or a word of JSON."""
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    if value.lower() in ("yes", "no", "on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r}: a switch is {key}=true or {key}=false")
    if value.lower() in _WORDS:
        return key, _WORDS[value.lower()]
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _freeze(text: str) -> int | str:
    """Read what --freeze keeps (argparse type)."""
    return text if text == "encoder" else count(text)


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
        "detect_sides": dict(
            type=positive,
            nargs="+",
            default=list(DETECT_SIDES_PX),
            metavar="PX",
            help="shrink pictures to this longest side to find faces; to the next if there is none",
        ),
    },
    "model": {
        "model": dict(
            default="vit_base_patch16_224",
            help="timm name of the network, or vit_small, vit_base, vit_large, vit_huge, or "
            "cnn_small, for faces of 48 pixels; 02 takes plain Vision Transformers",
        ),
        "model_options": dict(
            type=_option,
            nargs="*",
            default=[],
            metavar="KEY=VALUE",
            help="arguments of timm's model that differ from the named one's. They are added to "
            "the recipe's; the flag without values drops the recipe's. For plain Vision "
            "Transformers, stem=conv selects a convolutional stem, global_pool=concat a head that "
            "keeps positions",
        ),
        "image_size": dict(type=positive, default=224, help="side of the model's input, pixels"),
        "mean": dict(
            type=fraction,
            nargs=3,
            default=None,
            help="mean colour, R G B in 0..1 (default: that of the weights it starts from; of "
            "faces for random weights)",
        ),
        "std": dict(
            type=positive_float,
            nargs=3,
            default=None,
            help="standard deviation of the colours, R G B (default: as --mean)",
        ),
        "init": dict(
            default=None,
            help="weights to start from: a file; FILE::ENTRY for an entry of it, such as "
            "model_ema; timm:NAME to download timm's; `none` for random weights. Left out, 03 and "
            "04 start from the stage before. With --folds, 04 also takes the folder of another "
            "run's 03, such as runs/a/single",
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
        "rotation": dict(type=not_negative, default=0.0, help="largest rotation, degrees"),
        "scale": dict(
            type=not_negative,
            default=0.0,
            help="largest change of size: 0.1 is up to 1.1 and 1/1.1",
        ),
        "shift": dict(type=fraction, default=0.0, help="largest shift, as a share of the side"),
    },
    "optimisation": {
        "epochs": dict(type=positive, default=10, help="passes over the training images"),
        "global_batch": dict(
            type=positive, default=256, help="images an optimiser step, over all processes"
        ),
        "loss": dict(
            choices=["bce", "bmc", *EXCLUSIVE_LOSSES],
            default="bce",
            help="binary cross-entropy (eq. 1); balanced MSE on the logits (released code); or "
            "softmax cross-entropy over eight expressions, Neutral and Contempt too, with people's "
            "votes where the manifest has them: 03 then trains on all singles and on every image "
            "with votes, single or compound",
        ),
        "least_votes": dict(
            type=positive,
            default=2,
            metavar="N",
            help="with --loss softmax, leave out the votes for an expression that has fewer than N "
            "(2: FERPlus)",
        ),
        "optimizer": dict(
            choices=["adamw", "sgd"],
            default="adamw",
            help="AdamW, or SGD with Nesterov momentum of 0.9",
        ),
        "schedule": dict(
            choices=["cosine", "one-cycle", "plateau"],
            default="cosine",
            help="half a cosine down to zero; one cycle, up for 30 %% of the steps and down, "
            "without --warmup-epochs; or the full rate, and down in the last quarter",
        ),
        "lr": dict(type=positive_float, default=1e-5, help="peak learning rate"),
        "weight_decay": dict(type=fraction, default=0.05, help="weight decay"),
        "layer_decay": dict(
            type=fraction, default=1.0, help="factor of the learning rate from block to block"
        ),
        "warmup_epochs": dict(
            type=not_negative, default=1.0, help="epochs of linearly rising learning rate"
        ),
        "drop_path": dict(
            type=below_one,
            default=0.0,
            help="stochastic depth: drop rate of the last block. What is dropped depends on the "
            "number of processes and on --batch-size",
        ),
        "clip_grad": dict(
            type=positive_float,
            default=None,
            metavar="NORM",
            help="scale gradients down to this norm where they are larger (default: never)",
        ),
        "label_smoothing": dict(
            type=below_one,
            default=0.0,
            help="share of each label that is spread evenly over all classes",
        ),
        "balance": dict(
            choices=["none", "sampling", "logit-adjustment"],
            default="none",
            help="how rare single emotions are treated: like all others; drawn as often as all "
            "others; or class frequencies are added during training only (Menon et al. 2021)",
        ),
        "balance_strength": dict(
            type=not_negative,
            default=1.0,
            metavar="TAU",
            help="of logit-adjustment: 1 makes all classes equal, 0 none; between, accuracy falls "
            "less and rare classes gain less",
        ),
        "freeze": dict(
            type=_freeze,
            default=0,
            metavar="N|encoder",
            help="keep the stem and the first N blocks as they are, or the whole encoder",
        ),
        "head_epochs": dict(
            type=not_negative,
            default=0.0,
            help="first epochs in which the head alone learns, so that it does not disturb a "
            "pretrained encoder",
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
            help="stop after N epochs, validated or not, without a better validation score "
            "(default: never)",
        ),
        "validate_every": dict(
            type=positive,
            default=1,
            metavar="N",
            help="validate after every Nth epoch and the last one; saves time where the images to "
            "validate on outnumber those that train",
        ),
        "keep": dict(
            choices=["best", "last"],
            default="best",
            help="whose weights are kept: those of the epoch that validates best, or the last's, "
            "which no held-out image chooses",
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

# What 03 and 04 share.
FINETUNING = tuple(name for name in COMMON if name not in ("detect_sides", "epochs"))

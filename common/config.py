"""Settings: the paper's recipe as defaults, overridden by a TOML file, overridden by flags."""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from common import signals
from common.files import UserError

# The colour statistics of aligned faces, from the authors' released code.
FACE_MEAN = (0.4990, 0.4104, 0.3656)
FACE_STD = (0.2971, 0.2699, 0.2653)

# The tables a recipe may hold: one for each script and one that all of them read.
TABLES = (
    "common",
    "prepare_data",
    "pretrain_mae",
    "finetune_single",
    "curriculum",
    "predict_submit",
)


def positive(text: str) -> int:
    """Read a whole number of 1 or more (argparse type)."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def count(text: str) -> int:
    """Read a whole number of 0 or more (argparse type)."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 4294967295")
    return number


def fraction(text: str) -> float:
    """Read a number in 0..1 (argparse type)."""
    number = float(text)
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
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def not_negative(text: str) -> float:
    """Read a number of 0 or more (argparse type)."""
    number = float(text)
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


# What 03 and 04 train with; 03 and 04 add to it what is theirs.
FINETUNING = (
    *("data_dir", "run_dir", "seed", "global_batch", "batch_size", "workers", "mixed_precision"),
    *("model", "model_options", "image_size", "mean", "std", "init", "datasets", "loss", "lr"),
    *("weight_decay", "layer_decay", "warmup_epochs", "drop_path", "crop_area", "jitter", "cutout"),
    *("early_stop", "ema", "compile", "grad_checkpointing", "limit", "save_minutes", "report_to"),
)

# Flags that mean the same in every script. A script picks those that it uses.
COMMON: dict[str, dict] = {
    "data_dir": dict(type=Path, default=Path("data"), help="folder of raw/ and prepared/"),
    "run_dir": dict(type=Path, default=Path("runs/paper"), help="folder of this run's results"),
    "seed": dict(type=_seed, default=0, help="seed of everything random"),
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
        type=count, default=None, help="loader processes a training process (default: by cores)"
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
        help="arguments of timm's VisionTransformer that differ from the named model's; "
        "stem=conv selects a convolutional stem, "
        "global_pool=concat a head that keeps positions",
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
        "`none` starts from random weights; unnamed, 03 and 04 start from the stage before",
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
    "drop_path": dict(type=fraction, default=0.0, help="share of skipped blocks in the last block"),
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
    "limit": dict(type=positive, default=None, help="use only N images (a quick look)"),
    "save_minutes": dict(
        type=positive_float, default=10.0, help="minutes between saved states within an epoch"
    ),
    "report_to": dict(
        nargs="*", default=[], help="Accelerate trackers, such as tensorboard or wandb"
    ),
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, so that a file can be named in them."""

    def error(self, message: str):
        raise UserError(message[0].upper() + message[1:] + ".")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the docstring as written, and each flag's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def make_parser(description: str, *common: str, **defaults) -> argparse.ArgumentParser:
    """Return a parser with `--config` and the named flags of COMMON.

    description: the script's docstring. defaults: this script's own defaults of common flags.
    """
    parser = _Parser(description=description, formatter_class=_Help, allow_abbrev=False)
    parser.add_argument("--config", type=Path, help="TOML recipe, e.g. configs/demo.toml")
    for name in common:
        options = {**COMMON[name], **({"default": defaults[name]} if name in defaults else {})}
        parser.add_argument("--" + name.replace("_", "-"), **options)
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, table: str, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Read defaults, then the tables [common] and [`table`] of `--config`, then `argv`.

    The recipe's values pass through the same types and choices as flags. Raises UserError for an
    unreadable recipe, an unknown table, key or flag (naming the nearest), or a bad value.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    finder = _Parser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    path = finder.parse_known_args(argv)[0].config
    from_file = _recipe_flags(parser, path, table) if path else []
    try:
        parser.parse_args(from_file)
    except UserError as error:
        raise UserError(f"In {path}: {error}") from None
    arguments, unknown = parser.parse_known_args(from_file + argv)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise UserError(f"Unknown argument {unknown[0]}{nearest(unknown[0], flags)}")
    if hasattr(arguments, "model_options"):
        arguments.model_options = dict(arguments.model_options)
    return arguments


def _recipe_flags(parser: argparse.ArgumentParser, path: Path, table: str) -> list[str]:
    """Return the recipe's values as if they had been typed."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} is not valid TOML: {error}.") from None
    for name, value in recipe.items():
        if name not in TABLES or not isinstance(value, dict):
            raise UserError(f"{path} has an unknown table [{name}]{nearest(name, TABLES)}")
    actions = {action.dest: action for action in parser._actions}
    own = {**recipe.get("common", {}), **recipe.get(table, {})}
    flags = []
    for key, value in own.items():
        if key not in actions or key in ("help", "config"):
            if key in COMMON and key not in recipe.get(table, {}):
                continue  # a common flag that this script has no use for
            raise UserError(f"{path} has an unknown key {key!r}{nearest(key, actions)}")
        action = actions[key]
        if isinstance(action, argparse.BooleanOptionalAction):
            if not isinstance(value, bool):
                raise UserError(f"{path}: {key} must be true or false, not {value!r}.")
            flags.append(action.option_strings[0 if value else 1])
        elif isinstance(value, dict):
            flags += [action.option_strings[0], *(f"{k}={v}" for k, v in value.items())]
        elif isinstance(value, list):
            flags += [action.option_strings[0], *map(str, value)]
        else:  # joined by `=`, so that a value may begin with a dash
            flags.append(f"{action.option_strings[0]}={value}")
    return flags


def nearest(name: str, known) -> str:
    """Return the end of a sentence that names the known word most like `name`."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; the nearest known is {close[0]}." if close else "; see --help."


def settings_of(arguments: argparse.Namespace) -> dict:
    """Return the resolved arguments as plain JSON values, for run.json."""

    def plain(value):
        if isinstance(value, list):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in sorted(vars(arguments).items())}


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main: what a user can mend becomes one sentence and exit status 2.

    A signal that ends the script exits with 128 and its number: 143 for SIGTERM, 130 for Ctrl-C.
    """
    signals.listen()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except signals.Stopped as stopped:
        signals.end_workers()
        sys.exit(stopped.status)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): not an error worth a traceback.
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        sys.exit(141)
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":  # of torch, which is not imported here
            print("error: The GPU's memory is too small; lower --batch-size.", file=sys.stderr)
        elif "DataLoader worker" in str(error):
            print(
                "error: A loader process was killed, perhaps for want of memory (shared memory, "
                "in a container); run the same command again, with fewer --workers: it goes on "
                "from the last state.",
                file=sys.stderr,
            )
        else:
            raise
        sys.exit(2)
    except OSError as error:  # disk full, no permission, a folder that is a file
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
        sys.exit(2)

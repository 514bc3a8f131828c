"""Settings: the paper's recipe as defaults, overridden by a TOML file, overridden by flags."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.script.files import UserError
from common.script.flags import COMMON, GROUPS, refuse_impossible
from common.script.synonyms import ADVICE, OTHER_NAMES

# The tables a recipe may hold: one for each script and one that all of them read.
TABLES = (
    "common",
    "prepare_data",
    "pretrain_mae",
    "finetune_single",
    "curriculum",
    "predict_submit",
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, so that a file can be named in them."""

    def error(self, message: str):
        raise UserError(message[0].upper() + message[1:] + ".")

    def group(self, title: str):
        """Return the group of --help with this title; it is made where there is none."""
        for group in self._action_groups:
            if group.title == title:
                return group
        return self.add_argument_group(title)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the docstring as written, and each flag's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def make_parser(description: str, *common: str, **defaults) -> Parser:
    """Return a parser with `--config` and the named flags of COMMON, in their groups.

    description: the script's docstring. defaults: this script's own defaults of common flags.
    A script adds flags of its own by `parser.group(title).add_argument(...)`.
    """
    parser = Parser(
        usage="%(prog)s [--config RECIPE] [flags]",
        description=description,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.register("type", Path, _path)
    parser.group("run").add_argument(
        "--config", type=Path, metavar="RECIPE", help="TOML file, e.g. configs/demo.toml"
    )
    for title, flags in GROUPS.items():
        for name in filter(common.__contains__, flags):
            options = {**flags[name], **({"default": defaults[name]} if name in defaults else {})}
            parser.group(title).add_argument("--" + name.replace("_", "-"), **options)
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, table: str, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Read defaults, then the tables [common] and [`table`] of `--config`, then `argv`.

    The recipe's values pass through the same types and choices as flags. Raises UserError for an
    unreadable recipe, an unknown table, key or flag (naming the nearest), or a bad value.
    model_options of `argv` join the recipe's, key by key. `defaults` of the result: each flag's
    value where neither names it.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    finder = Parser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    path = finder.parse_known_args(argv)[0].config
    from_file = _recipe_flags(parser, path, table) if path else []
    try:
        recipe = parser.parse_args(from_file)
    except UserError as error:
        raise UserError(f"In {path}: {error}") from None
    arguments, unknown = parser.parse_known_args(from_file + argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise UserError(f"Unknown argument {flag}{_hint(flag, parser, '--')}")
    if options := getattr(arguments, "model_options", None):
        arguments.model_options = dict([*recipe.model_options, *options])
    elif options is not None:
        arguments.model_options = {}
    refuse_impossible(arguments)
    given = vars(arguments)
    defaults = {flag.dest: flag.default for flag in parser._actions if flag.dest in given}
    arguments.defaults = settings_of(argparse.Namespace(**defaults))
    if "model_options" in defaults:
        arguments.defaults["model_options"] = {}
    return arguments


def _path(text: str) -> Path:
    """Return a path whose name can be written to the results; "" would be this folder."""
    try:
        text.encode()
    except UnicodeEncodeError:
        name = os.fsencode(text).decode("ascii", "backslashreplace")
        raise argparse.ArgumentTypeError(f"{name} is not UTF-8; rename it") from None
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a path must have a name")
    return Path(text)


def _recipe_flags(parser: argparse.ArgumentParser, path: Path, table: str) -> list[str]:
    """Return the recipe's values as if they had been typed."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # also no UTF-8, and thousands of digits
        raise UserError(f"The recipe {path} is not valid TOML: {error}.") from None
    for name, value in recipe.items():
        if name in TABLES and not isinstance(value, dict):
            raise UserError(f"{path}: {name} must be one table, with the heading [{name}].")
        if name not in TABLES:
            raise UserError(f"{path} has an unknown table [{name}]{nearest(name, TABLES)}")
    actions = {action.dest: action for action in parser._actions}
    own = {**recipe.get("common", {}), **recipe.get(table, {})}
    flags = []
    for key, value in own.items():
        if key not in actions or key in ("help", "config"):
            if key in COMMON and key not in recipe.get(table, {}):
                continue  # a common flag that this script has no use for
            raise UserError(f"{path} has an unknown key {key!r}{_hint(key, parser)}")
        action = actions[key]
        texts = value if isinstance(value, list) else [value]
        if action.type is Path and not all(isinstance(text, str) for text in texts):
            raise UserError(f"{path}: {key} must be a path in quotes, not {value!r}.")
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise UserError(f"{path}: {key} must be true or false, not {value!r}.")
            flags += action.option_strings[0 if value else 1 :][:1]  # not every flag has a --no-
        elif isinstance(value, dict):
            flags += [action.option_strings[0], *(f"{k}={v}" for k, v in value.items())]
        elif isinstance(value, list):
            if action.nargs is None:
                raise UserError(f"{path}: {key} takes one value, not a list.")
            flags += [action.option_strings[0], *map(str, value)]
        else:  # joined by `=`, so that a value may begin with a dash
            flags.append(f"{action.option_strings[0]}={value}")
    return flags


def _hint(name: str, parser: Parser, dashes: str = "") -> str:
    """Return the end of a sentence on an unknown flag or key: what to use instead of it.

    dashes: what the answer is spelled with, "--" for a flag and nothing for a key.
    """

    def spelled(key: str) -> str:
        return dashes + key.replace("_", "-") if dashes else key

    known = [action.dest for action in parser._actions if action.option_strings]
    word = name.lstrip("-").replace("-", "_").lower()
    if same := [key for key in known if word in OTHER_NAMES.get(key, "").split()]:
        return f"; it is called {spelled(same[0])} here."
    for words, advice in ADVICE.items():
        if word in words.split():
            return f": {advice}."
    return nearest(spelled(word), map(spelled, known))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known word most like `name`, if one is close."""

    def plain(word: str) -> str:
        return word.strip("-").replace("-", "_").lower()

    words = {plain(word): word for word in known}
    parts = sorted(plain(name).split("_"))
    turned = [word for word in words if sorted(word.split("_")) == parts]  # epochs_adapt
    close = turned or difflib.get_close_matches(plain(name), words, n=1, cutoff=0.75)
    return f"; the nearest known is {words[close[0]]}." if close else "; see --help."


def settings_of(arguments: argparse.Namespace) -> dict:
    """Return the resolved arguments as plain JSON values, for run.json."""

    def plain(value):
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value if isinstance(value, str | int | float | None) else str(value)

    found = {key: plain(value) for key, value in sorted(vars(arguments).items())}
    found.pop("defaults", None)
    return found

"""The table between the stages, one row an image: reading, writing and checking.

4.5 million rows are read in seconds: names that repeat become categoricals, and a hash becomes a
number without being a Python string on the way.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from string import hexdigits

import numpy as np
import pandas as pd

from common.emotions import ADAPTATION, ALONE, BASIC, label_of
from common.script.files import UserError, whole_file

COLUMNS = (
    "image",  # path relative to the folder of the manifest
    "dataset",
    "split",
    "kind",
    "labels",  # basic emotions, alphabetical, joined by one space
    "subject",  # person or video; empty where unknown: the image is then a subject of its own
    "width",
    "height",
    "hash",  # 64-bit perceptual hash
)
# A last column, there only if an image has votes: how many people saw each of the eight expressions
# of ADAPTATION, or how strong it is. Eight numbers, with spaces between; empty for other images.
VOTES = "votes"
SPLITS = ("train", "val", "test", "")
CATEGORICAL = ("dataset", "split", "kind", "labels", "subject")
# A hash has 16 digits: the 17th byte shows that there are more.
_TYPES = {name: "category" for name in (*CATEGORICAL, VOTES)}
_TYPES |= {"image": "str", "width": "int32", "height": "int32", "hash": "S17"}

_ESCAPES = r"^$|^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)|\0"
# Which labels an image of each kind may have.
_LABELS = {
    "unlabelled": {""},
    "single": {*BASIC, *ALONE},
    "compound": {label_of(pair) for pair in itertools.combinations(range(len(BASIC)), 2)},
}


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest: image str, five categoricals, width and height int32, hash uint64.

    A sixth categorical, if the file has it, is for the function `votes`. Raises UserError for a
    missing file, a value not of its column's type, or anything that check_manifest refuses.
    """
    header: tuple[str, ...] = ()
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = tuple(file.readline().rstrip("\r\n").split(","))
        if header not in (COLUMNS, (*COLUMNS, VOTES)):
            raise UserError(
                f"{path}, line 1: the columns are {','.join(header)[:200]!r}, expected "
                f"{','.join(COLUMNS)}; write it again with 01_prepare_data.py."
            )
        # In one piece: uniting the categories of many pieces takes three times as long.
        types = {name: _TYPES[name] for name in header}
        as_written = dict(keep_default_na=False, na_filter=False)
        frame = pd.read_csv(path, dtype=types, low_memory=False, **as_written)
        frame["hash"] = hashes_from_text(frame["hash"])
    except FileNotFoundError:
        raise UserError(f"There is no manifest {path}; run 01_prepare_data.py first.") from None
    except OSError as error:
        raise UserError(f"Cannot read the manifest {path}: {error.strerror}.") from None
    except (ValueError, OverflowError) as error:  # pandas' parser errors among them
        fault = (header and _first_fault(path, header)) or str(error).strip()
        raise UserError(
            f"The manifest {path} is damaged ({fault}); write it again with 01_prepare_data.py."
        ) from None
    check_manifest(frame, path)
    return frame


def _first_fault(path: str | Path, header: tuple[str, ...]) -> str:
    """Return the first line that has not the header's columns, or a side that is no number."""
    with (
        open(path, encoding="utf-8-sig", errors="replace", newline="") as file,
        suppress(csv.Error),
    ):
        rows = csv.reader(file)
        for row in filter(None, rows):
            if len(row) != len(header):
                return f"line {rows.line_num} has {len(row)} columns, not {len(header)}"
            for name, text in zip(header, row, strict=True):
                number = text.strip().isdecimal() and len(text.strip()) < 10
                if name in ("width", "height") and rows.line_num > 1 and not number:
                    return f"line {rows.line_num}: the {name} is {text[:50]!r}"
    return ""


def write_manifest(path: str | Path, frame: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
    """Check a manifest and write it whole, hashes as 16 hex digits.

    frame: the table, or its parts, so that it need not be in memory at once. All parts have the
    column `votes`, or none. The caller makes sure that no image is in two parts.
    """
    parts = iter([frame] if isinstance(frame, pd.DataFrame) else frame)
    first = next(parts, pd.DataFrame(columns=list(COLUMNS)))
    names, rows = (*COLUMNS, VOTES) if VOTES in first else COLUMNS, 0
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for part in itertools.chain([first], parts):
            check_manifest(part, path, rows)
            digits = _hashes_to_text(part["hash"].to_numpy())
            columns = (digits if name == "hash" else part[name].tolist() for name in names)
            writer.writerows(zip(*columns, strict=True))
            rows += len(part)


def check_manifest(
    frame: pd.DataFrame, path: str | Path = "manifest.csv", rows_before: int = 0
) -> None:
    """Raise UserError, with file and line, for the first fault of a manifest.

    Checked are the columns; known splits and kinds; labels that fit the kind; votes; images that
    are unique and inside the prepared folder; sides of 1 pixel or more. rows_before: how many rows
    of the file come before these.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}; expected {','.join(COLUMNS)}.")

    def refuse(bad: np.ndarray, column: str, what: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = frame[column].iloc[row]
            line = f"line {rows_before + row + 2}"  # line 1 is the header
            raise UserError(f"{path}, {line}: the {column} {value!r} {what}.")

    kinds = frame["kind"]
    refuse(~frame["split"].isin(SPLITS).to_numpy(), "split", "is not train, val, test or empty")
    refuse(~kinds.isin(_LABELS).to_numpy(), "kind", f"is not one of {', '.join(_LABELS)}")
    for kind, known in _LABELS.items():
        wrong = (kinds == kind).to_numpy() & ~frame["labels"].isin(known).to_numpy()
        refuse(wrong, "labels", f"are not those of an image of the kind {kind}")
    if VOTES in frame:
        bad = [text for text in frame[VOTES].unique() if _distribution(text) is None]
        what = f"are not {len(ADAPTATION)} numbers from 0 up, with spaces between, some above 0"
        refuse(frame[VOTES].isin(bad).to_numpy(), VOTES, what)
    images = frame["image"].astype("str")
    # Sorting numbers takes half as long as pandas' search, which is needed only if two are equal.
    numbers = np.sort(np.fromiter(map(hash, images), np.int64, len(images)))
    if (numbers[1:] == numbers[:-1]).any():
        refuse(images.duplicated().to_numpy(), "image", "is in an earlier line already")
    # A regular expression takes half a minute for millions of names, so it runs only if one of the
    # signs of a bad name is in them at all.
    text = "\n".join(["", *images, ""])
    if any(sign in text for sign in ("..", "\n/", "\n\n", "\\", ":", "\0")):
        escapes = images.str.contains(_ESCAPES, regex=True).to_numpy(dtype=bool)
        refuse(escapes, "image", "points outside the prepared folder")
    for column in ("width", "height"):
        refuse((frame[column] < 1).to_numpy(), column, "is not 1 or more")


def votes(frame: pd.DataFrame, least: int = 1) -> np.ndarray:
    """Return each image's votes as a distribution over ADAPTATION, float32 [n, 8], NaN if none.

    least: fewer votes than this for an expression are left out, unless no expression has more.
    Shares, such as `0.7 0.3`, are no votes of persons and stay.
    """
    if VOTES not in frame:
        return np.full((len(frame), len(ADAPTATION)), np.nan, dtype=np.float32)
    codes, texts = pd.factorize(frame[VOTES])  # each text is read once
    table = np.array([_distribution(text, least) for text in texts], dtype=np.float32)
    return table.reshape(-1, len(ADAPTATION))[codes]


def _distribution(text: str, least: int = 1) -> np.ndarray | None:
    """Return the votes of one image divided by their sum, NaN for none; None for a bad text."""
    if not text:
        return np.full(len(ADAPTATION), np.nan)
    try:
        numbers = np.array(text.split(" "), dtype=np.float64)
    except ValueError:
        return None
    if least > 1 and (numbers >= least).any():  # persons: shares do not reach 2
        numbers = np.where((numbers >= 0) & (numbers < least), 0, numbers)
    total = numbers.sum()
    sound = len(numbers) == len(ADAPTATION) and (numbers >= 0).all() and 0 < total < np.inf
    return numbers / total if sound else None


def _hashes_to_text(hashes: np.ndarray) -> list[str]:
    text = np.asarray(hashes, dtype=">u8").tobytes().hex()
    return [text[start : start + 16] for start in range(0, len(text), 16)]


def hashes_from_text(text: Sequence[str]) -> np.ndarray:
    """Turn hashes of 16 hex digits into uint64 [n]. Raises ValueError for anything else."""
    fixed = np.ascontiguousarray(text, dtype="S17")
    characters = fixed.view(np.uint8).reshape(-1, 17)
    values = _HEX[characters[:, :16]]
    wrong = (values > 15).any(1) | (characters[:, 16] > 0)
    if wrong.any():
        row = int(wrong.argmax())
        digits = bytes(fixed[row]).decode(errors="replace")
        raise ValueError(f"line {row + 2}: the hash {digits!r} is not 16 hex digits")
    return (values[:, ::2] << 4 | values[:, 1::2]).view(">u8").ravel().astype(np.uint64)


# The value of each byte as a hex digit; 255 if it is none.
_HEX = np.array([int(c, 16) if c in hexdigits else 255 for c in map(chr, range(256))], np.uint8)

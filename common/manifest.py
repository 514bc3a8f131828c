"""The table between the stages, one row an image: reading, writing, checking, and its splits.

4.5 million rows are read in seconds: names that repeat become categoricals, and a hash becomes a
number without being a Python string on the way.
"""

from __future__ import annotations

import csv
import itertools
import warnings
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


# scikit-learn tries every fold for every subject, which takes about a millisecond a subject.
_EXACT_GROUPS = 2000


def folds(frame: pd.DataFrame, count: int, seed: int) -> np.ndarray:
    """Give each row one of `count` folds, int64 [n]: balanced by label, no subject in two folds.

    A row without a subject is a subject of its own. The same name in two data sets is two subjects.
    Up to 2,000 subjects are divided by StratifiedGroupKFold. More are dealt out like cards, by
    their commonest label and from the largest down, which takes seconds for millions. Raises
    UserError if there are fewer subjects than folds.
    """
    subjects = groups(frame)
    found = int(subjects.max(initial=-1)) + 1
    if found < count:
        raise UserError(f"Cannot make {count} folds of {found} subjects; more are needed.")
    if found > _EXACT_GROUPS:
        return _deal(subjects, pd.factorize(frame["labels"])[0], count, seed)
    # Imported here: it takes a second, and few of the manifest's readers make folds.
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    result = np.full(len(frame), -1, dtype=np.int64)
    labels = frame["labels"].astype("str").to_numpy()
    # Labels can be balanced only if one of them is frequent enough to be in every fold.
    rare = pd.Series(labels).value_counts().max() < count
    kind = GroupKFold if rare else StratifiedGroupKFold
    splitter = kind(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of a rare label among frequent ones
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, rows) in enumerate(splitter.split(subjects, labels, subjects)):
            result[rows] = fold
    return result


def _deal(subjects: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal subjects out to folds; subjects, labels: codes, int64 [n]; returns int64 [n]."""
    each, rows = np.unique(subjects * (labels.max() + 1) + labels, return_counts=True)
    group, label = np.divmod(each, labels.max() + 1)
    order = np.lexsort((-rows, group))
    first = np.unique(group[order], return_index=True)[1]
    commonest = label[order][first]
    sizes = np.bincount(subjects)
    chance = np.random.default_rng(seed).random(len(sizes))
    order = np.lexsort((chance, -sizes, commonest))
    # Back and forth, 0 1 2 2 1 0 0 1 ..., so that no fold gets the larger subject of every round;
    # each label continues where the one before it ended.
    turn = np.arange(len(order)) % (2 * count)
    fold = np.empty(len(sizes), dtype=np.int64)
    fold[order] = np.minimum(turn, 2 * count - 1 - turn)
    return fold[subjects]


def groups(frame: pd.DataFrame) -> np.ndarray:
    """Number the subjects, int64 [n] from 0; a row without a subject gets a number of its own."""
    dataset = frame["dataset"].astype("category").cat.codes.to_numpy(np.int64)
    subject = frame["subject"].astype("category").cat
    person = dataset * len(subject.categories) + subject.codes.to_numpy()
    unknown = (frame["subject"] == "").to_numpy()
    person[unknown] = -1 - np.arange(unknown.sum())
    return pd.factorize(person)[0]


def hold_out(frame: pd.DataFrame) -> pd.Series:
    """Choose the rows to validate on, bool [n].

    Of each labelled data set these are its `val` split, or else its `test` split, or else, for rows
    without a split, one of five folds by subject. Call it with the whole manifest, whatever a stage
    uses of it: all stages then hold out the same rows, whatever their seeds.
    """
    held_out = pd.Series(False, index=frame.index)
    for dataset in frame["dataset"].unique():
        rows = frame[frame["dataset"] == dataset]
        splits = set(rows["split"])
        name = next((split for split in ("val", "test") if split in splits), None)
        if name:
            held_out[rows.index[rows["split"] == name]] = True
        elif splits == {""} and (rows["kind"] != "unlabelled").any():
            count = min(5, int(groups(rows).max()) + 1)
            if count > 1:  # a single person cannot be held out
                held_out[rows.index[folds(rows, count, seed=0) == 0]] = True
    return held_out


def training_rows(frame: pd.DataFrame, held_out: pd.Series) -> pd.Series:
    """Choose the rows that training may see, bool [n], given the held-out ones of hold_out.

    These are rows of the split train or of no split that are not held out, and that share neither
    subject nor perceptual hash with a held-out row: data sets share photographs, and owners' splits
    share persons. 01 has already removed near-duplicates of the splits val and test; the hashes
    matter for the folds that hold_out makes, and after `--duplicates keep`.
    """
    chosen = frame["split"].isin(("train", "")) & ~held_out
    subjects, hashes = groups(frame), frame["hash"].to_numpy(np.uint64)
    pictures = np.setdiff1d(hashes[held_out], _FLAT)
    return chosen & ~np.isin(subjects, subjects[held_out]) & ~np.isin(hashes, pictures)


def held_back(frame: pd.DataFrame, training: pd.Series, held_out: pd.Series) -> str:
    """Return a note on the rows of train that training_rows left out, "" for none.

    training, held_out: bool [n]; of those held out, 04 names only what it validates on.
    """
    count = (frame["split"].isin(("train", "")) & ~training & ~held_out).sum()
    return f"; {count:,} left out, whose person or photograph is held out" if count else ""


def thin_out(frame: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Return `limit` evenly spaced rows, so that every data set keeps its share (`--limit`)."""
    if limit is None or limit >= len(frame):
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, limit).astype(np.int64)]


# Hashes of pictures of a single gray (no bit, all bits, the mean's): such pictures may differ.
_FLAT = np.array([0, 2**64 - 1, 2**63], dtype=np.uint64)


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

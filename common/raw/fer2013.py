"""FER2013 (Goodfellow et al. 2013), with or without FERPlus (Barsoum et al. 2016, Microsoft).

    fer2013.csv       emotion,pixels,Usage       48 x 48 gray pixels as text in a field
    fer2013new.csv    Usage,Image name,neutral,...,contempt,unknown,NF   votes of ten people

in the folder or one below. Training is train, PublicTest is val, PrivateTest is test. With FERPlus
beside it the data set is called FERPlus and has the majority's label by its owners' rule: single
votes do not count, and the winner must have more than half of those that are left; images without
such a winner, or of which it says `unknown` or `NF` (no face), are dropped.

Traps: a mirror (icml_face_data.csv) has spaces before the names of columns and another order;
FERPlus has no names for the images it drops, but a row for every row of fer2013.csv, in its order;
a row that is damaged shifts nothing. Persons are unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.emotions import parse_labels
from common.raw.layout import Item, Skip, file_in, labelled, look
from common.raw.lists import placed_lines, split_row, table_rows, whole_number
from common.script.files import UserError

ALIGNED = True

CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral")
_SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
_VOTES = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)
_SIDE_PX = 48

OFFICIAL = {"FER2013": {"train": 28_709, "val": 3589, "test": 3589}}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "csv of pixels, votes of FERPlus" if _votes(folder) else "csv of pixels"


def _pixels(folder: Path) -> Path | None:
    """Return the table of pixels, known by its header, or else by its name."""
    folders = [folder, *(Path(e.path) for e in look(folder)[:20] if e.is_dir())]
    for path in (Path(e.path) for place in folders for e in look(place) if e.is_file()):
        if path.suffix.lower() == ".csv" and {"emotion", "pixels", "usage"} <= set(_columns(path)):
            return path
    return file_in(folder, "fer2013.csv", "icml_face_data.csv", depth=2)


def _columns(path: Path) -> list[str]:
    try:
        line = next(placed_lines(path), (1, 0, ""))[2]
    except UserError:
        return []
    return [name.lower() for name in split_row(line)]


def _votes(folder: Path) -> Path | None:
    return file_in(folder, "fer2013new.csv", depth=2)


def recognises(folder: Path) -> bool:
    """A folder with a table of pixels, or with the votes alone, which are of no use alone."""
    return _pixels(folder) is not None or _votes(folder) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the rows of the table; see common.raw."""
    path, votes = _pixels(folder), _votes(folder)
    if path is None:
        raise UserError(
            f"FERPlus in {folder} has votes but no pixels; put fer2013.csv of FER2013 beside them."
        )
    table_rows(path, ("emotion", "pixels", "usage"))  # or it complains
    rows = table_rows(votes, _VOTES) if votes else None
    return _read(path, rows)


def _read(path: Path, votes: Iterator[tuple[int, dict[str, str]]] | None) -> Iterator[Item | Skip]:
    columns = _columns(path)
    emotion, usage, pixels = (columns.index(name) for name in ("emotion", "usage", "pixels"))
    dataset = "FERPlus" if votes else "FER2013"
    lines = placed_lines(path)
    next(lines)
    for row, (number, offset, line) in enumerate(lines):
        fields = split_row(line)
        _, vote = next(votes, (0, None)) if votes else (0, None)
        where = f"{path}:{number}"
        if len(fields) != len(columns):
            yield Skip(where, dataset, f"not a row of {len(columns)} fields", line[:80])
            continue
        split = _SPLITS.get(fields[usage].lower())
        label = whole_number(fields[emotion])
        if split is None:
            yield Skip(where, dataset, "unknown usage", fields[usage][:80])
            continue
        item = Item(
            str(path), f"{split}/fer{row:07d}.jpg", dataset, split,
            part=f"{number}@{offset}:{pixels}", opener=open_row,
        )  # fmt: skip
        if votes:
            yield _voted(item, vote, where)
        elif label is None or not 0 <= label < len(CLASSES):
            yield Skip(where, dataset, "unknown label", f"{fields[emotion][:20]} (known: 0 to 6)")
        else:
            yield item._replace(**labelled((CLASSES[label],)))
    if votes and next(votes, None):
        yield Skip(str(path), dataset, "fewer rows than fer2013new.csv has")


def _voted(item: Item, vote: dict[str, str] | None, where: str) -> Item | Skip:
    """Return an item with the label that the majority gave it."""
    numbers = [whole_number(vote[name]) for name in _VOTES] if vote else [None]
    if None in numbers:
        return Skip(where, item.dataset, "no votes in fer2013new.csv")
    counted = [n if n > 1 else 0 for n in numbers]
    winner = _VOTES[counted.index(max(counted))]
    if 2 * max(counted) <= sum(counted):
        return Skip(where, item.dataset, "no majority", fault=False)
    if winner in ("unknown", "NF"):
        return Skip(where, item.dataset, f"the majority says {winner}", fault=False)
    return item._replace(**labelled(parse_labels(winner)))


def open_row(path: str, part: str) -> np.ndarray:
    """Return the picture in a row, uint8 [48, 48], for a part `line@offset:column`."""
    offset, column = map(int, part.partition("@")[2].split(":"))
    with open(path, "rb") as file:
        file.seek(offset)
        fields = split_row(file.readline(1 << 20).decode("utf-8", "replace"))
    try:
        values = np.array(fields[column].split() if column < len(fields) else [], dtype=np.int64)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    if values.size != _SIDE_PX**2:
        raise ValueError(f"{values.size} pixels instead of {_SIDE_PX**2}")
    if values.min() < 0 or values.max() > 255:
        raise ValueError("pixels beyond 0 to 255")
    return values.astype(np.uint8).reshape(_SIDE_PX, _SIDE_PX)

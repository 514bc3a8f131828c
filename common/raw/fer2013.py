"""FER2013 (Goodfellow et al. 2013) as a table of pixels, with or without the votes of FERPlus.

    fer2013.csv       emotion,pixels,Usage       48 x 48 gray pixels as text in a field
    fer2013new.csv    the votes of FERPlus, see common.raw.ferplus

in the folder or one below. Training is train, PublicTest is val, PrivateTest is test. With the
votes beside it the data set is called FERPlus, and its labels are what the votes make of it.

Traps: a mirror (icml_face_data.csv) has spaces before the names of columns and another order;
FERPlus names only the images it keeps, but has a row for every row of fer2013.csv, in that order; a
damaged row shifts nothing. ckextended.csv, of CK+, has the same columns but labels of its
own, and is read by common.raw.ckplus_faces. Persons are unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.raw import ferplus, votes
from common.raw.layout import Item, Skip, file_in, labelled, look
from common.raw.lists import placed_lines, split_row, table_rows, whole_number
from common.script.files import UserError

ALIGNED = True
SETTINGS = ("votes_rule",)

CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral")
_SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
_SIDE_PX = 48

OFFICIAL = {"FER2013": {"train": 28_709, "val": 3589, "test": 3589}}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "csv of pixels, votes of FERPlus" if _votes(folder) else "csv of pixels"


def _pixels(folder: Path) -> Path | None:
    """Return the table of pixels, known by its header, or else by its name."""
    folders = [folder, *(Path(e.path) for e in look(folder)[:20] if e.is_dir())]
    for path in (Path(e.path) for place in folders for e in look(place) if e.is_file()):
        if path.name.lower() == "ckextended.csv":
            continue
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
    return file_in(folder, ferplus.TABLE, depth=2)


def recognises(folder: Path) -> bool:
    """A folder with a table of pixels, or with the votes alone, which read() refuses."""
    voted = _votes(folder) is not None and not ferplus.recognises(folder)
    return voted or _pixels(folder) is not None


def read(
    folder: Path, counts: Counter, votes_rule: tuple[int, int] = votes.RULE
) -> Iterator[Item | Skip]:
    """Return the rows of the table; see common.raw."""
    path, table = _pixels(folder), _votes(folder)
    if path is None:
        raise UserError(
            f"FERPlus in {folder} has votes but no pixels; put fer2013.csv of FER2013 beside them."
        )
    table_rows(path, ("emotion", "pixels", "usage"))  # or it complains
    rows = table_rows(table, ferplus.CHOICES) if table else None
    return _read(path, rows, counts, votes_rule)


def _read(
    path: Path,
    ballots: Iterator[tuple[int, dict[str, str]]] | None,
    counts: Counter,
    rule: tuple[int, int],
) -> Iterator[Item | Skip]:
    columns = _columns(path)
    emotion, usage, pixels = (columns.index(name) for name in ("emotion", "usage", "pixels"))
    dataset = "FERPlus" if ballots else "FER2013"
    lines = placed_lines(path)
    next(lines)
    for row, (number, offset, line) in enumerate(lines):
        fields = split_row(line)
        _, ballot = next(ballots, (0, {})) if ballots else (0, {})
        where = f"{path}:{number}"
        if len(fields) != len(columns):
            yield Skip(where, dataset, f"not a row of {len(columns)} fields", line[:80])
            continue
        split = _SPLITS.get(fields[usage].lower())
        label = whole_number(fields[emotion])
        if split is None:
            yield Skip(where, dataset, "unknown usage", fields[usage][:80])
            continue
        name, part = f"{split}/fer{row:07d}.jpg", f"{number}@{offset}:{pixels}"
        item = Item(str(path), name, dataset, split, part=part, opener=open_row)
        if ballots:
            given = [ballot.get(name) for name in ferplus.CHOICES]
            yield ferplus.voted(item, given, where, counts, rule)
        elif label is None or not 0 <= label < len(CLASSES):
            yield Skip(where, dataset, "unknown label", f"{fields[emotion][:20]} (known: 0 to 6)")
        else:
            yield item._replace(**labelled((CLASSES[label],)))
    if ballots and next(ballots, None):
        yield Skip(str(path), dataset, "fewer rows than fer2013new.csv has")


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

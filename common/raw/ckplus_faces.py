"""CK+ as cropped faces: CK+48 in folders and ckextended.csv, both passed on at Kaggle.

    CK+48/{anger,...}/S010_004_00000017.png      three frames of each sequence, 48 x 48 pixels
    ckextended.csv      emotion,pixels,Usage     the same and neutral faces, as text in a field

Labels of the table: 0 anger, 1 disgust, 2 fear, 3 happiness, 4 sadness, 5 surprise, 6 neutral,
7 contempt. The subject is the person, S010. Traps: the table has the columns of fer2013.csv, but
another order of the last two labels and no persons, so that its split (Usage) parts frames of one
sequence: prefer the folders. Both at once are refused, for they are the same frames.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw import classes, trees
from common.raw.fer2013 import open_row
from common.raw.layout import Item, Skip, are_mostly, file_in, labelled
from common.raw.lists import check_text, placed_lines, split_row, table_rows, whole_number
from common.script.files import UserError

ALIGNED = True
FRAMES = True

_DATASET, _TABLE = "CK+", "ckextended.csv"
_COLUMNS = ("emotion", "pixels", "usage")
_CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral", "Contempt")
_NAME = re.compile(r"(S\d{3})_\d{3}_\d{8}\.", re.I)


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "csv of pixels" if _table(folder) else "class folders"


def _table(folder: Path) -> Path | None:
    return file_in(folder, _TABLE, depth=2)


def _has_folders(folder: Path) -> bool:
    return any(are_mostly(trees.image_names(one), _NAME.match) for one in trees.levels(folder))


def recognises(folder: Path) -> bool:
    """A folder with the table, or with class folders of frames named as those of CK+."""
    return _table(folder) is not None or _has_folders(folder)


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the frames; see common.raw."""
    table = _table(folder)
    if table and _has_folders(folder):
        raise UserError(f"{folder} has CK+ in folders and as {table.name}; move one of them away.")
    if table:
        check_text(table)
        table_rows(table, _COLUMNS)  # or it complains
        return _read_table(table)
    classes.check_names(folder)
    return trees.read_tree(folder, _DATASET, of_name=_of_name, counts=counts)


def _of_name(name: str) -> tuple[str, str]:
    found = _NAME.match(name)
    return "", found[1].upper() if found else ""


def _read_table(table: Path) -> Iterator[Item | Skip]:
    lines = placed_lines(table)
    columns = [name.lower() for name in split_row(next(lines)[2])]
    emotion, pixels, usage = map(columns.index, _COLUMNS)
    for number, offset, line in lines:
        fields, where = split_row(line), f"{table}:{number}"
        label = whole_number(fields[emotion]) if len(fields) == len(columns) else None
        if label is None or not 0 <= label < len(_CLASSES):
            yield Skip(where, _DATASET, "no row with a label of 0 to 7", line[:40])
        elif (split := trees.SPLITS.get(fields[usage].lower())) is None:
            yield Skip(where, _DATASET, "unknown usage", fields[usage][:80])
        else:
            part = f"{number}@{offset}:{pixels}"
            item = Item(str(table), f"{number}.jpg", _DATASET, split, part=part, opener=open_row)
            yield item._replace(**labelled((_CLASSES[label],)))

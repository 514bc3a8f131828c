"""SFEW 2.0, stills of films (Dhall, Goecke, Lucey & Gedeon 2011, cs.anu.edu.au/few).

    Train/Train_Aligned_Faces/Angry/AirForceOne_001110680_00000001.png
    Val/Val_Aligned_Faces_new/Val_Aligned_Faces/...     Test/Test_Aligned_Faces_new/... (no labels)
    sfew_2.0_labels.csv      image_name,label,emotion,original_split     with the images anywhere

The subject is the film, the first part of an image's name. Traps: the labels of the test set are
not public: its images are kept without one; one film may be in two splits.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw import classes, trees
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    file_in,
    labelled,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import table_rows

ALIGNED = False

_DATASET, _TABLE = "SFEW", "sfew_2.0_labels.csv"
_FACES = ("Train_Aligned_Faces", "Val_Aligned_Faces", "Val_Aligned_Faces_new")
_COLUMNS = ("image_name", "emotion", "original_split")


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return _TABLE if _table(folder) else "class folders"


def _table(folder: Path) -> Path | None:
    return file_in(folder, _TABLE, depth=2)


def recognises(folder: Path) -> bool:
    """A folder with the owners' folders of aligned faces, or with the table."""
    return _table(folder) is not None or subfolder(folder, *_FACES, depth=3) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images; see common.raw."""
    table = _table(folder)
    if table:
        return _read_table(folder, table, table_rows(table, _COLUMNS))
    classes.check_names(folder)
    return trees.read_tree(folder, _DATASET, of_name=lambda name: ("", _film(name)))


def _film(name: str) -> str:
    found = re.match(r"(.+?)_\d+(_\d+)*\.\w+$", name)
    return found[1] if found else ""


def _read_table(
    folder: Path, table: Path, rows: Iterator[tuple[int, dict[str, str]]]
) -> Iterator[Item | Skip]:
    images = {os.path.basename(path): path for path in walk_files(folder, IMAGE_SUFFIXES)}
    for number, row in rows:
        where, name = f"{table}:{number}", os.path.basename(row["image_name"])
        path, labels = images.pop(name, None), trees.class_of(row["emotion"])
        split = trees.split_of(row["original_split"])
        if path is None:
            yield Skip(where, _DATASET, "listed image is missing, or in an earlier line", name)
        elif labels is None or not split:
            detail = f"{row['emotion']!r}, {row['original_split']!r}"[:80]
            yield Skip(where, _DATASET, "unknown label or split", detail)
        else:
            prepared = prepared_name(f"{split}/{name}")
            yield Item(path, prepared, _DATASET, split, subject=_film(name), **labelled(labels))
    for path in images.values():
        yield Skip(path, _DATASET, f"not in {_TABLE}")

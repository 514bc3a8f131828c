"""AffectNet as folders of cropped faces, as several authors at Kaggle pass it on.

    labels.csv                             `,pth,label,relFCs`
    anger/image0000006.jpg                 also below Train/ and Test/, and `archive (3)/`
    {train,val,test}/{0..7}/...            AffectNet's numbers, in a folder named AffectNet
    {train,val,test}/anger/...             by name, in a folder named AffectNet

See common.raw.affectnet for the numbers. Traps: labels.csv overrules the folder that an image lies
in, and often differs from it; the splits are those of who passed it on, not the
owners', whose validation images may be among them. Persons are unknown.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from common.raw import classes, trees
from common.raw.affectnet import CLASSES
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    file_in,
    labelled,
    prepared_name,
    walk_files,
)
from common.raw.lists import table_rows
from common.script.files import UserError

ALIGNED = True

_DATASET, _TABLE = "AffectNet", "labels.csv"
_COLUMNS = ("pth", "label")
_by_number = trees.numbered(dict(enumerate(CLASSES)))


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    if _table(folder):
        return "labels.csv with pth"
    return "class folders" if _of_class(folder) is trees.class_of else "numbered folders"


def _table(folder: Path) -> Path | None:
    """Return the table of labels that has a column of paths by its Kaggle name."""
    listing = file_in(folder, _TABLE, depth=3)
    try:
        return listing if listing and table_rows(listing, _COLUMNS) else None
    except UserError:
        return None


def _of_class(folder: Path) -> Callable | None:
    """Return the function from folder to class of an AffectNet, None for another folder."""
    if not trees.is_named(folder, "affectnet"):
        return None
    if any(map(trees.image_names, trees.levels(folder))):
        return trees.class_of
    numbers = (set(level.classes) for level in trees.number_levels(folder))
    return _by_number if any(found <= set("01234567") for found in numbers) else None


def recognises(folder: Path) -> bool:
    """A folder with the table, or one named AffectNet with class folders."""
    return _table(folder) is not None or _of_class(folder) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images; see common.raw."""
    table = _table(folder)
    if table:
        return _read_table(table, counts)
    of_class = _of_class(folder)
    if of_class is trees.class_of:
        classes.check_names(folder)
    return trees.read_tree(folder, _DATASET, of_class, counts=counts)


def _read_table(table: Path, counts: Counter) -> Iterator[Item | Skip]:
    rows: dict[str, tuple[int, str]] = {}
    for number, row in table_rows(table, _COLUMNS):
        if row["pth"] in rows:
            yield Skip(f"{table}:{number}", _DATASET, "image is in an earlier line", row["pth"])
        rows.setdefault(row["pth"], (number, row["label"]))
    seen = set()
    for path in walk_files(table.parent, IMAGE_SUFFIXES):
        relative = os.path.relpath(path, table.parent)
        folders = tuple(relative.split(os.sep)[:-1])
        short = "/".join(name for name in relative.split(os.sep) if not trees.split_of(name))
        key = next((name for name in (relative, short) if name in rows), None)
        if key is None:
            yield Skip(path, _DATASET, f"not in {_TABLE}")
            continue
        seen.add(key)
        labels = trees.class_of(rows[key][1])
        if labels is None:
            yield Skip(path, _DATASET, "unknown label", rows[key][1][:80])
            continue
        counts["labels of the table that differ from the folder"] += bool(
            folders and trees.class_of(folders[-1]) not in (None, labels)
        )
        split = trees.split_of_path(folders)
        yield Item(path, prepared_name(relative), _DATASET, split, **labelled(labels))
    for image, (number, _) in rows.items():
        if image not in seen:
            yield Skip(f"{table}:{number}", _DATASET, "listed image is missing", image[:200])

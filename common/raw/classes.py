"""Any folders named after expressions, with or without splits: `train/happy/1.jpg`.

    [<any>/][<split>/][<person>/]<expression>/[<person>/]<image>

Names in any case, numbered (`01_angry`, `3-sad`) or of compounds (`Sadly Angry`) are known, common
synonyms too. A folder of another name beside them stops the run: its images would be lost. For
numbers and for names in other languages write a `classes.csv` above them:

    folder,label        one row a folder: `0,angry`, `heureux,happiness`; `other` has no label

Traps: a folder may be a split and lie below another; what lies below val or test anywhere is held
out. Persons are known only where many folders lie between the class and the images, or above the
classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from common.emotions import parse_labels
from common.raw import trees
from common.raw.layout import Item, Skip, file_in
from common.raw.lists import table_rows
from common.script.files import UserError

ALIGNED = False

TABLE = "classes.csv"
_OTHERS = ("other", "others", "")


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return TABLE if _table(folder) else "class folders by name"


def _table(folder: Path) -> Path | None:
    return file_in(folder, TABLE, depth=2)


def recognises(folder: Path) -> bool:
    """A folder with classes.csv, or with images in folders named after expressions."""
    found = trees.levels(folder)
    return _table(folder) is not None or any(map(trees.image_names, found))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images; see common.raw."""
    table = _table(folder)
    if table is None:
        check_names(folder)
        return trees.read_tree(folder, folder.name)
    return trees.read_tree(folder, folder.name, _classes_in(table))


def check_names(folder: Path) -> None:
    """Raise UserError where folders named after expressions lie beside others with images."""
    for place, known, others in trees.levels(folder):
        if others:
            raise UserError(
                f"{place} has the folders {_some(known)}, named after expressions, and "
                f"{_some(others)}, which are not; write a {TABLE} in {folder} that gives each its "
                "label (folder,label), such as other, or move the second ones away."
            )


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:4])) + ", ..." * (len(names) > 4)


def _classes_in(table: Path) -> Callable[[str], tuple[str, ...] | None]:
    """Return a function that gives the labels of a folder's name after the user's table."""
    labels: dict[str, tuple[str, ...]] = {}
    for number, row in table_rows(table, ("folder", "label")):
        try:
            other = row["label"].lower() in _OTHERS
            labels[row["folder"].lower()] = () if other else parse_labels(row["label"])
        except ValueError as error:
            raise UserError(f"{table}, line {number}: {error}.") from None
    if not labels:
        raise UserError(f"{table} has no rows; add one for each folder, such as 0,angry.")
    return lambda name: labels.get(name.lower())

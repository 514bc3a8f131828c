"""Any folders named after expressions, with or without splits: `train/happy/1.jpg`.

    [<any>/][<split>/][<person>/]<expression>/[<person>/]<image>

Names in any case, numbered (`01_angry`, `3-sad`) or of compounds (`Sadly Angry`) are known, common
synonyms too. A folder of another name beside them stops the run: its images would be lost. For
numbers and for names in other languages write a `classes.csv` above them:

    folder,label        one row a folder: `0,angry`, `heureux,happiness`; `other` has no label

Folders that it does not name keep the label of their own name, and are left out if that says none.
A row whose folder holds no image is refused like an image that is missing.

Traps: a folder may be a split and lie below another; what lies below val or test anywhere is held
out. Persons are known only where many folders lie between the class and the images, or above the
classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from common.raw import trees
from common.raw.layout import Item, Skip, file_in
from common.raw.lists import table_rows, unread_columns, written_labels
from common.script.files import UserError, some

ALIGNED = False

TABLE = "classes.csv"
_COLUMNS = ("folder", "label")
_OTHERS = ("other", "others", "")


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return TABLE if _table(folder) else "class folders by name"


def _table(folder: Path) -> Path | None:
    return file_in(folder, TABLE, depth=2)


def recognises(folder: Path) -> bool:
    """A folder with classes.csv, or with images in or below folders named after expressions."""
    found = trees.levels(folder)
    return _table(folder) is not None or any(map(trees.image_names, found))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images; see common.raw."""
    table = _table(folder)
    if table is None:
        check_names(folder)
        return trees.read_tree(folder, folder.name, counts=counts)
    rows = _rows_of(table)
    unread_columns(table, _COLUMNS, counts)
    return _read_listed(folder, table, rows, counts)


def check_names(folder: Path) -> None:
    """Raise UserError where folders named after expressions lie beside others with images.

    Folders in that of a class may have any name, unless most are classes.
    """
    sure = {level.place for level in trees.levels(folder)}
    for place, known, names in trees.named_places(folder):
        inside = any(trees.class_of(name) is not None for name in place.relative_to(folder).parts)
        others = [] if inside and place not in sure else trees.with_images(place, names)
        if others:
            named, unnamed = (some(list(map(repr, each))) for each in (known, others))
            raise UserError(
                f"{place} has the folders {named}, named after expressions, and {unnamed}, which "
                f"are not; give the latter a label, such as other, in a {TABLE} in {folder} "
                "(folder,label), or move them away. The former need no row there."
            )


def _rows_of(table: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return line and labels by folder, in lower case, of the user's table."""
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for number, row in table_rows(table, _COLUMNS):
        try:
            labels = () if row["label"].lower() in _OTHERS else written_labels(row["label"])
        except ValueError as error:
            raise UserError(f"{table}, line {number}: {error}.") from None
        first = found.setdefault(row["folder"].lower(), (number, labels))
        if first[1] != labels:
            raise UserError(
                f"{table}, lines {first[0]} and {number} give the folder {row['folder']!r} two "
                "labels; keep one of them."
            )
    if not found:
        raise UserError(f"{table} has no rows; add one for each folder, such as 0,angry.")
    return found


def _label(rows: dict[str, tuple[int, tuple[str, ...]]], name: str) -> tuple[str, ...] | None:
    """Return the labels of a folder by its row, or else by its name; None if it has none."""
    row = rows.get(name.lower())
    return row[1] if row else trees.class_of(name)


def _read_listed(
    folder: Path, table: Path, rows: dict[str, tuple[int, tuple[str, ...]]], counts: Counter
) -> Iterator[Item | Skip]:
    """Yield the images, then the rows of the table whose folders hold none."""
    unseen = dict(rows)
    for image in trees.read_tree(folder, folder.name, partial(_label, rows), counts=counts):
        for name in Path(image.path).relative_to(folder).parts[:-1] if unseen else ():
            unseen.pop(name.lower(), None)
        yield image
    for name, (number, _) in unseen.items():
        yield Skip(f"{table}:{number}", folder.name, "no image lies in a folder of this name", name)

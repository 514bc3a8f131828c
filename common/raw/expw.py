"""ExpW, Expression in-the-Wild (Zhang, Luo, Loy & Tang 2018, Chinese University of Hong Kong).

    image/origin/<name>.jpg
    label/label.lst      name face_id top left right bottom confidence label, separated by spaces

Labels are those of FER2013. Traps: the box is top, left, right, bottom; a photograph may show
several faces, each with a row: faces of one photograph are one subject, so that folds never split
it. The face is cut out with a margin, so that it can be aligned by its landmarks. There is no
official split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.fer2013 import CLASSES
from common.raw.layout import Item, Skip, entries, file_in, labelled, subfolder, with_margin
from common.raw.lists import check_text, text_lines, whole_number
from common.raw.matching import Files
from common.script.files import UserError

ALIGNED = False

_DATASET = "ExpW"
_FIELDS = 8


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "list of face boxes"


def recognises(folder: Path) -> bool:
    """A folder with label.lst, or one named ExpW."""
    return folder.name.lower() == "expw" or file_in(folder, "label.lst", depth=3) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the listed faces; see common.raw."""
    listing = file_in(folder, "label.lst", depth=3)
    images = subfolder(folder, "origin", depth=3)
    for found, name in ((listing, "label/label.lst"), (images, "image/origin/")):
        if found is None:
            raise UserError(
                f"{_DATASET} in {folder} lacks {name}; unpack it as its owners ship it."
            )
    check_text(listing)
    return _read(listing, images, counts)


def _read(listing: Path, images: Path, counts: Counter) -> Iterator[Item | Skip]:
    there = {entry.name: entry.path for entry in entries(images)}
    files = Files(images)
    seen = set()
    for number, line in text_lines(listing):
        where = f"{listing}:{number}"
        fields = line.rsplit(None, _FIELDS - 1)
        numbers = [whole_number(field) for field in fields[1:6]]
        label = whole_number(fields[-1])
        if len(fields) != _FIELDS or None in numbers:
            yield Skip(where, _DATASET, f"not a row of {_FIELDS} fields", line[:80])
            continue
        image, (face, top, left, right, bottom) = fields[0], numbers
        name = f"{image}_{face}.jpg"  # with its ending: a.jpg and a.png stay two
        path = there.get(image) or files.find(image, counts)
        if path is None:
            yield Skip(where, _DATASET, "listed image is missing", image)
        elif name in seen:
            yield Skip(where, _DATASET, "face is in an earlier line", f"{image} {face}")
        elif label is None or not 0 <= label < len(CLASSES):
            yield Skip(where, _DATASET, "unknown label", f"{fields[-1][:20]} (known: 0 to 6)")
        elif right <= left or bottom <= top:
            yield Skip(where, _DATASET, "face box without an area", " ".join(fields[2:6]))
        else:
            box = with_margin((left, top, right, bottom))
            item = Item(path, name, _DATASET, subject=image, box=box)
            yield item._replace(**labelled((CLASSES[label],)))
            seen.add(name)

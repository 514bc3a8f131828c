"""AffectNet as first released: photographs and lists with a face box for each (Mollahosseini,
Hasani & Mahoor 2017, mohammadmahoor.com/affectnet).

    Manually_Annotated_file_lists/{training,validation}.csv
    Manually_Annotated/Manually_Annotated_Images/<sub>/<hash>.<ext>

The lists have the columns subDirectory_filePath,face_x,face_y,face_width,face_height,
facial_landmarks,expression,valence,arousal. The face is cut out with a margin, so that it can be
aligned by its landmarks. Traps: a list may come without its header; labels 8 to 10 are dropped;
some boxes have a negative width; photographs are listed twice. The automatically annotated half is
not read. Persons are unknown.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.affectnet import OFFICIAL as OFFICIAL
from common.raw.affectnet import item_or_skip
from common.raw.layout import Item, Skip, file_in, prepared_name, subfolder, with_margin
from common.raw.lists import split_row, text_lines, whole_number
from common.raw.matching import Files
from common.script.files import UserError, inside

ALIGNED = False

_LISTS = {"training.csv": "train", "validation.csv": "val"}
_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_PATH, _EXPRESSION = _COLUMNS[0].lower(), "expression"


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "lists with face boxes"


def _listings(folder: Path) -> dict[Path, str]:
    """Return the lists that are there, with their splits."""
    place = subfolder(folder, "Manually_Annotated_file_lists", depth=2) or folder
    found = {file_in(place, name): split for name, split in _LISTS.items()}
    return {path: split for path, split in found.items() if path and _columns(path)}


def _columns(listing: Path) -> dict[str, int]:
    """Return the places of the columns by name, {} for another table."""
    try:
        fields = [name.lower() for name in split_row(next(text_lines(listing), (1, ""))[1])]
    except UserError:
        return {}
    if _PATH in fields and _EXPRESSION in fields:
        return {name: place for place, name in enumerate(fields)}
    if len(fields) == len(_COLUMNS) and "/" in fields[0] and whole_number(fields[6]) is not None:
        return {name.lower(): place for place, name in enumerate(_COLUMNS)}  # without a header
    return {}


def recognises(folder: Path) -> bool:
    """A folder with one of the lists."""
    return bool(_listings(folder))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the listed faces; see common.raw."""
    images = subfolder(folder, "Manually_Annotated_Images", depth=3)
    if images is None:
        raise UserError(
            f"AffectNet in {folder} lacks the folder Manually_Annotated/Manually_Annotated_Images; "
            "unpack the owners' archive there."
        )
    listings = _listings(folder)
    for name, split in _LISTS.items():
        if split not in listings.values():
            counts[f"lists missing: {name}"] = 1
    return itertools.chain.from_iterable(
        _read_list(path, split, images, counts) for path, split in listings.items()
    )


def _read_list(listing: Path, split: str, images: Path, counts: Counter) -> Iterator[Item | Skip]:
    places, files = _columns(listing), Files(images)
    seen = set()
    for number, line in text_lines(listing):
        fields = split_row(line)
        row = {name: fields[place] for name, place in places.items() if place < len(fields)}
        image = row.get(_PATH, "")
        if number == 1 and image.lower() == _PATH:
            continue
        where = f"{listing}:{number}"
        corner = [whole_number(row.get(name)) for name in ("face_x", "face_y")]
        sides = [whole_number(row.get(name)) for name in ("face_width", "face_height")]
        try:
            path = str(inside(images, image))
        except UserError:
            path = ""
        if not image or None in corner or None in sides or _EXPRESSION not in row:
            yield Skip(where, "AffectNet", "not a row of the list", line[:80])
        elif not os.path.isfile(path) and not (path := files.find(image, counts)):
            yield Skip(where, "AffectNet", "listed image is missing", image[:200])
        elif image in seen:
            yield Skip(where, "AffectNet", "image is in an earlier line", image, fault=False)
        elif min(sides) <= 0:
            detail = "{} x {} px".format(*sides)
            yield Skip(where, "AffectNet", "face box without an area", detail)
        else:
            box = with_margin((*corner, corner[0] + sides[0], corner[1] + sides[1]))
            item = Item(path, prepared_name(f"{split}/{image}"), "AffectNet", split, box=box)
            yield item_or_skip(item, whole_number(row[_EXPRESSION]), where)
            seen.add(image)

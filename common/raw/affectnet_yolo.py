"""Faces with boxes and classes in files beside them, as AffectNet is passed on for YOLO (Kaggle).

    YOLO_format/data.yaml                              names: ['Anger', 'Contempt', ...]
    YOLO_format/{train,valid,test}/images/<id>.png
    YOLO_format/{train,valid,test}/labels/<id>.txt     `0 0.5 0.5 0.9 0.9`: class, middle and sides

Sides and middle of a box are shares of the picture. A photograph with several boxes gives a face
each; they are one subject. Traps: the numbers are those of data.yaml, not AffectNet's. A data set
that is not named AffectNet keeps its folder's name, and is read if data.yaml names expressions.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.raw import trees
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    entries,
    file_in,
    labelled,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import text_lines
from common.script.files import UserError

ALIGNED = False

_YAML_BYTES = 1 << 16
_FIELDS = 5


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "YOLO boxes"


def _names(folder: Path) -> tuple[Path, dict[int, str]] | None:
    """Return data.yaml and the names of its classes by number; None where there is none."""
    path = file_in(folder, "data.yaml", depth=4)
    if path is None:
        return None
    import yaml  # here, because few data sets have it

    try:
        with open(path, "rb") as file:
            names = yaml.safe_load(file.read(_YAML_BYTES))["names"]
        items = names.items() if isinstance(names, dict) else enumerate(names)
        found = {int(number): str(name) for number, name in items}
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError):
        return None
    known = [trees.class_of(name) is not None for name in found.values()]
    return (path, found) if found and any(known) else None


def recognises(folder: Path) -> bool:
    """A folder with a data.yaml that names expressions."""
    return _names(folder) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return a face for each box; see common.raw. Raises UserError for a class without a label."""
    path, names = _names(folder)
    for name in names.values():
        if trees.class_of(name) is None:
            raise UserError(
                f"{path} names the class {name!r}, which is not an expression; rename it."
            )
    dataset = "AffectNet" if trees.is_named(folder, "affectnet") else folder.name
    return _read(path.parent, dataset, {n: trees.class_of(name) for n, name in names.items()})


def _read(place: Path, dataset: str, classes: dict[int, tuple]) -> Iterator[Item | Skip]:
    for entry in entries(place):
        root = Path(entry.path)
        images = subfolder(root, "images") if entry.is_dir() else None
        if images is None:
            continue
        for path in walk_files(images, IMAGE_SUFFIXES):
            relative = os.path.relpath(path, images)
            boxes = root / "labels" / f"{os.path.splitext(relative)[0]}.txt"
            if not boxes.is_file():
                yield Skip(path, dataset, "no file of boxes", f"labels/{boxes.name}")
                continue
            item = Item(path, "", dataset, trees.split_of(entry.name), opener=open_box)
            yield from _faces(item, boxes, f"{entry.name}/{relative}", classes)


def _faces(item: Item, boxes: Path, name: str, classes: dict[int, tuple]) -> Iterator[Item | Skip]:
    try:
        lines = list(text_lines(boxes))
    except UserError:
        lines = []
    if not lines:
        yield Skip(item.path, item.dataset, "no box in its file", boxes.name)
    for number, line in lines:
        fields = line.split()
        try:
            label, box = int(fields[0]), tuple(map(float, fields[1:]))
            labels = classes[label]
        except (ValueError, LookupError):
            yield Skip(f"{boxes}:{number}", item.dataset, "no row of a known class", line[:80])
            continue
        if len(fields) != _FIELDS or not (min(box[2:]) > 0 and max(box) <= 1):
            yield Skip(f"{boxes}:{number}", item.dataset, "face box without an area", line[:80])
            continue
        several = len(lines) > 1
        yield item._replace(
            name=prepared_name(f"{name}_{number}.jpg" if several else name),
            part=" ".join(fields[1:]),
            subject=name if several else "",
            **labelled(labels),
        )


def open_box(path: str, part: str) -> np.ndarray:
    """Return a face, uint8 [h, w, 3], for a part `x y width height`, shares of the picture."""
    x, y, width, height = map(float, part.split())
    try:
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
                raise ValueError("too many pixels")
            w, h = image.size
            box = (
                (x - width / 2) * w,
                (y - height / 2) * h,
                (x + width / 2) * w,
                (y + height / 2) * h,
            )
            return np.asarray(image.convert("RGB").crop(tuple(map(round, box))))
    except OSError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(str(error)[:200]) from None

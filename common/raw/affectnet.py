"""AffectNet as cropped images (Mollahosseini, Hasani & Mahoor 2017, mohammadmahoor.com/affectnet).

AffectNet-8, npy:
    {train_set,val_set}/images/<id>.jpg                                    224 x 224 pixels
    {train_set,val_set}/annotations/<id>_exp.npy                           the label, a scalar
AffectNet+ (Fard, Hosseini, Sweeny & Mahoor 2024), a data set of its own here:
    human_annotated/{train_set,validation_set}/images/0.jpg
    human_annotated/{train_set,validation_set}/annotations/0.json          key `human-label`

Traps: the scalar is often of string type (never unpickled here); labels 8 None, 9 Uncertain and
10 No-Face are dropped; `_val`, `_aro`, `_lnd` files and no_human_annotated/ are not read. The lists
with face boxes of the original release are read by common.raw.affectnet_lists. Persons are unknown.
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    labelled,
    look,
    prepared_name,
    subfolder,
    unwrapped,
    walk_files,
)
from common.raw.lists import whole_number
from common.script.files import UserError

ALIGNED = True

_SETS = {"train_set": "train", "val_set": "val", "validation_set": "val"}
CLASSES = (
    "Neutral",
    "Happiness",
    "Sadness",
    "Surprise",
    "Fear",
    "Disgust",
    "Anger",
    "Contempt",
)
DROPPED = {8: "None", 9: "Uncertain", 10: "No-Face"}
_ANNOTATION_BYTES = 1 << 20  # far more than any has

_TRAIN = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
OFFICIAL = {
    "AffectNet": {
        "train": dict(zip(CLASSES, _TRAIN, strict=True)),
        "val": dict.fromkeys(CLASSES, 500),
    }
}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    kinds = {_is_plus(place) for place, _ in _places(folder)}
    return ", ".join("AffectNet+ json" if plus else "npy" for plus in sorted(kinds))


def recognises(folder: Path) -> bool:
    """A folder with sets of images and annotations, or one named AffectNet."""
    named = folder.name.lower().startswith("affectnet")
    return named or any(
        subfolder(place, "images") or subfolder(place, "annotations")
        for place, _ in _places(folder)
    )


def _places(folder: Path) -> list[tuple[Path, str]]:
    """Return the folders of the sets and their splits."""
    for root in (subfolder(folder, "human_annotated", depth=2), folder, unwrapped(folder)):
        found = [(subfolder(root, name), split) for name, split in _SETS.items() if root]
        if places := [(place, split) for place, split in found if place]:
            return places
    return []


def _is_plus(place: Path) -> bool:
    return any(e.name.endswith(".json") for e in look(place / "annotations"))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images of both sets; see common.raw."""
    places = _places(folder)
    if not places:
        raise UserError(
            f"AffectNet in {folder} has neither train_set/ nor val_set/, nor "
            "Manually_Annotated_file_lists/; unpack it as shipped."
        )
    for place, _ in places:
        for needed in (place / "images", place / "annotations"):
            if not needed.is_dir():
                raise UserError(
                    f"AffectNet lacks the folder {needed}; unpack the owners' archive there."
                )
    return itertools.chain.from_iterable(_read_set(*place) for place in places)


def _read_set(folder: Path, split: str) -> Iterator[Item | Skip]:
    images, annotations = folder / "images", folder / "annotations"
    dataset, ending, label_in = "AffectNet", "_exp.npy", _label_in_npy
    if _is_plus(folder):
        dataset, ending, label_in = "AffectNet+", ".json", _label_in_json
    for path in walk_files(images, IMAGE_SUFFIXES):
        relative = os.path.relpath(path, images)
        labels = annotations / (os.path.splitext(relative)[0] + ending)
        try:
            with open(labels, "rb") as file:
                label = label_in(file.read(_ANNOTATION_BYTES))
        except OSError:
            yield Skip(path, dataset, "no annotation", labels.name)
            continue
        name = prepared_name(f"{split}/{relative}")
        yield item_or_skip(Item(path, name, dataset, split), label, labels.name)


def item_or_skip(item: Item, label: int | None, where: str) -> Item | Skip:
    """Return an image with AffectNet's label, or the reason why it has none of use."""
    if label is None:
        return Skip(item.source, item.dataset, "annotation is not a number", where)
    if label in DROPPED:
        reason = f"label {label} ({DROPPED[label]}) is no expression"
        return Skip(item.source, item.dataset, reason, fault=False)
    if not 0 <= label < len(CLASSES):
        return Skip(item.source, item.dataset, "unknown label", f"{label} (known: 0 to 10)")
    return item._replace(**labelled((CLASSES[label],)))


def _label_in_npy(content: bytes) -> int | None:
    try:
        value = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        return whole_number(value.astype(str).reshape(-1)[0])
    except Exception:  # numpy raises nearly anything on damaged files, MemoryError among them
        return None


def _label_in_json(content: bytes) -> int | None:
    try:
        return whole_number(json.loads(content)["human-label"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None

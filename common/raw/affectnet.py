"""AffectNet, npy form (Mollahosseini, Hasani & Mahoor 2017, http://mohammadmahoor.com/affectnet/).

    {train_set,val_set}/images/<id>.jpg            224 x 224 pixels
    {train_set,val_set}/annotations/<id>_exp.npy   the label, a scalar

Traps: the scalar is often of string type (never unpickled here); labels 8 None, 9 Uncertain and
10 No-Face are dropped; `_val`, `_aro` and `_lnd` files are not read.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.files import UserError
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    labelled,
    prepared_name,
    subfolder,
    walk_files,
)

ALIGNED = True

_SETS = {"train_set": "train", "val_set": "val"}
_CLASSES = (
    "Neutral",
    "Happiness",
    "Sadness",
    "Surprise",
    "Fear",
    "Disgust",
    "Anger",
    "Contempt",
)
_DROPPED = {8: "None", 9: "Uncertain", 10: "No-Face"}

_TRAIN = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
OFFICIAL = {
    "AffectNet": {
        "train": dict(zip(_CLASSES, _TRAIN, strict=True)),
        "val": dict.fromkeys(_CLASSES, 500),
    }
}


def recognises(folder: Path) -> bool:
    """A folder with train_set/ or val_set/, or one named AffectNet."""
    return folder.name.lower() == "affectnet" or subfolder(folder, *_SETS) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images of both sets; see common.raw."""
    places = {name: subfolder(folder, name) for name in _SETS}
    if not any(places.values()):
        raise UserError(
            f"AffectNet in {folder} has neither train_set/ nor val_set/; unpack it as shipped."
        )
    for place in filter(None, places.values()):
        for needed in (place / "images", place / "annotations"):
            if not needed.is_dir():
                raise UserError(
                    f"AffectNet lacks the folder {needed}; unpack the owners' archive there."
                )
    return itertools.chain.from_iterable(
        _read_set(places[name], split) for name, split in _SETS.items() if places[name]
    )


def _read_set(folder: Path, split: str) -> Iterator[Item | Skip]:
    images, annotations = folder / "images", folder / "annotations"
    for path in walk_files(images, IMAGE_SUFFIXES):
        relative = os.path.relpath(path, images)
        labels = annotations / (os.path.splitext(relative)[0] + "_exp.npy")
        try:
            label = int(np.load(labels, allow_pickle=False).reshape(-1)[0])
        except FileNotFoundError:
            yield Skip(path, "AffectNet", "no annotation", labels.name)
            continue
        except (OSError, ValueError, EOFError, IndexError):
            yield Skip(path, "AffectNet", "annotation is not a number", labels.name)
            continue
        if label in _DROPPED:
            yield Skip(path, "AffectNet", f"label {label} ({_DROPPED[label]}) is no expression")
        elif not 0 <= label < len(_CLASSES):
            yield Skip(path, "AffectNet", "unknown label", f"{label} (known: 0 to 10)")
        else:
            name = prepared_name(f"{split}/{relative}")
            yield Item(path, name, "AffectNet", split, **labelled((_CLASSES[label],)))

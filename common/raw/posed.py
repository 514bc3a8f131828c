"""Posed faces whose names tell the person and the expression: JAFFE and KDEF.

JAFFE (Lyons, Akamatsu, Kamachi & Gyoba 1998, https://zenodo.org/records/3451524), 213 images:
    KA.AN1.39.tiff            person, expression (AN DI FE HA NE SA SU), number
KDEF (Lundqvist, Flykt & Öhman 1998, https://kdef.se), 4,900 images:
    KDEF/AF01/AF01AFS.JPG     session A or B, sex, person; expression (AF afraid, AN, DI, HA, NE,
                              SA, SU); angle (FL and FR profiles, HL, S straight, HR)

The subject is the person. Traps: sessions A and B of KDEF show the same persons; AF is both a
session with a sex and an expression; some files break the rule and are left out by name. JAFFE has
no Contempt. There is no official split.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import parse_labels
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    are_mostly,
    labelled,
    prepared_name,
    walk_files,
)
from common.raw.trees import some_names

ALIGNED = False

_NAMES = {
    "JAFFE": re.compile(r"(?P<person>[A-Z]{2})\.(?P<face>AN|DI|FE|HA|NE|SA|SU)\d\.\d+\.\w+$", re.I),
    "KDEF": re.compile(
        r"[AB](?P<person>[FM]\d\d)(?P<face>AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)\.\w+$", re.I
    ),
}
_WORDS = {
    **{"AN": "anger", "DI": "disgust", "FE": "fear", "AF": "fear", "HA": "happiness"},
    **{"NE": "neutral", "SA": "sadness", "SU": "surprise"},
}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return f"{_dataset(folder)}, by file names"


def _dataset(folder: Path) -> str:
    """Return the data set that most names of some images are of, or ``."""
    found = some_names(folder, IMAGE_SUFFIXES)
    return next((name for name, one in _NAMES.items() if are_mostly(found, one.match)), "")


def recognises(folder: Path) -> bool:
    """A folder whose images are named as those of one of the data sets."""
    return bool(_dataset(folder))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Yield the images; see common.raw."""
    dataset, start = _dataset(folder), os.path.join(folder, "")
    for path in walk_files(folder, IMAGE_SUFFIXES):
        found = _NAMES[dataset].match(os.path.basename(path))
        if found is None:
            yield Skip(path, dataset, "its name does not state a person and an expression")
            continue
        fields = labelled(parse_labels(_WORDS[found["face"].upper()]))
        name = prepared_name(path.removeprefix(start))
        yield Item(path, name, dataset, subject=found["person"].upper(), **fields)

"""Any folder of images, at any depth: faces without labels.

    WebFace42M_Root/0_0_0000000/0_0.jpg      WebFace42M (Zhu et al. 2021, www.face-benchmark.org)
    <part>/<id>/<image>                      WebFace260M
    CASIA-WebFace/0000045/001.jpg            CASIA-WebFace (Yi et al. 2014), 494,414 images

The person is the folder that an image lies in, as in all face recognition sets; images right
below the data set's own folder have none. Traps: millions of folders lie in one, so only names are
held and nothing is sorted but names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    is_expression,
    is_shown,
    look,
    prepared_name,
    walk_files,
)

ALIGNED = False

OFFICIAL = {"CASIA-WebFace": {"": 494_414}}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "images without labels"


def recognises(folder: Path) -> bool:
    """A folder with an image somewhere."""
    return _holds_image(folder, levels=10)


def _holds_image(folder: str | Path, levels: int) -> bool:
    """Say whether there is an image below; stops at the first, wherever the disk lists it."""
    try:
        with os.scandir(folder) as found:
            return any(
                _holds_image(entry.path, levels - 1)
                if levels and entry.is_dir()  # links may lead in a circle
                else os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
                for entry in filter(is_shown, found)
            )
    except OSError:
        return False


def _named_after_expressions(folder: Path) -> int:
    """Count the folders, down to two levels, whose names are expressions."""
    places = [Path(entry.path) for entry in look(folder) if entry.is_dir()]
    if len(places) <= 3:  # train, val, test
        places += [Path(e.path) for place in places for e in look(place) if e.is_dir()]
    return sum(is_expression(place.name) for place in places)


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Yield every image; see common.raw."""
    named = _named_after_expressions(folder)
    if named > 2:  # one or two persons may be called Joy
        counts["folders named after expressions, read without labels: write a labels.csv"] = named
    start = os.path.join(folder, "")
    for path in walk_files(folder, IMAGE_SUFFIXES):
        relative = path.removeprefix(start)
        yield Item(path, prepared_name(relative), folder.name, subject=os.path.dirname(relative))

"""Any folder of images, at any depth: faces without labels.

    WebFace42M_Root/0_0_0000000/0_0.jpg      WebFace42M (Zhu et al. 2021, www.face-benchmark.org)
    <part>/<id>/<image>                      WebFace260M
    CASIA-WebFace/0000045/001.jpg            CASIA-WebFace (Yi et al. 2014), 494,414 images

The person is the folder that an image lies in, as in all face recognition sets; images right
in the data set's own folder or in a split's have none. Folders named after splits (train,
Validation_Set, test, ...) give the split. Folders that look labelled are refused before
(common.raw.signs). Traps: one folder may hold millions of others, so only names are held and
sorted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.layout import IMAGE_SUFFIXES, Item, Skip, is_shown, prepared_name, walk_files
from common.raw.trees import split_of, split_of_path

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


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Yield every image; see common.raw."""
    start = os.path.join(folder, "")
    for path in walk_files(folder, IMAGE_SUFFIXES):
        relative = path.removeprefix(start)
        folders = relative.split(os.sep)[:-1]
        split = split_of_path(tuple(folders))
        person = "/".join(name for name in folders if not split_of(name))
        yield Item(path, prepared_name(relative), folder.name, split, subject=person)

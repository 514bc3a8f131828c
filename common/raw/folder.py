"""Any folder of images, at any depth: faces without labels (CASIA-WebFace, WebFace42M, ...).

The person is the folder that an image lies in, as in all face recognition sets; images right
below the data set's own folder have none.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.layout import IMAGE_SUFFIXES, Item, Skip, prepared_name, walk_files

ALIGNED = False


def recognises(folder: Path) -> bool:
    """A folder with an image somewhere."""
    return next(walk_files(folder, IMAGE_SUFFIXES), None) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Yield every image; see common.raw."""
    for path in walk_files(folder, IMAGE_SUFFIXES):
        relative = os.path.relpath(path, folder)
        yield Item(path, prepared_name(relative), folder.name, subject=os.path.dirname(relative))

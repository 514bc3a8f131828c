"""Labelled videos of one's own: a `labels.csv` as of common.raw.table that names clips.

    image,label,split,subject,begin,end
    clips/a.mp4,Fearfully Surprised,train,Ann,,              the whole clip
    clips/b.mp4,anger,val,,8.5,21.9                          a part of it, in seconds
    clips/b.mp4,sadness,val,,00:00:21.9,00:01:02             or in hours, minutes and seconds

Of each row 8 frames are taken, evenly spread, their main face is aligned, and frames without a face
are left out. The subject is the clip where the table has none, so that folds never split one.
Photographs may stand in the same table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw import table
from common.raw.layout import Item, Skip

ALIGNED = False
FRAMES = True


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "labels.csv of clips"


def recognises(folder: Path) -> bool:
    """A folder with a file labels.csv that names a video in its first rows."""
    found = table.table_of(folder)
    return found is not None and table.has_clips(found)


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return frames of the clips; see common.raw."""
    return table.read(folder, counts)

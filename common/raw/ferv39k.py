"""FERV39k, clips of 22 scenes as frames (Wang et al. 2022, https://wangyanckxx.github.io/Proj_CVPR2022_FERV39k.html).

    2_ClipsforFaceCrop/<Scene>/<Emotion>/<clip>/*.jpg     aligned faces
    4_setups/All_scenes/{train,test}_All.csv              `Action/Sad/0010 Sad`, no header

Of each clip 8 frames are taken, evenly spread. The subject is the clip. Traps: numbers of clips are
those of a scene and an emotion; which clips are of one film is not known.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import parse_labels
from common.raw.clips import spread
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    file_in,
    labelled,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import check_text, text_lines
from common.script.files import UserError, inside

ALIGNED = True
FRAMES = True

_DATASET, _CLIPS = "FERV39k", "2_ClipsforFaceCrop"
_LISTS = {"train_All.csv": "train", "test_All.csv": "test"}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "frames of clips"


def recognises(folder: Path) -> bool:
    """A folder with the owners' folder of clips, or one of the lists."""
    found = subfolder(folder, _CLIPS, depth=2) or file_in(folder, *_LISTS, depth=4)
    return found is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return frames of the listed clips; see common.raw."""
    clips = subfolder(folder, _CLIPS, depth=2)
    lists = {file_in(folder, name, depth=4): split for name, split in _LISTS.items()}
    for found, name in zip((clips, *lists), (f"{_CLIPS}/", *_LISTS), strict=False):
        if found is None:
            raise UserError(f"{_DATASET} in {folder} lacks {name}; unpack the owners' archives.")
    check_text(*lists)
    return _read(clips, lists)


def _read(clips: Path, lists: dict[Path, str]) -> Iterator[Item | Skip]:
    seen = set()
    for listing, split in lists.items():
        for number, line in text_lines(listing):
            where = f"{listing}:{number}"
            clip, _, label = line.replace(",", " ").partition(" ")
            try:
                labels, place = parse_labels(label), inside(clips, clip)
            except (ValueError, UserError):
                yield Skip(where, _DATASET, "not a line `clip label`", line[:80])
                continue
            if clip in seen:
                yield Skip(where, _DATASET, "clip is in an earlier line", clip)
            elif not place.is_dir():
                yield Skip(where, _DATASET, "listed clip is missing", clip)
            else:
                for path in spread(list(walk_files(place, IMAGE_SUFFIXES))):
                    name = prepared_name(f"{clip}/{os.path.basename(path)}")
                    yield Item(path, name, _DATASET, split, subject=clip, **labelled(labels))
            seen.add(clip)

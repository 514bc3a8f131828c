"""BLEMORE, acted blends of two emotions with their salience (Zenodo 15096942): 3,050 clips.

    A411_mix_ang_hap_30_70_ver1.mov        actor, emotions, and how strongly each is shown
    A102_ang_int1_ver1.mov                 one emotion, and its intensity
    *.csv                                  filename, fold: the owners' test and five folds

Emotions are ang, disg, fea, hap, sad and neu. Of each clip 8 frames are taken, evenly spread, and
their main face is aligned. The salience is kept as votes of ten, of which common.raw.votes makes
the labels. The subject is the actor.

Traps: the clips lie anywhere in the folder; a table is the test set's if its name says so, and of
the others the rows of the owners' fold (a setting) are val; without tables there is no split.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import ADAPTATION
from common.raw import votes
from common.raw.clips import frames_of
from common.raw.layout import (
    VIDEO_SUFFIXES,
    Item,
    Skip,
    are_mostly,
    labelled,
    look,
    unwrapped,
    walk_files,
)
from common.raw.lists import table_rows, whole_number
from common.raw.trees import some_names
from common.script.files import UserError

ALIGNED = False
FRAMES = True
SETTINGS = ("owners_fold", "votes_rule")

_DATASET = "BLEMORE"
_EMOTIONS = {
    **{"ang": "Anger", "disg": "Disgust", "dis": "Disgust", "fea": "Fear"},
    **{"hap": "Happiness", "sad": "Sadness", "neu": "Neutral"},
}
_ONE = "|".join(_EMOTIONS)
_NAME = re.compile(
    rf"(?P<actor>A\d+)_(mix_(?P<a>{_ONE})_(?P<b>{_ONE})_(?P<x>\d+)_(?P<y>\d+)|(?P<one>{_ONE}))(_|$)",
    re.IGNORECASE,
)


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "clips, with tables" if _tables(folder) else "clips"


def _tables(folder: Path) -> list[Path]:
    found = [Path(e.path) for place in {folder, unwrapped(folder)} for e in look(place)]
    return sorted(path for path in found if path.suffix.lower() == ".csv")


def recognises(folder: Path) -> bool:
    """A folder whose videos are named as those of BLEMORE."""
    return are_mostly(some_names(folder, VIDEO_SUFFIXES), _NAME.match)


def read(
    folder: Path, counts: Counter, owners_fold: int = 1, votes_rule: tuple[int, int] = votes.RULE
) -> Iterator[Item | Skip]:
    """Return frames of the clips; see common.raw."""
    splits = {}
    for table in _tables(folder):
        try:
            rows = table_rows(table, ("filename",), ("fold",))
        except UserError:  # another table
            continue
        for _, row in rows:
            fold = whole_number(row["fold"])
            split = "" if fold is None else "val" if fold == owners_fold else "train"
            split = "test" if "test" in table.name.lower() else split
            splits[os.path.splitext(os.path.basename(row["filename"]))[0]] = split
    return _read(folder, splits, counts, votes_rule)


def _read(
    folder: Path, splits: dict[str, str], counts: Counter, rule: tuple[int, int]
) -> Iterator[Item | Skip]:
    start = os.path.join(folder, "")
    for path in walk_files(folder, VIDEO_SUFFIXES):
        stem = os.path.splitext(os.path.basename(path))[0]
        found = _NAME.match(stem)
        ballot = _ballot(found) if found else ()
        labels = votes.labels_of(ballot, rule) if ballot else ()
        if not labels:
            yield Skip(path, _DATASET, "its name does not state emotions")
            continue
        votes.count_labels(counts, labels, rule)
        name = os.path.splitext(path.removeprefix(start))[0]
        clip = Item(path, name, _DATASET, splits.get(stem, ""), subject=found["actor"].upper())
        yield from frames_of(clip._replace(votes=ballot, **labelled(labels)))


def _ballot(found: re.Match) -> tuple[int, ...]:
    """Return the salience of each of ADAPTATION in tenths."""
    if found["one"]:
        shares = {_EMOTIONS[found["one"].lower()]: 10}
    else:
        pairs = ((found["a"], found["x"]), (found["b"], found["y"]))
        shares = {_EMOTIONS[name.lower()]: round(int(share) / 10) for name, share in pairs}
    return tuple(shares.get(name, 0) for name in ADAPTATION)

"""DFEW, film clips with ten votes each (Jiang et al. 2020, https://dfew-dataset.github.io).

    Clip/clip_224x224/00001/*.jpg, or Clip/clip_224x224_avi/00001.avi        aligned faces
    EmoLabel_DataSplit/{train,test}(single-labeled)/set_{1..5}.csv           video_name,label
    Annotation/annotation.xlsx      1happy 2sad 3neutral 4angry 5surprise 6disgust 7fear order label

Of each clip 8 frames are taken, evenly spread. The owners' fold is a setting. A clip is a compound
where two emotions share its votes (common.raw.votes), else it has its owners' label, else that of
the majority; one without is left out. Without annotation.xlsx there are no votes and no compounds.

Traps: labels are 1 happy, 2 sad, 3 neutral, 4 angry, 5 surprise, 6 disgust, 7 fear; names of clips
in lists have no zeros before them; clips without one clear label are in no list, and so in no
split. Which clips are of one film is not known: the subject is the clip.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import ADAPTATION, parse_labels
from common.raw import votes
from common.raw.clips import frames_of, spread
from common.raw.layout import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Item,
    Skip,
    entries,
    file_in,
    labelled,
    look,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import table_rows, whole_number
from common.raw.sheets import sheet_rows
from common.script.files import UserError

ALIGNED = True
FRAMES = True
SETTINGS = ("owners_fold", "votes_rule")

_DATASET = "DFEW"
_CLIPS = ("clip_224x224", "clip_224x224_avi", "clip_224x224_16f")
_COLUMNS = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear")
_CLASSES = tuple(parse_labels(column[1:])[0] for column in _COLUMNS)
_SETS = {"train(single-labeled)": "train", "test(single-labeled)": "test"}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    kind = "frames of clips" if _is_frames(_clips(folder)) else "clips"
    return f"{kind}, {'votes' if _table(folder) else 'owners folds'}"


def _clips(folder: Path) -> Path | None:
    return subfolder(folder, *_CLIPS, depth=3)


def _is_frames(clips: Path | None) -> bool:
    return bool(clips) and any(entry.is_dir() for entry in look(clips)[:5])


def _table(folder: Path) -> Path | None:
    place = subfolder(folder, "Annotation", depth=2)
    return file_in(place, "annotation.xlsx") if place else None


def recognises(folder: Path) -> bool:
    """A folder with the owners' clips or lists."""
    return subfolder(folder, *_CLIPS, *_SETS, depth=3) is not None


def read(
    folder: Path, counts: Counter, owners_fold: int = 1, votes_rule: tuple[int, int] = votes.RULE
) -> Iterator[Item | Skip]:
    """Return frames of the clips; see common.raw."""
    clips, table = _clips(folder), _table(folder)
    places = {name: subfolder(folder, name, depth=3) for name in _SETS}
    lists = {
        file_in(place, f"set_{owners_fold}.csv"): _SETS[name]
        for name, place in places.items()
        if place
    }
    if clips is None or None in lists or (not lists and table is None):
        lacks = f"{_CLIPS[0]}/" if clips is None else f"EmoLabel_DataSplit/*/set_{owners_fold}.csv"
        raise UserError(f"{_DATASET} in {folder} lacks {lacks}; unpack the owners' archives there.")
    listed = {path: table_rows(path, ("video_name", "label")) for path in lists}
    ballots = sheet_rows(table, ("order", *_COLUMNS))[1] if table else []
    return _read(clips, lists, listed, ballots, counts, votes_rule)


def _read(
    clips: Path, lists: dict, listed: dict, ballots: list, counts: Counter, rule: tuple[int, int]
) -> Iterator[Item | Skip]:
    known: dict[int, tuple[str, str, str]] = {}  # by number: split, label, where
    for path, rows in listed.items():
        for number, row in rows:
            clip, label = whole_number(row["video_name"]), whole_number(row["label"])
            if clip is None or label is None or not 1 <= label <= len(_CLASSES):
                yield Skip(f"{path}:{number}", _DATASET, "not a row `clip,1..7`", str(row)[:80])
            elif clip in known:
                yield Skip(f"{path}:{number}", _DATASET, "clip is in an earlier line")
            else:
                known[clip] = lists[path], _CLASSES[label - 1], f"{path}:{number}"
    voted = {whole_number(row.get("order", "")): _ballot(row) for _, row in ballots}
    for entry in entries(clips):
        stem, ending = os.path.splitext(entry.name)
        number = whole_number(stem)
        if number is None or not (entry.is_dir() or ending.lower() in VIDEO_SUFFIXES):
            yield Skip(entry.path, _DATASET, "not named as a clip")
            continue
        split, label, _ = known.pop(number, ("", "", ""))
        ballot = voted.get(number, ())
        labels = votes.labels_of(ballot, rule) if ballot else ()
        labels = labels if len(labels) == 2 or not label else (label,)
        if not labels:
            yield Skip(entry.path, _DATASET, "no majority and in no list", fault=False)
            continue
        if ballot:
            votes.count_labels(counts, labels, rule)
        clip = Item(entry.path, stem, _DATASET, split, subject=stem, votes=ballot)
        yield from _frames(clip._replace(**labelled(labels)), entry)
    for number, (_, _, where) in known.items():
        yield Skip(where, _DATASET, "listed clip is missing", str(number))


def _ballot(row: dict[str, str]) -> tuple[int, ...]:
    """Return the votes for each of ADAPTATION in a row, () where one is no number."""
    numbers = {
        name: whole_number(row.get(c, "")) for c, name in zip(_COLUMNS, _CLASSES, strict=True)
    }
    if any(n is None or n < 0 for n in numbers.values()) or not any(numbers.values()):
        return ()
    return tuple(numbers.get(name, 0) for name in ADAPTATION)


def _frames(clip: Item, entry: os.DirEntry) -> Iterator[Item]:
    if not entry.is_dir():
        return (frame._replace(scene=False) for frame in frames_of(clip))
    paths = spread(list(itertools.islice(walk_files(entry.path, IMAGE_SUFFIXES), 1 << 16)))
    return (
        clip._replace(path=path, name=prepared_name(f"{clip.name}/{os.path.basename(path)}"))
        for path in paths
    )

"""MAFW with its tables alone (see common.raw.mafw for the data set and for the owners' lists).

    data/clips/00151.mp4
    Labels/{single-set,multi-set}.xlsx     clip, eleven 0/1 columns named after emotions, a number

A clip of both is read once, with the label of multi-set, which has the compounds. Of each clip 8
frames are taken, evenly spread, and their main face is aligned. Traps: the tables have no folds, so
that there is no split; the emotion is read by the name of its column, not by the number beside;
anxiety, helplessness and disappointment are none of our expressions, nor are three together: such
frames are kept without a label. annotation.xlsx is not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import CHALLENGE, challenge_class, parse_labels
from common.raw import mafw
from common.raw.clips import frames_of
from common.raw.layout import Item, Skip, entries, file_in, labelled, subfolder
from common.raw.lists import whole_number
from common.raw.sheets import sheet_rows
from common.script.files import UserError

ALIGNED = False
FRAMES = True

_DATASET = "MAFW"
_TABLES = ("multi-set.xlsx", "single-set.xlsx")  # in this order: the first label of a clip counts
_NUMBERS = ("single_label", "multi_label")


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "tables " + " and ".join(path.stem for path in _tables(folder))


def _tables(folder: Path) -> list[Path]:
    return [path for name in _TABLES if (path := file_in(folder, name, depth=3))]


def recognises(folder: Path) -> bool:
    """A folder with the tables, and without the owners' lists."""
    return file_in(folder, *_TABLES, depth=3) is not None and not mafw.has_lists(folder)


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return frames of the clips in the tables; see common.raw."""
    clips = subfolder(folder, "clips", depth=3)
    if clips is None:
        raise UserError(f"{_DATASET} in {folder} lacks data/clips/; unpack the owners' archives.")
    tables = {path: sheet_rows(path, ("clip",)) for path in _tables(folder)}
    return _read(clips, tables, counts)


def _read(clips: Path, tables: dict, counts: Counter) -> Iterator[Item | Skip]:
    there = {entry.name for entry in entries(clips)}
    seen: dict[str, Path] = {}
    for table, (names, rows) in tables.items():
        emotions = [name for name in names if name and name not in ("clip", *_NUMBERS)]
        for number, row in rows:
            clip, where = row["clip"], f"{table}:{number}"
            shown = [name for name in emotions if whole_number(row.get(name, "")) == 1]
            if clip in seen:
                if seen[clip] == table:  # not once compound, once single
                    yield Skip(where, _DATASET, "clip is in an earlier line", clip)
            elif clip not in there:
                yield Skip(where, _DATASET, "listed clip is missing", clip[:80])
            else:
                labels = _labels(shown)
                index = challenge_class(" ".join(labels))
                if index >= 0:
                    counts[f"clips of {CHALLENGE[index]}"] += 1
                stem = Path(clip).stem
                item = Item(str(clips / clip), stem, _DATASET, subject=stem, **labelled(labels))
                yield from frames_of(item)
            seen.setdefault(clip, table)


def _labels(emotions: list[str]) -> tuple[str, ...]:
    try:
        return parse_labels(" ".join(emotions))
    except ValueError:
        return ()

"""Members of a fusion: their weights, and tables of probabilities that other models gave.

A table has a row for a frame or a stretch of time, with the probabilities of six emotions or of the
seven compounds. It may come from sound, text, or another toolkit: only names and times are shared.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isnan, nan
from pathlib import Path

import numpy as np

from common.emotions import BASIC, CHALLENGE, CHALLENGE_PAIRS, challenge_class, parse_labels
from common.script.files import UserError, some
from common.submission.files import in_line, rows_of, split_location
from common.submission.truth import frame_times

# Columns that tell where a row belongs; one of these sets, in any order.
KEYS = (("image_location",), ("video", "frame"), ("video", "begin", "end"))
_MOST_ROWS = 5_000_000
_LEAST_WEIGHT = 1e-9  # by which a member of weight 0 still counts where there is no other


@dataclass(frozen=True)
class Table:
    """The probabilities that another model gave to frames.

    rows: by video, its frames, int64 [n], rising, and their probabilities, float64 [n, 6] in the
    order of BASIC, or [n, 7] in that of CHALLENGE. unused: columns that are not read. absent:
    videos that are not among those to predict. idle: stretches of time that hold no frame. beyond:
    videos with a stretch that ends long after them. empty: rows of zeros alone.
    """

    path: Path
    rows: dict[str, tuple[np.ndarray, np.ndarray]]
    unused: list[str]
    absent: list[str]
    idle: int = 0
    beyond: Sequence[str] = ()
    empty: int = 0

    @property
    def compounds(self) -> bool:
        """Whether it has the seven compounds, not the six emotions."""
        return next(iter(self.rows.values()))[1].shape[1] == len(CHALLENGE)

    def at(self, video: str, frames: np.ndarray) -> np.ndarray:
        """Return the probabilities of successive frames: [T, 6] or [T, 7], NaN where it has none.

        frames: int64 [T], each one more than the one before.
        """
        classes = len(CHALLENGE if self.compounds else BASIC)
        found = np.full((len(frames), classes), np.nan)
        if video in self.rows:
            known, values = self.rows[video]
            inside = (known >= frames[0]) & (known <= frames[-1])
            found[known[inside] - frames[0]] = values[inside]
        return found


def read_table(path: Path, names: set[str], videos: dict[str, Path] | None) -> Table:
    """Read a table of probabilities for the videos that are there.

    names: of these videos. videos: their files, which tell the times of frames; None where only
    crops are at hand. A row's place is in the columns of one of KEYS; begin and end are seconds, or
    hh:mm:ss.ms, end excluded, and where stretches overlap their mean counts. Columns of expressions
    are known by their names, also as p_NAME: all of BASIC, else all of CHALLENGE. Rows without
    numbers are gaps. Raises UserError, with the line's number, for another form.
    """
    layout, places, absent = None, {}, {}  # places: video → (its rows' places, values)
    for number, text, fields in rows_of(path):
        fields = [field.strip('"').strip() for field in fields]
        with in_line(path, number):
            if layout is None:
                layout = _layout(fields)
                if len(layout.keys) == 3 and videos is None:
                    raise UserError(
                        f"{path} holds stretches of time; --videos must name the videos they "
                        "belong to."
                    )
                continue
            if number > _MOST_ROWS:
                raise ValueError(f"the table has more than {_MOST_ROWS:,} rows")
            if len(fields) != layout.width:
                raise ValueError(f"{text[:80]!r} has {len(fields)} fields, not {layout.width}")
            video, *place = _place([fields[column] for column in layout.keys])
            values = _values([fields[column] for column in layout.classes])
            if video not in names:
                absent.setdefault(video)
            elif values:
                kept = places.setdefault(video, ([], array("d")))
                kept[0].append(place)
                kept[1].extend(values)
    if not places:
        from common.raw.matching import nearest_name  # imports Pillow, for which --help would wait

        close = nearest_name(next(iter(absent)), names) if absent else ""
        raise UserError(
            f"{path} has no probabilities for any of the videos, such as {min(names)}"
            f"{close and f' ({close})'}."
        )
    rows, idle, beyond, empty = {}, 0, [], 0
    for video, (where, flat) in places.items():
        values = np.array(flat).reshape(len(where), -1)
        empty += int((values == 0).all(axis=1).sum())
        if len(layout.keys) == 3:
            times = frame_times(videos[video])
            frames, means, without = _spread(where, values, times)
            rows[video] = frames, means
            idle += without
            end = max(end for _, end in where)
            if times and end > 2 * times[-1] + 10:
                beyond.append(f"{video} (ends at {float(end):g} s of {float(times[-1]):.0f})")
        else:
            frames = np.array(where, dtype=np.int64)[:, 0]
            order = np.argsort(frames, kind="stable")
            if twice := frames[order][1:][np.diff(frames[order]) == 0].tolist():
                raise UserError(f"{path} has frame {twice[0]} of video {video} twice.")
            rows[video] = frames[order], values[order]
    if idle and not any(len(frames) for frames, _ in rows.values()):
        raise UserError(f"No stretch of time of {path} holds a frame; times are seconds.")
    return Table(path, rows, layout.unused, list(absent), idle, beyond, empty)


@dataclass
class _Layout:
    """Where a table's columns stand: of a row's place, of its probabilities in their order."""

    width: int
    keys: list[int]
    classes: list[int]
    unused: list[str]


def _layout(header: Sequence[str]) -> _Layout:
    lower = [name.lower() for name in header]
    if len(set(lower)) < len(lower):
        twice = next(name for name in header if lower.count(name.lower()) > 1)
        raise ValueError(f"two columns have one name, {twice[:40]!r}; is this line the header?")
    key = next((key for key in reversed(KEYS) if set(key) <= set(lower)), None)
    if key is None:
        raise ValueError(
            f"the header must have the columns {'; or '.join(', '.join(key) for key in KEYS)}"
        )
    column_of: dict[str, int] = {}
    for column, name in enumerate(header):
        if lower[column] in key:
            continue
        try:
            labels = " ".join(parse_labels(re.sub("^p_", "", name[:80], flags=re.I)))
        except ValueError:
            continue
        compound = challenge_class(labels)
        label = CHALLENGE[compound] if compound >= 0 else labels
        if label in column_of:
            raise ValueError(f"{header[column_of[label]]!r} and {name!r} are one expression")
        column_of[label] = column
    for names in (BASIC, CHALLENGE):
        if set(names) <= set(column_of):
            keys, classes = [lower.index(name) for name in key], [column_of[name] for name in names]
            unused = [name for column, name in enumerate(header) if column not in keys + classes]
            return _Layout(len(header), keys, classes, unused)
    found = [name for name in BASIC if name in column_of]
    raise ValueError(
        f"the header has {', '.join(found) or 'none'} of the six emotions ({', '.join(BASIC)}) and "
        "not all of the seven compounds: one of these sets must be whole"
    )


def _place(fields: Sequence[str]) -> tuple:
    """Return the video of a row, and its frame, or its begin and end in seconds."""
    if len(fields) == 1:
        return split_location(fields[0])
    if len(fields) == 2:
        if not re.fullmatch("[0-9]{1,6}", fields[1]) or int(fields[1]) == 0:
            raise ValueError(f"{fields[1][:20]!r} is no frame: frames count from 1")
        return fields[0], int(fields[1])
    begin, end = map(_seconds, fields[1:])
    if end < begin:
        raise ValueError(f"the stretch ends at {fields[2]}, before it begins")
    return fields[0], begin, end


def _seconds(text: str) -> Fraction:
    """Read 12.5, 1e-05, or 00:00:12.500, exactly: a begin may equal a frame's time."""
    match = re.fullmatch(
        r"(?:([0-9]{1,2}):([0-5]?[0-9]):)?([0-9]{1,6}(?:\.[0-9]{1,18})?(?:e-[0-9]{1,2})?)", text
    )
    if not match:
        raise ValueError(f"{text[:40]!r} is no time in seconds, or like 00:00:08.556")
    return 3600 * int(match[1] or 0) + 60 * int(match[2] or 0) + Fraction(match[3])


def _values(fields: Sequence[str]) -> list[float] | None:
    """Return a row's probabilities, or None where it has none."""
    if all(field.lower() in ("", "nan") for field in fields):
        return None
    values = []
    for field in fields:
        try:
            value = float(field)
        except ValueError:
            value = nan
        if isnan(value) or not -1e-6 <= value <= 1 + 1e-6:
            raise ValueError(f"{field[:20]!r} is no probability, from 0 to 1")
        values.append(value)
    return values


def _spread(
    stretches: Sequence[tuple[Fraction, Fraction]], values: np.ndarray, times: Sequence[Fraction]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give the frames within stretches of time the mean of their values; times: of all frames.

    Returns these frames, their values, and the number of stretches without a frame.
    """
    total, count, idle = np.zeros((len(times), values.shape[1])), np.zeros(len(times)), 0
    for (begin, end), row in zip(stretches, values, strict=True):
        inside = slice(bisect_left(times, begin), bisect_left(times, end))
        total[inside] += row
        count[inside] += 1
        idle += inside.start == inside.stop
    known = np.flatnonzero(count)
    return known + 1, total[known] / count[known, None], idle


def describe(table: Table, locations: Sequence[str]) -> str:
    """Return what is read of a table, and of how many of the listed frames it says nothing."""
    known = {video: set(frames.tolist()) for video, (frames, _) in table.rows.items()}
    missing = [
        video
        for video, frame in map(split_location, locations)
        if frame not in known.get(video, ())
    ]
    text = f"{table.path}: {'seven compounds' if table.compounds else 'six emotions'}"
    text += f" of {len(locations) - len(missing):,} frames"
    if missing:
        text += (
            f"; {len(missing):,} frames of {len(set(missing))} videos have none, and count with "
            "the other members alone"
        )
    listed: dict[str, set[int]] = {}
    for video, frame in map(split_location, locations):
        listed.setdefault(video, set()).add(frame)
    if unused := sum(len(frames - listed.get(video, set())) for video, frames in known.items()):
        text += f"; of its frames, {unused:,} are not predicted"
    if table.idle:
        text += f"; stretches of time without a frame: {table.idle:,}"
    if table.empty:
        text += f"; rows of zeros, which count (leave out what has no face): {table.empty:,}"
    for what, names in (
        ("unused columns", table.unused),
        ("videos not there", table.absent),
        ("stretches long after the end (times are seconds)", table.beyond),
    ):
        if names:
            text += f"; {what}: {some(names, 12)}"
    return text


def weight_matrix(weights: Sequence[float] | None, members: Sequence[object]) -> np.ndarray:
    """Return the weights of members: float64 [M, 6], one a member and emotion, the largest 1 to 2.

    weights: M numbers, or 6·M (all of the first member first, order of BASIC); None for equal ones.
    members: what they are called. Raises UserError for another number, or a class without weight.
    """
    count = len(members)
    if weights is None:
        return np.ones((count, len(BASIC)))
    if len(weights) not in (count, count * len(BASIC)):
        names = ", ".join(map(str, members))
        raise UserError(
            f"--weights has {len(weights)} numbers for {count} members ({names}): give one a "
            f"member, or six a member (one for each of {', '.join(BASIC)})."
        )
    matrix = np.array(weights, dtype=np.float64).reshape(count, -1) * np.ones(len(BASIC))
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise UserError("--weights takes numbers of 0 or more.")
    # By a power of two, which rounds nothing: sums must neither overflow nor vanish.
    matrix = np.ldexp(matrix, 1 - np.frexp(matrix.max())[1])
    if without := [
        name for name, total in zip(BASIC, matrix.sum(axis=0), strict=True) if not total
    ]:
        raise UserError(f"--weights gives all members the weight 0 for {', '.join(without)}.")
    return matrix


def fuse(own: np.ndarray | None, others: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the networks and of tables, frame by frame.

    own: float [T, 6], the networks' mean, or None where they saw no face. others: of `Table.at`.
    weights: [M, 6], of the networks, then of the tables. A frame that a table lacks counts with
    the other members alone, NaN where there are none. Returns [T, 6]; with a table of compounds
    [T, 13]: the emotions' and the compounds' part of the whole. A compound weighs the mean of its
    emotions.
    """
    weights = np.maximum(weights, _LEAST_WEIGHT)
    networks, tables = np.split(weights, [len(weights) - len(others)])
    frames = len(others[0])
    six, total = np.zeros((2, frames, len(BASIC)))
    seven = np.zeros((frames, len(CHALLENGE)))
    pairs = np.array(CHALLENGE_PAIRS)
    if own is not None:
        six += own * networks.sum(axis=0)
        total += networks.sum(axis=0)
    for other, weight in zip(others, tables, strict=True):
        known = ~np.isnan(other[:, 0])
        total[known] += weight
        if other.shape[1] == len(BASIC):
            six[known] += other[known] * weight
        else:
            seven[known] += other[known] * weight[pairs].mean(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as promised
        six = six / total
        if all(other.shape[1] == len(BASIC) for other in others):
            return six
        return np.hstack([six, seven / total[:, pairs].mean(axis=2)])

"""Which prepared images are left out: too small, blurred, or duplicates.

The records of all ledgers become a few arrays (about 100 bytes an image) beside their texts. The
rules read the arrays. Their result is a code for each row, which skipped.csv spells out, and for a
duplicate the row of the image that stays.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.manifest import hashes_from_text
from common.prepare.likeness import CORRELATION_MIN, DIFFERENCE_MAX, compare, near_pairs
from common.script.workers import in_order

# What is left out, by code.
KEPT, TWIN, SMALL_FACE, BLURRED, EXACT, NEAR, NEAR_HELD_OUT = range(7)
ALIKE = (EXACT, NEAR, NEAR_HELD_OUT)
REASONS = (
    "",
    "same prepared name as another",
    "face smaller than --min-face",
    "less sharp than --min-sharpness",
    "exact duplicate",
    "near-duplicate",
    "near-duplicate of an image held out",
)

# Columns of the ledger that are held as arrays, or not needed once it is read.
_NUMBERS = ("stamp", "size", "face_px", "hash", "finer", "content", "sharpness")
# Who stays where two images are one: what is held out, then the rarer label.
_HELD_OUT, _COMPOUND, _SINGLE, _UNLABELLED = range(4)
_PRIORITY = {"compound": _COMPOUND, "single": _SINGLE, "unlabelled": _UNLABELLED}
_PAIRS_AT_ONCE = 256


class Rules(NamedTuple):
    """What 01 leaves out; see its --help."""

    min_face_px: int
    min_sharpness: float
    duplicates: str  # near, exact, keep
    near_bits: int

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Rules:
        """Return the rules that the arguments of 01 ask for."""
        return cls(
            arguments.min_face, arguments.min_sharpness, arguments.duplicates, arguments.near_bits
        )


@dataclass
class Survey:
    """One row for each record of the ledgers, in their order.

    used: bool, prepared. priority: uint8, the lower stays. hashes: uint64 [n, 3], coarse, finer,
    every bit. name, person: uint64 hashes of the image's name, and of its data set and subject (0
    for stills and unknown persons). sharpness: float32. face_px: int32, 0 where no detector ran.
    texts: of each block, the columns that are not among these; spans: its first row and its end.
    """

    used: np.ndarray
    priority: np.ndarray
    hashes: np.ndarray
    name: np.ndarray
    person: np.ndarray
    sharpness: np.ndarray
    face_px: np.ndarray
    texts: list[dict[str, str]]
    spans: list[tuple[int, int]]

    def names(self, rows: np.ndarray) -> dict[int, str]:
        """Return the images of some rows, int64 and ascending, by row."""
        names: dict[int, str] = {}
        for (start, end), text in zip(self.spans, self.texts, strict=True):
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)].tolist()
            images = text["image"].split("\n") if here else ()
            names |= {row: images[row - start] for row in here}
        return names


def survey(blocks: Sequence[tuple[dict[str, str], bool]]) -> Survey:
    """Turn records into arrays. blocks: of ledger.load, each with whether it is of video frames.

    What is a number, or not needed any more, is taken out of the blocks, to save memory.
    """
    parts = [_arrays(*block) for block in blocks] or [_arrays({}, False)]
    for name in _NUMBERS:
        for text, _ in blocks:
            del text[name]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    ends = itertools.accumulate((len(part[0]) for part in parts), initial=0)
    texts = [text for text, _ in blocks]
    return Survey(*columns, texts, list(itertools.pairwise(ends))[: len(texts)])


def _arrays(texts: dict[str, str], frames: bool) -> list[np.ndarray]:
    """Return the arrays of a Survey for one block, or empty ones for no texts."""

    def column(name: str) -> list[str]:
        return texts[name].split("\n") if texts else []

    used = np.array([not reason for reason in column("reason")], dtype=bool)
    held_out = [split in ("val", "test") for split in column("split")]
    kinds = [_PRIORITY.get(kind, _UNLABELLED) for kind in column("kind")]
    # hash() of a text is not the same in the next process, but it is in this one.
    people = zip(column("dataset"), column("subject"), strict=True) if frames else ()
    persons = [hash(pair) & (2**64 - 1) if pair[1] else 0 for pair in people]
    hashes = [
        hashes_from_text([digits or "0" * 16 for digits in column(name)])
        for name in ("hash", "finer", "content")
    ]
    return [
        used,
        np.where(held_out, _HELD_OUT, kinds).astype(np.uint8),
        np.stack(hashes, axis=1),
        np.array([hash(name) & (2**64 - 1) for name in column("image")], dtype=np.uint64),
        np.array(persons or [0] * len(used), dtype=np.uint64),
        np.array([value or "inf" for value in column("sharpness")], dtype=np.float32),
        np.array([value or "0" for value in column("face_px")], dtype=np.int32),
    ]


def clean(
    found: Survey, prepared: Path, rules: Rules, pool: Executor | None
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the rules: return a code for each row, uint8 [n], and the row that stays, int64 [n].

    The second is -1 except for duplicates. Results are measured on the splits val and test: their
    images are left out only where two have one name, and what looks like them elsewhere goes.
    Frames of one video are not duplicates of each other.
    """
    code = np.zeros(len(found.used), dtype=np.uint8)
    stays = np.full(len(code), -1, dtype=np.int64)
    rows = np.nonzero(found.used)[0]
    again = np.ones(len(rows), dtype=bool)
    again[np.unique(found.name[rows], return_index=True)[1]] = False
    code[rows[again]] = TWIN
    judged = found.used & (found.priority != _HELD_OUT)
    small = (found.face_px > 0) & (found.face_px < rules.min_face_px)
    code[judged & (code == KEPT) & small] = SMALL_FACE
    code[judged & (code == KEPT) & (found.sharpness < rules.min_sharpness)] = BLURRED
    if rules.duplicates == "keep":
        return code, stays
    rows = np.nonzero(found.used & (code == KEPT))[0]
    # By priority, so that of two images the first in this order stays.
    still = found.person[rows] == 0
    rows = rows[np.lexsort((rows, ~still, found.priority[rows]))]
    a, b = _same_content(found, rows)
    code[b], stays[b] = EXACT, a
    if rules.duplicates == "near":
        rows = rows[code[rows] == KEPT]
        a, b = _alike(found, rows, rules.near_bits)
        alike = _confirm(a, b, found, prepared, pool)
        a, b = a[alike], b[alike]
        held_out = found.priority[a] == _HELD_OUT
        # A later pair overwrites an earlier one: the pairs that matter most come last.
        rank = np.empty(len(found.used), dtype=np.int64)
        rank[rows] = np.arange(len(rows))
        order = np.lexsort((-rank[a], held_out))
        code[b[order]] = np.where(held_out, NEAR_HELD_OUT, NEAR)[order]
        stays[b[order]] = a[order]
    return code, stays


def _may_go(found: Survey, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Say for which pairs (first to stay, second to go) the second may be left out."""
    held_out = found.priority[b] == _HELD_OUT
    video = (found.person[b] != 0) & (found.person[a] == found.person[b])
    return ~held_out & ~(video & (found.priority[a] != _HELD_OUT))


def _same_content(found: Survey, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs (first, later) of rows, which come by priority, whose every bit is the same."""
    first, group = np.unique(found.hashes[rows, 2], return_index=True, return_inverse=True)[1:]
    pairs = rows[first][group], rows
    fit = (pairs[0] != pairs[1]) & _may_go(found, *pairs)
    return pairs[0][fit], pairs[1][fit]


def _alike(found: Survey, rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs (first, later) of rows, which come by priority, whose hashes are near.

    Frames of videos are compared with stills, and those held out with the others; not all with
    all, for the frames of one video are near each other by nature.
    """
    keys, first, key_of = _distinct(found.hashes[rows, :2])
    frames = found.person[rows] != 0
    held_out = found.priority[rows] == _HELD_OUT
    kinds = (~frames, frames, frames & held_out, frames & ~held_out)
    stills, moving, moving_held_out, moving_others = (np.unique(key_of[kind]) for kind in kinds)
    counts = np.bincount(key_of, minlength=len(keys))
    several = np.nonzero(counts > 1)[0]
    near = [several * len(keys) + several]  # a pair of keys as one number
    for one, other in ((stills, None), (stills, moving), (moving_held_out, moving_others)):
        to = one if other is None else other
        if len(one) and len(to):
            for i, j in near_pairs(keys[one], None if other is None else keys[to], bits):
                near += [one[i] * len(keys) + to[j], to[j] * len(keys) + one[i]]
    # Each row of a key meets the best row, which is the first, of every key near it.
    one, other = np.divmod(np.unique(np.concatenate(near)), max(1, len(keys)))
    order = np.argsort(key_of, kind="stable")
    starts = np.cumsum(counts) - counts
    repeats = counts[other]
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    a = rows[first][np.repeat(one, repeats)]
    b = rows[order[np.repeat(starts[other], repeats) + within]]
    rank = np.empty(len(found.used), dtype=np.int64)
    rank[rows] = np.arange(len(rows))
    fit = (rank[a] < rank[b]) & _may_go(found, a, b)
    return a[fit], b[fit]


def _distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows of uint64 [n, 2], the first row of each, and which each row is."""
    order = np.lexsort((np.arange(len(hashes)), hashes[:, 1], hashes[:, 0]))
    in_order = hashes[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    which = np.empty(len(hashes), dtype=np.int64)
    which[order] = np.cumsum(new) - 1
    return in_order[new], order[new], which


def _confirm(
    a: np.ndarray,
    b: np.ndarray,
    found: Survey,
    prepared: Path,
    pool: Executor | None,
) -> np.ndarray:
    """Compare the pictures themselves: bool [m], which pairs (stays, goes) are alike.

    Training must not see a held-out face, whether its mouth moves or not. Two training images are
    both kept where any part of the face differs, because that may be the expression.
    """
    if not len(a):
        return np.zeros(0, dtype=bool)
    names = found.names(np.unique(np.concatenate([a, b])))
    pairs = [(names[i], names[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    parts = [pairs[at : at + _PAIRS_AT_ONCE] for at in range(0, len(pairs), _PAIRS_AT_ONCE)]
    calls = ((compare, str(prepared), part) for part in parts)
    correlation, difference = np.concatenate(
        list(in_order(pool, calls, ahead=4 * (os.cpu_count() or 1)))
    ).T
    same = (found.priority[a] == _HELD_OUT) | (difference <= DIFFERENCE_MAX)
    return (correlation >= CORRELATION_MIN) & same

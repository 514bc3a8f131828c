"""Which pictures show the same photograph: perceptual hashes, their search, a check of the pixels.

Millions of faces all look somewhat alike, and not all can be compared with all. Three sieves follow
each other, each finer and slower than the one before:
1. hashes of the coarse structure, 64 bits, that differ in a few bits (found without comparing all);
2. hashes of the next finer structure that differ in a few bits;
3. the pictures themselves, 32 x 32 pixels, read from disk: their correlation, and the difference of
   the part of the face that differs most.
Among 1,336 real photographs and 4,400 drawn faces, two that share the first sieve correlate by 0.94
at most. Copies stay above 0.98 if they are compressed again (JPEG quality 30), brighter or darker,
or, unless they are tiny, half the size. So does a face with another mouth: there the second measure
is above 0.13, and for copies below 0.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

DETAIL_BITS = 8  # of the finer hash that may differ
CORRELATION_MIN = 0.98
DIFFERENCE_MAX = 0.12

_SIDE = 32
# Rows of the discrete cosine transform (type II): float [12, 32].
_COSINES = np.cos(np.pi * (np.arange(_SIDE) + 0.5) * np.arange(12)[:, None] / _SIDE)
_COMPARED_AT_ONCE = 1 << 22


def perceptual_hashes(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash pictures so that similar ones differ in few bits: uint8 [n, 32, 32] -> two uint64 [n].

    The first is pHash (Zauner 2010): the lowest 8 x 8 frequencies of the cosine transform, each
    above their median or not. The mean brightness is left out of the median, because it dwarfs the
    others. The second is the same of the 64 frequencies next to them: 8 x 4 right of, and 4 x 8
    below them.
    """
    waves = _COSINES @ gray.astype(np.float64) @ _COSINES.T  # [n, 12, 12]
    low = waves[:, :8, :8].reshape(-1, 64)
    next_ones = [waves[:, :8, 8:].reshape(-1, 32), waves[:, 8:, :8].reshape(-1, 32)]
    finer = np.concatenate(next_ones, axis=1)
    return _bits(low, low[:, 1:]), _bits(finer, finer)


def _bits(values: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Return, as uint64 [n], which of values [n, 64] are above the median of `typical` [n, m]."""
    bits = values > np.median(typical, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def near_pairs(
    hashes: np.ndarray, others: np.ndarray | None, bits: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all pairs (i, j), int64 [m] each, whose hashes differ in at most `bits` bits.

    hashes [n, 2], others [k, 2]: uint64, coarse and finer hash, no row twice; the finer ones differ
    in at most DETAIL_BITS. i is a row of `hashes`, j of `others`; with None, j > i are of the same
    table. A pair may come more than once.

    The coarse hashes are cut into bits + 3 pieces. Hashes that differ in `bits` bits agree in three
    pieces at least, whichever these are (the pigeonhole of multi-index hashing; Norouzi, Punjani &
    Fleet 2012): for each choice of three, both tables are sorted by them and only rows that agree
    there are compared. Memory: some 100 bytes a row, and a fixed amount for the comparisons.
    """
    same = others is None
    others = hashes if same else others
    for mask in _masks(bits + 3, 3):
        key, order = _sorted_by(hashes[:, 0] & mask)
        other_key, other_order = (key, order) if same else _sorted_by(others[:, 0] & mask)
        first = np.searchsorted(key, other_key, "left")
        # Of the same table, each row meets those sorted before it.
        end = np.arange(len(key)) if same else np.searchsorted(key, other_key, "right")
        for rows, matches in _expand(first, end - first):
            i, j = order[matches], other_order[rows]
            near = np.bitwise_count(hashes[i, 0] ^ others[j, 0]) <= bits
            i, j = i[near], j[near]
            near = np.bitwise_count(hashes[i, 1] ^ others[j, 1]) <= DETAIL_BITS
            i, j = i[near], j[near]
            if len(i):
                yield (np.minimum(i, j), np.maximum(i, j)) if same else (i, j)


def _masks(pieces: int, chosen: int) -> list[np.uint64]:
    """Return masks of every choice of `chosen` among `pieces` pieces of 64 bits."""
    # Neighbouring frequencies go together in a face, so a piece takes bits from far apart.
    bits = [sum(1 << bit for bit in range(piece, 64, pieces)) for piece in range(pieces)]
    return [np.uint64(sum(choice)) for choice in itertools.combinations(bits, chosen)]


def _sorted_by(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys)
    return keys[order], order


def _expand(first: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row, match) for each row's `counts` matches from `first` on, a few million at once."""
    rows = np.nonzero(counts > 0)[0]
    ends = np.cumsum(counts[rows])
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _COMPARED_AT_ONCE):
        numbers = np.arange(start, min(start + _COMPARED_AT_ONCE, total))
        which = np.searchsorted(ends, numbers, "right")
        row = rows[which]
        yield row, first[row] + counts[row] - (ends[which] - numbers)


def compare(prepared: str, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Compare pairs of images below a folder pixel by pixel: float64 [m, 2].

    The pictures are gray, 32 x 32 pixels, normalised to mean 0 and deviation 1. Returns their
    correlation, -1 to 1, and the largest difference between the means of their 8 x 8 parts. An
    image that cannot be read resembles no other.
    """
    tiny = {name: _tiny(Path(prepared, name)) for name in sorted({*itertools.chain(*pairs)})}
    one, other = (np.array([tiny[pair[side]] for pair in pairs]) for side in (0, 1))
    parts = (one - other).reshape(-1, 8, _SIDE // 8, 8, _SIDE // 8).mean(axis=(2, 4))
    return np.stack([(one * other).mean(axis=(1, 2)), np.abs(parts).max(axis=(1, 2))], axis=1)


def _tiny(path: Path) -> np.ndarray:
    """Return a picture of mean 0 and standard deviation 1, or zeros: float64 [32, 32]."""
    try:
        with Image.open(path) as image:
            image.draft("L", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded no larger than needed
            gray = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except (OSError, ValueError):
        return np.zeros((_SIDE, _SIDE))
    values = np.asarray(gray, dtype=np.float64)
    return (values - values.mean()) / max(values.std(), 1e-9)

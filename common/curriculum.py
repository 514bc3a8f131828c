"""What each epoch of the curriculum shows (paper §3.4): singles, natural, generated compounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.augment import CUTMIX, MIXUP, SINGLE
from common.emotions import BASIC
from common.loading import Plan

MIXES = {"mixup": MIXUP, "cutmix": CUTMIX}


@dataclass(frozen=True)
class Sources:
    """The images an epoch draws from, as rows of one store.

    targets: float32 [rows, 6], the labels of every row of the store. single, natural: int64 rows
    with one emotion, and with a compound of `pairs`.
    """

    targets: np.ndarray
    single: np.ndarray
    natural: np.ndarray

    def by_emotion(self) -> list[np.ndarray]:
        """Return the single rows of each of the six emotions."""
        labels = self.targets[self.single].argmax(1)
        return [self.single[labels == index] for index in range(len(BASIC))]


def stage_of(epoch: int, stage_epochs: Sequence[int]) -> int:
    """Return the sub-stage, from 0, that an epoch, from 0, belongs to."""
    return int(np.searchsorted(np.cumsum(stage_epochs), epoch, side="right"))


def _in_turn(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of `rows`: every one is seen n times before any is seen n + 1 times."""
    turns = [random.permutation(rows) for _ in range(-(-count // max(1, len(rows))))]
    return np.concatenate([rows[:0], *turns])[:count]


def draw_epoch(
    sources: Sources,
    share: float,
    *,
    count: int,
    natural_share: float,
    pairs: Sequence[tuple[int, int]],
    mixes: Sequence[str],
    random: np.random.Generator,
) -> tuple[Plan, dict[str, int]]:
    """Draw one epoch of `count` images and tell what was drawn.

    share: of compound images in every batch. natural_share: of the natural ones among those; the
    rest is generated: the pair first, evenly, then one image of each of its two emotions in random
    order, mixed in one of the forms `mixes`, labelled with both. Pairs with an emotion that has no
    image are left out; without natural images all are generated, and the other way round.
    The account has `single`, `natural` and `generated` images.
    """
    pools = sources.by_emotion()
    pairs = np.array([p for p in pairs if len(pools[p[0]]) and len(pools[p[1]])], dtype=np.int64)
    can_generate = len(pairs) > 0 and len(mixes) > 0
    if not can_generate and not len(sources.natural):
        share = 0.0
    # Position i is a compound where the running share passes a whole number: so every batch,
    # however large, has the stated share to within one image.
    compound = np.diff(np.floor(np.arange(count + 1) * share + 1e-9)) > 0
    compounds = int(compound.sum())
    if not len(sources.natural):
        natural_share = 0.0
    elif not can_generate:
        natural_share = 1.0
    natural = round(compounds * natural_share)
    generated = compounds - natural

    first = np.empty(count, dtype=np.int64)
    second = np.full(count, -1, dtype=np.int64)
    mix = np.full(count, SINGLE, dtype=np.uint8)
    first[~compound] = _in_turn(sources.single, count - compounds, random)
    places = random.permutation(np.flatnonzero(compound))
    first[places[:natural]] = _in_turn(sources.natural, natural, random)
    if generated:
        places = places[natural:]
        chosen = pairs[random.permutation(np.arange(generated) % len(pairs))]  # [generated, 2]
        chosen = random.permuted(chosen, axis=1)
        for emotion, pool in enumerate(pools):
            for column, rows in ((0, first), (1, second)):
                here = places[chosen[:, column] == emotion]
                rows[here] = _in_turn(pool, len(here), random)
        forms = np.array([MIXES[name] for name in mixes], dtype=np.uint8)
        mix[places] = forms[random.permutation(np.arange(generated) % len(forms))]
    targets = sources.targets[first]
    mixed = second >= 0
    targets[mixed] = np.maximum(targets[mixed], sources.targets[second[mixed]])
    account = {"single": count - compounds, "natural": natural, "generated": generated}
    return Plan(first, targets, second, mix), account

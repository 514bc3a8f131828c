"""What each epoch of the curriculum shows (paper §3.4): singles, natural, generated compounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.batches.batch import BOX, FACS, LEFT_RIGHT, MIXUP, SINGLE, TOP_BOTTOM
from common.batches.loading import Plan, in_turn
from common.emotions import (
    BASIC,
    CHALLENGE,
    CHALLENGE_PAIRS,
    RAF11,
    RAF11_PAIRS,
    UPPER_OVER_LOWER,
    label_of,
    multi_hot,
)
from common.script.files import UserError

PAIRS = {
    "challenge7": dict(zip(CHALLENGE, CHALLENGE_PAIRS, strict=True)),
    "raf11": dict(zip((name.replace(" ", "_") for name in RAF11), RAF11_PAIRS, strict=True)),
}
CUTMIX = {
    "box": BOX,
    "halves-lr": LEFT_RIGHT,
    "halves-tb": TOP_BOTTOM,
    "facs": FACS,
    "facs-exchanged": FACS,
}

# The box of CutMix holds this share of the second image; the seam of FACS lies this far down the
# face crop, between the lower lids (0.43 in faces.TEMPLATE) and the middle of the nose.
BOX_AREA = (0.3, 0.7)
SEAM_HEIGHT = (0.44, 0.52)


def labels_of(pairs: str) -> set[str]:
    """Return the compounds of a key of PAIRS, as the manifest labels them."""
    return set(map(label_of, PAIRS[pairs].values()))


@dataclass(frozen=True)
class Sources:
    """The images an epoch draws from, as rows of one store.

    targets: float32 [rows, 6], the labels of every row of the store. single, natural: int64 rows
    with one emotion, and with a compound of `pairs`.
    """

    targets: np.ndarray
    single: np.ndarray
    natural: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, training: pd.Series) -> Sources:
        """Return the sources among rows of the manifest. training: bool [n], those to train on."""
        return cls(
            np.array([multi_hot(text) for text in rows.labels]).reshape(-1, len(BASIC)),
            np.flatnonzero(training & (rows.kind == "single")),
            np.flatnonzero(training & (rows.kind == "compound")),
        )

    def by_emotion(self) -> list[np.ndarray]:
        """Return the single rows of each of the six emotions."""
        labels = self.targets[self.single].argmax(1)
        return [self.single[labels == index] for index in range(len(BASIC))]


@dataclass(frozen=True)
class Mixing:
    """How compounds come about.

    natural_share: of natural ones among the compounds; the rest is generated. forms: `mixup` or
    `cutmix` or both, in even parts. cutmix: a key of CUTMIX. weight: of Mixup's first image (table
    1), unless beta: then drawn from Beta(beta, beta) (Zhang et al. 2018). label: `union`, both
    emotions count in full, or `soft`, each by its share of the image. pairs: a key of PAIRS.
    """

    natural_share: float = 0.5
    forms: tuple[str, ...] = ("mixup", "cutmix")
    cutmix: str = "box"
    weight: float = 0.1
    beta: float | None = None
    label: str = "union"
    pairs: str = "challenge7"

    @classmethod
    def of(cls, settings: dict) -> Mixing:
        """Return the mixing of 04's settings."""
        return cls(
            natural_share=settings["natural_share"],
            forms=tuple(settings["mixes"]),
            cutmix=settings["cutmix"],
            weight=settings["mixup_weight"],
            beta=settings["mixup_beta"],
            label=settings["mixed_label"],
            pairs=settings["pairs"],
        )


def stage_of(epoch: int, stage_epochs: Sequence[int]) -> int:
    """Return the sub-stage, from 0, that an epoch, from 0, belongs to."""
    return int(np.searchsorted(np.cumsum(stage_epochs), epoch, side="right"))


def epoch_size(
    share: float, share_of: str, images: int, sources: Sources, natural_share: float
) -> tuple[int, int]:
    """Return how many images an epoch shows, and how many of them are compounds.

    share_of `batch` (paper §3.4): `images` images, the share of them compounds. `set` (released
    code): `images` single ones, and the share of the compound set on top, which holds the natural
    compounds and as many generated ones as natural_share asks for; without natural ones, or with a
    natural_share of 0, as many as `images`.
    """
    if share_of == "batch":
        return images, round(images * share)
    natural = len(sources.natural) if natural_share else 0
    compounds = round(share * (natural / natural_share if natural else images))
    return images + compounds, compounds


@dataclass(frozen=True)
class Timetable:
    """The curriculum's epochs: the sub-stage of each, from 0, and each sub-stage's epoch_size."""

    stages: list[int]
    sizes: list[tuple[int, int]]
    global_batch: int

    @classmethod
    def of(cls, settings: dict, sources: Sources) -> Timetable:
        """Lay out the epochs that 04's settings ask for."""
        images = settings["epoch_images"] or len(sources.single)
        natural_share = settings["natural_share"] if settings["mixes"] else 1.0
        sizes = [
            epoch_size(share, settings["compound_share_of"], images, sources, natural_share)
            for share in settings["compound_shares"]
        ]
        epochs = settings["stage_epochs"]
        stages = [stage_of(epoch, epochs) for epoch in range(sum(epochs))]
        return cls(stages, sizes, settings["global_batch"])

    def size(self, epoch: int) -> tuple[int, int]:
        """Return how many images an epoch shows, and how many of them are compounds."""
        return self.sizes[self.stages[epoch]]

    @property
    def steps(self) -> list[int]:
        """Optimiser steps of each epoch."""
        return [-(-self.sizes[stage][0] // self.global_batch) for stage in self.stages]


def draw_epoch(
    sources: Sources, count: int, compounds: int, mixing: Mixing, random: np.random.Generator
) -> tuple[Plan, dict[str, int]]:
    """Draw one epoch of `count` images, `compounds` of them spread evenly over its batches.

    A generated compound is drawn class first, evenly, then one image of each of its two emotions:
    in random order, or, for `facs`, the upper face's first (emotions.UPPER_OVER_LOWER). Classes
    with an emotion that has no image are left out; without natural images all compounds are
    generated, and the other way round. The account counts `single`, `natural` and `generated`
    images, and, as `kind:name`, those of each emotion and compound.
    """
    pools = sources.by_emotion()
    ordered = "cutmix" in mixing.forms and mixing.cutmix in ("facs", "facs-exchanged")
    pairs = _pairs_to_generate(pools, mixing, ordered)
    can_generate = len(pairs) > 0
    if not can_generate and not len(sources.natural):
        compounds = 0
    # Position i is a compound where the running count passes a whole number: so every batch,
    # however large, has its share to within one image.
    compound = np.diff(np.arange(count + 1) * compounds // count) > 0
    natural = round(compounds * mixing.natural_share) if can_generate else compounds
    natural = natural if len(sources.natural) else 0
    generated = compounds - natural

    first = np.empty(count, dtype=np.int64)
    second = np.full(count, -1, dtype=np.int64)
    form = np.full(count, SINGLE, dtype=np.uint8)
    extent = np.ones(count, dtype=np.float32)
    first[~compound] = in_turn(sources.single, count - compounds, random)
    places = random.permutation(np.flatnonzero(compound))
    first[places[:natural]] = in_turn(sources.natural, natural, random)
    if generated:
        places = places[natural:]
        codes = {"mixup": MIXUP, "cutmix": CUTMIX[mixing.cutmix]}
        codes = np.array([codes[name] for name in mixing.forms], dtype=np.uint8)
        form[places] = codes[random.permutation(np.arange(generated) % len(codes))]
        extent[places] = _extents(form[places], mixing, random)
        chosen = pairs[random.permutation(np.arange(generated) % len(pairs))]  # [generated, 2]
        swapped = random.random(generated) < 0.5
        if ordered:
            swapped[form[places] == FACS] = mixing.cutmix == "facs-exchanged"
        chosen[swapped] = chosen[swapped, ::-1]
        for emotion, pool in enumerate(pools):
            for column, rows in ((0, first), (1, second)):
                here = places[chosen[:, column] == emotion]
                rows[here] = in_turn(pool, len(here), random)
    targets = sources.targets[first]
    mixed = second >= 0
    other, part = sources.targets[second[mixed]], extent[mixed, None]
    union = targets.copy()
    union[mixed] = np.maximum(union[mixed], other)
    soft = part * targets[mixed] + (1 - part) * other
    targets[mixed] = soft if mixing.label == "soft" else union[mixed]
    kinds = {"single": ~compound, "natural": compound & ~mixed, "generated": mixed}
    return Plan(first, targets, second, form, extent), _account(union, kinds, PAIRS[mixing.pairs])


def check_compounds(sources: Sources, mixing: Mixing, shares: Sequence[float]) -> None:
    """Raise UserError where compounds are to be shown, and there is no way to have one."""
    generated = len(_pairs_to_generate(sources.by_emotion(), mixing)) > 0
    if any(shares) and not generated and not len(sources.natural):
        why = "no two emotions that make one have images" if mixing.forms else "--mixes is empty"
        raise UserError(
            "--compound-shares asks for compounds: there is no natural one to train on, and none "
            f"can be generated ({why})."
        )


def _pairs_to_generate(
    pools: list[np.ndarray], mixing: Mixing, ordered: bool = False
) -> np.ndarray:
    """Return the pairs of emotions that both have images, int64 [n, 2]; none without a generator.

    ordered: the upper face's emotion first.
    """
    pairs = UPPER_OVER_LOWER if ordered else PAIRS[mixing.pairs].values()
    found = [pair for pair in pairs if mixing.forms and all(len(pools[one]) for one in pair)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def without_effect(sources: Sources, mixing: Mixing) -> list[str]:
    """Return, in sentences, what of a mixing the images do not allow."""
    found = []
    if mixing.natural_share and not len(sources.natural):
        found.append("there is no natural compound to train on; all compounds are generated.")
    if not mixing.forms and mixing.natural_share < 1:
        found.append("no generator is chosen; all compounds are natural.")
    if mixing.cutmix != Mixing.cutmix and "cutmix" not in mixing.forms:
        found.append(f"--cutmix {mixing.cutmix} changes nothing, as --mixes has no cutmix.")
    if mixing.beta and mixing.weight != Mixing.weight:
        found.append("--mixup-weight changes nothing, as --mixup-beta draws the weights.")
    pools = zip(BASIC, sources.by_emotion(), strict=True)
    lacking = [name for name, pool in pools if not len(pool)]
    if lacking and mixing.forms:
        found.append(f"no single shows {', '.join(lacking)}: no compound with it is generated.")
    return found


def _extents(form: np.ndarray, mixing: Mixing, random: np.random.Generator) -> np.ndarray:
    """Draw how much of each mixed image is its first one, float [n]; see loading.Plan."""
    count = len(form)
    if mixing.beta:
        weight = random.beta(mixing.beta, mixing.beta, count)
    else:
        weight = np.full(count, mixing.weight)
    area = 1 - random.uniform(*BOX_AREA, count)
    seam = random.uniform(*SEAM_HEIGHT, count)
    return np.select([form == MIXUP, form == BOX, form == FACS], [weight, area, seam], 0.5)


def _account(
    labels: np.ndarray, kinds: dict[str, np.ndarray], pairs: dict[str, tuple[int, int]]
) -> dict[str, int]:
    """Count rows by kind, then by kind and class. labels: [n, 6], both emotions of a compound."""
    code = (labels > 0) @ (1 << np.arange(len(BASIC)))
    compounds = {name: (1 << a) + (1 << b) for name, (a, b) in pairs.items()}
    classes = {"single": {name: 1 << i for i, name in enumerate(BASIC)}}
    account = {kind: int(rows.sum()) for kind, rows in kinds.items()}
    for kind, rows in kinds.items():
        for name, number in classes.get(kind, compounds).items():
            account[f"{kind}:{name}"] = int((code[rows] == number).sum())
    return account

"""What each epoch of the curriculum shows (paper §3.4): singles, natural, generated compounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.batches.batch import BOX, FACS, LEFT_RIGHT, MIXUP, SINGLE, TOP_BOTTOM
from common.batches.loading import Plan, in_even_turn, in_turn
from common.batches.targets import Stock
from common.emotions import (
    ADAPTATION,
    BASIC,
    CHALLENGE,
    CHALLENGE_PAIRS,
    RAF11,
    RAF11_PAIRS,
    UPPER_OVER_LOWER,
    label_of,
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
MIXES = {"mixup": lambda mixing: MIXUP, "cutmix": lambda mixing: CUTMIX[mixing.cutmix]}
# The targets of a mixed image, [n, 6], from those of its two images and the first one's extent.
MIXED_LABELS = {
    "union": lambda first, second, extent: np.maximum(first, second),
    "soft": lambda first, second, extent: extent * first + (1 - extent) * second,
}

# The box of CutMix holds this much of the second image; the seam of FACS lies this far down the
# face crop, between the lower lids (0.43 in faces.TEMPLATE) and the middle of the nose.
BOX_AREA = (0.3, 0.7)
SEAM_HEIGHT = (0.44, 0.52)


def labels_of(pairs: str) -> set[str]:
    """Return the compounds of a key of PAIRS, as the manifest labels them."""
    return set(map(label_of, PAIRS[pairs].values()))


@dataclass(frozen=True)
class Mixing:
    """How compounds are made.

    natural_share: of natural ones among the compounds; the rest is generated. mixes: keys of MIXES,
    in even parts. cutmix: a key of CUTMIX. weight: of Mixup's first image (table 1); with beta it
    is drawn from Beta(beta, beta) instead (Zhang et al. 2018). label: a key of MIXED_LABELS: both
    emotions count in full, or each by how much of the image it fills. pairs: a key of PAIRS.
    """

    natural_share: float = 0.5
    mixes: tuple[str, ...] = ("mixup", "cutmix")
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
            mixes=tuple(settings["mixes"]),
            cutmix=settings["cutmix"],
            weight=settings["mixup_weight"],
            beta=settings["mixup_beta"],
            label=settings["mixed_label"],
            pairs=settings["pairs"],
        )

    @property
    def ordered(self) -> bool:
        """Whether some images are mixed after action units: the upper face's emotion is first."""
        return "cutmix" in self.mixes and CUTMIX[self.cutmix] == FACS


def _share_of_batch(
    share: float, images: int, natural: int, natural_share: float
) -> tuple[int, int]:
    """`images` images, of which the share are compounds (paper §3.4)."""
    return images, round(images * share)


def _share_of_set(share: float, images: int, natural: int, natural_share: float) -> tuple[int, int]:
    """`images` single ones, and beside them the share of the compound set (released code).

    The set holds the natural compounds and as many generated ones as natural_share asks for; if
    there is no natural one, or natural_share is 0, it holds `images` compounds.
    """
    natural = natural if natural_share else 0
    compounds = round(share * (natural / natural_share if natural else images))
    return images + compounds, compounds


# How many images an epoch shows, and how many of them are compounds.
EPOCH_SIZES = {"batch": _share_of_batch, "set": _share_of_set}


@dataclass(frozen=True)
class Stages:
    """The sub-stages of the curriculum.

    of_epoch: the sub-stage of each epoch, from 0. sizes: how many images an epoch of each sub-stage
    shows, and how many of them are compounds (generated ones, where singles and natural compounds
    are drawn together). shares: of the images, the most certain ones, that each draws from.
    """

    of_epoch: list[int]
    sizes: list[tuple[int, int]]
    global_batch: int
    shares: list[float]

    @classmethod
    def of(cls, settings: dict, stock: Stock) -> Stages:
        """Return the sub-stages of 04's settings."""
        natural_share = settings["natural_share"] if settings["mixes"] else 1.0
        size, epochs = EPOCH_SIZES[settings["compound_share_of"]], settings["stage_epochs"]
        images = settings["epoch_images"] or len(stock.drawn)
        known = images, 0 if stock.one_scale else len(stock.natural), natural_share
        sizes = [size(share, *known) for share in settings["compound_shares"]]
        of_epoch = np.repeat(np.arange(len(epochs)), epochs).tolist()
        growing = [stage / len(epochs) for stage in range(1, len(epochs) + 1)]
        shares = [1.0] * len(epochs) if settings["order"] == "none" else growing
        return cls(of_epoch, sizes, settings["global_batch"], shares)

    def size(self, epoch: int) -> tuple[int, int]:
        """Return how many images an epoch shows, and how many of them are compounds."""
        return self.sizes[self.of_epoch[epoch]]

    def share(self, epoch: int) -> float:
        """Return the share of the images, the most certain ones, that an epoch draws from."""
        return self.shares[self.of_epoch[epoch]]

    @property
    def steps(self) -> list[int]:
        """Optimiser steps of each epoch."""
        return [-(-self.sizes[stage][0] // self.global_batch) for stage in self.of_epoch]


def draw_epoch(
    stock: Stock,
    count: int,
    compounds: int,
    mixing: Mixing,
    random: np.random.Generator,
    balanced: bool = False,
) -> tuple[Plan, dict[str, int]]:
    """Draw one epoch of `count` images, `compounds` of them spread evenly over its batches.

    balanced: single images show every emotion equally often. Without natural images all compounds
    are generated, and the other way round. Where singles and natural compounds are drawn together,
    `compounds` are the generated ones. Returns the plan, and how many `single`, `natural` and
    `generated` images it has, also by class, as `kind:name`; where votes are drawn together, also
    images without a majority, as `no_majority`.
    """
    pairs, apart = _pairs_to_generate(stock, mixing), len(stock.natural) and not stock.one_scale
    if not len(pairs) and not apart:
        compounds = 0
    # Position i is a compound where the running count passes a whole number: so every batch,
    # however large, has its share to within one image.
    compound = np.diff(np.arange(count + 1) * compounds // count) > 0
    natural = round(compounds * mixing.natural_share) if len(pairs) else compounds
    natural = natural if apart else 0

    first = np.empty(count, dtype=np.int64)
    second = np.full(count, -1, dtype=np.int64)
    form = np.full(count, SINGLE, dtype=np.uint8)
    extent = np.ones(count, dtype=np.float32)
    singles = count - compounds
    if balanced:
        first[~compound] = in_even_turn(
            [pool for pool in stock.by_emotion() if len(pool)], singles, random
        )
    else:
        first[~compound] = in_turn(stock.drawn, singles, random)
    places = random.permutation(np.flatnonzero(compound))
    first[places[:natural]] = in_turn(stock.natural, natural, random)
    if len(places) > natural:
        here = places[natural:]
        form[here], extent[here], rows = _generate(len(here), stock, pairs, mixing, random)
        first[here], second[here] = rows.T
    targets, union = stock.targets[first], stock.shown[first]
    mixed = second >= 0
    others, part = second[mixed], extent[mixed, None]
    union[mixed] = MIXED_LABELS["union"](union[mixed], stock.shown[others], part)
    if stock.labels is not None and mixing.label == "union":
        targets[mixed] = (targets[mixed] + stock.targets[others]) / 2  # again a distribution
    else:
        targets[mixed] = MIXED_LABELS[mixing.label](targets[mixed], stock.targets[others], part)
    alone = np.isin(first, stock.single) & ~mixed
    kinds = {"single": alone, "natural": ~alone & ~mixed, "generated": mixed}
    if stock.one_scale and stock.labels is not None:
        kinds["no_majority"] = np.isin(first, stock.no_majority) & ~mixed
        kinds["natural"] &= ~kinds["no_majority"]
    return Plan(first, targets, second, form, extent), _counts(union, kinds, PAIRS[mixing.pairs])


def _generate(
    count: int, stock: Stock, pairs: np.ndarray, mixing: Mixing, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw generated compounds: the class first, evenly, then an image of each of its emotions.

    The emotions are in random order, but after action units in that of emotions.UPPER_OVER_LOWER.
    pairs: int64 [k, 2], the classes. Returns form uint8 [count], extent float [count] and the rows
    of the two images, int64 [count, 2].
    """
    forms = np.array([MIXES[name](mixing) for name in mixing.mixes], dtype=np.uint8)
    form = forms[random.permutation(np.arange(count) % len(forms))]
    extent = _extents(form, mixing, random)
    emotions = pairs[random.permutation(np.arange(count) % len(pairs))]  # [count, 2]
    swapped = random.random(count) < 0.5
    if mixing.ordered:
        swapped[form == FACS] = mixing.cutmix == "facs-exchanged"
    emotions[swapped] = emotions[swapped, ::-1]
    rows = np.empty((count, 2), dtype=np.int64)
    for emotion, pool in enumerate(stock.by_emotion()):
        for column in range(2):
            here = emotions[:, column] == emotion
            rows[here, column] = in_turn(pool, here.sum(), random)
    return form, extent, rows


def check_compounds(stock: Stock, mixing: Mixing, shares: Sequence[float]) -> None:
    """Raise UserError if the shares ask for compounds, and there is no way to have one."""
    apart = len(stock.natural) and not stock.one_scale
    if any(shares) and not len(_pairs_to_generate(stock, mixing)) and not apart:
        why = "no two emotions that form one have images" if mixing.mixes else "--mixes is empty"
        natural = "--order draws the natural" if stock.one_scale else "there are no natural"
        raise UserError(
            f"--compound-shares asks for compounds, but {natural} ones, and none can be "
            f"generated ({why})."
        )


def _pairs_to_generate(stock: Stock, mixing: Mixing) -> np.ndarray:
    """Return the pairs of emotions that both have images, int64 [n, 2]; none without `mixes`."""
    if not mixing.mixes:
        return np.empty((0, 2), dtype=np.int64)
    shown = [len(rows) > 0 for rows in stock.by_emotion()]
    pairs = UPPER_OVER_LOWER if mixing.ordered else PAIRS[mixing.pairs].values()
    found = [pair for pair in pairs if all(shown[emotion] for emotion in pair)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def without_effect(stock: Stock, mixing: Mixing) -> list[str]:
    """Return a sentence for every setting that has no effect with these images."""
    found = []
    if mixing.natural_share and not len(stock.natural):
        found.append("there are no natural compounds to train on; all compounds are generated.")
    if not mixing.mixes and mixing.natural_share < 1:
        found.append("no generator is chosen; all compounds are natural.")
    if mixing.cutmix != Mixing.cutmix and "cutmix" not in mixing.mixes:
        found.append(f"--cutmix {mixing.cutmix} changes nothing, as --mixes has no cutmix.")
    if mixing.beta and mixing.weight != Mixing.weight:
        found.append("--mixup-weight changes nothing, as --mixup-beta draws the weights.")
    pools = zip(BASIC, stock.by_emotion(), strict=False)
    lacking = [name for name, pool in pools if not len(pool)]
    if lacking and mixing.mixes:
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


def _counts(
    labels: np.ndarray, kinds: dict[str, np.ndarray], pairs: dict[str, tuple[int, int]]
) -> dict[str, int]:
    """Count rows by kind, then by kind and class. labels: [n, C], both emotions of a compound."""
    names = ADAPTATION[: labels.shape[1]]
    code = (labels > 0) @ (1 << np.arange(len(names)))
    compounds = {name: (1 << a) + (1 << b) for name, (a, b) in pairs.items()}
    classes = {"single": {name: 1 << i for i, name in enumerate(names)}, "no_majority": {}}
    counts = {kind: int(rows.sum()) for kind, rows in kinds.items()}
    for kind, rows in kinds.items():
        for name, number in classes.get(kind, compounds).items():
            counts[f"{kind}:{name}"] = int((code[rows] == number).sum())
    return counts

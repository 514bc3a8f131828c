"""What a network is to answer for an image: the emotions of its label, or how people voted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.special import entr

from common import manifest
from common.emotions import ADAPTATION, BASIC, multi_hot
from common.script.flags import EXCLUSIVE_LOSSES


def names_of(loss: str) -> tuple[str, ...]:
    """Return the expressions that the logits stand for: six, or eight of an exclusive loss."""
    return ADAPTATION if loss in EXCLUSIVE_LOSSES else BASIC


def singles(rows: pd.DataFrame, loss: str) -> pd.Series:
    """Return the images with one of the expressions that the logits stand for, bool [n]."""
    return (rows.kind == "single") & rows.labels.isin(names_of(loss))


def taught(rows: pd.DataFrame, loss: str) -> pd.Series:
    """Return the images that 03 learns from with a loss, bool [n].

    Singles of the six emotions (paper §3.3: without Neutral). With an exclusive loss singles of all
    eight expressions, and every image with votes: its label, single or compound, is only where its
    votes lie on a scale.
    """
    learnt = singles(rows, loss)
    return learnt | voted(rows) if loss in EXCLUSIVE_LOSSES else learnt


def usable(rows: pd.DataFrame, loss: str) -> pd.Series:
    """Return the images that either phase of 03 may show with a loss, bool [n]."""
    return (rows.kind == "single") | taught(rows, loss)


def voted(rows: pd.DataFrame) -> pd.Series:
    """Return the images that have votes, bool [n]."""
    return rows[manifest.VOTES] != "" if manifest.VOTES in rows else rows.kind.isin(())


def labels_shown(rows: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    """Return the labels, float32 [n, C]: 1 for each expression. names: BASIC or ADAPTATION."""
    labels = [multi_hot(text, names) for text in rows.labels]
    return np.array(labels, dtype=np.float32).reshape(-1, len(names))


def targets_of(rows: pd.DataFrame, loss: str, least_votes: int) -> np.ndarray:
    """Return what a loss compares the logits with, float32 [n, C].

    The labels, [n, 6]; for an exclusive loss distributions over eight expressions, [n, 8]: of the
    votes (least_votes: see manifest.votes), and where there are none all on the single's
    expression, or half and half on the compound's.
    """
    exclusive = loss in EXCLUSIVE_LOSSES
    return distributions(rows, least_votes) if exclusive else labels_shown(rows, BASIC)


def distributions(rows: pd.DataFrame, least_votes: int = 1) -> np.ndarray:
    """Return what people saw, float32 [n, 8]: the votes, or the label where there are none."""
    labels = labels_shown(rows, ADAPTATION)
    shares = labels / np.maximum(labels.sum(1, keepdims=True), 1)
    votes = manifest.votes(rows, least_votes)
    return np.where(np.isnan(votes), shares, votes).astype(np.float32)


# How mixed an image is, float [n], from distributions [n, 8], by the value of 04's --order. By
# `label` singles and compounds are apart (paper §3.4), so that no image has a place between.
ORDERS = {
    "label": None,
    "none": lambda shares: np.zeros(len(shares)),
    "entropy": lambda shares: entr(shares).sum(1),
    "second": lambda shares: np.sort(shares, axis=1)[:, -2],
}


def describe(rows: pd.DataFrame) -> str:
    """Say where the distributions of the images that 03 trains on come from."""
    by_votes, compound = voted(rows), rows.kind == "compound"
    return (
        f"{int(by_votes.sum()):,} images with votes ({int((by_votes & compound).sum()):,} of them "
        f"compounds), {int((~by_votes).sum()):,} with a label alone, over eight expressions"
    )


def prior_logits(targets: np.ndarray, exclusive: bool, strength: float = 1.0) -> torch.Tensor:
    """Return what logit adjustment adds to the logits in training, float32 [C].

    Class frequencies are added during training only, so predictions are free of the prior (Menon et
    al. 2021): the logarithm of a class's frequency where classes are exclusive, that of its odds
    where each has its own sigmoid. targets: [n, C], labels of the training images. strength: their
    tau, by which it is multiplied.
    """
    frequency = torch.from_numpy(targets.mean(0)).float().clamp(1e-6, 1 - 1e-6)
    return strength * (frequency.log() if exclusive else frequency.logit())


@dataclass(frozen=True)
class Stock:
    """The images an epoch draws from, as rows of one store.

    targets: float32 [rows, C], of every row of the store: see targets_of. single, natural: int64
    rows with one expression, and with a compound of `pairs` (on one scale, all others). labels:
    float32 [rows, C], 1 for each expression of the label, where targets are distributions; else
    they are the targets. uncertainty: float [rows], of each row's votes, where singles and
    compounds are the ends of one scale (04 --order) and drawn from it together; else they are
    apart.
    """

    targets: np.ndarray
    single: np.ndarray
    natural: np.ndarray
    labels: np.ndarray | None = None
    uncertainty: np.ndarray | None = None

    @classmethod
    def of(cls, rows: pd.DataFrame, training: pd.Series, settings: dict) -> Stock:
        """Return the stock among rows of the manifest. training: bool [n], those to train on."""
        loss, order = settings["loss"], ORDERS[settings["order"]]
        return cls(
            targets_of(rows, loss, settings["least_votes"]),
            np.flatnonzero(training & (rows.kind == "single")),
            np.flatnonzero(training & (rows.kind != "single")),
            labels_shown(rows, names_of(loss)) if loss in EXCLUSIVE_LOSSES else None,
            order and order(distributions(rows)),
        )

    def most_certain(self, share: float, random: np.random.Generator) -> Stock:
        """Return the stock of a share of the images, those with the least mixed votes.

        Which of equally mixed images belong to it is drawn. Without a scale, returns the whole.
        """
        if not self.one_scale:
            return self
        order = np.lexsort((random.random(len(self.drawn)), self.uncertainty[self.drawn]))
        rows = self.drawn[order][: max(1, round(share * len(order)))]
        single, natural = (
            np.intersect1d(kind, rows, assume_unique=True) for kind in (self.single, self.natural)
        )
        return replace(self, single=single, natural=natural)

    @property
    def one_scale(self) -> bool:
        """Whether singles and natural compounds are drawn together."""
        return self.uncertainty is not None

    @property
    def no_majority(self) -> np.ndarray:
        """Return the rows drawn with the compounds whose votes name no expression: int64 [n]."""
        if self.labels is None:
            return self.natural[:0]
        return self.natural[~self.labels[self.natural].any(axis=1)]

    @property
    def drawn(self) -> np.ndarray:
        """Return the rows that are drawn as they are, beside compounds: int64 [n]."""
        return np.concatenate([self.single, self.natural]) if self.one_scale else self.single

    @property
    def classes(self) -> int:
        """Return the number C of expressions, which is that of the logits."""
        return self.targets.shape[1]

    @property
    def shown(self) -> np.ndarray:
        """Return the expressions of each row's label, float32 [rows, C]."""
        return self.targets if self.labels is None else self.labels

    def by_emotion(self) -> list[np.ndarray]:
        """Return the single rows of each of the C expressions, the six emotions first."""
        labels = self.shown[self.single].argmax(1)
        return [self.single[labels == index] for index in range(self.classes)]

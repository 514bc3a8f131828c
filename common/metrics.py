"""Scores of predictions and their confidence intervals: macro-F1, confusion, bootstrap."""

from __future__ import annotations

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix, int64 [classes, classes]; its rows are the true classes.

    truth, predicted: int [N], each 0..classes-1. Raises ValueError for other shapes or values.
    """
    truth, predicted = _class_numbers(truth, classes), _class_numbers(predicted, classes)
    if truth.shape != predicted.shape:
        raise ValueError(f"{len(truth)} true classes for {len(predicted)} predicted ones")
    cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def f1_per_class(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return each class's F1, float64 [classes]; a class neither true nor predicted has 0."""
    return f1_of_confusion(confusion(truth, predicted, classes))


def macro_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Return the mean of the classes' F1 over the whole set (paper eq. 2).

    A class without a true or predicted frame counts as 0, as in scikit-learn's
    `f1_score(labels=range(classes), average="macro", zero_division=0)`. 0 for an empty set.
    """
    return float(f1_per_class(truth, predicted, classes).mean())


def single_emotion_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the macro-F1 of answering with the most probable single emotion.

    truth: int [N], index in `emotions.BASIC`. probabilities: float [N, 6].
    """
    return macro_f1(truth, probabilities.argmax(axis=1), probabilities.shape[1])


LEVEL = 0.95  # of the interval


def bootstrap_interval(
    truth: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    classes: int,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the macro-F1, resampling whole groups.

    Frames of one video resemble each other, so drawing single frames would give far too narrow an
    interval. Instead all videos (or persons) are drawn, with replacement. groups: [N], any hashable
    values. The result does not depend on the order of the rows.
    """
    if len(truth) == 0:
        return 0.0, 0.0
    truth, predicted = _class_numbers(truth, classes), _class_numbers(predicted, classes)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    # With one confusion matrix a group, a sample's matrix is a weighted sum of them.
    cells = np.bincount(
        (member * classes + truth) * classes + predicted, minlength=len(names) * classes**2
    ).reshape(len(names), classes**2)  # [G, c*c]
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
    matrices = (draws @ cells).reshape(samples, classes, classes)
    scores = f1_of_confusion(matrices).mean(axis=-1)  # [samples]
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def guessed_f1(support: np.ndarray) -> np.ndarray:
    """Return the F1 that uniform guessing tends to with many frames, by class.

    support: the frames of each class, [c].
    """
    share = support / max(1, support.sum())
    # A guesser answers each class in 1/c of all frames, and `share` of those are right.
    return 2 * share / (share * len(support) + 1)


def summarise(
    truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int, seed: int = 0
) -> dict:
    """Return a score and what is needed to judge it, as plain JSON values.

    Keys: macro_f1, interval (95 %, over groups; None for a single group), frames, groups; f1,
    precision, recall, support and predicted, by class; confusion (rows are truth); and two
    references: chance_f1, the expected score of uniform guessing, and constant_f1, the best score
    of one answer for all frames, constant_class.
    """
    matrix = confusion(truth, predicted, classes)
    support, answers, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)
    share = support / max(1, support.sum())
    interval = None
    if len(np.unique(groups)) > 1:
        interval = list(bootstrap_interval(truth, predicted, groups, classes, seed=seed))
    return {
        "macro_f1": float(f1_of_confusion(matrix).mean()),
        "interval": interval,
        "frames": len(truth),
        "groups": len(np.unique(groups)),
        "f1": f1_of_confusion(matrix).tolist(),
        "precision": (hits / np.maximum(answers, 1)).tolist(),
        "recall": (hits / np.maximum(support, 1)).tolist(),
        "support": support.tolist(),
        "predicted": answers.tolist(),
        "confusion": matrix.tolist(),
        "chance_f1": float(guessed_f1(support).mean()),
        "constant_f1": float(2 * share.max() / (share.max() + 1) / classes),
        "constant_class": int(share.argmax()),
    }


def emotion_scores(shown: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> dict:
    """Score each emotion's own probability, as plain JSON values.

    shown: bool [N, c], the one or more emotions of each image. probabilities: float [N, c]. Returns
    f1 [c] of the answer "at least `threshold`"; average_precision [c] as scikit-learn defines it,
    0 for an emotion that no image shows; threshold.
    """
    from sklearn.metrics import average_precision_score  # takes a second, so not at the top

    answered = probabilities >= threshold
    total = shown.sum(axis=0) + answered.sum(axis=0)
    f1 = 2 * (shown & answered).sum(axis=0) / np.maximum(total, 1)
    precision = [
        float(average_precision_score(column, scores)) if column.any() else 0.0
        for column, scores in zip(shown.T, probabilities.T, strict=True)
    ]
    return {"threshold": threshold, "f1": f1.tolist(), "average_precision": precision}


def divergence(counts: np.ndarray, reference: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence of a distribution from a reference, in nats.

    counts, reference: frequencies [c]; counts not all 0, reference above 0. Σ p·log(p/q) ≥ 0 is
    finite even if a class was never predicted.
    """
    p = np.asarray(counts, dtype=np.float64) / np.sum(counts)
    q = np.asarray(reference, dtype=np.float64) / np.sum(reference)
    return float(np.sum(p * np.log(np.where(p > 0, p / q, 1.0))))


def f1_of_confusion(matrices: np.ndarray) -> np.ndarray:
    """Return F1 [..., c] of confusion matrices [..., c, c]: 2·TP / (true + predicted)."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)  # [..., c]
    total = matrices.sum(axis=-1) + matrices.sum(axis=-2)  # [..., c]
    return 2 * hits / np.maximum(total, 1)  # a total of 0 has 0 hits


def _class_numbers(values: np.ndarray, classes: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"class numbers must be integers in one dimension, not {values.dtype}")
    values = values.astype(np.int64)
    if values.size and (values.min() < 0 or values.max() >= classes):
        raise ValueError(f"class numbers must be 0..{classes - 1}")
    return values

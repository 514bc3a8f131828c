"""From the faces' probabilities to one class for every listed frame: fill, smooth, score, decide.

A detector finds no face in many frames; the list names them all the same. This is all arithmetic
on small tables: `--tune` runs it hundreds of times on probabilities computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.emotions import BASIC, CHALLENGE, CHALLENGE_PAIRS, compound_scores
from common.submission.files import DATABASE_COUNTS, split_location

PUBLISHED = np.array(DATABASE_COUNTS) / sum(DATABASE_COUNTS)  # share of each class


@dataclass(frozen=True)
class Decision:
    """How probabilities become classes; the script's flags of the same names explain each."""

    smooth: str = "none"
    smooth_width: int = 9
    rule: str = "sum"
    prior_correction: float = 0.0


def emotions_of_prior() -> np.ndarray:
    """Return the six emotions' probabilities under the published class frequencies: float [6].

    An emotion's is the share of all frames whose compound contains it.
    """
    probabilities = np.zeros(len(BASIC))
    for share, pair in zip(PUBLISHED, CHALLENGE_PAIRS, strict=True):
        probabilities[list(pair)] += share
    return probabilities


def fill_gaps(frames: np.ndarray, probabilities: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Interpolate one video's probabilities linearly in time, holding them at both ends.

    frames: int [K], increasing, frames with a face. probabilities: float [K, C]. wanted: int [N].
    Returns float64 [N, C]; frames that were observed keep their values.
    """
    return np.stack([np.interp(wanted, frames, column) for column in probabilities.T], axis=1)


def smooth(probabilities: np.ndarray, kind: str, width: int) -> np.ndarray:
    """Smooth successive frames of one video in time, each column apart.

    probabilities: float [N, C]. width: frames; of the box and the median the whole window, while
    the Gaussian has the standard deviation of that box, so that kinds of one width compare. At
    the ends only frames that exist count, their weights made to sum to 1 again. Raises ValueError
    for another kind.
    """
    if kind == "none" or width <= 1:
        return probabilities
    if kind == "gaussian":
        from scipy import ndimage  # here: the other kinds need not wait for its import

        def weighted_sum(values: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter1d(values, width / 12**0.5, axis=0, mode="constant")

        return weighted_sum(probabilities) / weighted_sum(np.ones((len(probabilities), 1)))
    windows = pd.DataFrame(probabilities).rolling(width, center=True, min_periods=1)
    if kind == "box":
        return windows.mean().to_numpy()
    if kind == "median":
        return windows.median().to_numpy()
    raise ValueError(f"unknown smoothing {kind!r}: choose none, box, gaussian or median")


class Timelines:
    """The faces' probabilities in time, video by video, for the frames of a list.

    locations: N listed frames. frames: [K] rows (video, frame), those with a face, in any order.

    face_of: int64 [N], the row of each listed frame's face, or -1. faceless: the listed videos
    without any face; faceless_rows: bool [N], their frames.
    """

    def __init__(self, locations: Sequence[str], frames: pd.DataFrame):
        self.listed = pd.DataFrame(
            [split_location(location) for location in locations], columns=["video", "frame"]
        )
        numbers = frames["frame"].to_numpy()
        observed = {
            video: rows[np.argsort(numbers[rows])]
            for video, rows in frames.groupby("video").indices.items()
        }
        self.face_of = np.full(len(self.listed), -1, dtype=np.int64)
        self.faceless_rows = np.zeros(len(self.listed), dtype=bool)
        self.faceless: list[str] = []
        # Of each video: its rows in the list, its faces' rows, both frame numbers.
        self._videos: list[tuple[np.ndarray, ...]] = []
        for video, rows in self.listed.groupby("video", sort=False).indices.items():
            if video not in observed:
                self.faceless.append(video)
                self.faceless_rows[rows] = True
                continue
            wanted, known = self.listed["frame"].to_numpy()[rows], numbers[observed[video]]
            near = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            self.face_of[rows] = np.where(known[near] == wanted, observed[video][near], -1)
            self._videos.append((rows, observed[video], wanted, known))

    def fill(self, probabilities: np.ndarray, kind: str = "none", width: int = 1) -> np.ndarray:
        """Give every listed frame probabilities: observed, interpolated, or those of the prior.

        probabilities: float [K, 6], of the faces. Returns float64 [N, 6], smoothed within videos.
        A video without any face gets `emotions_of_prior`.
        """
        aligned = np.tile(emotions_of_prior(), (len(self.listed), 1))
        for rows, faces, wanted, known in self._videos:
            # Every frame of the video takes part in smoothing, also those that are not listed.
            first, last = min(wanted.min(), known[0]), max(wanted.max(), known[-1])
            whole = fill_gaps(known, probabilities[faces], np.arange(first, last + 1))
            aligned[rows] = smooth(whole, kind, width)[wanted - first]
        return aligned


def correct_prior(scores: np.ndarray, strength: float) -> np.ndarray:
    """Weigh the classes so that their predicted shares move towards the published ones.

    scores: float [N, 7]. strength: 0 leaves them; at 1 the decisions have the published shares, as
    nearly as N frames can; between, a mixture of both. Needs no labels. Returns float [N, 7].
    """
    if strength == 0 or not len(scores):
        return scores
    target = (1 - strength) * _shares(scores) + strength * PUBLISHED
    weights, best, nearest = np.ones(len(PUBLISHED)), scores, np.inf
    for step in range(100):
        shares = _shares(scores * weights)
        distance = np.abs(shares - target).sum()
        if distance < nearest:
            best, nearest = scores * weights, distance
        # Compounds share emotions, so that their scores lie close together: small steps, and
        # smaller ones, for a decision flips all at once.
        ratio = np.clip((target + 1e-3) / (shares + 1e-3), 0.5, 2)
        weights = weights * ratio ** (0.1 / (1 + step / 10))
    return best


def _shares(scores: np.ndarray) -> np.ndarray:
    return np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) / len(scores)


def class_scores(
    timelines: Timelines, filled: np.ndarray, rule: str, prior_correction: float
) -> np.ndarray:
    """Return the listed frames' class scores, float64 [N, 7]; the class is the argmax.

    filled: float64 [N, 6], of `Timelines.fill`. Frames of videos without any face have the
    published shares for scores: the most frequent class, whatever the rule.
    """
    scores = compound_scores(filled, rule)
    known = ~timelines.faceless_rows
    scores[known] = correct_prior(scores[known], prior_correction)
    scores[~known] = PUBLISHED
    return scores


def decide(timelines: Timelines, probabilities: np.ndarray, decision: Decision) -> pd.DataFrame:
    """Return one row a listed frame, as `probabilities.csv` holds it.

    probabilities: float [K, 6], of the faces. Columns: video, frame, face (0 or 1), p_Surprise …
    p_Anger, the seven compounds' scores by their names in CHALLENGE, decision (class 0..6, the
    highest score, the first of equals).
    """
    filled = timelines.fill(probabilities, decision.smooth, decision.smooth_width)
    scores = class_scores(timelines, filled, decision.rule, decision.prior_correction)
    table = timelines.listed.copy()
    table["face"] = (timelines.face_of >= 0).astype(np.int8)
    table[[f"p_{name}" for name in BASIC]] = filled
    table[list(CHALLENGE)] = scores
    table["decision"] = scores.argmax(axis=1)
    return table

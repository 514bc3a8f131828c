"""From the faces' probabilities to one class for every listed frame: fill, smooth, score, decide.

The list names frames in which the detector finds no face. Everything here is arithmetic on small
tables: `--tune` repeats it hundreds of times on probabilities computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from common.emotions import BASIC, CHALLENGE, CHALLENGE_PAIRS, compound_scores
from common.submission.files import DATABASE_COUNTS, split_location
from common.submission.fusion import Table, fuse

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = np.array(DATABASE_COUNTS) / sum(DATABASE_COUNTS)  # share of each class
PRIOR = np.zeros(len(BASIC))  # of each emotion: the share of frames whose compound contains it
for _share, _pair in zip(PUBLISHED, CHALLENGE_PAIRS, strict=True):
    PRIOR[list(_pair)] += _share


@dataclass(frozen=True)
class Decision:
    """How probabilities become classes: the script's flags of the same names.

    flip: whether they are averaged over mirror images, before everything else. weights: of the
    members of a fusion, as of `fusion.weight_matrix`.
    """

    smooth: str = "none"
    smooth_width: int = 9
    rule: str = "sum"
    prior_correction: float = 0.0
    flip: bool = True
    weights: tuple[float, ...] | None = None


def among(settings: dict) -> Decision:
    """Return the decision that the script's settings, by name, contain."""
    values = {field.name: settings[field.name] for field in fields(Decision)}
    return Decision(**values | {"weights": values["weights"] and tuple(values["weights"])})


def fill_gaps(frames: np.ndarray, probabilities: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Interpolate one video's probabilities linearly in time, constant beyond both ends.

    frames: int [K], increasing, those with a face. probabilities: float [K, C]. wanted: int [N].
    Returns float64 [N, C]; frames with a face keep their values.
    """
    return np.stack([np.interp(wanted, frames, column) for column in probabilities.T], axis=1)


def _windows(values: np.ndarray, width: int):
    import pandas as pd  # here and below: 05 reads SMOOTHINGS before --help, which must not wait

    # A wider window holds the whole video too, and pandas could not count to its end.
    width = min(width, 2 * len(values))
    return pd.DataFrame(values).rolling(width, center=True, min_periods=1)


def _gaussian(values: np.ndarray, width: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    padded = np.column_stack([values, np.ones(len(values))])  # weights that fall off the ends
    sigma = min(width, 10**6 * len(values)) / 12**0.5  # a wider one weighs all frames alike
    radius = min(int(4 * sigma + 0.5), len(values))  # beyond there are no frames
    sums = gaussian_filter1d(padded, sigma, axis=0, mode="constant", radius=radius)
    return sums[:, :-1] / sums[:, -1:]


SMOOTHINGS = {
    "none": lambda values, width: values,
    "box": lambda values, width: _windows(values, width).mean().to_numpy(),
    "gaussian": _gaussian,
    "median": lambda values, width: _windows(values, width).median().to_numpy(),
}


def smooth(probabilities: np.ndarray, kind: str, width: int) -> np.ndarray:
    """Smooth successive frames of one video in time: float [N, C], each column on its own.

    kind: a key of SMOOTHINGS. width: frames in the window of the box and the median; the Gaussian
    has the standard deviation of that box. At the ends only frames that exist are averaged.
    """
    return SMOOTHINGS[kind](probabilities, width) if width > 1 else probabilities


class Timelines:
    """The probabilities of faces, and of other models, in time: video by video, for a list.

    locations: N listed frames. faces: [K] rows (video, frame), in any order. tables: of other
    models.

    listed: N rows (image_location, video, frame). face_of: int64 [N], the row of each listed
    frame's face, or -1. faceless: the listed videos without a face or a row of a table;
    faceless_rows: bool [N], their frames.
    """

    def __init__(self, locations: Sequence[str], faces: pd.DataFrame, tables: Sequence[Table] = ()):
        import pandas as pd

        self.listed = pd.DataFrame(
            [(location, *split_location(location)) for location in locations],
            columns=["image_location", "video", "frame"],
        )
        numbers, wanted = faces["frame"].to_numpy(), self.listed["frame"].to_numpy()
        observed = {
            video: rows[np.argsort(numbers[rows])]
            for video, rows in faces.groupby("video").indices.items()
        }
        self.face_of = np.full(len(self.listed), -1, dtype=np.int64)
        self.faceless_rows = np.zeros(len(self.listed), dtype=bool)
        self.compounds = any(table.compounds for table in tables)
        # Of each video: its rows in the list, its faces' rows, both frame numbers, all frames from
        # the first to the last, and what the tables say of these.
        self._videos: list[tuple] = []
        for video, rows in self.listed.groupby("video", sort=False).indices.items():
            seen = observed.get(video, np.zeros(0, dtype=np.int64))
            known, of_list = numbers[seen], wanted[rows]
            # Smooth over every frame of the video, including those that are not listed.
            both = np.concatenate([of_list, known])
            frames = np.arange(both.min(), both.max() + 1)
            others = [table.at(video, frames) for table in tables]
            if len(seen):
                near = np.minimum(np.searchsorted(known, of_list), len(known) - 1)
                self.face_of[rows] = np.where(known[near] == of_list, seen[near], -1)
            elif all(np.isnan(other).all() for other in others):
                self.faceless_rows[rows] = True
                continue
            self._videos.append((rows, seen, of_list, known, frames, others))
        self.faceless: list[str] = self.listed["video"][self.faceless_rows].unique().tolist()

    def fill(
        self,
        probabilities: np.ndarray,
        kind: str = "none",
        width: int = 1,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Give every listed frame probabilities: observed, interpolated, or those of the prior.

        probabilities: float [K, 6], of the faces. weights: [M, 6], of the networks and of the
        tables, where there are some. Returns float64 [N, 6], or [N, 13] as `fusion.fuse`, smoothed
        within videos. A video without a face, and of which no table says anything, gets PRIOR.
        """
        prior = np.concatenate([PRIOR, PUBLISHED]) if self.compounds else PRIOR
        aligned = np.tile(prior, (len(self.listed), 1))
        for rows, faces, wanted, known, frames, others in self._videos:
            whole = fill_gaps(known, probabilities[faces], frames) if len(faces) else None
            if others:
                whole = fuse(whole, others, weights)
                said = ~np.isnan(whole[:, 0])
                whole = fill_gaps(frames[said], whole[said], frames)
            aligned[rows] = smooth(whole, kind, width)[wanted - frames[0]]
        return aligned


def correct_prior(scores: np.ndarray, strength: float) -> np.ndarray:
    """Weight the classes so that their predicted shares move towards the published ones.

    scores: float [N, 7]. strength: 0 changes nothing; at 1 the decisions have the published
    shares, as nearly as N frames can; in between, a mixture. Needs no labels. Returns float [N, 7].
    """
    if strength == 0 or not len(scores):
        return scores
    target = (1 - strength) * _shares(scores) + strength * PUBLISHED
    wanted = np.rint(target * len(scores)).astype(int)
    logs, bias = np.log(np.maximum(scores, 1e-30)), np.zeros(scores.shape[1])
    best, nearest, since = bias, np.inf, 0
    for _ in range(30):
        distance = np.abs(_shares(logs + bias) - target).sum()
        if distance < nearest:
            best, nearest, since = bias.copy(), distance, 0
        elif (since := since + 1) == 5:
            break
        # Class by class, by so much that as many frames as wanted get it. This minimises, one
        # weight at a time, a convex function whose slopes are shares less targets.
        for index, count in enumerate(wanted):
            rest = np.delete(logs + bias, index, axis=1).max(axis=1)
            behind = np.sort(rest - logs[:, index])
            between = np.concatenate([behind[:1] - 0.01, behind, behind[-1:] + 0.01])
            bias[index] = between[count : count + 2].mean()
    return scores * np.exp(best)


def _shares(scores: np.ndarray) -> np.ndarray:
    return np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) / len(scores)


def class_scores(
    timelines: Timelines, filled: np.ndarray, rule: str, prior_correction: float
) -> np.ndarray:
    """Return the listed frames' class scores, float64 [N, 7]; the class is the argmax.

    filled: float64 [N, 6] or [N, 13], of `Timelines.fill`. A compound's own probability counts as
    its two emotions' do where they are sure of it. Frames of videos without a face score the
    published shares, so they get the most frequent class under every rule.
    """
    scores = compound_scores(filled[:, : len(BASIC)], rule)
    if timelines.compounds:
        sure = compound_scores(np.ones((1, len(BASIC))), rule)  # [1, 7]
        scores = scores + filled[:, len(BASIC) :] * sure
    known = ~timelines.faceless_rows
    scores[known] = correct_prior(scores[known], prior_correction)
    scores[~known] = PUBLISHED
    return scores


def _emotions(filled: np.ndarray) -> np.ndarray:
    """Return the emotions' probabilities of `Timelines.fill`, [N, 6]; compounds add to both."""
    emotions = filled[:, : len(BASIC)].copy()
    for compound, pair in zip(filled[:, len(BASIC) :].T, CHALLENGE_PAIRS, strict=False):
        emotions[:, list(pair)] += compound[:, None]
    return emotions


def decide(
    timelines: Timelines,
    probabilities: np.ndarray,
    decision: Decision,
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return one row a listed frame.

    probabilities: float [K, 6], of the faces. weights: as of `Timelines.fill`. Columns:
    image_location, video, frame; decision (class 0..6 with the highest score, the first of equals),
    class_name (of CHALLENGE), face (0 or 1), p_Surprise … p_Anger, and the seven compounds' scores
    by their names in CHALLENGE.
    """
    filled = timelines.fill(probabilities, decision.smooth, decision.smooth_width, weights)
    scores = class_scores(timelines, filled, decision.rule, decision.prior_correction)
    table = timelines.listed.copy()
    table["decision"] = scores.argmax(axis=1)
    table["class_name"] = [CHALLENGE[index] for index in table["decision"]]
    table["face"] = (timelines.face_of >= 0).astype(np.int8)
    table[[f"p_{name}" for name in BASIC]] = _emotions(filled)
    table[list(CHALLENGE)] = scores
    return table

"""Settings of the decision chosen on labelled videos, and an honest estimate of what they bring."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from common.emotions import CHALLENGE
from common.metrics import f1_of_confusion
from common.script.files import UserError, whole_file
from common.submission.decision import Decision, Timelines, class_scores
from common.submission.files import Truth, split_location

WIDTHS = (5, 9, 15, 25, 49)  # frames; at 25 frames a second, 0.2 to 2 seconds
RULES = ("sum", "geometric", "harmonic")
STRENGTHS = (0.0, 0.5, 1.0)
FOLDS = 5


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    decision: Decision
    flip: bool

    def flags(self) -> dict[str, object]:
        """Return it as the script's settings, by their names."""
        return {**vars(self.decision), "flip": self.flip}


@dataclass(frozen=True)
class Tuned:
    """What tuning found: macro-F1 over the same labelled frames, each.

    best: the grid's maximum, on the very frames it was chosen on, and so too high. held_out: each
    fold's videos decided with what was best on the others. given: without any choice. chosen: the
    best setting, or the given one where choosing did not help on held-out videos.
    """

    given: Setting
    best: Setting
    best_f1: float
    held_out_f1: float
    given_f1: float
    chosen: Setting
    settings: int
    folds: int
    ranking: list[tuple[Setting, float]]


def tuning_frames(
    truth: dict[str, Truth], listed: Sequence[str] | None, path: Path
) -> dict[str, int]:
    """Return the class of each frame that may be tuned on: marked train or val, or not marked.

    listed: the frames of the challenge's list, which count as test unless they are marked train or
    val. Videos with a frame marked test are left out whole, for their frames resemble each other.
    Raises UserError where the table labels listed frames without a mark, or nothing is left.
    """
    if listed is not None:
        unmarked = [location for location in listed if location in truth]
        unmarked = [location for location in unmarked if truth[location].split == ""]
        if unmarked:
            raise UserError(
                f"{path} labels {len(unmarked):,} frames of the list that is to be predicted, "
                f"such as {unmarked[0]}; settings are not tuned on the frames they are judged by. "
                "If these are labelled data of your own, add a column split with train or val."
            )
    test = {split_location(place)[0] for place, known in truth.items() if known.split == "test"}
    usable = {
        place: known.label
        for place, known in truth.items()
        if known.label >= 0 and split_location(place)[0] not in test
    }
    if len({split_location(place)[0] for place in usable}) < 2:
        raise UserError(
            f"{path} labels fewer than two videos that are there and not marked test; tuning needs "
            "some to choose on and others to judge by."
        )
    return usable


def grid(flips: Sequence[bool]) -> Iterator[Setting]:
    """Yield all settings, the plainest first: of equals, that one is chosen."""
    smoothings = [("none", 1), *product(("box", "gaussian", "median"), WIDTHS)]
    for (smooth, width), rule, strength, flip in product(smoothings, RULES, STRENGTHS, flips):
        yield Setting(Decision(smooth, width, rule, strength), flip)


def tune(
    timelines: Timelines,
    looks: np.ndarray,
    truth: np.ndarray,
    given: Setting,
    seed: int,
) -> Tuned:
    """Try the grid on labelled frames.

    timelines: of N frames. looks: float [K, F, 6], the faces' probabilities as they are and (F =
    2) mirrored. truth: int [N], class 0..6, or -1. Folds hold whole videos, stratified by their
    most frequent class.
    """
    member = np.unique(timelines.listed["video"], return_inverse=True)[1]  # [N], of videos
    settings = [given, *grid([False, True][: looks.shape[1]])]
    # Confusion of each setting in each video: any union of videos is then a sum.
    decisions = _decisions(timelines, looks, settings)
    cells = np.stack([_confusions(decision, truth, member) for decision in decisions])
    f1 = _macro(cells.sum(axis=1))  # [settings]
    best = int(f1[1:].argmax()) + 1
    fold_of = _folds(cells[0].sum(axis=2), seed)  # [videos], by rows of truth
    pooled = np.zeros(cells.shape[2:], dtype=np.int64)
    for fold in range(fold_of.max() + 1):
        held_out = fold_of == fold
        chosen = _macro(cells[:, ~held_out].sum(axis=1))[1:].argmax() + 1
        pooled += cells[chosen, held_out].sum(axis=0)
    held_out_f1 = float(_macro(pooled))
    order = np.argsort(-f1[1:], kind="stable")[:5] + 1
    return Tuned(
        given=given,
        best=settings[best],
        best_f1=float(f1[best]),
        held_out_f1=held_out_f1,
        given_f1=float(f1[0]),
        chosen=settings[best] if held_out_f1 > f1[0] else given,
        settings=len(settings) - 1,
        folds=int(fold_of.max()) + 1,
        ranking=[(settings[i], float(f1[i])) for i in order],
    )


def _macro(matrices: np.ndarray) -> np.ndarray:
    return f1_of_confusion(matrices).mean(axis=-1)


def _decisions(
    timelines: Timelines, looks: np.ndarray, settings: Sequence[Setting]
) -> Iterator[np.ndarray]:
    """Yield the classes that each setting gives the frames: int64 [N]."""

    @lru_cache(maxsize=2)  # neighbours in the grid share it
    def filled(flip: bool, smooth: str, width: int) -> np.ndarray:
        return timelines.fill(looks[:, : 1 + flip].mean(axis=1), smooth, width)

    for setting in settings:
        how = setting.decision
        values = filled(setting.flip, how.smooth, how.smooth_width)
        scores = class_scores(timelines, values, how.rule, how.prior_correction)
        yield scores.argmax(axis=1)


def _confusions(decision: np.ndarray, truth: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of each video: int32 [videos, 7, 7], rows are truth."""
    classes, known = len(CHALLENGE), truth >= 0
    place = (member * classes + np.maximum(truth, 0)) * classes + decision
    counts = np.bincount(place[known], minlength=(member.max() + 1) * classes**2)
    return counts.reshape(-1, classes, classes).astype(np.int32)


def _folds(support: np.ndarray, seed: int) -> np.ndarray:
    """Deal the videos to folds, those of one most frequent class evenly: int [videos].

    support: int [videos, 7], labelled frames of each class.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(support))
    order = order[np.argsort(support[order].argmax(axis=1), kind="stable")]
    labelled = order[support[order].sum(axis=1) > 0]
    fold_of = np.zeros(len(support), dtype=np.int64)
    fold_of[labelled] = np.arange(len(labelled)) % min(FOLDS, len(labelled))
    return fold_of


def describe(tuned: Tuned, on: str) -> str:
    """Return what was tried and what it is worth, in words. on: what it was tuned on."""
    verdict = (
        f"Chosen: {_words(tuned.best)}."
        if tuned.chosen == tuned.best
        else "Choosing did not help on held-out videos: the settings given stay."
    )
    rows = [f"  {f1:.4f}  {_words(setting)}" for setting, f1 in tuned.ranking]
    return "\n".join(
        [
            f"Tuned on {on}; none of a video marked test.",
            f"macro-F1 of the first of {tuned.settings} settings:",
            *rows,
            f"macro-F1 {tuned.given_f1:.4f} with the settings given ({_words(tuned.given)})",
            f"macro-F1 {tuned.best_f1:.4f} with the best, on the frames it was chosen on: too high",
            f"macro-F1 {tuned.held_out_f1:.4f} on held-out videos, each decided with what was best "
            f"on the others ({tuned.folds} folds): what to expect of tuning",
            verdict,
        ]
    )


def _words(setting: Setting) -> str:
    decision = setting.decision
    width = f" {decision.smooth_width}" if decision.smooth != "none" else ""
    return (
        f"smooth {decision.smooth}{width}, rule {decision.rule}, prior correction "
        f"{decision.prior_correction:g}, {'flip' if setting.flip else 'no flip'}"
    )


def write_tuned(path: str | Path, tuned: Tuned, on: str, record: dict) -> None:
    """Write the chosen settings as a recipe for `--config`, and what they were chosen on.

    record: of the run, for the digests of the weights.
    """
    weights = (
        f"{name} (SHA-256 {digest[:16]}…)" for name, digest in record["weights_sha256"].items()
    )
    comments = [
        f"Tuned on {on}, none of a video marked test.",
        f"Weights: {'; '.join(weights)}.",
        f"Macro-F1 {tuned.held_out_f1:.4f} on held-out videos, {tuned.given_f1:.4f} untuned;",
        f"the maximum of {tuned.settings} settings on the same frames, which is too high, "
        f"{tuned.best_f1:.4f}.",
    ]
    lines = [f"# {' '.join(comment.splitlines())}" for comment in comments] + ["[predict_submit]"]
    for key, value in tuned.chosen.flags().items():
        lines.append(f"{key} = {json.dumps(value)}")  # strings, numbers and booleans as in TOML
    with whole_file(path, "w") as file:
        file.write("\n".join(lines) + "\n")

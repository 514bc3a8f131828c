"""Choose the settings of the decision on labelled videos, and estimate their gain without bias."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from common.emotions import CHALLENGE, RULES
from common.metrics import f1_of_confusion
from common.script.files import UserError, whole_file
from common.submission.decision import SMOOTHINGS, Decision, Timelines, class_scores
from common.submission.files import split_location
from common.submission.sources import Source
from common.submission.truth import Truth, read_truth

WIDTHS = (5, 9, 15, 25, 49)  # frames; at 25 frames a second, 0.2 to 2 seconds
STRENGTHS = (0.0, 0.5, 1.0)
FOLDS = 5


@dataclass(frozen=True)
class Tuned:
    """What tuning found; every macro-F1 is over the same labelled frames.

    best: the maximum of the grid; its F1 is too high, being that of the frames it was chosen on.
    held_out: each fold's videos, decided with the best setting of the other folds. given: the
    script's own settings. chosen: the best, or the given where choosing does not help on held-out
    videos. settings: size of the grid. ranking: its five best.
    """

    given: Decision
    best: Decision
    best_f1: float
    held_out_f1: float
    given_f1: float
    chosen: Decision
    settings: int
    folds: int
    ranking: list[tuple[Decision, float]]


def tuning_frames(
    truth: dict[str, Truth], listed: Sequence[str] | None, path: Path
) -> dict[str, int]:
    """Return the class of each frame that may be used for tuning: all that are not test.

    listed: the frames of the challenge's list; they count as test unless marked train or val. A
    video with a frame marked test is left out whole, because its frames resemble each other.
    Raises UserError where the table labels listed frames without a mark, or leaves fewer than two
    videos.
    """
    if listed is not None:
        unmarked = [location for location in listed if location in truth]
        unmarked = [location for location in unmarked if truth[location].split == ""]
        if unmarked:
            raise UserError(
                f"{path} labels {len(unmarked):,} frames of the list to predict, such as "
                f"{unmarked[0]}; settings are not tuned on the frames they are judged by. If these "
                "are your own labelled data, add a column split with train or val."
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
            "some to choose the settings and others to judge them."
        )
    return usable


def labelled_part(source: Source, path: Path) -> tuple[Source, dict[str, int]]:
    """Return the part of the source that can be tuned on, and the class 0..6 of its frames.

    path: of the truth. Prints a warning for each labelled video that is not there: it would
    count as one without a face, wrong under every setting. Raises UserError as `tuning_frames`.
    """
    truth = read_truth(path, source.videos)
    absent = source.absent(list(truth))
    for name in absent:
        print(
            f"warning: {path} labels {name}, which is not among the videos: left out.",
            file=sys.stderr,
        )
    truth = {k: known for k, known in truth.items() if split_location(k)[0] not in absent}
    usable = tuning_frames(truth, source.locations, path)
    return source.only({split_location(place)[0] for place in usable}), usable


def grid(flips: Sequence[bool]) -> Iterator[Decision]:
    """Yield all settings, the plainest first: it wins a tie."""
    smoothings = [("none", 1), *product([kind for kind in SMOOTHINGS if kind != "none"], WIDTHS)]
    for (smooth, width), rule, strength, flip in product(smoothings, RULES, STRENGTHS, flips):
        yield Decision(smooth, width, rule, strength, flip)


def tune(
    timelines: Timelines,
    probabilities: np.ndarray,
    truth: Sequence[int],
    given: Decision,
    seed: int,
) -> Tuned:
    """Try the whole grid on labelled frames.

    timelines: of N frames. probabilities: float [K, F, 6], of the faces and, with F = 2, of their
    mirror images. truth: N classes 0..6, or -1. Folds hold whole videos, stratified by their
    most frequent class.
    """
    member = np.unique(timelines.listed["video"], return_inverse=True)[1]  # [N], of videos
    truth = np.asarray(truth)
    settings = [given, *grid([False, True][: probabilities.shape[1]])]
    # [settings, videos, 7, 7]: the confusion of any set of videos is a sum.
    decisions = _decisions(timelines, probabilities, settings)
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
    timelines: Timelines, probabilities: np.ndarray, settings: Sequence[Decision]
) -> Iterator[np.ndarray]:
    """Yield the classes of the frames under each setting: int64 [N]."""

    @lru_cache(maxsize=2)  # shared by neighbours in the grid
    def filled(flip: bool, smooth: str, width: int) -> np.ndarray:
        return timelines.fill(probabilities[:, : 1 + flip].mean(axis=1), smooth, width)

    for setting in settings:
        values = filled(setting.flip, setting.smooth, setting.smooth_width)
        scores = class_scores(timelines, values, setting.rule, setting.prior_correction)
        yield scores.argmax(axis=1)


def _confusions(decision: np.ndarray, truth: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of each video: int32 [videos, 7, 7], rows are the truth."""
    classes, known = len(CHALLENGE), truth >= 0
    place = (member * classes + np.maximum(truth, 0)) * classes + decision
    counts = np.bincount(place[known], minlength=(member.max() + 1) * classes**2)
    return counts.reshape(-1, classes, classes).astype(np.int32)


def _folds(support: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each video, int [videos], stratified by its most frequent class.

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
    """Return the result in words. on: what was tuned on."""
    verdict = "Tuning did not help on held-out videos: the given settings stay."
    if tuned.chosen == tuned.best:
        verdict = f"Chosen: {_words(tuned.best)}."
    return "\n".join(
        [
            f"Tuned on {on}; no video with a frame marked test.",
            f"macro-F1 of the best of {tuned.settings} settings:",
            *(f"  {f1:.4f}  {_words(setting)}" for setting, f1 in tuned.ranking),
            f"macro-F1 {tuned.given_f1:.4f} with the given settings ({_words(tuned.given)})",
            f"macro-F1 {tuned.best_f1:.4f} with the best, on the frames it was chosen on: too high",
            f"macro-F1 {tuned.held_out_f1:.4f} on held-out videos, each decided with the best "
            f"setting of the other folds ({tuned.folds} folds): expect this of tuning",
            verdict,
        ]
    )


def _words(setting: Decision) -> str:
    width = f" {setting.smooth_width}" if setting.smooth != "none" else ""
    return (
        f"smooth {setting.smooth}{width}, rule {setting.rule}, prior correction "
        f"{setting.prior_correction:g}, {'flip' if setting.flip else 'no flip'}"
    )


def write_tuned(path: str | Path, tuned: Tuned, on: str, record: dict) -> None:
    """Write the chosen settings as a recipe for `--config`, with comments on their origin.

    record: as in run.json, for the digests of the weights.
    """
    weights = (
        f"{name} (SHA-256 {digest[:16]}…)" for name, digest in record["weights_sha256"].items()
    )
    comments = [
        f"Tuned on {on}, no video with a frame marked test.",
        f"Weights: {'; '.join(weights)}.",
        f"Macro-F1 {tuned.held_out_f1:.4f} on held-out videos, {tuned.given_f1:.4f} untuned;",
        f"{tuned.best_f1:.4f} is the maximum of {tuned.settings} settings, too high because it "
        "was chosen on the same frames.",
    ]
    lines = [f"# {' '.join(comment.splitlines())}" for comment in comments] + ["[predict_submit]"]
    for key, value in vars(tuned.chosen).items():
        lines.append(f"{key} = {json.dumps(value)}")  # these types look the same in TOML
    with whole_file(path, "w") as file:
        file.write("\n".join(lines) + "\n")

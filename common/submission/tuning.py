"""Choose the settings of the decision on labelled videos, and estimate their gain without bias."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations_with_replacement, product
from math import comb
from pathlib import Path

import numpy as np

from common.emotions import BASIC, CHALLENGE, RULES
from common.metrics import f1_of_confusion
from common.script.files import whole_file
from common.script.progress import progress_bar
from common.submission.decision import SMOOTHINGS, Decision, Timelines, class_scores
from common.submission.files import set_aside
from common.submission.fusion import weight_matrix
from common.submission.inference import Observed

WIDTHS = (5, 9, 15, 25, 49)  # frames; at 25 frames a second, 0.2 to 2 seconds
STRENGTHS = (0.0, 0.5, 1.0)
WEIGHTS = 500  # of members that --tune tries
FOLDS = 5


@dataclass(frozen=True)
class Trial:
    """One way to search, and what came of it; every macro-F1 is over the same labelled frames.

    what: was searched, in words. best: the maximum of the settings; its F1 is too high, being that
    of the frames it was chosen on. held_out_f1: each fold's videos, decided with the best setting
    of the other folds. ranking: the five best, of the settings tried last.
    """

    what: str
    best: Decision
    best_f1: float
    held_out_f1: float
    settings: int
    ranking: list[tuple[Decision, float]]


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    given: the script's own settings. alone: with these, the macro-F1 of each of several members
    alone, by name; where it has nothing to say, the others fill in.
    """

    given: Decision
    given_f1: float
    folds: int
    trials: list[Trial]
    alone: dict[str, float]

    @property
    def best(self) -> Trial:
        """The trial that is worth most on held-out videos."""
        return max(self.trials, key=lambda trial: trial.held_out_f1)

    @property
    def chosen(self) -> Decision:
        """Its best settings, or the given ones where choosing does not help on held-out videos."""
        return self.best.best if self.best.held_out_f1 > self.given_f1 else self.given


def grid(flips: Sequence[bool], weights: tuple[float, ...] | None = None) -> Iterator[Decision]:
    """Yield all settings but the weights, the plainest first: it wins a tie."""
    smoothings = [("none", 1), *product([kind for kind in SMOOTHINGS if kind != "none"], WIDTHS)]
    for (smooth, width), rule, strength, flip in product(smoothings, RULES, STRENGTHS, flips):
        yield Decision(smooth, width, rule, strength, flip, weights)


def simplex(members: int) -> list[tuple[float, ...]]:
    """Return all weights of M members that are multiples of one step and sum to 1.

    The step is the smallest of 1/2 … 1/20 that gives at most WEIGHTS of them, 1/1 for very many
    members. Equal weights come first, and win a tie.
    """
    steps = max((n for n in range(1, 21) if comb(n + members - 1, n) <= WEIGHTS), default=1)
    points = [(1.0,) * members]
    for chosen in combinations_with_replacement(range(members), steps):
        points.append(tuple(round(chosen.count(m) / steps, 4) for m in range(members)))
    return points


def dirichlet(members: int, seed: int) -> list[tuple[float, ...]]:
    """Return WEIGHTS draws of a weight for each member and emotion, as `fusion.weight_matrix`.

    Of each emotion, they are drawn evenly among those that sum to 1, as AVCER does (arXiv
    2403.12687). Equal weights come first.
    """
    draws = np.random.default_rng(seed).dirichlet(np.ones(members), (WEIGHTS, len(BASIC)))
    flat = draws.transpose(0, 2, 1).reshape(WEIGHTS, -1).round(4)
    return [(1.0,) * members, *map(tuple, flat.tolist())]


def tune(
    timelines: Timelines,
    observed: Observed,
    truth: Sequence[int],
    given: Decision,
    members: Sequence[object],
    by: str,
    seed: int,
) -> Tuned:
    """Try settings on labelled frames: the whole grid; with several members, also their weights.

    timelines: of N frames. truth: N classes 0..6, or -1. members: names of M networks and tables.
    by: member, for weights of members, or class, also for those of members and classes. Weights are
    chosen with the given settings, and judged so; then the other settings with these weights. Folds
    hold whole videos, stratified by their most frequent class.
    """
    member = np.unique(timelines.listed["video"], return_inverse=True)[1]  # [N], of videos
    truth = np.asarray(truth)
    flips = [False, True][: observed.probabilities.shape[2]]
    searches: dict[str, list] = {}
    if len(members) > 1:
        searches["weights of members"] = simplex(len(members))
        if by == "class":
            searches["weights of members by emotion"] = dirichlet(len(members), seed)
    settings = len(list(grid(flips)))
    # The given settings, each member, the weights; then the grid, for those of the weights that are
    # best on some videos.
    most = 1 + len(members) + sum(map(len, searches.values()))
    most += (1 + len(searches) * (1 + FOLDS)) * settings
    bar = progress_bar("tune", "setting", most)

    def confusions(trial: Sequence[Decision]) -> np.ndarray:
        """[settings, videos, 7, 7]: the confusion of any set of videos is a sum."""
        cells = []
        for decision in _decisions(timelines, observed, trial, members):
            cells.append(_confusions(decision, truth, member))
            bar.update()
        return np.stack(cells)

    @cache
    def of_grid(weights: tuple[float, ...] | None) -> tuple[list[Decision], np.ndarray]:
        trial = list(grid(flips, weights))
        return trial, confusions(trial)

    plain = confusions([given])[0]  # [videos, 7, 7]
    alone = {}
    if len(members) > 1:
        single = map(tuple, np.eye(len(members)).tolist())
        cells = confusions([replace(given, weights=one) for one in single])
        alone = dict(zip(map(str, members), _f1(cells).tolist(), strict=True))
    fold_of = _folds(plain.sum(axis=2), seed)  # [videos], by rows of truth

    def judge(what: str, weighted: list[Decision], cells: np.ndarray, further: bool) -> Trial:
        """Choose weights, and further settings with them, on all videos and on all but a fold's."""

        def choose(videos):
            """Return the settings of the last choice, their confusions, and F1 on some videos."""
            tried, of_tried = weighted, cells
            if further:
                tried, of_tried = of_grid(weighted[_f1(cells[:, videos]).argmax()].weights)
            return tried, of_tried, _f1(of_tried[:, videos])

        pooled = np.zeros(plain.shape[1:], dtype=np.int64)
        for fold in range(fold_of.max() + 1):
            _, of_tried, f1 = choose(fold_of != fold)
            pooled += of_tried[f1.argmax(), fold_of == fold].sum(axis=0)
        tried, _, f1 = choose(fold_of >= 0)
        order = np.argsort(-f1, kind="stable")[:5]
        count = (len(weighted) if len(weighted) > 1 else 0) + settings * further
        ranking = [(tried[i], float(f1[i])) for i in order]
        return Trial(what, *ranking[0], _macro(pooled), count, ranking)

    trials = [judge("other settings", [given], plain[None], True)]
    for what, weights in searches.items():
        weighted = [replace(given, weights=one) for one in weights]
        cells = confusions(weighted)
        trials.append(judge(what, weighted, cells, False))
        trials.append(judge(f"{what}, and other settings", weighted, cells, True))
    bar.close()
    return Tuned(given, _macro(plain.sum(axis=0)), int(fold_of.max()) + 1, trials, alone)


def _macro(matrix: np.ndarray) -> float:
    return float(f1_of_confusion(matrix).mean())


def _f1(cells: np.ndarray) -> np.ndarray:
    """Return the macro-F1 of settings on some videos: [settings, videos, 7, 7] → [settings]."""
    return f1_of_confusion(cells.sum(axis=1)).mean(axis=-1)


def _decisions(
    timelines: Timelines,
    observed: Observed,
    settings: Sequence[Decision],
    members: Sequence[object],
) -> Iterator[np.ndarray]:
    """Yield the classes of the frames under each setting: int64 [N]."""

    @lru_cache(maxsize=2)  # shared by neighbours in the grid
    def filled(flip: bool, smooth: str, width: int, weights) -> np.ndarray:
        matrix = weight_matrix(weights, members)
        networks = matrix[: observed.probabilities.shape[1]]
        return timelines.fill(observed.mean(networks, flip), smooth, width, matrix)

    for setting in settings:
        values = filled(setting.flip, setting.smooth, setting.smooth_width, setting.weights)
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
    lines = [f"Tuned on {on}; no video with a frame marked test."]
    for trial in tuned.trials:
        lines += [
            f"Searched: {trial.what}. macro-F1 of the best of {trial.settings} settings:",
            *(f"  {f1:.4f}  {_words(setting)}" for setting, f1 in trial.ranking),
            f"macro-F1 {trial.best_f1:.4f} with the best, on the frames it was chosen on: too high",
            f"macro-F1 {trial.held_out_f1:.4f} on held-out videos, each decided with the best "
            f"setting of the other folds ({tuned.folds} folds): expect this of tuning",
        ]
    for name, f1 in tuned.alone.items():
        lines.append(f"macro-F1 {f1:.4f} with the given settings, {name} alone")
    if tuned.folds < FOLDS:
        lines.append(
            f"There are only {tuned.folds} videos with a label, too few to tell whether it helps."
        )
    words = _words(tuned.given)
    lines.append(f"macro-F1 {tuned.given_f1:.4f} with the given settings ({words})")
    if tuned.chosen == tuned.given:
        lines.append("Tuning did not help on held-out videos: the given settings stay.")
    else:
        lines.append(f"Chosen: {_words(tuned.chosen)}.")
    return "\n".join(lines)


def _words(setting: Decision) -> str:
    width = f" {setting.smooth_width}" if setting.smooth != "none" else ""
    weights = setting.weights and f", weights {' '.join(f'{w:g}' for w in setting.weights)}"
    return (
        f"smooth {setting.smooth}{width}, rule {setting.rule}, prior correction "
        f"{setting.prior_correction:g}, {'flip' if setting.flip else 'no flip'}{weights or ''}"
    )


def write_tuned(path: Path, tuned: Tuned, on: str, record: dict) -> str:
    """Write the chosen settings as a recipe for `--config`, with comments on their origin.

    record: as in run.json, for the digests of the weights. An earlier recipe that differs, which
    may be the one that --config named, is kept; returns a line that names it, or "".
    """
    digests = {**record["weights_sha256"], **record["tables_sha256"]}
    members = (f"{name} (SHA-256 {digest[:16]}…)" for name, digest in digests.items())
    best = tuned.best
    comments = [
        f"Tuned on {on}, no video with a frame marked test.",
        f"Members, in the order of weights: {'; '.join(members)}.",
        f"Track: {record['track']}.",
        f"Macro-F1 {best.held_out_f1:.4f} on held-out videos, {tuned.given_f1:.4f} untuned;",
        f"{best.best_f1:.4f} is the maximum of {best.settings} settings, too high because it "
        "was chosen on the same frames.",
    ]
    lines = [f"# {' '.join(comment.splitlines())}" for comment in comments] + ["[predict_submit]"]
    for key, value in vars(tuned.chosen).items():
        if value is not None:
            lines.append(f"{key} = {json.dumps(value)}")  # these types look the same in TOML
    text = "\n".join(lines) + "\n"
    kept = set_aside(path) if path.is_file() and path.read_bytes() != text.encode() else ""
    with whole_file(path, "w") as file:
        file.write(text)
    return kept

#!/usr/bin/env python3
"""The difference of two submissions' macro-F1 on the same videos, with its interval over videos.

Both are scored on the same resampled videos (2,000 draws, 95 %), so that what makes a video hard
for both does not widen the interval. Several submissions of each side, of other worlds or seeds,
are pooled: videos of one world are drawn together.

Examples
  python benchmarks/paired.py --truth data/demo/truth.csv --first a/predictions.txt \
      --second b/predictions.txt
  python benchmarks/paired.py --truth w0.csv w1.csv --first a0.txt a1.txt --second b0.txt b1.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.emotions import CHALLENGE
from common.metrics import f1_of_confusion
from common.script.files import UserError
from common.script.main import run_script
from common.submission.files import read_submission, split_location
from common.submission.truth import read_truth

SAMPLES = 2000


def main() -> None:
    """Read the tables and print the difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("truth", "first", "second"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    if not len(args.truth) == len(args.first) == len(args.second):
        raise UserError("--truth, --first and --second must name as many files each.")
    parts = zip(args.truth, args.first, args.second, strict=True)
    cells = np.concatenate([cells_of(*part) for part in parts], axis=1)
    both, difference, low, high = compare(cells)
    print(
        f"macro-F1 {both[0]:.3f} and {both[1]:.3f}: {difference:+.3f} (95 % interval {low:+.3f} to "
        f"{high:+.3f}, {cells.shape[1]} videos)"
    )


def cells_of(truth: Path, first: Path, second: Path) -> np.ndarray:
    """Return the confusion of both submissions on each labelled video: int64 [2, videos, 7, 7].

    Raises UserError where a submission lacks a labelled frame that the other has.
    """
    known = {place: one.label for place, one in read_truth(truth).items() if one.label >= 0}
    answers = [read_submission(path) for path in (first, second)]
    places = [place for place in known if any(place in one for one in answers)]
    for path, one in zip((first, second), answers, strict=True):
        if missing := [place for place in places if place not in one]:
            raise UserError(f"{path} lacks {missing[0]}, which the other submission has.")
    videos = sorted({split_location(place)[0] for place in places})
    cells = np.zeros((2, len(videos), len(CHALLENGE), len(CHALLENGE)), dtype=np.int64)
    for place in places:
        video = videos.index(split_location(place)[0])
        for side, one in enumerate(answers):
            cells[side, video, known[place], one[place]] += 1
    return cells


def compare(cells: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float, float, float]:
    """Return both macro-F1, the second's less the first's, and its interval over videos."""
    videos = cells.shape[1]
    draws = np.random.default_rng(seed).multinomial(videos, [1 / videos] * videos, SAMPLES)
    drawn = np.einsum("nv,svij->snij", draws, cells)
    scores = f1_of_confusion(drawn).mean(axis=-1)  # [2, SAMPLES]
    low, high = np.quantile(scores[1] - scores[0], [0.025, 0.975])
    both = f1_of_confusion(cells.sum(axis=1)).mean(axis=-1)
    return both, float(both[1] - both[0]), float(low), float(high)


if __name__ == "__main__":
    run_script(main)

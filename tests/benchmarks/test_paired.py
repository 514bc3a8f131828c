"""The difference of two submissions on the same videos, and its interval."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from benchmarks.paired import SAMPLES, cells_of, compare
from common.script.files import UserError
from common.submission.files import HEADER, locate, write_submission


@pytest.fixture
def case(tmp_path):
    """Thirty videos of eight frames: the truth, one answer that is half right, a better one."""
    random = np.random.default_rng(0)
    places = [locate(f"{v:02d}", f) for v in range(1, 31) for f in range(1, 9)]
    truth = np.repeat(random.integers(0, 7, 30), 8)
    answers = [
        np.where(random.random(240) < q, truth, random.integers(0, 7, 240)) for q in (0.5, 0.7)
    ]
    lines = ["image_location,label", *(f"{a},{b}" for a, b in zip(places, truth, strict=True))]
    (tmp_path / "truth.csv").write_text("\n".join(lines) + "\n")
    for name, answer in zip(("a", "b"), answers, strict=True):
        write_submission(tmp_path / name, HEADER, places, answer.tolist())
    return tmp_path, places, truth, answers


def test_a_difference_and_its_interval_are_those_of_the_same_drawn_videos(case):
    folder, _, truth, answers = case
    both, difference, low, high = compare(cells_of(*(folder / n for n in ("truth.csv", "a", "b"))))
    single = [f1_score(truth, one, average="macro", labels=range(7)) for one in answers]
    assert both == pytest.approx(single) and difference == pytest.approx(single[1] - single[0])
    video = np.repeat(np.arange(30), 8)
    draws = np.random.default_rng(0).multinomial(30, [1 / 30] * 30, SAMPLES)
    found = []
    for draw in draws[:: SAMPLES // 200]:
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(video == v), n) for v, n in enumerate(draw)]
        )
        pair = [
            f1_score(truth[rows], one[rows], average="macro", labels=range(7), zero_division=0)
            for one in answers
        ]
        found.append(pair[1] - pair[0])
    assert [low, high] == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=0.03)
    assert low > 0
    same = compare(cells_of(folder / "truth.csv", folder / "a", folder / "a"))
    assert same[1:] == (0, 0, 0)


def test_submissions_of_other_frames_are_not_compared(case):
    folder, places, *_ = case
    write_submission(folder / "b", HEADER, places[1:], [0] * (len(places) - 1))
    with pytest.raises(UserError, match="lacks 01/00001"):
        cells_of(folder / "truth.csv", folder / "a", folder / "b")

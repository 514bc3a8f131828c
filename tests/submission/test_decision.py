"""From probabilities to a class for every listed frame: gaps filled, smoothed, corrected."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.emotions import BASIC, CHALLENGE, RULES, compound_scores
from common.submission import decision
from common.submission import files as submission
from common.submission.decision import Decision, Timelines
from common.submission.files import DATABASE_COUNTS

LOCATIONS = [f"{video}/{frame:05d}.jpg" for video in ("01", "02", "10") for frame in range(1, 6)]
KINDS = ["box", "gaussian", "median"]

# ---------------------------------------------------------------- gaps and smoothing


def test_gap_is_a_straight_line_between_neighbours_and_held_at_the_ends():
    frames, values = np.array([3, 7]), np.array([[0.0, 1.0], [0.8, 0.2]])
    filled = decision.fill_gaps(frames, values, np.arange(1, 10))
    np.testing.assert_allclose(filled[:, 0], [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(filled[:, 1], [1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_interpolation_keeps_observed_frames_and_stays_between_neighbours(data):
    frames = np.array(sorted(data.draw(st.sets(st.integers(1, 300), min_size=1, max_size=20))))
    flat = st.floats(0, 1, width=32)
    values = np.array(
        data.draw(st.lists(flat, min_size=6 * len(frames), max_size=6 * len(frames)))
    ).reshape(-1, 6)
    wanted = np.arange(1, 321)
    filled = decision.fill_gaps(frames, values, wanted)
    np.testing.assert_array_equal(filled[frames - 1], values)
    after = np.searchsorted(frames, wanted)  # index of the next observed frame
    before = values[np.maximum(after - 1, 0)]
    after = values[np.minimum(after, len(frames) - 1)]
    missing = ~np.isin(wanted, frames)
    assert (filled >= np.minimum(before, after) - 1e-12)[missing].all()
    assert (filled <= np.maximum(before, after) + 1e-12)[missing].all()


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_keeps_constants_and_removes_a_flicker(kind):
    steady = np.full((40, 6), 0.3)
    np.testing.assert_allclose(decision.smooth(steady, kind, 9), steady)
    flicker = steady.copy()
    flicker[20] = 1.0
    assert decision.smooth(flicker, kind, 9).max() < 0.5
    np.testing.assert_array_equal(decision.smooth(flicker, kind, 1), flicker)
    np.testing.assert_array_equal(decision.smooth(flicker, "none", 9), flicker)
    assert decision.smooth(flicker[:2], kind, 9).shape == (2, 6)


@pytest.mark.parametrize("width", [2, 5, 8, 61, 10**11])
def test_smoothing_weighs_the_frames_that_exist_and_no_others(width):
    values = np.random.default_rng(0).random((30, 6))
    box, median, gaussian = (
        decision.smooth(values, kind, width) for kind in ("box", "median", "gaussian")
    )
    for row in range(30):
        start = row - width // 2  # of an even window, the earlier half is the longer
        window = values[max(0, start) : max(0, start + width)]
        np.testing.assert_allclose(box[row], window.mean(axis=0))
        np.testing.assert_allclose(median[row], np.median(window, axis=0))
        weights = np.exp(-((np.arange(30) - row) ** 2) / (2 * width**2 / 12))
        weights[np.abs(np.arange(30) - row) > round(4 * width / 12**0.5)] = 0
        expected = (weights[:, None] * values).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(gaussian[row], expected)


def test_gaussian_is_as_wide_as_the_box_of_the_same_width():
    impulse = np.zeros((101, 6))
    impulse[50] = 1.0
    distance = np.arange(-50, 51)
    for kind in ("box", "gaussian"):
        weights = decision.smooth(impulse, kind, 9)[:, 0]
        deviation = np.sqrt((weights * distance**2).sum())
        assert deviation == pytest.approx(9 / 12**0.5, rel=0.02)


# ---------------------------------------------------------------- listed frames


def observed(*rows: tuple[str, int]) -> tuple[pd.DataFrame, np.ndarray]:
    table = pd.DataFrame(rows, columns=["video", "frame"])
    return table, np.random.default_rng(len(rows)).random((len(rows), 6))


def test_every_listed_frame_gets_its_own_video_and_frame_whatever_the_order():
    rows = [submission.split_location(location) for location in LOCATIONS]
    table, values = observed(*rows)
    shuffled = np.random.default_rng(1).permutation(len(rows))
    chosen = [14, 0, 7, 3, 9]
    listed = [LOCATIONS[i] for i in chosen]
    timelines = Timelines(listed, table.iloc[shuffled].reset_index(drop=True))
    np.testing.assert_array_equal(timelines.fill(values[shuffled]), values[chosen])
    np.testing.assert_array_equal(shuffled[timelines.face_of], chosen)
    assert timelines.faceless == [] and not timelines.faceless_rows.any()


def test_frames_beyond_the_decoder_and_without_a_face_are_held_or_interpolated():
    table, values = observed(("01", 2), ("01", 4))
    timelines = Timelines(LOCATIONS[:5], table)
    expected = [values[0], values[0], values.mean(0), values[1], values[1]]
    np.testing.assert_allclose(timelines.fill(values), expected)
    assert timelines.face_of.tolist() == [-1, 0, -1, 1, -1]


def test_an_unlisted_frame_still_helps_its_neighbours():
    table, values = observed(("01", 1), ("01", 2), ("01", 3))
    timelines = Timelines(["01/00001.jpg", "01/00003.jpg"], table)
    filled = timelines.fill(values, "box", 3)
    np.testing.assert_allclose(filled, [values[:2].mean(axis=0), values[1:].mean(axis=0)])


@pytest.mark.parametrize("rule", ["sum", "geometric", "harmonic"])
@pytest.mark.parametrize("correction", [0.0, 1.0])
def test_video_without_a_face_gets_the_most_frequent_class_whatever_the_settings(rule, correction):
    table, values = observed(("01", 1), ("01", 2), ("02", 3))
    timelines = Timelines(LOCATIONS, table)
    made = decision.decide(timelines, values, Decision("box", 3, rule, correction))
    assert timelines.faceless == ["10"] and made["face"].tolist()[10:] == [0] * 5
    assert set(made["decision"][10:]) == {int(np.argmax(DATABASE_COUNTS))}
    shares = np.array(DATABASE_COUNTS) / sum(DATABASE_COUNTS)
    np.testing.assert_allclose(made[list(CHALLENGE)].to_numpy()[10:], np.tile(shares, (5, 1)))
    surprised = sum(n for n, c in zip(DATABASE_COUNTS, CHALLENGE, strict=True) if "Surp" in c)
    np.testing.assert_allclose(made["p_Surprise"][10:], surprised / sum(DATABASE_COUNTS))


def test_without_any_face_every_frame_still_has_a_class():
    table, values = observed()
    made = decision.decide(Timelines(LOCATIONS, table), values.reshape(0, 6), Decision())
    assert made["decision"].tolist() == [1] * 15


def test_smoothing_never_mixes_two_videos():
    rows = [submission.split_location(location) for location in LOCATIONS]
    table, _ = observed(*rows)
    values = np.repeat([[0.1] * 6, [0.5] * 6, [0.9] * 6], 5, axis=0)
    for kind in KINDS:
        np.testing.assert_allclose(Timelines(LOCATIONS, table).fill(values, kind, 9), values)


def test_table_of_predictions_holds_scores_and_decision():
    values = np.zeros((2, 6))
    values[0, [BASIC.index("Sadness"), BASIC.index("Anger")]] = 0.9, 0.6
    values[1, [BASIC.index("Happiness"), BASIC.index("Surprise")]] = 0.5, 0.3
    seen = pd.DataFrame({"video": ["01", "01"], "frame": [1, 2]})
    table = decision.decide(Timelines(LOCATIONS[:3], seen), values, Decision())
    assert table["decision"].tolist() == [6, 1, 1]
    assert table["Sadly_Angry"].tolist() == pytest.approx([1.5, 0.0, 0.0])
    assert table["p_Happiness"].tolist() == [0.0, 0.5, 0.5]
    assert table["class_name"].tolist() == [CHALLENGE[6], CHALLENGE[1], CHALLENGE[1]]
    assert list(table.columns[6:]) == [*(f"p_{name}" for name in BASIC), *CHALLENGE]
    assert table["image_location"].tolist() == LOCATIONS[:3]
    assert table[["video", "frame"]].to_numpy().tolist() == [["01", 1], ["01", 2], ["01", 3]]
    assert table["face"].tolist() == [1, 1, 0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("frames", (40, 4000))
def test_prior_correction_moves_the_decisions_to_the_published_shares(rule, frames):
    random = np.random.default_rng(0)
    probabilities = random.random((frames, 6)) ** 3 * [1, 0.5, 0.7, 0.6, 0.8, 0.9]
    scores = compound_scores(probabilities, rule)
    published = np.array(DATABASE_COUNTS) / sum(DATABASE_COUNTS)

    def shares(strength):
        decided = decision.correct_prior(scores, strength).argmax(axis=1)
        return np.bincount(decided, minlength=7) / len(scores)

    np.testing.assert_array_equal(decision.correct_prior(scores, 0.0), scores)
    before = shares(0.0)
    assert np.abs(before - published).max() > 0.05
    np.testing.assert_allclose(shares(1.0), published, atol=1.5 / frames)
    np.testing.assert_allclose(shares(0.5), (before + published) / 2, atol=1.5 / frames)
    weights = decision.correct_prior(scores, 1.0) / scores  # one for each class, not each frame
    np.testing.assert_allclose(weights, np.tile(weights[0], (frames, 1)))

"""The score is scikit-learn's macro-F1 over fixed classes; intervals resample whole videos."""

import json

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from common import metrics


@pytest.fixture
def predictions():
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 7, 500)
    predicted = np.where(generator.random(500) < 0.5, truth, generator.integers(0, 7, 500))
    return truth, predicted


@pytest.mark.parametrize("present", [7, 5, 1])
def test_macro_f1_is_scikit_learns_over_all_seven_classes(predictions, present):
    truth, predicted = (values % present for values in predictions)
    expected = f1_score(truth, predicted, labels=range(7), average="macro", zero_division=0)
    assert metrics.macro_f1(truth, predicted, 7) == pytest.approx(expected, abs=1e-12)
    per_class = f1_score(truth, predicted, labels=range(7), average=None, zero_division=0)
    np.testing.assert_allclose(metrics.f1_per_class(truth, predicted, 7), per_class)
    np.testing.assert_array_equal(
        metrics.confusion(truth, predicted, 7),
        confusion_matrix(truth, predicted, labels=range(7)),
    )


def test_macro_f1_counts_an_absent_class_as_zero():
    assert metrics.macro_f1(np.array([0, 1]), np.array([0, 1]), 4) == 0.5
    assert metrics.macro_f1(np.zeros(0, int), np.zeros(0, int), 7) == 0.0


def test_single_emotion_score_takes_the_most_probable_emotion():
    generator = np.random.default_rng(0)
    probabilities = generator.random((200, 6))
    truth = generator.integers(0, 6, 200)
    expected = f1_score(
        truth, probabilities.argmax(1), labels=range(6), average="macro", zero_division=0
    )
    assert metrics.single_emotion_f1(truth, probabilities) == pytest.approx(expected)


def test_interval_is_that_of_a_plain_bootstrap_over_videos(predictions):
    truth, predicted = predictions
    videos = np.repeat([f"{i:02d}" for i in range(20)], 25)
    generator = np.random.default_rng(11)
    scores = []
    for _ in range(2000):  # written out: draw 20 videos, glue their frames, score them
        drawn = generator.integers(0, 20, 20)
        rows = np.concatenate([np.arange(25) + 25 * video for video in drawn])
        scores.append(metrics.macro_f1(truth[rows], predicted[rows], 7))
    low, high = metrics.bootstrap_interval(truth, predicted, videos, 7, samples=4000)
    assert (low, high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=0.008)
    assert low < metrics.macro_f1(truth, predicted, 7) < high


def test_interval_widens_when_frames_of_a_video_agree():
    # 10 videos of 100 frames, each wholly right or wholly wrong: the sample is 10, not 1,000.
    videos = np.repeat(np.arange(10), 100)
    truth = np.tile(np.arange(2), 500)
    predicted = np.where(videos < 5, truth, 1 - truth)
    low, high = metrics.bootstrap_interval(truth, predicted, videos, 2)
    assert high - low > 0.5
    alone = metrics.bootstrap_interval(truth, predicted, np.arange(1000), 2)
    assert alone[1] - alone[0] < 0.1


def test_interval_is_reproducible_and_blind_to_row_order(predictions):
    truth, predicted = predictions
    videos = np.repeat(np.arange(20), 25)
    order = np.random.default_rng(1).permutation(500)
    first = metrics.bootstrap_interval(truth, predicted, videos, 7)
    assert first == metrics.bootstrap_interval(truth[order], predicted[order], videos[order], 7)
    assert first != metrics.bootstrap_interval(truth, predicted, videos, 7, seed=1)


@pytest.mark.parametrize(
    "truth, predicted", [([0, 7], [0, 0]), ([0, -1], [0, 0]), ([0.5], [0]), ([0, 1], [0])]
)
def test_numbers_that_are_no_classes_are_refused(truth, predicted):
    with pytest.raises(ValueError):
        metrics.macro_f1(np.array(truth), np.array(predicted), 7)


def test_summary_agrees_with_scikit_learn_and_is_plain_json(predictions):
    truth, predicted = predictions
    videos = np.repeat(np.arange(20), 25).astype(str)
    summary = metrics.summarise(truth, predicted, videos, 7)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=range(7), zero_division=0
    )
    for key, expected in {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "support": support,
        "predicted": np.bincount(predicted, minlength=7),
    }.items():
        np.testing.assert_allclose(summary[key], expected)
    assert summary["macro_f1"] == pytest.approx(f1.mean())
    assert summary["interval"] == list(metrics.bootstrap_interval(truth, predicted, videos, 7))
    assert (summary["frames"], summary["groups"]) == (500, 20)
    assert json.loads(json.dumps(summary)) == summary


def test_references_are_what_guessing_and_one_answer_score():
    generator = np.random.default_rng(5)
    truth = generator.choice(7, size=200_000, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    summary = metrics.summarise(truth, truth, np.arange(200_000) % 3, 7)
    guesses = generator.integers(0, 7, len(truth))
    assert summary["chance_f1"] == pytest.approx(metrics.macro_f1(truth, guesses, 7), abs=2e-3)
    best = max(metrics.macro_f1(truth, np.full(len(truth), c), 7) for c in range(7))
    assert summary["constant_f1"] == pytest.approx(best)
    assert summary["constant_class"] == 0


def test_one_video_has_no_interval():
    truth = np.array([0, 1, 2])
    assert metrics.summarise(truth, truth, np.array(["01"] * 3), 7)["interval"] is None


def test_divergence_is_scipys_and_finite_where_a_class_is_never_predicted():
    counts, reference = np.array([0, 5, 10, 1, 1, 1, 2]), np.array([3, 1, 1, 1, 1, 1, 1])
    assert metrics.divergence(counts, reference) == pytest.approx(entropy(counts, reference))
    assert metrics.divergence(reference, reference) == 0

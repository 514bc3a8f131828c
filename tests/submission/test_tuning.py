"""Tuning: honest about what it is worth, and blind to the frames that settings are judged by."""

import tomllib

import numpy as np
import pandas as pd
import pytest
from helpers.predicting import LISTED, LOCATIONS, predict
from helpers.running import call
from sklearn.metrics import f1_score

from common.emotions import CHALLENGE_PAIRS
from common.script.files import UserError
from common.submission import tuning
from common.submission.decision import Decision, Timelines, decide
from common.submission.truth import Truth


def noisy_videos(noise, videos=14, length=40, seed=0):
    """Return (timelines, looks [K, 2, 6], truth): one class a video, seen through noise."""
    random = np.random.default_rng(seed)
    classes = np.arange(videos) % 7
    hot = np.zeros((7, 6))
    for index, pair in enumerate(CHALLENGE_PAIRS):
        hot[index, list(pair)] = 0.3
    truth = np.repeat(classes, length)
    looks = 0.3 + hot[truth][:, None] + random.normal(0, noise, (len(truth), 2, 6))
    locations = [f"{v:02d}/{f:05d}.jpg" for v in range(videos) for f in range(1, length + 1)]
    pairs = [(v, int(f[:5])) for v, f in (place.split("/") for place in locations)]
    frames = pd.DataFrame(pairs, columns=["video", "frame"])
    return Timelines(locations, frames), np.clip(looks, 0, 1), truth


def decide_by(timelines, looks, setting):
    """Return the classes that a setting gives, as 05 decides them."""
    probabilities = looks[:, : 1 + setting.flip].mean(axis=1)
    return decide(timelines, probabilities, setting)["decision"].to_numpy()


GIVEN = Decision(flip=False)


def test_smoothing_is_chosen_where_noise_asks_for_it():
    timelines, looks, truth = noisy_videos(noise=0.25)
    tuned = tuning.tune(timelines, looks, truth, GIVEN, seed=0)
    assert tuned.chosen == tuned.best and tuned.chosen.smooth != "none"
    assert tuned.held_out_f1 > tuned.given_f1 + 0.2
    for setting, f1 in ((tuned.best, tuned.best_f1), (GIVEN, tuned.given_f1)):
        decision = decide_by(timelines, looks, setting)
        expected = f1_score(truth, decision, average="macro", labels=range(7))
        assert f1 == pytest.approx(expected)


def test_where_labels_are_chance_the_maximum_flatters_and_the_held_out_figure_does_not():
    timelines, looks, _ = noisy_videos(noise=0.25)
    flattery = []
    for seed in range(3):
        truth = np.repeat(np.random.default_rng(seed).integers(0, 7, 14), 40)
        tuned = tuning.tune(timelines, looks[:, :1], truth, GIVEN, seed=0)
        flattery.append(tuned.best_f1 - tuned.held_out_f1)
        assert (tuned.chosen == GIVEN) == (tuned.held_out_f1 <= tuned.given_f1)
    assert min(flattery) > 0.01


def test_held_out_videos_are_decided_with_what_is_best_on_the_others():
    timelines, looks, _ = noisy_videos(noise=0.3, videos=5)  # five folds: each one video
    looks, truth = looks[:, :1], np.repeat([3, 1, 0, 4, 2], 40)  # of chance: each choice differs
    tuned = tuning.tune(timelines, looks, truth, GIVEN, seed=0)
    decisions = np.array([decide_by(timelines, looks, s) for s in tuning.grid([False])])
    video, pooled = np.arange(200) // 40, np.zeros(200, dtype=int)
    for held_out in range(5):
        rest = video != held_out
        hits = [
            [
                2 * ((d == c) & (t == c)).sum() / max(1, (d == c).sum() + (t == c).sum())
                for c in range(7)
            ]
            for d, t in ((d[rest], truth[rest]) for d in decisions)
        ]
        best = np.mean(hits, axis=1).argmax()
        pooled[~rest] = decisions[best][~rest]
    expected = f1_score(truth, pooled, average="macro", labels=range(7), zero_division=0)
    assert tuned.held_out_f1 == pytest.approx(expected)
    assert tuned.settings == len(decisions) and tuned.folds == 5


def labelled(*rows):
    return {place: Truth(label, split) for place, label, split in rows}


def test_frames_marked_test_and_their_videos_are_never_touched(tmp_path):
    truth = labelled(
        ("a/00001.jpg", 1, "val"),
        ("a/00002.jpg", 2, "test"),
        ("b/00001.jpg", 3, "train"),
        ("c/00001.jpg", 4, ""),
        ("d/00001.jpg", -1, "val"),
        ("e/00001.jpg", 5, "test"),
    )
    assert tuning.tuning_frames(truth, None, tmp_path) == {"b/00001.jpg": 3, "c/00001.jpg": 4}
    with pytest.raises(UserError, match=r"c/00001\.jpg"):
        tuning.tuning_frames(truth, ["c/00001.jpg", "b/00001.jpg"], tmp_path)
    assert len(tuning.tuning_frames(truth, ["b/00001.jpg"], tmp_path)) == 2
    only = labelled(("a/00001.jpg", 1, "val"), ("b/00001.jpg", 1, "test"))
    with pytest.raises(UserError, match="fewer than two videos"):
        tuning.tuning_frames(only, None, tmp_path)


def test_tuning_by_command_writes_settings_that_the_next_run_reads(crops, tmp_path, capsys):
    truth = tmp_path / "truth.csv"
    rows = [f"{place},{i % 7},val" for i, place in enumerate(LOCATIONS) if LISTED[i][0] != "02"]
    truth.write_text("image_location,label,split\n" + "\n".join(rows) + "\n")
    status, output, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 0, complaints
    assert "held-out videos" in output and "9 frames of 2 videos" in output
    path = tmp_path / "submission" / "tuned.toml"
    table = tomllib.loads(path.read_text())["predict_submit"]
    assert set(table) == {"smooth", "smooth_width", "rule", "prior_correction", "flip"}
    assert not (tmp_path / "submission" / "predictions.txt").exists()
    assert predict(call(capsys), crops, tmp_path, "--config", path)[0] == 0
    truth.write_text(truth.read_text().replace(",split", "").replace(",val", ""))
    status, _, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 2 and "add a column split" in complaints


def test_labelled_videos_that_are_not_there_are_not_tuned_on(crops, tmp_path, capsys):
    rows = [f"{place},{i % 7},val" for i, place in enumerate(LOCATIONS) if LISTED[i][0] != "02"]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join(["image_location,label,split", *rows, "99/00001.jpg,3,val", ""]))
    status, output, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 0 and "9 frames of 2 videos" in output
    assert "labels 99, which is not among the videos" in complaints
    truth.write_text("image_location,label\n98/00001.jpg,1\n99/00001.jpg,3\n")
    status, _, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 2 and "fewer than two videos that are there" in complaints


def test_truth_of_the_challenges_own_frames_is_refused(crops, tmp_path, capsys):
    status, _, complaints = predict(
        call(capsys), crops, tmp_path / "out", "--tune", crops / "truth.csv"
    )
    assert status == 2 and "settings are not tuned on the frames they are judged by" in complaints
    assert not (tmp_path / "out").exists()

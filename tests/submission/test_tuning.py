"""Tuning: honest about what it is worth, and blind to the frames that settings are judged by."""

import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.predicting import LISTED, LOCATIONS, predict
from helpers.running import call
from sklearn.metrics import f1_score

from common.emotions import CHALLENGE, CHALLENGE_PAIRS
from common.script.files import UserError
from common.submission import tuning
from common.submission.decision import Decision, Timelines, decide
from common.submission.inference import Observed
from common.submission.truth import Truth, tuning_frames


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


def observe(looks):
    """Return what one network saw, from its looks [K, F, 6]."""
    return Observed(pd.DataFrame(), looks[:, None, :, None], np.arange(len(looks)), {}, {}, str)


def tune(timelines, looks, truth):
    """Tune the decision of one network; return the result and its only trial."""
    tuned = tuning.tune(timelines, observe(looks), truth, GIVEN, ["network"], "member", seed=0)
    assert len(tuned.trials) == 1
    return tuned, tuned.best


def decide_by(timelines, looks, setting):
    """Return the classes that a setting gives, as 05 decides them."""
    probabilities = looks[:, : 1 + setting.flip].mean(axis=1)
    return decide(timelines, probabilities, setting)["decision"].to_numpy()


GIVEN = Decision(flip=False)


def test_smoothing_is_chosen_where_noise_asks_for_it():
    timelines, looks, truth = noisy_videos(noise=0.25)
    tuned, trial = tune(timelines, looks, truth)
    assert tuned.chosen == trial.best and tuned.chosen.smooth != "none"
    assert trial.held_out_f1 > tuned.given_f1 + 0.2
    for setting, f1 in ((trial.best, trial.best_f1), (GIVEN, tuned.given_f1)):
        decision = decide_by(timelines, looks, setting)
        expected = f1_score(truth, decision, average="macro", labels=range(7))
        assert f1 == pytest.approx(expected)


def test_where_labels_are_chance_the_maximum_flatters_and_the_held_out_figure_does_not():
    timelines, looks, _ = noisy_videos(noise=0.25)
    flattery = []
    for seed in range(3):
        truth = np.repeat(np.random.default_rng(seed).integers(0, 7, 14), 40)
        tuned, trial = tune(timelines, looks[:, :1], truth)
        flattery.append(trial.best_f1 - trial.held_out_f1)
        assert (tuned.chosen == GIVEN) == (trial.held_out_f1 <= tuned.given_f1)
    assert min(flattery) > 0.01


def test_held_out_videos_are_decided_with_what_is_best_on_the_others():
    timelines, looks, _ = noisy_videos(noise=0.3, videos=5)  # five folds: each one video
    looks, truth = looks[:, :1], np.repeat([3, 1, 0, 4, 2], 40)  # of chance: each choice differs
    tuned, trial = tune(timelines, looks, truth)
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
    assert trial.held_out_f1 == pytest.approx(expected)
    assert trial.settings == len(decisions) and tuned.folds == 5


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
    assert tuning_frames(truth, None, tmp_path) == {"b/00001.jpg": 3, "c/00001.jpg": 4}
    with pytest.raises(UserError, match=r"c/00001\.jpg"):
        tuning_frames(truth, ["c/00001.jpg", "b/00001.jpg"], tmp_path)
    assert len(tuning_frames(truth, ["b/00001.jpg"], tmp_path)) == 2
    only = labelled(("a/00001.jpg", 1, "val"), ("b/00001.jpg", 1, "test"))
    with pytest.raises(UserError, match="fewer than two videos"):
        tuning_frames(only, None, tmp_path)


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
    assert "There are only 2 videos with a label" in output
    assert not (tmp_path / "submission" / "predictions.txt").exists()
    assert predict(call(capsys), crops, tmp_path, "--config", path)[0] == 0
    # the same again writes the same; with other settings, the recipe in use is kept
    by_hand = path.read_text().replace("rule =", "shifts = 0.01\nrule =")
    for text, kept in ((path.read_text(), False), (by_hand, True)):
        path.write_text(text)
        more = "--config", path, "--tune", truth
        status, output, _ = predict(call(capsys), crops, tmp_path, *more)
        earlier = path.with_name("tuned-1.toml")
        assert status == 0 and (str(earlier) in output) == kept == earlier.is_file()
    assert earlier.read_text() == by_hand
    truth.write_text(truth.read_text().replace(",split", "").replace(",val", ""))
    status, _, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 2 and "add a column split" in complaints


def test_labelled_videos_that_are_not_there_are_not_tuned_on(crops, tmp_path, capsys):
    rows = [f"{place},{i % 7},val" for i, place in enumerate(LOCATIONS) if LISTED[i][0] != "02"]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join(["image_location,label,split", *rows, "2/00001.jpg,3,val", ""]))
    status, output, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 0 and "9 frames of 2 videos" in output
    assert "labels 2, which is not among the videos (there is '02', which differs" in complaints
    truth.write_text("image_location,label\n98/00001.jpg,1\n99/00001.jpg,3\n")
    status, _, complaints = predict(call(capsys), crops, tmp_path, "--tune", truth)
    assert status == 2 and "fewer than two videos that are there" in complaints


def test_truth_of_the_challenges_own_frames_is_refused(crops, tmp_path, capsys):
    status, _, complaints = predict(
        call(capsys), crops, tmp_path / "out", "--tune", crops / "truth.csv"
    )
    assert status == 2 and "settings are not tuned on the frames they are judged by" in complaints
    assert not (tmp_path / "out").exists()


def two_networks(noise, videos=42):
    """Return (timelines, observed, truth): networks with noise [2, 6], of an emotion."""
    # Few frames a video: smoothing alone does not mend them.
    timelines, _, truth = noisy_videos(noise=0, videos=videos, length=3)
    random = np.random.default_rng(1)
    hot = np.zeros((7, 6))
    for index, pair in enumerate(CHALLENGE_PAIRS):
        hot[index, list(pair)] = 0.3
    looks = 0.3 + hot[truth][:, None] + random.normal(0, 1, (len(truth), 2, 6)) * noise
    looks = np.clip(looks, 0, 1).astype(np.float32)[:, :, None, None]  # [K, 2, 1, 1, 6]
    faces = pd.DataFrame({"video": [], "frame": []})
    return timelines, Observed(faces, looks, np.arange(len(looks)), {}, {}, str), truth


def test_the_better_network_is_given_the_weight():
    timelines, observed, truth = two_networks(np.array([[0.9], [0.15]]))
    tuned = tuning.tune(timelines, observed, truth, GIVEN, ["a", "b"], "member", seed=0)
    plain, weighted, both = tuned.trials
    assert tuned.alone["b"] > tuned.given_f1 > tuned.alone["a"]
    assert plain.best.weights is None and weighted.held_out_f1 > plain.held_out_f1
    first, second = tuned.chosen.weights
    assert second > 2 * first and tuned.best in (weighted, both)
    assert replace(weighted.best, weights=None) == GIVEN  # nothing else is chosen
    # independent of the search: the chosen settings give the F1 that is told
    shares = observed.probabilities[:, :, 0, 0]
    probabilities = (first * shares[:, 0] + second * shares[:, 1]) / (first + second)
    decision = decide(timelines, probabilities, tuned.chosen)["decision"]
    expected = f1_score(truth, decision, average="macro", labels=range(7))
    assert tuned.best.best_f1 == pytest.approx(expected)


def test_each_network_is_given_the_emotions_that_it_knows():
    noise = np.array([[0.1, 0.1, 0.1, 1, 1, 1], [1, 1, 1, 0.1, 0.1, 0.1]])
    timelines, observed, truth = two_networks(noise)
    tuned = tuning.tune(timelines, observed, truth, GIVEN, ["a", "b"], "class", seed=0)
    _, by_member, _, by_class, both = tuned.trials
    assert by_class.held_out_f1 > by_member.held_out_f1 and tuned.best in (by_class, both)
    first, second = np.reshape(tuned.chosen.weights, (2, 6))
    assert (first > second)[:3].sum() >= 2 and (first < second)[3:].sum() >= 2
    repeated = tuning.tune(timelines, observed, truth, GIVEN, ["a", "b"], "class", seed=0)
    assert repeated.chosen == tuned.chosen


def test_weights_of_held_out_videos_are_those_that_are_best_on_the_others():
    timelines, observed, _ = two_networks(np.full((2, 6), 0.5), videos=5)  # five folds of one
    truth = np.repeat([3, 1, 0, 4, 2], 3)  # of chance: each choice differs
    tuned = tuning.tune(timelines, observed, truth, GIVEN, ["a", "b"], "member", seed=0)
    video, pooled = np.arange(15) // 3, np.zeros((2, 15), dtype=int)
    chosen = set()

    def best(settings, rest):
        """Return the first of the settings that is best on some frames, and all its classes."""
        made = []
        for setting in settings:
            weights = np.reshape(setting.weights, (2, 1)) * np.ones(6)
            made.append(decide(timelines, observed.mean(weights), setting)["decision"].to_numpy())
        scores = [
            f1_score(truth[rest], one[rest], average="macro", labels=range(7), zero_division=0)
            for one in made
        ]
        first = int(np.argmax(np.round(scores, 9)))
        return settings[first], made[first]

    weights = [replace(GIVEN, weights=one) for one in tuning.simplex(2)]
    for held_out in range(5):
        rest = video != held_out
        setting, decision = best(weights, rest)
        chosen.add(setting.weights)
        pooled[0, ~rest] = decision[~rest]
        _, decision = best(list(tuning.grid([False], setting.weights)), rest)
        pooled[1, ~rest] = decision[~rest]
    assert len(chosen) > 1
    for classes, trial in zip(pooled, tuned.trials[1:], strict=True):
        expected = f1_score(truth, classes, average="macro", labels=range(7), zero_division=0)
        assert trial.held_out_f1 == pytest.approx(expected)


@pytest.mark.parametrize("members", [2, 3, 5, 8, 40])
def test_weights_to_try_are_few_sum_to_1_and_begin_with_equal_ones(members):
    for points in (tuning.simplex(members), tuning.dirichlet(members, 0)):
        assert set(points[0]) == {1.0} and len(points[0]) == members
        assert 2 < len(points) <= tuning.WEIGHTS + 1 and len(set(points)) == len(points)
        sums = np.array(points[1:]).reshape(len(points) - 1, members, -1).sum(axis=1)
        np.testing.assert_allclose(sums, 1, atol=1e-3 * members)


def test_tuned_weights_are_read_by_the_next_run_of_the_same_members(crops, tmp_path, capsys):
    truth, table = tmp_path / "truth.csv", tmp_path / "table.csv"
    seen = [i for i in range(len(LISTED)) if LISTED[i][0] != "02"]
    rows = [f"{LOCATIONS[i]},{i % 7},val" for i in seen]
    truth.write_text("image_location,label,split\n" + "\n".join(rows) + "\n")
    compounds = pd.DataFrame(0.9 * np.eye(7)[[i % 7 for i in seen]], columns=CHALLENGE)
    compounds.insert(0, "image_location", [LOCATIONS[i] for i in seen])
    compounds.to_csv(table, index=False)
    more, given = ("--fuse", table), ("--weights", 1, 0.01)
    status, output, complaints = predict(
        call(capsys), crops, tmp_path, "--tune", truth, *more, *given
    )
    assert status == 0, complaints
    text = (tmp_path / "submission" / "tuned.toml").read_text()
    settings = tomllib.loads(text)["predict_submit"]
    network, other = settings["weights"]
    assert other >= network and str(table) in text  # for the table knows the truth
    assert "Chosen" in output and "9 frames of 2 videos" in output
    config = "--config", tmp_path / "submission" / "tuned.toml"
    assert predict(call(capsys), crops, tmp_path, *config, *more)[0] == 0
    made = pd.read_csv(tmp_path / "submission" / "probabilities.csv")
    assert made["decision"][seen].tolist() == [i % 7 for i in seen]
    status, _, complaints = predict(call(capsys), crops, tmp_path, *config)
    assert status == 2 and "--weights has 2 numbers for 1 members" in complaints

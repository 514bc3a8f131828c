"""04 --challenge-labels: what is learnt from, who is judged by whom, and what files say of it."""

import json
import sys
from html import unescape

import numpy as np
import pandas as pd
import pytest
from helpers.challenge import FRAMES, UNLABELLED, add_videos
from helpers.drawn import scene, write_video
from helpers.finetuned import train
from helpers.running import call, record, run_warm
from helpers.toy_world import TINY, make_prepared

from common.networks.weights import TRACKS
from common.submission.ensemble import find_checkpoints, load_ensemble
from common.submission.sources import observe, open_source
from common.submission.tracks import judge_by_unseen

WITHOUT, WITH = TRACKS
SHORT = ("--stage-epochs", 1, "--compound-shares", 1, "--keep", "last")
LABELLED = {f"{number:02d}" for number in range(1, 7)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = make_prepared(tmp_path_factory.mktemp("world"))
    add_videos(folder)
    return folder


def curriculum(capsys, world, folder, *more):
    return train(capsys, "04_curriculum.py", world, folder, *SHORT, *more)


def with_labels(capsys, world, folder, *more):
    labels = ("--challenge-labels", world / "labels.csv")
    status, output, complaint = curriculum(capsys, world, folder, *labels, *more)
    assert status == 0, complaint
    return output


def predict(capsys, world, folder, *more):
    flags = ("--data-dir", world, "--run-dir", folder, "--workers", 0, "--smooth", "none")
    return call(capsys)("05_predict_submit.py", *flags, *more)


@pytest.fixture(scope="module")
def folds(world, tmp_path_factory):
    """A run of three folds on the labels, and what it printed."""
    folder = tmp_path_factory.mktemp("folds")
    flags = ("--data-dir", world, "--run-dir", folder, "--init", "none", *TINY, *SHORT)
    flags += ("--challenge-labels", world / "labels.csv", "--folds", 3, "--lr", "3e-3")
    return folder, run_warm(folder / "log", "04_curriculum.py", *flags)


def test_each_labelled_frame_with_a_face_is_a_compound_of_its_video(folds):
    folder, output = folds
    assert "labels 24 frames; 22 of 6 videos become compounds" in output
    assert "1 show no face, 1 are not in frames.csv" in output
    judged = pd.read_csv(folder / "curriculum" / "folds" / "oof.csv")
    assert len(judged) == 22 and set(judged.group) == {f"challenge-labels/{v}" for v in LABELLED}
    assert judged.groupby("group").fold.nunique().max() == 1


def test_no_video_is_on_both_sides_of_a_fold(folds):
    folder, _ = folds
    judged = pd.read_csv(folder / "curriculum" / "folds" / "oof.csv")
    for fold in (1, 2, 3):
        trained = record(folder / "curriculum" / f"fold-{fold}")["settings"]["challenge_videos"]
        apart = set(judged.group[judged.fold == fold].str.removeprefix("challenge-labels/"))
        assert apart and set(trained) == LABELLED - apart
    # the other compounds train in every fold, as in the other track
    shown = pd.read_csv(folder / "curriculum" / "fold-1" / "metrics.csv")
    assert shown.natural.tolist() == shown.generated.tolist()


def test_05_judges_each_video_by_the_fold_that_has_not_seen_it(folds, world, capsys):
    folder, _ = folds
    checkpoints = find_checkpoints([folder])
    ensemble = load_ensemble(checkpoints, "no", True, 0.0, say=lambda text: None)
    source = open_source(world / "prepared", None, None)
    observed = observe(source, ensemble, folder, 8, 0)
    before = observed.probabilities.copy()
    judge_by_unseen(observed, ensemble.labelled)
    video = observed.frames["video"].to_numpy()
    for name in LABELLED:
        (unseen,) = (m for m, seen in enumerate(ensemble.labelled) if name not in seen)
        found = observed.mean()[video == name]
        alone = before[video == name][:, unseen].mean(axis=(1, 2))
        np.testing.assert_allclose(found, alone, rtol=1e-5)
    rest = video == UNLABELLED
    np.testing.assert_array_equal(observed.probabilities[rest], before[rest])
    assert np.ptp(before[~rest], axis=1).max() > 1e-4  # or it would show nothing
    # the submission is that, and its files say so
    status, output, complaint = predict(capsys, world, folder, "--truth", world / "labels.csv")
    assert status == 0 and f"track      {WITH}" in output, complaint
    score = json.loads((folder / "submission" / "score.json").read_text())
    assert (score["frames"], score["track"]) == (23, WITH)
    made = record(folder / "submission")
    assert (made["track"], made["seen_videos"]) == (WITH, [])
    assert WITH in unescape((folder / "submission" / "report.html").read_text())


def test_videos_that_every_network_was_trained_on_are_not_scored(world, tmp_path, capsys):
    with_labels(capsys, world, tmp_path)
    trained = set(record(tmp_path / "curriculum")["settings"]["challenge_videos"])
    held = LABELLED - trained
    assert trained and held
    labels = world / "labels.csv"
    status, output, _ = predict(capsys, world, tmp_path, "--truth", labels)
    assert status == 0 and f"not judged {len(trained)} videos" in output
    score = json.loads((tmp_path / "submission" / "score.json").read_text())
    assert score["groups"] == len(held) and score["frames"] <= len(held) * FRAMES
    assert set(record(tmp_path / "submission")["seen_videos"]) == trained
    # nor are they by another run that takes its table
    other = tmp_path / "other"
    assert curriculum(capsys, world, other)[0] == 0
    table = tmp_path / "submission" / "probabilities.csv"
    status, output, _ = predict(capsys, world, other, "--fuse", table, "--truth", labels)
    assert status == 0 and f"not judged {len(trained)} videos" in output
    assert record(other / "submission")["track"] == WITH
    # where none is left there is no score, for tuning neither
    few = tmp_path / "few.csv"
    lines = labels.read_text().splitlines()
    few.write_text("\n".join([lines[0], *(row for row in lines if row[:2] in trained)]) + "\n")
    status, _, complaint = predict(capsys, world, tmp_path, "--truth", few)
    assert status == 2 and "--folds 5" in complaint and "is not scored" in complaint
    assert not (tmp_path / "submission" / "score.json").exists()
    status, _, complaint = predict(capsys, world, tmp_path, "--tune", few)
    assert status == 2 and "cannot judge this run" in complaint


def test_what_starts_from_such_weights_is_in_their_track(folds, world, tmp_path, capsys):
    start = folds[0] / "curriculum" / "fold-1" / "model.safetensors"
    flags = ("--data-dir", world, "--run-dir", tmp_path, *TINY, "--init", start)
    single = ("03_finetune_single.py", *flags, "--adapt-epochs", 0, "--epochs", 1)
    assert call(capsys)(*single)[0] == 0
    made = record(tmp_path / "single")
    assert made["track"] == WITH
    assert set(made["settings"]["challenge_videos"]) < LABELLED
    assert json.loads((tmp_path / "single" / "report.json").read_text())["track"] == WITH
    # and judges no video that they have seen
    more = ("--challenge-labels", world / "labels.csv", "--folds", 3, "--fold", 2)
    status, _, complaint = call(capsys)("04_curriculum.py", *flags, *SHORT, *more)
    assert status == 2 and "was trained on labels of the challenge's video" in complaint


def test_without_the_flag_no_label_of_the_videos_is_read(world, tmp_path, capsys):
    opened = []
    watching = [True]
    sys.addaudithook(lambda event, args: watching and event == "open" and opened.append(args[0]))
    assert curriculum(capsys, world, tmp_path / "run")[0] == 0
    assert predict(capsys, world, tmp_path / "run")[0] == 0
    assert not [path for path in opened if "labels.csv" in str(path)]
    assert [path for path in opened if "manifest.csv" in str(path)]  # or it would show nothing
    watching.clear()
    made = [tmp_path / "run" / name for name in ("curriculum", "submission")]
    assert [record(folder)["track"] for folder in made] == [WITHOUT] * 2
    assert json.loads((made[0] / "report.json").read_text())["track"] == WITHOUT
    assert WITHOUT in unescape((made[1] / "report.html").read_text())


def test_time_segments_are_labels_too(world, tmp_path, capsys):
    (tmp_path / "videos").mkdir(), (tmp_path / "segments").mkdir()
    names = ["Fearfully Surprised", "Happily Surprised", "Sadly Surprised"]
    names += ["Disgustedly Surprised", "Angrily Surprised", "Sadly Fearful", "Sadly Angry", "Other"]
    header = ",".join(["Begin Time - hh:mm:ss.ms", "End Time - hh:mm:ss.ms", *names])
    for video in ("01", "02"):
        pictures = [scene((120, 120, 90))] * FRAMES
        write_video(tmp_path / "videos" / f"{video}.mp4", pictures)
        row = f'00:00:00.040,00:00:00.120,,"1 ",{"," * 5}'
        (tmp_path / "segments" / f"{video}.csv").write_text(f"{header}\n{row}\n")
    flags = ("--challenge-labels", tmp_path / "segments")
    status, _, complaint = curriculum(capsys, world, tmp_path / "run", *flags)
    assert status == 2 and "--videos must name the videos" in complaint
    flags += ("--videos", tmp_path / "videos")
    status, output, complaint = curriculum(capsys, world, tmp_path / "run", *flags)
    assert status == 0 and "4 of 2 videos become compounds" in output, complaint


def test_labels_of_other_videos_are_refused(world, tmp_path, capsys):
    labels = tmp_path / "other.csv"
    labels.write_text("image_location,label\n99/00001.jpg,3\n03/00002.jpg,1\n")
    status, _, complaint = curriculum(capsys, world, tmp_path, "--challenge-labels", labels)
    assert status == 2 and "labels no frame in" in complaint
    assert not (tmp_path / "curriculum").exists()


def test_a_video_marked_test_is_not_trained_on(world, tmp_path, capsys):
    lines = (world / "labels.csv").read_text().splitlines()
    marked = [f"{line},{'test' if line.startswith('02/00003') else 'train'}" for line in lines[2:]]
    labels = tmp_path / "split.csv"
    labels.write_text("\n".join([f"{lines[0]},split", *marked]) + "\n")
    flags = ("--challenge-labels", labels, "--folds", 2)
    status, _, complaint = curriculum(capsys, world, tmp_path, *flags)
    assert status == 0, complaint
    folders = [tmp_path / "curriculum" / f"fold-{fold}" for fold in (1, 2)]
    trained = [set(record(folder)["settings"]["challenge_videos"]) for folder in folders]
    assert trained[0] | trained[1] == LABELLED - {"02"} and not trained[0] & trained[1]
    judged = pd.read_csv(tmp_path / "curriculum" / "folds" / "oof.csv").group
    assert "challenge-labels/02" not in set(judged)


def test_a_run_is_not_resumed_with_other_labels(world, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    lines = (world / "labels.csv").read_text().splitlines()
    labels.write_text("\n".join(lines) + "\n")
    flags = ("--challenge-labels", labels)
    assert curriculum(capsys, world, tmp_path / "run", *flags)[0] == 0
    moved = labels.rename(tmp_path / "moved.csv")
    status, output, _ = curriculum(capsys, world, tmp_path / "run", "--challenge-labels", moved)
    assert status == 0 and "finished already" in output
    moved.write_text("\n".join(lines[:-1]) + "\n")
    status, _, complaint = curriculum(capsys, world, tmp_path / "run", "--challenge-labels", moved)
    assert status == 2 and "labels" in complaint

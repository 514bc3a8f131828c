"""Networks of any kind and tables of other models, fused with weights: no gap goes unsaid."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers.drawn import scene, write_video
from helpers.onnx_files import CARD, mean_colour_classifier, numbers, write_model
from helpers.predicting import LISTED, LOCATIONS, predict, read_probabilities
from helpers.running import call

from common.emotions import ADAPTATION, BASIC, CHALLENGE, RULES
from common.networks.weights import TRACKS
from common.script.files import UserError
from common.submission.decision import Decision, Timelines, decide
from common.submission.ensemble import weighted_mean
from common.submission.fusion import Table, describe, fuse, read_table, weight_matrix
from common.submission.tracks import track_and_seen
from common.submission.truth import frame_times

P = [f"p_{name}" for name in BASIC]
NAMES = {"01", "02", "10"}
SEEN = [video != "02" for video, _ in LISTED]  # 02 shows no face


def write_table(path, header, *rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows), ""]))
    return path


def both(capsys, crops, out, *more):
    """Run 05 with the second network beside the first; return its probabilities."""
    run = crops / "run" / "curriculum" / "model.safetensors"
    status, output, complaints = predict(call(capsys), crops, out, "--checkpoints", run, *more)
    assert status == 0, complaints
    return read_probabilities(out), output


def test_a_table_counts_like_the_network_that_wrote_it(crops, tmp_path, capsys):
    other = crops / "other" / "curriculum" / "model.safetensors"
    both(capsys, crops, tmp_path / "b", "--checkpoints", other)
    table = tmp_path / "b" / "submission" / "probabilities.csv"
    fused, output = both(capsys, crops, tmp_path / "fused", "--fuse", table)
    pair = [crops / "run" / "curriculum" / "model.safetensors", other]
    expected, _ = both(capsys, crops, tmp_path / "pair", "--checkpoints", *pair)
    np.testing.assert_allclose(fused[P][SEEN], expected[P][SEEN], atol=2e-6)
    assert "unused columns: decision, class_name, face, Fearfully_Surprised" in output
    record = json.loads((tmp_path / "fused" / "submission" / "run.json").read_text())
    assert list(record["tables_sha256"]) == [str(table)]
    weighted, _ = both(capsys, crops, tmp_path / "w", "--fuse", table, "--weights", 3, 1)
    single, _ = both(capsys, crops, tmp_path / "a")
    written = pd.read_csv(table)
    mean = 0.75 * single[P].to_numpy() + 0.25 * written[P].to_numpy()
    np.testing.assert_allclose(weighted[P][SEEN], mean[SEEN], atol=2e-6)


def test_weights_count_for_networks_in_their_order_alone_or_by_emotion(crops, tmp_path, capsys):
    pair = [crops / name / "curriculum" / "model.safetensors" for name in ("run", "other")]
    first, second = (
        both(capsys, crops, tmp_path / str(i), "--checkpoints", pair[i])[0] for i in range(2)
    )
    found, _ = both(capsys, crops, tmp_path / "w", "--checkpoints", *pair, "--weights", 1, 3)
    np.testing.assert_allclose(found[P], 0.25 * first[P] + 0.75 * second[P], atol=2e-6)
    found, _ = both(capsys, crops, tmp_path / "x", "--checkpoints", *pair, "--weights", 1, 0)
    np.testing.assert_allclose(found[P], first[P], atol=2e-6)
    six = [1, 0, 1, 0, 2, 0], [0, 1, 1, 3, 2, 5]
    by_class, _ = both(
        capsys, crops, tmp_path / "c", "--checkpoints", *pair, "--weights", *six[0], *six[1]
    )
    share = np.array([1, 0, 0.5, 0, 0.5, 0])
    np.testing.assert_allclose(by_class[P], share * first[P] + (1 - share) * second[P], atol=2e-6)


def test_an_onnx_file_is_a_member_like_any_network(crops, tmp_path, capsys):
    path = write_model(tmp_path / "b0.onnx", mean_colour_classifier(*numbers(10)), CARD)
    run = crops / "run" / "curriculum" / "model.safetensors"
    alone, output = both(capsys, crops, tmp_path / "o", "--checkpoints", path)
    assert str(path) in output and alone[P].stack().nunique() > 20
    first, _ = both(capsys, crops, tmp_path / "r")
    found, _ = both(capsys, crops, tmp_path / "f", "--checkpoints", run, path, "--weights", 2, 1)
    np.testing.assert_allclose(found[P], (2 * first[P] + alone[P]) / 3, atol=2e-6)
    path.with_name("b0.onnx.json").unlink()
    status, _, complaints = predict(call(capsys), crops, tmp_path / "g", "--checkpoints", path)
    assert status == 2 and "has no b0.onnx.json beside it" in complaints
    assert not (tmp_path / "g").exists()


def test_an_export_by_command_comes_back_as_a_member(crops, tmp_path, capsys):
    pytest.importorskip("onnx", reason="the optional package onnx is not installed")
    pytest.importorskip("onnxscript", reason="the optional package onnxscript is not installed")
    status, output, complaints = predict(
        call(capsys), crops, tmp_path, "--export", tmp_path / "run.onnx"
    )
    assert status == 0 and "exported" in output, complaints
    own, _ = both(capsys, crops, tmp_path / "own")
    found, _ = both(capsys, crops, tmp_path / "back", "--checkpoints", tmp_path / "run.onnx")
    np.testing.assert_allclose(found[P], own[P], atol=2e-6)
    status, _, complaints = predict(call(capsys), crops, tmp_path, "--export", tmp_path / "a.pt")
    assert status == 2 and "must end in .onnx" in complaints


def test_frames_without_a_row_count_with_the_others_alone_and_are_said(crops, tmp_path, capsys):
    rows = [("01", 1, *[0.5] * 8), ("01", 2, *[""] * 8), ("99", 1, *[0.1] * 8)]
    table = write_table(tmp_path / "t.csv", "video,frame," + ",".join(ADAPTATION), *rows)
    found, output = both(capsys, crops, tmp_path / "f", "--fuse", table)
    alone, _ = both(capsys, crops, tmp_path / "a")
    expected = alone[P].to_numpy()
    expected[0] = (expected[0] + 0.5) / 2
    np.testing.assert_allclose(found[P], expected, atol=2e-6)
    assert "six emotions of 1 frames; 11 frames of 3 videos have none" in output
    assert "unused columns: Neutral, Contempt; videos not there: 99" in output


def test_compounds_are_kept_as_compounds_under_every_rule(crops, tmp_path, capsys):
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.ones(7), len(LOCATIONS)).round(4)
    shares[0] = [0, 0.3, 0.3, 0, 0, 0, 0.4]  # whose emotions alone would name another compound
    header = "image_location," + ",".join(name.replace("_", " ") for name in reversed(CHALLENGE))
    rows = [(place, *row[::-1]) for place, row in zip(LOCATIONS, shares, strict=True)]
    table = write_table(tmp_path / "t.csv", header, *rows)
    for rule in RULES:
        more = "--fuse", table, "--rule", rule, "--weights", 0, 1
        found, _ = both(capsys, crops, tmp_path / rule, *more)
        assert found["decision"].tolist() == shares.argmax(axis=1).tolist()
    expected = shares[:, [1, 2, 3, 4]].sum(axis=1) + shares[:, 0]  # all surprised ones
    np.testing.assert_allclose(found["p_Surprise"], expected, atol=2e-6)
    equal, _ = both(capsys, crops, tmp_path / "equal", "--fuse", table)
    alone, _ = both(capsys, crops, tmp_path / "alone")
    mean = (alone[list(CHALLENGE)].to_numpy() + 2 * shares) / 2
    np.testing.assert_allclose(equal[list(CHALLENGE)][SEEN], mean[SEEN], atol=4e-6)


def test_a_rule_of_arrays_is_enough_for_tables_of_compounds(monkeypatch):
    monkeypatch.setitem(RULES, "least", lambda a, b: a.clip(max=b))
    shares = np.eye(7)[[3]]  # sure of Disgustedly_Surprised
    table = Table("t.csv", {"01": (np.array([1]), shares)}, [], [])
    faces = pd.DataFrame({"video": ["01"], "frame": [1]})
    timelines = Timelines(["01/00001.jpg"], faces, [table])
    made = decide(timelines, np.full((1, 6), 0.5), Decision(rule="least"), np.ones((2, 6)))
    expected = (0.5 + shares[0]) / 2  # a compound counts as its two emotions, both sure
    np.testing.assert_allclose(made[list(CHALLENGE)].to_numpy()[0], expected)


def test_a_video_without_faces_is_decided_by_a_table_and_gaps_in_it_are_filled():
    table_rows = {
        "02": (np.array([1, 4]), np.array([[0, 0, 0, 0, 0.8, 0.8], [0.9, 0.9, 0, 0, 0, 0]]))
    }
    table = Table("t.csv", table_rows, [], [])
    faces = pd.DataFrame({"video": pd.Series(dtype=str), "frame": pd.Series(dtype=int)})
    places = [f"02/{frame:05d}.jpg" for frame in (1, 2, 4)] + ["03/00001.jpg"]
    timelines = Timelines(places, faces, [table])
    made = decide(timelines, np.zeros((0, 6)), Decision(), np.ones((2, 6)))
    assert timelines.faceless == ["03"]
    assert made["class_name"].tolist() == [
        *("Sadly_Angry", "Sadly_Angry", "Fearfully_Surprised"),
        "Happily_Surprised",
    ]
    np.testing.assert_allclose(made["p_Anger"][:3], [0.8, 0.8 * 2 / 3, 0])


def test_a_stretch_of_time_covers_the_frames_shown_in_it_and_overlaps_are_averaged(tmp_path):
    video = tmp_path / "01.mp4"
    write_video(video, [scene()] * 12)
    times = frame_times(video)
    one, two = [0.6, 0, 0, 0, 0, 0.2], [0.2, 0.4, 0, 0, 0, 0]
    rows = [
        ("01", float(times[2]), float(times[6]), *one),
        ("01", "00:00:" + f"{float(times[4]):06.3f}", float(times[8]), *two),
    ]
    header = "Video,Begin,End," + ",".join(BASIC)
    table = read_table(write_table(tmp_path / "t.csv", header, *rows), {"01"}, {"01": video})
    found = table.at("01", np.arange(1, 13))
    expected = np.full((12, 6), np.nan)
    expected[2:6], expected[6:8] = one, two
    expected[4:6] = np.mean([one, two], axis=0)
    np.testing.assert_allclose(found, expected)
    assert describe(table, ["01/00003.jpg", "01/00012.jpg"]).startswith(
        f"{tmp_path / 't.csv'}: six emotions of 1 frames; 1 frames of 1 videos have none"
    )
    with pytest.raises(UserError, match="--videos must name the videos"):
        read_table(tmp_path / "t.csv", {"01"}, None)
    # in milliseconds the first covers all, and the others nothing
    rows = [("01", 0, 40, *one), ("01", 40, 80, *two), ("01", 80, 120, *[0] * 6)]
    table = read_table(write_table(tmp_path / "ms.csv", header, *rows), {"01"}, {"01": video})
    said = describe(table, ["01/00003.jpg"])
    assert "stretches of time without a frame: 2; rows of zeros, which count" in said
    assert f"01 (ends at 120 s of {float(times[-1]):.0f})" in said
    with pytest.raises(UserError, match="holds a frame; times are seconds"):
        read_table(write_table(tmp_path / "ms.csv", header, rows[1]), {"01"}, {"01": video})


SIX = ",".join(BASIC)
REFUSED = {
    "no place": (f"name,{SIX}", (1, *[0.1] * 6), "must have the columns image_location"),
    "five emotions": ("video,frame,joy,sad,fear,anger,disgust", ("01", 1, *[0.1] * 5), "has Fear"),
    "one name twice": (f"video,frame,{SIX},Anger", ("01", 1, *[0.1] * 7), "two columns"),
    "one expression twice": (f"video,frame,{SIX},angry", ("01", 1, *[0.1] * 7), "one expression"),
    "frames from 0": (f"video,frame,{SIX}", ("01", 0, *[0.1] * 6), "line 2: '0' is no frame"),
    "endless frame": (f"video,frame,{SIX}", ("01", "9" * 30, *[0.1] * 6), "is no frame"),
    "logits": (f"video,frame,{SIX}", ("01", 1, *[0.1] * 5, -2), "'-2' is no probability"),
    "percent": (f"video,frame,{SIX}", ("01", 1, *[0.1] * 5, 80), "'80' is no probability"),
    "infinite": (f"video,frame,{SIX}", ("01", 1, *[0.1] * 5, "inf"), "'inf' is no probability"),
    "a word": (f"video,frame,{SIX}", ("01", 1, *[0.1] * 5, "high"), "'high' is no probability"),
    "half a row": (f"video,frame,{SIX}", ("01", 1, *[0.1] * 5, ""), "'' is no probability"),
    "a short row": (f"video,frame,{SIX}", ("01", 1, 0.1), "has 3 fields, not 8"),
    "other videos": (f"video,frame,{SIX}", ("1", 1, *[0.1] * 6), "none of the videos|for any of"),
    "another form": (f"image_location,{SIX}", ("../01/00001.jpg", *[0.1] * 6), "not of the form"),
    "a time of words": (f"video,begin,end,{SIX}", ("01", "soon", 2, *[0.1] * 6), "is no time"),
    "an endless time": (f"video,begin,end,{SIX}", ("01", 0, "1e999999", *[0.1] * 6), "is no time"),
    "a time backwards": (f"video,begin,end,{SIX}", ("01", 2, 1, *[0.1] * 6), "before it begins"),
    "empty": (f"video,frame,{SIX}", ("01", 1, *[""] * 6), "has no probabilities for any"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_right_is_refused_in_a_sentence(tmp_path, case):
    header, row, words = REFUSED[case]
    path = write_table(tmp_path / "t.csv", header, row)
    with pytest.raises(UserError, match=words) as refusal:
        read_table(path, NAMES, {name: tmp_path / f"{name}.mp4" for name in NAMES})
    assert str(path) in str(refusal.value)


def test_a_frame_twice_is_refused_and_the_command_loses_nothing(crops, tmp_path, capsys):
    rows = [("01", 1, *[0.1] * 6), ("01", 2, *[0.1] * 6), ("01", 1, *[0.2] * 6)]
    table = write_table(tmp_path / "t.csv", f"video,frame,{SIX}", *rows)
    more = "--fuse", table
    status, _, complaints = predict(call(capsys), crops, tmp_path / "out", *more)
    assert status == 2 and "has frame 1 of video 01 twice" in complaints
    status, _, complaints = predict(call(capsys), crops, tmp_path / "out", *more, "--weights", 1)
    assert status == 2 and "--weights has 1 numbers for 2 members" in complaints
    status, _, complaints = predict(call(capsys), crops, tmp_path / "out", "--weights", 0)
    assert status == 2 and "gives all members the weight 0" in complaints
    assert not (tmp_path / "out").exists()


def test_class_weights_of_compounds_are_those_of_their_emotions():
    weights = weight_matrix([1] * 6 + [0.5, 0.1, 0.9, 0.3, 0.2, 0.7], ["network", "table"])
    own, compounds = np.full((1, 6), 0.4), np.eye(7)[[0]]  # sure of Fearfully_Surprised
    [found] = fuse(own, [compounds], weights)
    total = 1 + weights[1]
    np.testing.assert_allclose(found[:6], 0.4 / total)
    pair = [BASIC.index("Fear"), BASIC.index("Surprise")]
    np.testing.assert_allclose(found[6], weights[1][pair].mean() / total[pair].mean())
    assert (found[7:] == 0).all()


@pytest.mark.parametrize("scale", [1e308, 3.7, 1e-12, 5e-324])
def test_only_the_proportions_of_weights_matter(scale):
    own, table = np.full((1, 6), 0.4), np.linspace(0, 1, 6)[None]
    weights = weight_matrix([scale, scale], ["network", "table"])
    np.testing.assert_allclose(fuse(own, [table], weights), (own + table) / 2)
    np.testing.assert_allclose(weighted_mean(np.stack([own, table], 1), weights), (own + table) / 2)
    # and those that do not overflow give the same bits as their halves
    plain = weight_matrix([3, 1], ["network", "table"])
    assert (weighted_mean(np.stack([own, table], 1), plain) == (3 * own + table) / 4).all()


def test_rows_for_frames_that_are_not_predicted_are_counted(tmp_path):
    write_table(
        tmp_path / "t.csv", f"video,frame,{SIX}", *(("01", n, 1, 0, 0, 0, 0, 0) for n in (1, 2, 9))
    )
    table = read_table(tmp_path / "t.csv", {"01"}, None)
    assert "of its frames, 2 are not predicted" in describe(table, ["01/00001.jpg"])
    assert "not predicted" not in describe(table, [f"01/{n:05d}.jpg" for n in (1, 2, 9)])


def test_an_earlier_submissions_table_has_the_track_of_its_own_run(tmp_path):
    network = SimpleNamespace(track=TRACKS[0], labelled=[set()])
    (tmp_path / "run.json").write_text(json.dumps({"track": TRACKS[0]}))
    told = {"track": TRACKS[1], "seen_videos": ["01"]}
    (tmp_path / "run-1.json").write_text(json.dumps(told))
    now, earlier = tmp_path / "probabilities.csv", tmp_path / "probabilities-1.csv"
    assert track_and_seen(network, [now], {"01", "02"}) == (TRACKS[0], set())
    assert track_and_seen(network, [earlier], {"01", "02"}) == (TRACKS[1], {"01"})
    (tmp_path / "run-1.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        track_and_seen(network, [earlier], {"01"})

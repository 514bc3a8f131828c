"""The last script as a competitor runs it: every listed frame, an honest score, no half files."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.predicting import LISTED, LOCATIONS, MEAN, SCRIPT, STD, predict, read_probabilities
from helpers.running import call
from PIL import Image
from sklearn.metrics import f1_score

from common.emotions import BASIC, CHALLENGE, CHALLENGE_PAIRS
from common.script.files import file_digest
from common.submission.files import HEADER


def expected_probabilities(crops, *runs, flip=True) -> dict[tuple[str, int], np.ndarray]:
    """Compute each crop's probabilities with plain torch, one image at a time."""
    from common.networks.classifier import load_classifier

    found = {}
    for path in sorted((crops / "prepared" / "crops").rglob("*.png")):
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
        image = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        outputs = []
        for name in runs:
            network, _ = load_classifier(crops / name / "curriculum" / "model.safetensors")
            for view in (image, image.flip(2)) if flip else (image,):
                with torch.no_grad():
                    outputs.append(torch.sigmoid(network(view[None]))[0].numpy())
        found[path.parent.name, int(path.stem)] = np.mean(outputs, axis=0)
    return found


def test_each_listed_frame_is_written_once_in_order_with_its_own_class(crops, tmp_path, capsys):
    status, output, complaints = predict(call(capsys), crops, tmp_path)
    assert status == 0, complaints
    table = read_probabilities(tmp_path)
    # independent of the script: each face's probabilities, the gaps filled by hand
    known = expected_probabilities(crops, "run")
    values = dict(known)
    values["01", 3] = (known["01", 2] + known["01", 4]) / 2
    values["01", 6] = known["01", 5]
    seen = [row for row, (video, _) in enumerate(LISTED) if video != "02"]  # 02 has no face
    wanted = [values[LISTED[row]] for row in seen]
    probabilities = table[[f"p_{name}" for name in BASIC]].to_numpy()[seen]
    np.testing.assert_allclose(probabilities, wanted, atol=1e-5)
    scores = np.array([[p[a] + p[b] for a, b in CHALLENGE_PAIRS] for p in wanted])
    np.testing.assert_allclose(table[list(CHALLENGE)].to_numpy()[seen], scores, atol=2e-5)
    decision = np.full(len(LISTED), CHALLENGE.index("Happily_Surprised"))  # most frequent class
    decision[seen] = scores.argmax(axis=1)
    assert len(set(decision)) > 2
    lines = (tmp_path / "submission" / "predictions.txt").read_bytes().decode().split("\n")
    assert lines == [HEADER, *(f"{a},{b}" for a, b in zip(LOCATIONS, decision, strict=True)), ""]
    faces = [key in known for key in LISTED]
    assert table["face"].astype(bool).tolist() == faces
    assert "video 02" in complaints.lower()
    assert output.rstrip().splitlines()[-2:] == [
        f"submission {tmp_path / 'submission' / 'predictions.txt'}",
        f"report     {tmp_path / 'submission' / 'report.html'}",
    ]


def test_the_lists_own_order_is_kept_whatever_it_is(crops, tmp_path, capsys):
    listing = tmp_path / "list.txt"
    order = [LOCATIONS[i] for i in np.random.default_rng(5).permutation(len(LOCATIONS))]
    listing.write_text(HEADER + "\n" + "".join(f"{place},\n" for place in order))
    found = []
    for name, more in (("own", []), ("other", ["--frame-list", listing])):
        assert predict(call(capsys), crops, tmp_path / name, *more)[0] == 0
        lines = (tmp_path / name / "submission" / "predictions.txt").read_text().splitlines()[1:]
        found.append(dict(line.split(",") for line in lines))
    assert list(found[1]) == order and found[0] == found[1]


def test_probabilities_join_the_frame_list_as_pandas_reads_both(crops, tmp_path, capsys):
    assert predict(call(capsys), crops, tmp_path)[0] == 0
    table = pd.read_csv(tmp_path / "submission" / "probabilities.csv")
    assert list(table.columns[:4]) == ["image_location", "decision", "class_name", "face"]
    submission = pd.read_csv(tmp_path / "submission" / "predictions.txt", index_col=False)
    submission = submission.iloc[:, :2].set_axis(["image_location", "submitted"], axis=1)
    joined = submission.merge(table, on="image_location")  # a column of `01` would be read as 1
    assert joined["image_location"].tolist() == LOCATIONS
    assert joined["decision"].tolist() == joined["submitted"].tolist()
    assert joined["class_name"].tolist() == [CHALLENGE[index] for index in joined["decision"]]


def test_checkpoints_are_averaged_and_mirroring_can_be_left_out(crops, tmp_path, capsys):
    files = [crops / name / "curriculum" / "model.safetensors" for name in ("run", "other")]
    status, _, complaints = predict(
        call(capsys), crops, tmp_path, "--checkpoints", *files, "--no-flip"
    )
    assert status == 0, complaints
    known = expected_probabilities(crops, "run", "other", flip=False)
    table = read_probabilities(tmp_path).set_index(["video", "frame"])
    for key in known.keys() & set(LISTED):
        row = table.loc[key, [f"p_{name}" for name in BASIC]].to_numpy(float)
        np.testing.assert_allclose(row, known[key], atol=1e-5)
    record = json.loads((tmp_path / "submission" / "run.json").read_text())
    assert record["weights_sha256"] == {str(path): file_digest(path) for path in files}


def test_score_is_scikit_learns_over_listed_frames_with_a_truth(crops, tmp_path, capsys):
    status, output, complaints = predict(
        call(capsys), crops, tmp_path, "--truth", crops / "truth.csv", "--rule", "geometric"
    )
    assert status == 0, complaints
    truth = np.array([3, 6, -1, -1, 0, 1, 2, 3, 4, 5, 6, -1])
    predicted = read_probabilities(tmp_path)["decision"].to_numpy()
    known = truth >= 0
    expected = f1_score(
        truth[known], predicted[known], labels=range(7), average="macro", zero_division=0
    )
    score = json.loads((tmp_path / "submission" / "score.json").read_text())
    assert score["macro_f1"] == pytest.approx(expected) and score["frames"] == known.sum()
    low, high = score["interval"]
    last = output.rstrip().splitlines()[-3]
    assert last.startswith(f"macro-F1 {expected:.4f} (95 % interval {low:.4f} to {high:.4f}")
    page = (tmp_path / "submission" / "report.html").read_text()
    assert f"{expected:.4f}" in page


def test_a_score_over_frames_to_tune_on_says_that_it_is_no_test_score(crops, tmp_path, capsys):
    header, *rows = (crops / "truth.csv").read_text().splitlines()
    marked = [f"{row},{'val' if row.startswith('01/') else 'test'}" for row in rows]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join([f"{header},split", *marked, ""]))
    status, output, _ = predict(call(capsys), crops, tmp_path, "--truth", truth)
    score = json.loads((tmp_path / "submission" / "score.json").read_text())
    assert status == 0 and 0 < score["not_test"] < score["frames"]
    assert f"{score['not_test']} of them marked train or val: not a test score" in output


def test_truth_changes_nothing_but_the_score(crops, tmp_path, capsys):
    for name, more in [("blind", []), ("scored", ["--truth", crops / "truth.csv"])]:
        assert predict(call(capsys), crops, tmp_path / name, *more)[0] == 0
    for name in ("predictions.txt", "probabilities.csv"):
        blind, scored = (tmp_path / run / "submission" / name for run in ("blind", "scored"))
        assert blind.read_bytes() == scored.read_bytes()
    assert not (tmp_path / "blind" / "submission" / "score.json").exists()


def test_the_same_command_gives_the_same_bytes_with_other_workers(crops, tmp_path, capsys):
    for name, workers in [("a", "0"), ("b", "2")]:
        status, _, complaints = predict(call(capsys), crops, tmp_path / name, "--workers", workers)
        assert status == 0, complaints
    first, second = (tmp_path / n / "submission" / "probabilities.csv" for n in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_an_earlier_submission_is_kept_where_the_new_one_differs(crops, tmp_path, capsys):
    folder = tmp_path / "submission"
    predict(call(capsys), crops, tmp_path)
    first = (folder / "predictions.txt").read_bytes()
    _, output, _ = predict(call(capsys), crops, tmp_path)
    assert "which differs" not in output and not list(folder.glob("*-1.*"))
    other = crops / "other" / "curriculum"
    _, output, _ = predict(call(capsys), crops, tmp_path, "--checkpoints", other)
    assert f"earlier    {folder / 'predictions-1.txt'}, which differs" in output
    assert f"networks   {other / 'model.safetensors'}\n" in output
    assert (folder / "predictions-1.txt").read_bytes() == first
    assert (folder / "predictions.txt").read_bytes() != first
    record = json.loads((folder / "run-1.json").read_text())
    assert record["settings"]["checkpoints"] == [
        str(crops / "run" / "curriculum" / "model.safetensors")
    ]
    # each differing one is kept once, however often they take turns
    for more in ((), ("--checkpoints", other), ()):
        predict(call(capsys), crops, tmp_path, *more)
    assert (folder / "predictions-2.txt").is_file() and not (folder / "predictions-3.txt").exists()
    assert (folder / "predictions.txt").read_bytes() == first


def test_nothing_of_an_earlier_submission_nor_an_input_is_lost(crops, tmp_path, capsys):
    folder, start = tmp_path / "submission", call(capsys)
    assert predict(start, crops, tmp_path, "--truth", crops / "truth.csv")[0] == 0
    first = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
    listed = (crops / "prepared" / "frame_list.txt").read_bytes()
    assert first["frame_list.txt"] == listed and "score.json" in first
    # the earlier one's own files are this one's inputs, and its list names fewer frames
    shorter = folder / "frame_list.txt"
    shorter.write_bytes(
        shorter.read_bytes().replace(b"10/00003.jpg,\n", b"").replace(b"\n", b"\r\n")
    )
    first["frame_list.txt"] = shorter.read_bytes()
    table = folder / "probabilities.csv"
    more = ["--frame-list", shorter, "--fuse", table]
    status, output, complaints = predict(start, crops, tmp_path, *more)
    assert status == 0 and f"{folder / 'predictions-1.txt'}, which differs" in output, complaints
    for name, content in first.items():
        stem, suffix = name.split(".")
        assert (folder / f"{stem}-1.{suffix}").read_bytes() == content
    assert shorter.read_bytes() == first["frame_list.txt"]
    assert not (folder / "score.json").exists()
    for number, verdict in (("", 0), ("-1", 1)):  # of the first, the list was cut above
        check = ["--check", folder / f"predictions{number}.txt", "--data-dir", tmp_path]
        status, output, _ = start(SCRIPT, *check)
        assert status == verdict and f"against {folder / f'frame_list{number}.txt'}" in output
    # a table of the same predictions is kept where it is fused; so is the score
    before = table.read_bytes()
    more = ["--frame-list", shorter, "--fuse", table, "--weights", "0", "1"]
    status, output, _ = predict(start, crops, tmp_path, *more)
    assert status == 0 and before in [path.read_bytes() for path in folder.glob("probabilities-*")]
    assert predict(start, crops, tmp_path, *more, "--truth", crops / "truth.csv")[0] == 0
    score = (folder / "score.json").read_bytes()
    assert predict(start, crops, tmp_path, *more)[0] == 0
    assert score in [path.read_bytes() for path in folder.glob("score-*.json")]


def test_unused_folds_beside_the_weights_are_named(crops, tmp_path, capsys):
    place = tmp_path / "run" / "curriculum"
    for folder in (place, place / "fold-1"):
        shutil.copytree(crops / "run" / "curriculum", folder)
    _, output, _ = predict(call(capsys), crops, tmp_path, "--checkpoints", tmp_path / "run")
    assert (
        f"networks   {place / 'model.safetensors'} (not the folds beside: {place}/fold-*)" in output
    )


def test_check_accepts_our_file_and_refuses_a_broken_one(crops, tmp_path, capsys):
    start = call(capsys)
    assert predict(start, crops, tmp_path)[0] == 0
    path = tmp_path / "submission" / "predictions.txt"
    status, output, _ = start(SCRIPT, "--check", path, "--data-dir", crops)
    assert status == 0 and "is valid" in output
    path.write_text(path.read_text().replace("10/00002.jpg,", "10/00002.jpg,9"))
    status, output, _ = start(SCRIPT, "--check", path, "--data-dir", crops)
    assert status == 1 and "line 12" in output and "NOT valid" in output
    status, _, complaints = start(SCRIPT, "--check", tmp_path / "absent", "--data-dir", crops)
    assert status == 2 and "absent" in complaints
    path.with_name("frame_list.txt").unlink()
    status, _, complaints = start(SCRIPT, "--check", path, "--data-dir", tmp_path)
    assert status == 2 and "frame_list.txt" in complaints


def test_truth_of_other_frames_leaves_the_submission_whole_and_unscored(crops, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("image_location,label\n88/00001.jpg,2\n")
    assert predict(call(capsys), crops, tmp_path, "--truth", crops / "truth.csv")[0] == 0
    status, _, complaints = predict(call(capsys), crops, tmp_path, "--truth", other)
    assert status == 2 and "none of the predicted frames" in complaints
    names = {path.name for path in (tmp_path / "submission").iterdir()}
    written = {"predictions.txt", "frame_list.txt", "probabilities.csv", "report.html", "run.json"}
    assert names == {".lock", "score-1.json", *written}
    page = (tmp_path / "submission" / "report.html").read_text()
    assert not re.search(r"macro-F1, 7 classes", page)

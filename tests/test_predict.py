"""The last script as a competitor runs it: every listed frame, an honest score, no half files."""

import json
import re
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score
from toy_world import call

from common.classifier import create_classifier
from common.emotions import BASIC, CHALLENGE, CHALLENGE_PAIRS
from common.files import UserError, file_digest
from common.sources import read_frames
from common.submission import HEADER
from common.weights import save_model

SCRIPT = "05_predict_submit.py"
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
OPTIONS = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
# Video 01 decodes 5 frames and lists 6; 02 shows no face; the list lacks the last frame of 10.
DECODED = {"01": 5, "02": 3, "10": 4}
FACELESS = {("01", 3), ("02", 1), ("02", 2), ("02", 3)}
LISTED = [("01", i) for i in range(1, 7)] + [("02", i) for i in (1, 2, 3)]
LISTED += [("10", i) for i in (1, 2, 3)]
LOCATIONS = [f"{video}/{frame:05d}.jpg" for video, frame in LISTED]


def make_checkpoint(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = create_classifier("vit_tiny_patch16_224", 16, OPTIONS)
    torch.nn.init.normal_(network.head.weight, std=1.0)
    folder.mkdir(parents=True)
    save_model(folder, network)
    settings = {"model": "vit_tiny_patch16_224", "image_size": 16, "model_options": OPTIONS}
    settings |= {"mean": MEAN, "std": STD}
    (folder / "run.json").write_text(json.dumps({"settings": settings}))
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A prepared folder of 16-pixel crops (PNG, so that they are read back exactly), two models."""
    folder = tmp_path_factory.mktemp("world")
    random, rows = np.random.default_rng(0), []
    for video, count in DECODED.items():
        for frame in range(1, count + 1):
            image = ""
            if (video, frame) not in FACELESS:
                image = f"crops/{video}/{frame:05d}.png"
                path = folder / "prepared" / image
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
            rows.append((video, frame, image, "0 0 9 9" if image else "", 0.9 if image else ""))
    columns = ["video", "frame", "image", "box", "score"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "prepared" / "frames.csv", index=False)
    text = HEADER + "\n" + "".join(f"{location},\n" for location in LOCATIONS)
    (folder / "prepared" / "frame_list.txt").write_text(text)
    make_checkpoint(folder / "run" / "curriculum", 0)
    make_checkpoint(folder / "other" / "curriculum", 1)
    labels = ["3", "Sadly Angry", "", "-1", *"012345", "6"]  # one listed frame has no row
    text = "".join(f"{a},{b}\n" for a, b in zip(LOCATIONS, labels, strict=False))
    (folder / "truth.csv").write_text("image_location,label\n" + text + "99/00001.jpg,2\n")
    return folder


def predict(start, world, out, *more):
    """Run the script into its own run folder."""
    checkpoint = world / "run" / "curriculum" / "model.safetensors"
    return start(
        SCRIPT, "--data-dir", world, "--run-dir", out, "--checkpoints", checkpoint,
        "--workers", "0", "--mixed-precision", "no", "--batch-size", "4", "--smooth", "none", *more,
    )  # fmt: skip


def expected_probabilities(world, *runs, flip=True) -> dict[tuple[str, int], np.ndarray]:
    """Compute each crop's probabilities with plain torch, one image at a time."""
    from common.classifier import load_classifier

    found = {}
    for path in sorted((world / "prepared" / "crops").rglob("*.png")):
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
        image = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        outputs = []
        for name in runs:
            network, _ = load_classifier(world / name / "curriculum" / "model.safetensors")
            for view in (image, image.flip(2)) if flip else (image,):
                with torch.no_grad():
                    outputs.append(torch.sigmoid(network(view[None]))[0].numpy())
        found[path.parent.name, int(path.stem)] = np.mean(outputs, axis=0)
    return found


def read_probabilities(out) -> pd.DataFrame:
    return pd.read_csv(out / "submission" / "probabilities.csv", dtype={"video": str})


def test_each_listed_frame_is_written_once_in_order_with_its_own_class(world, tmp_path, capsys):
    status, output, complaints = predict(call(capsys), world, tmp_path)
    assert status == 0, complaints
    table = read_probabilities(tmp_path)
    # independent of the script: each face's probabilities, the gaps filled by hand
    known = expected_probabilities(world, "run")
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


def test_the_lists_own_order_is_kept_whatever_it_is(world, tmp_path, capsys):
    listing = tmp_path / "list.txt"
    order = [LOCATIONS[i] for i in np.random.default_rng(5).permutation(len(LOCATIONS))]
    listing.write_text(HEADER + "\n" + "".join(f"{place},\n" for place in order))
    found = []
    for name, more in (("own", []), ("other", ["--frame-list", listing])):
        assert predict(call(capsys), world, tmp_path / name, *more)[0] == 0
        lines = (tmp_path / name / "submission" / "predictions.txt").read_text().splitlines()[1:]
        found.append(dict(line.split(",") for line in lines))
    assert list(found[1]) == order and found[0] == found[1]


def test_checkpoints_are_averaged_and_mirroring_can_be_left_out(world, tmp_path, capsys):
    files = [world / name / "curriculum" / "model.safetensors" for name in ("run", "other")]
    status, _, complaints = predict(
        call(capsys), world, tmp_path, "--checkpoints", *files, "--no-flip"
    )
    assert status == 0, complaints
    known = expected_probabilities(world, "run", "other", flip=False)
    table = read_probabilities(tmp_path).set_index(["video", "frame"])
    for key in known.keys() & set(LISTED):
        row = table.loc[key, [f"p_{name}" for name in BASIC]].to_numpy(float)
        np.testing.assert_allclose(row, known[key], atol=1e-5)
    record = json.loads((tmp_path / "submission" / "run.json").read_text())
    assert record["weights_sha256"] == {str(path): file_digest(path) for path in files}


def test_score_is_scikit_learns_over_listed_frames_with_a_truth(world, tmp_path, capsys):
    status, output, complaints = predict(
        call(capsys), world, tmp_path, "--truth", world / "truth.csv", "--rule", "geometric"
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


def test_a_score_over_frames_to_tune_on_says_that_it_is_no_test_score(world, tmp_path, capsys):
    header, *rows = (world / "truth.csv").read_text().splitlines()
    marked = [f"{row},{'val' if row.startswith('01/') else 'test'}" for row in rows]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join([f"{header},split", *marked, ""]))
    status, output, _ = predict(call(capsys), world, tmp_path, "--truth", truth)
    score = json.loads((tmp_path / "submission" / "score.json").read_text())
    assert status == 0 and 0 < score["not_test"] < score["frames"]
    assert f"{score['not_test']} of them marked train or val: no test score" in output


def test_truth_changes_nothing_but_the_score(world, tmp_path, capsys):
    for name, more in [("blind", []), ("scored", ["--truth", world / "truth.csv"])]:
        assert predict(call(capsys), world, tmp_path / name, *more)[0] == 0
    for name in ("predictions.txt", "probabilities.csv"):
        blind, scored = (tmp_path / run / "submission" / name for run in ("blind", "scored"))
        assert blind.read_bytes() == scored.read_bytes()
    assert not (tmp_path / "blind" / "submission" / "score.json").exists()


def test_the_same_command_gives_the_same_bytes_with_other_workers(world, tmp_path, capsys):
    for name, workers in [("a", "0"), ("b", "2")]:
        status, _, complaints = predict(call(capsys), world, tmp_path / name, "--workers", workers)
        assert status == 0, complaints
    first, second = (tmp_path / n / "submission" / "probabilities.csv" for n in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_without_a_list_every_decoded_frame_is_predicted(world, tmp_path, capsys):
    data = tmp_path / "data" / "prepared"
    data.mkdir(parents=True)
    (data / "crops").symlink_to(world / "prepared" / "crops")
    (data / "frames.csv").write_text((world / "prepared" / "frames.csv").read_text())
    assert predict(call(capsys), world, tmp_path, "--data-dir", tmp_path / "data")[0] == 0
    lines = (tmp_path / "submission" / "predictions.txt").read_text().splitlines()
    frames = [f"{v}/{f:05d}.jpg" for v, n in DECODED.items() for f in range(1, n + 1)]
    assert lines[0] == HEADER and [line.split(",")[0] for line in lines[1:]] == frames


def test_lost_crop_and_unknown_video_are_told_and_filled(world, tmp_path, capsys):
    data = tmp_path / "data" / "prepared"
    (data / "crops" / "01").mkdir(parents=True)
    for path in (world / "prepared" / "crops" / "01").iterdir():
        content = b"no picture" if path.stem == "00002" else path.read_bytes()
        (data / "crops" / "01" / path.name).write_bytes(content)
    rows = (world / "prepared" / "frames.csv").read_text().splitlines()
    (data / "frames.csv").write_text("\n".join(rows[:6]) + "\n")
    listing = tmp_path / "list.txt"
    listing.write_text(f"{HEADER}\n01/00001.jpg,\n01/00002.jpg,\n01/00004.jpg,\n77/00001.jpg,\n")
    status, _, complaints = predict(
        call(capsys), world, tmp_path, "--data-dir", tmp_path / "data", "--frame-list", listing
    )
    assert status == 0
    assert "video 77" in complaints and "1 crops cannot be read" in complaints
    table = read_probabilities(tmp_path)
    assert table["face"].tolist() == [1, 0, 1, 0]


def test_no_face_anywhere_still_gives_a_whole_submission(world, tmp_path, capsys):
    data = tmp_path / "data" / "prepared"
    data.mkdir(parents=True)
    (data / "frames.csv").write_text("video,frame,image,box,score\n02,1,,,\n02,2,,,\n")
    assert predict(call(capsys), world, tmp_path, "--data-dir", tmp_path / "data")[0] == 0
    lines = (tmp_path / "submission" / "predictions.txt").read_text().splitlines()
    assert lines == [HEADER, "02/00001.jpg,1", "02/00002.jpg,1"]


def test_raw_videos_are_predicted_without_a_prepared_folder(world, tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    with av.open(videos / "07.mp4", "w") as container:
        stream = container.add_stream("h264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        for shade in range(4):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 60 * shade, np.uint8))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    (videos / "08.mp4").write_bytes(b"not a video")
    more = ["--videos", videos, "--data-dir", tmp_path / "absent"]
    status, _, complaints = predict(call(capsys), world, tmp_path / "whole", *more)
    path = tmp_path / "whole" / "submission" / "predictions.txt"
    assert status == 0 and "08.mp4" in complaints
    assert path.read_text().splitlines()[1:] == [f"07/{i:05d}.jpg,1" for i in (1, 2, 3, 4)]
    # a list beside the videos rules, here with one frame more than decodes, and without 08
    rows = "".join(f"07/{i:05d}.jpg,\n" for i in range(1, 6))
    (videos / "CER.txt").write_text(f"{HEADER}\n{rows}")
    status, _, complaints = predict(call(capsys), world, tmp_path / "listed", *more)
    path = tmp_path / "listed" / "submission" / "predictions.txt"
    assert status == 0 and "08.mp4" not in complaints
    assert path.read_text() == HEADER + "\n" + rows.replace(",", ",1")


def test_check_accepts_our_file_and_refuses_a_broken_one(world, tmp_path, capsys):
    start = call(capsys)
    assert predict(start, world, tmp_path)[0] == 0
    path = tmp_path / "submission" / "predictions.txt"
    status, output, _ = start(SCRIPT, "--check", path, "--data-dir", world)
    assert status == 0 and "is valid" in output
    path.write_text(path.read_text().replace("10/00002.jpg,", "10/00002.jpg,9"))
    status, output, _ = start(SCRIPT, "--check", path, "--data-dir", world)
    assert status == 1 and "line 12" in output and "NOT valid" in output
    status, _, complaints = start(SCRIPT, "--check", tmp_path / "absent", "--data-dir", world)
    assert status == 2 and "absent" in complaints
    status, _, complaints = start(SCRIPT, "--check", path, "--data-dir", tmp_path)
    assert status == 2 and "frame_list.txt" in complaints


def test_prepared_frames_keep_video_names_as_text(tmp_path):
    rows = "video,frame,image,box,score\n01,1,crops/01/00001.jpg,1 2 3 4,0.9\n01,2,,,\nNA,1,,,\n"
    (tmp_path / "frames.csv").write_text(rows)
    table = read_frames(tmp_path)
    assert table["video"].tolist() == ["01", "01", "NA"]
    assert table["image"].tolist() == ["crops/01/00001.jpg", "", ""]


@pytest.mark.parametrize(
    "rows",
    [
        None,
        "",
        "video,frame,image\n",
        "video,image\n01,a.jpg\n",
        "video,frame,image\n01,1,a.jpg\n01,1,b.jpg\n",
        "video,frame,image\n01,one,a.jpg\n",
        "video,frame,image\n01,0,a.jpg\n",
        "video,frame,image\n01,1,../../etc/passwd\n",
    ],
)
def test_missing_or_damaged_frames_table_is_one_sentence(tmp_path, rows):
    if rows is not None:
        (tmp_path / "frames.csv").write_text(rows)
    with pytest.raises(UserError):
        read_frames(tmp_path)


@pytest.mark.parametrize(
    "more, named",
    [
        (["--data-dir", "{tmp}"], "01_prepare_data.py"),
        (["--checkpoints", "{tmp}/absent.safetensors"], "absent.safetensors"),
        (["--checkpoints", "{tmp}/alone/model.safetensors"], "run.json"),
        (["--checkpoints", "{tmp}/encoder/model.safetensors"], "model"),
        (["--checkpoints", "{world}/truth.csv"], "truth.csv"),
        (["--frame-list", "{world}/truth.csv"], "line 1"),
        (["--frame-list", "{tmp}/others.txt"], "none of the videos"),
        (["--frame-list", "{tmp}/absent.txt"], "absent.txt"),
        (["--truth", "{tmp}/absent.csv"], "absent.csv"),
        (["--rule", "maximum"], "geometric"),
        (["--smooth", "mean"], "gaussian"),
        (["--smooth", "box", "--smooth-width", "0"], "--smooth-width"),
        (["--checkpoints", "{tmp}/empty"], "04_curriculum.py"),
        (["--checkpoints", "{world}/run", "{world}/run/curriculum"], "twice"),
        (["--faces", "max"], "--videos"),
        (["--videos", "{tmp}/absent"], "absent"),
        (["--videos", "{tmp}/alone"], "no video"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(world, tmp_path, capsys, more, named):
    checkpoint = world / "run" / "curriculum" / "model.safetensors"
    (tmp_path / "empty").mkdir()
    for name in ("alone", "encoder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(checkpoint.read_bytes())
    record = json.loads(checkpoint.with_name("run.json").read_text())
    record["settings"]["model_options"]["embed_dim"] = 32
    (tmp_path / "encoder" / "run.json").write_text(json.dumps(record))
    (tmp_path / "others.txt").write_text(f"{HEADER}\n55/00001.jpg,\n")
    more = [part.format(tmp=tmp_path, world=world) for part in more]
    status, _, complaints = predict(call(capsys), world, tmp_path / "out", *more)
    assert status == 2 and named in complaints
    assert complaints.startswith("error: ") and complaints.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_truth_of_other_frames_leaves_the_submission_whole_and_unscored(world, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("image_location,label\n88/00001.jpg,2\n")
    assert predict(call(capsys), world, tmp_path, "--truth", world / "truth.csv")[0] == 0
    status, _, complaints = predict(call(capsys), world, tmp_path, "--truth", other)
    assert status == 2 and "none of the predicted frames" in complaints
    names = {path.name for path in (tmp_path / "submission").iterdir()}
    assert names == {".lock", "predictions.txt", "probabilities.csv", "report.html", "run.json"}
    page = (tmp_path / "submission" / "report.html").read_text()
    assert not re.search(r"macro-F1, 7 classes", page)

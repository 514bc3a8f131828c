"""What 05_predict_submit.py is given: what it makes do with, and what it refuses."""

import json
import os
import shutil

import av
import numpy as np
import pandas as pd
import pytest
from helpers.predicting import DECODED, predict, read_probabilities
from helpers.running import call, run

from common.script.files import UserError
from common.submission import sources
from common.submission.files import HEADER
from common.submission.sources import read_frames


def test_without_a_list_every_decoded_frame_is_predicted(crops, tmp_path, capsys):
    data = tmp_path / "data" / "prepared"
    data.mkdir(parents=True)
    (data / "crops").symlink_to(crops / "prepared" / "crops")
    (data / "frames.csv").write_text((crops / "prepared" / "frames.csv").read_text())
    assert predict(call(capsys), crops, tmp_path, "--data-dir", tmp_path / "data")[0] == 0
    lines = (tmp_path / "submission" / "predictions.txt").read_text().splitlines()
    frames = [f"{v}/{f:05d}.jpg" for v, n in DECODED.items() for f in range(1, n + 1)]
    assert lines[0] == HEADER and [line.split(",")[0] for line in lines[1:]] == frames


def test_lost_crop_and_unknown_video_are_reported_and_filled(crops, tmp_path, capsys):
    data = tmp_path / "data" / "prepared"
    (data / "crops" / "01").mkdir(parents=True)
    for path in (crops / "prepared" / "crops" / "01").iterdir():
        content = b"no picture" if path.stem == "00002" else path.read_bytes()
        (data / "crops" / "01" / path.name).write_bytes(content)
    rows = (crops / "prepared" / "frames.csv").read_text().splitlines()
    (data / "frames.csv").write_text("\n".join(rows[:6]) + "\n")
    listing = tmp_path / "list.txt"
    listing.write_text(f"{HEADER}\n01/00001.jpg,\n01/00002.jpg,\n01/00004.jpg,\n77/00001.jpg,\n")
    status, output, complaints = predict(
        call(capsys), crops, tmp_path, "--data-dir", tmp_path / "data", "--frame-list", listing
    )
    assert status == 0
    assert "unreadable: 77; 1 frames have nothing but the most frequent class" in output
    assert "video 77" in complaints and "1 crops cannot be read" in complaints
    table = read_probabilities(tmp_path)
    assert table["face"].tolist() == [1, 0, 1, 0]


def test_no_face_anywhere_still_gives_a_whole_submission(crops, tmp_path, capsys):
    data = tmp_path / "data" / "prepared"
    data.mkdir(parents=True)
    (data / "frames.csv").write_text("video,frame,image,box,score,decoded\n02,1,,,,1\n02,2,,,,1\n")
    assert predict(call(capsys), crops, tmp_path, "--data-dir", tmp_path / "data")[0] == 0
    lines = (tmp_path / "submission" / "predictions.txt").read_text().splitlines()
    assert lines == [HEADER, "02/00001.jpg,1", "02/00002.jpg,1"]


def test_raw_videos_are_predicted_without_a_prepared_folder(crops, tmp_path, capsys):
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
    status, output, complaints = predict(call(capsys), crops, tmp_path / "whole", *more)
    path = tmp_path / "whole" / "submission" / "predictions.txt"
    assert status == 0 and "08.mp4" in complaints
    assert "missing or unreadable: 08; no list names their frames" in output
    assert path.read_text().splitlines()[1:] == [f"07/{i:05d}.jpg,1" for i in (1, 2, 3, 4)]
    # a list beside the videos rules, here with one frame more than decodes, and without 08
    rows = "".join(f"07/{i:05d}.jpg,\n" for i in range(1, 6))
    (videos / "CER.txt").write_text(f"{HEADER}\n{rows}")
    status, _, complaints = predict(call(capsys), crops, tmp_path / "listed", *more)
    path = tmp_path / "listed" / "submission" / "predictions.txt"
    assert status == 0 and "08.mp4" not in complaints
    assert path.read_text() == HEADER + "\n" + rows.replace(",", ",1")


def test_names_inside_folders_that_are_not_utf_8_lose_nothing(crops, tmp_path):
    odd, videos = os.fsdecode(b"caf\xe9"), tmp_path / "videos"
    for place in ("01", odd):
        (videos / place).mkdir(parents=True)
        for name in ("00001", "00002"):
            shutil.copy(crops / "prepared" / "crops" / "01" / f"{name}.png", videos / place)
    (videos / f"{odd}.txt").write_text(f"{HEADER}\n01/00001.jpg,\n")
    status, _, complaints = predict(run, crops, tmp_path, "--videos", videos)
    assert status == 0, complaints
    page = (tmp_path / "submission" / "report.html").read_text(encoding="utf-8")
    assert "The list names no frame of caf\\xe9" in page and "caf\\xe9.txt" in page
    assert predict(run, crops, tmp_path, "--images", videos)[0] == 0
    table = pd.read_csv(tmp_path / "images.csv")
    assert len(table) == 4 and table["image"].str.contains("caf\\xe9", regex=False).sum() == 2
    # a video that a submission would have to name
    (videos / f"{odd}.txt").unlink()
    status, _, complaints = predict(run, crops, tmp_path, "--videos", videos)
    assert status == 2 and "cannot stand in a submission" in complaints


def test_prepared_frames_keep_video_names_as_text(tmp_path):
    rows = "video,frame,image,decoded\n01,1,crops/01/00001.jpg,1\n01,2,,1\nNA,1,,0\n"
    (tmp_path / "frames.csv").write_text(rows)
    table = read_frames(tmp_path)
    assert table["video"].tolist() == ["01", "01", "NA"]
    assert table["image"].tolist() == ["crops/01/00001.jpg", "", ""]
    assert table["decoded"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    "rows",
    [
        None,
        "",
        "video,frame,image,decoded\n",
        "video,image,decoded\n01,a.jpg,1\n",
        "video,frame,image,decoded\n01,1,a.jpg,1\n01,1,b.jpg,1\n",
        "video,frame,image,decoded\n01,one,a.jpg,1\n",
        "video,frame,image,decoded\n01,0,a.jpg,1\n",
        "video,frame,image,decoded\n01,1,../../etc/passwd,1\n",
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
        (["--checkpoints", "{world}/run", "{world}/other/../run/curriculum"], "twice"),
        (["--checkpoints", "{world}/run", "{tmp}/link"], "twice"),
        (
            ["--fuse", "{tmp}/link/model.safetensors", "{world}/run/curriculum/model.safetensors"],
            "twice",
        ),
        (["--weights", "inf"], "--weights"),
        (["--faces", "max"], "--videos"),
        # each mode refuses what it would ignore
        (["--tune-weights", "class"], "without --tune does not use --tune-weights"),
        (
            ["--images", "{world}", "--smooth", "box", "--truth", "{world}/truth.csv"],
            "--smooth and",
        ),
        (["--images", "{world}", "--tune", "{world}/truth.csv"], "not use --tune"),
        (["--export", "{tmp}/a.onnx", "--images", "{world}"], "--images does not use --export"),
        (["--check", "{world}/truth.csv", "--no-flip"], "--check does not use"),
        (["--compare", "{world}/truth.csv", "--frame-list=x"], "--frame-list; leave"),
        (
            ["--tune", "{world}/truth.csv", "--truth", "{world}/truth.csv"],
            "--tune does not use --truth",
        ),
        (["--videos", "{tmp}/absent"], "absent"),
        (["--videos", "{tmp}/alone"], "no video"),
        (["--videos", "{tmp}/names"], "rename it"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(crops, tmp_path, capsys, more, named):
    checkpoint = crops / "run" / "curriculum" / "model.safetensors"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(crops / "run" / "curriculum")
    for name in ("alone", "encoder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(checkpoint.read_bytes())
    record = json.loads(checkpoint.with_name("run.json").read_text())
    record["settings"]["model_options"]["embed_dim"] = 32
    (tmp_path / "encoder" / "run.json").write_text(json.dumps(record))
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "a,b.mp4").touch()
    (tmp_path / "others.txt").write_text(f"{HEADER}\n55/00001.jpg,\n")
    more = [part.format(tmp=tmp_path, world=crops) for part in more]
    status, _, complaints = predict(call(capsys), crops, tmp_path / "out", *more)
    assert status == 2 and named in complaints
    assert complaints.startswith("error: ") and complaints.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("listed", "differs"),
    [("Single_Face", "case"), ("single_face.mp4", "ending"), ("00single_face", "leading zeros")],
)
def test_videos_and_lists_that_nearly_match_are_named_and_so_are_unlisted_videos(
    tmp_path, listed, differs
):
    for name in ("single_face", "two", "three"):
        (tmp_path / f"{name}.mp4").touch()
    listing = tmp_path / "CER.txt"
    listing.write_text(f"{HEADER}\n{listed}/00001.jpg,\ntwo/00001.jpg,\n")
    source = sources.open_source(tmp_path, tmp_path, None)
    locations, (absent, unlisted) = sources.frames_to_decide(source, None)
    assert locations == [f"{listed}/00001.jpg", "two/00001.jpg"] and set(source.names) == {"two"}
    assert f"there is 'single_face', which differs by {differs}: rename one" in absent
    assert "no frame of single_face, three: not predicted" in unlisted
    listing.write_text(f"{HEADER}\n{listed}/00001.jpg,\n")
    with pytest.raises(UserError, match=f"there is 'single_face', which differs by {differs}"):
        sources.open_source(tmp_path, tmp_path, None)


def test_a_mistyped_video_is_named_with_the_nearest_that_the_list_lacks(tmp_path):
    for name in ("single_face", "no_face", "typo_fact"):
        (tmp_path / f"{name}.mp4").touch()
    listing = tmp_path / "CER.txt"
    listing.write_text(f"{HEADER}\ntypo_face/00001.jpg,\ntypo_fact/00001.jpg,\n")
    source = sources.open_source(tmp_path, tmp_path, None)
    _, (absent, _) = sources.frames_to_decide(source, None)
    assert "video typo_face, which" in absent and "nearest name is 'no_face': rename" in absent

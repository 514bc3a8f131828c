"""Videos straight to a submission: the same faces as through prepared crops, in little memory."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.drawn import scene, write_video
from helpers.predicting import make_checkpoint, read_probabilities
from helpers.running import ROOT, call, script
from helpers.videos import damage, write
from PIL import Image

from common.emotions import BASIC
from common.faces import follow as faces
from common.faces.detector import Detector
from common.networks.classifier import load_classifier
from common.submission import ensemble, streaming
from common.submission.files import read_frame_list

SCRIPT = "05_predict_submit.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two clips with a face that moves (and a smaller one), one without, and weights."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "videos").mkdir()
    pictures = [scene((110 + 4 * i, 120, 90), (290 - 6 * i, 60, 45)) for i in range(11)]
    pictures[4:6] = [scene()] * 2
    write_video(folder / "videos" / "01.mp4", pictures)
    write_video(folder / "videos" / "02.mp4", [scene()] * 3)
    write_video(folder / "videos" / "03.mp4", [scene((160, 120, 100 - 3 * i)) for i in range(7)])
    make_checkpoint(folder / "run" / "curriculum", 0)
    make_checkpoint(folder / "folds" / "fold-0", 1)
    make_checkpoint(folder / "folds" / "fold-1", 2)
    return folder


def predict(start, world, out, *more):
    return start(
        SCRIPT,
        "--videos",
        world / "videos",
        "--data-dir",
        world / "none",
        "--run-dir",
        out,
        "--checkpoints",
        world / "run" / "curriculum",
        "--mixed-precision",
        "no",
        "--smooth",
        "none",
        *more,
    )


def probabilities_of(out: Path) -> np.ndarray:
    return read_probabilities(out)[[f"p_{name}" for name in BASIC]].to_numpy()


def test_raw_videos_give_what_prepared_crops_give_but_for_jpeg(world, tmp_path, capsys):
    start = call(capsys)
    assert predict(start, world, tmp_path / "raw")[0] == 0
    prepared, rows = tmp_path / "data" / "prepared", []
    for name in ("01", "02", "03"):
        path = world / "videos" / f"{name}.mp4"
        rows += faces.crop_video(path, name, prepared, Detector())[0]
        # without the loss of JPEG: the very crops, so that the numbers must agree
        exact = {n: crops for n, _, crops in faces.video_faces(path, Detector())[1]}
        for image in (prepared / "crops" / name).iterdir():
            Image.fromarray(exact[int(image.stem)][0]).save(image, "PNG")
    pd.DataFrame(rows).to_csv(prepared / "frames.csv", index=False)
    status, _, complaints = start(
        SCRIPT,
        "--data-dir",
        tmp_path / "data",
        "--run-dir",
        tmp_path / "crops",
        "--workers",
        "0",
        "--checkpoints",
        world / "run" / "curriculum",
        "--mixed-precision",
        "no",
        "--smooth",
        "none",
    )
    assert status == 0, complaints
    raw, crops = read_probabilities(tmp_path / "raw"), read_probabilities(tmp_path / "crops")
    assert raw["face"].tolist() == [1] * 4 + [0] * 2 + [1] * 5 + [0] * 3 + [1] * 7
    pd.testing.assert_frame_equal(raw, crops, atol=2e-6, rtol=0)
    assert len(np.unique(raw["p_Fear"])) > 14  # the numbers differ from frame to frame


def test_the_result_depends_neither_on_threads_nor_on_batches(world, tmp_path, capsys):
    for name, threads, batch in (("a", "1", "64"), ("b", "3", "64"), ("c", "2", "2")):
        more = ["--workers", threads, "--batch-size", batch]
        assert predict(call(capsys), world, tmp_path / name, *more)[0] == 0
    first, second, third = (tmp_path / n / "submission" / "probabilities.csv" for n in "abc")
    assert first.read_bytes() == second.read_bytes()
    np.testing.assert_allclose(
        probabilities_of(tmp_path / "a"), probabilities_of(tmp_path / "c"), atol=2e-6
    )
    assert third.exists()


def test_the_list_in_use_is_written_and_checks(world, tmp_path, capsys):
    start = call(capsys)
    assert predict(start, world, tmp_path)[0] == 0
    path = tmp_path / "submission" / "frame_list.txt"
    _, locations = read_frame_list(path)
    assert len(locations) == 21 and path.read_text().splitlines()[1] == "01/00001.jpg,"
    submission = tmp_path / "submission" / "predictions.txt"
    status, output, _ = start(SCRIPT, "--check", submission, "--data-dir", tmp_path / "none")
    assert status == 0 and "frame_list.txt" in output
    # with a list, it is a copy
    (tmp_path / "list.txt").write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert predict(start, world, tmp_path, "--frame-list", tmp_path / "list.txt")[0] == 0
    assert path.read_bytes() == (tmp_path / "list.txt").read_bytes()


def test_maximum_over_faces_is_that_of_each_emotion_over_all_faces(world, tmp_path, capsys):
    assert predict(call(capsys), world, tmp_path, "--faces", "max", "--no-flip")[0] == 0
    network, settings = load_classifier(world / "run" / "curriculum" / "model.safetensors")
    path, expected, pairs = world / "videos" / "01.mp4", {}, 0
    for number, _, crops in faces.video_faces(path, Detector(), everyone=True)[1]:
        if crops:
            images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
            images = streaming.resize(images, 16) / 255
            mean, std = (torch.tensor(settings[key])[:, None, None] for key in ("mean", "std"))
            with torch.no_grad():
                expected[number] = torch.sigmoid(network((images - mean) / std)).numpy().max(axis=0)
            pairs += len(crops) == 2
    assert pairs > 4
    found = read_probabilities(tmp_path).query("video == '01' and face == 1").set_index("frame")
    assert found.index.tolist() == list(expected) and len(expected) == 9
    columns = [f"p_{name}" for name in BASIC]
    np.testing.assert_allclose(found[columns], list(expected.values()), atol=1e-5)


def test_variants_are_the_image_mirrored_and_moved_with_its_edge_repeated():
    images = torch.rand(2, 3, 20, 20)
    plain = ensemble.variants(images, flip=False, shift=0.0)
    assert len(plain) == 1 and len(plain[0]) == 1 and plain[0][0] is images
    still, mirrored = ensemble.variants(images, flip=True, shift=0.1)  # two of 20 pixels
    assert len(still) == len(mirrored) == 5
    left, right, up, down = still[1:]
    torch.testing.assert_close(left[..., :18], images[..., 2:])
    torch.testing.assert_close(left[..., 18:], images[..., -1:].expand(-1, -1, -1, 2))
    torch.testing.assert_close(right[..., 2:], images[..., :18])
    torch.testing.assert_close(up[..., :18, :], images[..., 2:, :])
    torch.testing.assert_close(down[..., 2:, :], images[..., :18, :])
    for one, other in zip(still, mirrored, strict=True):
        torch.testing.assert_close(one.flip(-1), other)


def test_a_folder_of_folds_and_a_file_are_averaged(world, tmp_path, capsys):
    start, one = call(capsys), []
    names = ["run/curriculum", "folds/fold-0", "folds/fold-1"]
    for index, name in enumerate(names):
        more = ["--checkpoints", world / name / "model.safetensors", "--shifts", "0.1"]
        assert predict(start, world, tmp_path / str(index), *more)[0] == 0
        one.append(probabilities_of(tmp_path / str(index)))
    more = ["--checkpoints", world / "folds", world / names[0], "--shifts", "0.1"]
    assert predict(start, world, tmp_path / "all", *more)[0] == 0
    np.testing.assert_allclose(probabilities_of(tmp_path / "all"), np.mean(one, axis=0), atol=2e-6)
    record = json.loads((tmp_path / "all" / "submission" / "run.json").read_text())
    assert list(record["weights_sha256"]) == [
        str(world / name / "model.safetensors") for name in [*names[1:], names[0]]
    ]


def test_videos_that_cannot_be_read_cost_a_warning_and_nothing_else(world, tmp_path, capsys):
    """Truncated, empty, no video, sound alone; a list names them all, and one that is not there."""
    videos = tmp_path / "videos"
    videos.mkdir()
    whole = (world / "videos" / "01.mp4").read_bytes()
    (videos / "01.mp4").write_bytes(whole)
    (videos / "02.mp4").write_bytes(whole[: len(whole) // 2])  # its index is at the end
    (videos / "03.mp4").write_bytes(b"")
    (videos / "04.mp4").write_bytes(b"a letter, not a film" * 50)
    with av.open(videos / "05.mp4", "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        sound.rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    rows = [f"{video:02d}/{frame:05d}.jpg" for video in range(1, 7) for frame in (1, 2)]
    listing = tmp_path / "list.txt"
    header = read_header()
    listing.write_text("\n".join([header, *(f"{row}," for row in rows)]) + "\n")
    status, _, complaints = predict(
        call(capsys), world, tmp_path, "--videos", videos, "--frame-list", listing
    )
    assert status == 0
    for name in ("02.mp4", "03.mp4", "04.mp4", "05.mp4", "video 06"):
        assert name in complaints
    lines = (tmp_path / "submission" / "predictions.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == rows
    table = read_probabilities(tmp_path)
    assert table["face"].tolist() == [1, 1] + [0] * 10
    assert set(table["decision"][2:]) == {1}


def test_frames_that_do_not_decode_are_said_by_video_and_are_not_those_without_a_face(
    world, tmp_path, capsys
):
    pictures = [scene((150 + 2 * i, 120, 90)) for i in range(9)]
    pictures[6] = scene()
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("01.avi", "02.avi"):
        write(videos / name, "mjpeg", pictures)
    damage(videos / "01.avi", 3, "zeroed")
    more = ["--videos", videos]
    status, output, complaints = predict(call(capsys), world, tmp_path / "all", *more)
    assert status == 0 and "missing from their video or unreadable: 1 of 01." in complaints
    assert "2 of them without a face and 1 missing from their video or unreadable" in output
    table = read_probabilities(tmp_path / "all")
    assert table["frame"].tolist() == [*range(1, 10)] * 2
    assert table["face"].tolist() == [1, 1, 1, 0, 1, 1, 0, 1, 1] + [1] * 6 + [0, 1, 1]
    # with a list, those that it names, and those that it names beyond the last
    rows = [f"{video}/{frame:05d}.jpg," for video in ("01", "02") for frame in range(3, 11)]
    (videos / "list.txt").write_text("\n".join([read_header(), *rows]) + "\n")
    status, output, complaints = predict(call(capsys), world, tmp_path / "some", *more)
    assert "missing from their video or unreadable: 2 of 01, 1 of 02." in complaints
    assert "2 of them without a face and 3 missing from their video or unreadable" in output


def test_a_change_of_resolution_keeps_the_same_face(tmp_path):
    """In pixels, the first half's face is a ninth of the second half's."""
    path = tmp_path / "v.ts"
    parts = []
    for size, scale in (((320, 240), 1), ((960, 720), 3)):
        faces_at = [(90 * scale, 120 * scale, 90 * scale), (240 * scale, 130 * scale, 60 * scale)]
        write(tmp_path / "part.ts", "libx264", [scene(*faces_at, size=size)] * 8)
        parts.append((tmp_path / "part.ts").read_bytes())
    path.write_bytes(b"".join(parts))
    _, shown = faces.video_faces(path, Detector())
    middles = [sum(found.boxes[0, ::2]) / 2 for _, found, _ in shown if len(found.boxes)]
    assert len(middles) == 16
    assert np.abs(np.array(middles) - ([90] * 8 + [270] * 8)).max() < 30


def test_a_face_too_small_for_a_large_video_is_found_with_the_sides_that_are_named(
    world, tmp_path, capsys
):
    videos = tmp_path / "videos"
    videos.mkdir()
    write(videos / "01.mp4", "libx264", [scene((1700, 900, 110), size=(3840, 2160))] * 3)
    start, more = call(capsys), ["--videos", videos]
    status, _, complaints = predict(start, world, tmp_path / "small", *more)
    assert status == 0 and read_probabilities(tmp_path / "small")["face"].tolist() == [0, 0, 0]
    sides = complaints.split("--detect-sides ")[1].split(" finds")[0].split()
    assert predict(start, world, tmp_path / "large", *more, "--detect-sides", *sides)[0] == 0
    assert read_probabilities(tmp_path / "large")["face"].tolist() == [1, 1, 1]


def read_header() -> str:
    from common.submission.files import HEADER

    return HEADER


def test_odd_videos_are_read(tmp_path, world, capsys):
    """Odd sides, ten bits a colour, frames at uneven times, another codec and container."""
    videos = tmp_path / "videos"
    videos.mkdir()
    picture = scene((160, 120, 90))
    for name, codec, pixels, crop in (
        ("odd.mkv", "ffv1", "bgr0", 1),
        ("deep.mp4", "libx264", "yuv420p10le", 0),
    ):
        image = np.ascontiguousarray(picture[: 240 - crop, : 320 - crop])
        with av.open(videos / name, "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width = image.shape[:2]
            stream.pix_fmt = pixels
            for time_stamp in (0, 1, 7):
                frame = av.VideoFrame.from_ndarray(image)
                frame.pts = time_stamp
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert predict(call(capsys), world, tmp_path, "--videos", videos)[0] == 0
    table = read_probabilities(tmp_path)
    assert table[["video", "frame", "face"]].to_numpy().tolist() == [
        [name, frame, 1] for name in ("deep", "odd") for frame in (1, 2, 3)
    ]


def test_batches_wait_for_the_network_and_readers_end_with_it(world):
    """Memory: however slow the network, only a few batches are read ahead."""
    paths = {str(i): world / "videos" / "03.mp4" for i in range(2)}
    before = set(threading.enumerate())
    stream = streaming.stream_faces(paths, [16], batch_size=1, everyone=False, threads=1)
    assert len(next(stream).frames) == 1
    (reader,) = set(threading.enumerate()) - before
    reader.join(timeout=2)
    assert reader.is_alive()  # with 13 batches to come, it waits
    stream.close()
    assert not reader.is_alive()


def test_killed_run_leaves_the_earlier_submission_whole(world, tmp_path, capsys):
    assert predict(call(capsys), world, tmp_path)[0] == 0
    folder = tmp_path / "submission"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(40):
        (videos / f"{number}.mp4").symlink_to(world / "videos" / "01.mp4")
    started = script(
        SCRIPT,
        "--videos",
        videos,
        "--run-dir",
        tmp_path,
        "--checkpoints",
        world / "run" / "curriculum",
        "--rule",
        "harmonic",
        start_new_session=True,
    )
    stamp = (folder / ".lock").stat().st_mtime_ns
    while (folder / ".lock").stat().st_mtime_ns == stamp and started.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)  # in the midst of the videos
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    assert started.returncode == -signal.SIGKILL
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert after == before


def test_check_compare_and_help_start_without_torch_and_pandas(world, tmp_path, capsys):
    assert predict(call(capsys), world, tmp_path)[0] == 0
    path = str(tmp_path / "submission" / "predictions.txt")
    code = (
        "import runpy, sys; sys.argv[0] = '05'\n"
        "try: runpy.run_path('05_predict_submit.py', run_name='__main__')\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "slow = {'torch', 'pandas', 'scipy', 'matplotlib', 'onnxruntime', 'av'}\n"
        "slow &= set(sys.modules)\n"
        "assert not slow, slow"
    )
    for flags in (["--help"], ["--check", path], ["--compare", path, path]):
        subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, check=True)

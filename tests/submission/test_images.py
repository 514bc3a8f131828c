"""Photographs, face crops, and frames extracted from videos are predicted like videos."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.drawn import scene
from helpers.predicting import make_checkpoint, read_probabilities
from helpers.preparing import prepare, rows_of
from helpers.running import call
from helpers.videos import write
from PIL import Image

from common.emotions import BASIC, compound_scores
from common.faces import stills
from common.faces.alignment import align
from common.faces.detector import Detector
from common.faces.video import pictures
from common.networks.classifier import load_classifier
from common.script.files import UserError
from common.submission.files import HEADER

SCRIPT = "05_predict_submit.py"
COLUMNS = [f"p_{name}" for name in BASIC]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run") / "curriculum", 0)


def predict(capsys, checkpoint, out, *more):
    return call(capsys)(
        *(SCRIPT, "--run-dir", out, "--data-dir", out / "none", "--checkpoints", checkpoint),
        *("--mixed-precision", "no", *more),
    )


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_each_image_gets_probabilities_and_compound_and_a_word_on_its_face(
    checkpoint, tmp_path, capsys
):
    photograph = scene((200, 120, 90), (60, 60, 40))
    crop = align(photograph, Detector().detect(photograph).landmarks[0])
    place = tmp_path / "photographs"
    save(place / "a" / "photograph.png", photograph)
    save(place / "aligned.png", crop)
    save(place / "nobody.png", scene())
    (place / "broken.jpg").write_bytes(b"\xff\xd8no picture")
    (place / "notes.txt").write_text("none")
    status, output, _ = predict(
        capsys, checkpoint, tmp_path, "--images", place, place / "aligned.png", "--no-flip"
    )
    assert status == 0
    table = pd.read_csv(tmp_path / "images.csv", keep_default_na=False).set_index("image")
    names = ["a/photograph.png", "aligned.png", "broken.jpg", "nobody.png"]
    assert [os.path.relpath(path, place) for path in table.index] == names
    words = table["face"].tolist()
    assert words[:2] == ["found", "aligned before"]
    assert words[2].startswith("cannot be read") and words[3] == "none found: the whole image"
    assert table.iloc[2][[*COLUMNS, "compound"]].tolist() == [""] * 7
    for word in (*words[:2], words[3], "1 cannot be read", "photograph.png"):
        assert word in output
    # the photograph's face is the crop; each as the network itself sees it
    assert table.iloc[0][COLUMNS].tolist() == table.iloc[1][COLUMNS].tolist()
    network, settings = load_classifier(checkpoint)
    for row, image in ((1, crop), (3, scene())):
        import torch

        from common.submission.streaming import resize

        view = resize(torch.from_numpy(image.copy()).permute(2, 0, 1)[None], 16) / 255
        mean, std = (torch.tensor(settings[key])[:, None, None] for key in ("mean", "std"))
        with torch.no_grad():
            expected = torch.sigmoid(network((view - mean) / std))[0].numpy()
        found = table.iloc[row][COLUMNS].to_numpy(float)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        best = compound_scores(found[None]).argmax()
        assert table.iloc[row]["compound"] == HEADER.split(",")[1 + best]


@pytest.mark.parametrize("name", ["gone.jpg", "empty", "broken.jpg"])
def test_images_that_cannot_be_predicted_are_one_sentence(checkpoint, tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    status, _, complaints = predict(capsys, checkpoint, tmp_path, "--images", tmp_path / name)
    assert status == 2 and name in complaints and complaints.count("\n") == 1
    assert not (tmp_path / "images.csv").exists()


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A video, and the folder of its frames: number 3 is missing, and 5 cannot be read."""
    place = tmp_path_factory.mktemp("frames")
    (place / "videos").mkdir()
    made = [scene((110 + 6 * n, 120, 90), (290 - 4 * n, 60, 45)) for n in range(8)]
    write(place / "videos" / "01.avi", "ffv1", made)
    for number, (_, image) in enumerate(pictures(place / "videos" / "01.avi"), start=1):
        save(place / "extracted" / "01" / f"{number:05d}.png", image)
    (place / "extracted" / "01" / "00003.png").unlink()
    (place / "extracted" / "01" / "00005.png").write_bytes(b"no picture")
    return place


def write_list(path, numbers):
    path.write_text("\n".join([HEADER, *(f"01/{number:05d}.jpg," for number in numbers)]) + "\n")
    return path


def test_extracted_frames_are_predicted_as_their_video_and_keep_their_numbers(
    frames, checkpoint, tmp_path, capsys
):
    more = ["--smooth", "none", "--frame-list", write_list(tmp_path / "list.txt", range(1, 9))]
    for name, place in (("video", "videos"), ("folder", "extracted"), ("one", "extracted/01")):
        out = tmp_path / name
        assert predict(capsys, checkpoint, out, "--videos", frames / place, *more)[0] == 0
    video, folder, one = (read_probabilities(tmp_path / n) for n in ("video", "folder", "one"))
    there = [True, True, False, True, False, True, True, True]
    assert folder["face"].tolist() == there and video["face"].all()
    assert folder[there][COLUMNS].equals(video[there][COLUMNS])
    assert one.equals(folder)
    # without a list, the frames that there are
    _, _, complaints = predict(
        capsys, checkpoint, tmp_path / "all", "--videos", frames / "extracted"
    )
    assert read_probabilities(tmp_path / "all")["frame"].tolist() == [1, 2, 4, 5, 6, 7, 8]
    assert "missing from their video or unreadable: 1 of 01." in complaints


def test_what_can_be_read_of_a_folder_of_videos_is_and_the_rest_is_named(
    frames, checkpoint, tmp_path, capsys
):
    place, crop = tmp_path / "clips", frames / "extracted" / "01" / "00001.png"
    (place / "deep" / "er").mkdir(parents=True)
    for name in ("01.avi", "02.mpg4", "deep/03.AVI", "deep/er/04.avi", "noending"):
        shutil.copy(frames / "videos" / "01.avi", place / name)
    (place / "notes.txt").write_text("no list")
    folders = {  # of each, the names of pictures, and the numbers of its frames
        "05": (["00001.png", "00002.tif", "3.jpg", "thumb.png", "frame_4.png"], [1, 2, 3]),
        "deep/06": (["frame_1.png", "frame_3.png"], [1, 3]),
        "01": (["1.png"], []),  # the file of that name is the video
        "faces": (["a.png", "b.png"], []),
        "zero": (["0.png", "1.png"], []),
    }
    for folder, (names, _) in folders.items():
        for name in names:
            (place / folder).mkdir(exist_ok=True)
            Image.open(crop).save(place / folder / name)
    status, _, complaints = predict(capsys, checkpoint, tmp_path, "--videos", place)
    assert status == 0, complaints
    table = read_probabilities(tmp_path)
    for name, (_, numbers) in folders.items():
        if numbers:
            of_video = table["video"] == name[-2:]
            assert table[of_video]["frame"].tolist() == numbers and table[of_video]["face"].all()
    assert sorted(set(table["video"])) == ["01", "02", "03", "05", "06"]
    assert (
        "05 holds 2 more, named unlike its frames: left alone (frame_4.png, thumb.png)"
        in complaints
    )
    assert "Folders of frames beside video files are videos too: 05, 06." in complaints
    left = "noending, 01/1.png, deep/er/04.avi, faces/a.png, faces/b.png and 2 more"
    assert left in complaints


def test_extracted_frames_are_prepared_as_their_video_where_a_list_names_them(frames, tmp_path):
    raw = tmp_path / "raw" / "Clips"
    raw.mkdir(parents=True)
    (raw / "01").symlink_to(frames / "extracted" / "01")
    write_list(raw / "CER.txt", range(1, 10))
    rows = rows_of(prepare(tmp_path) / "frames.csv")
    assert [int(row["frame"]) for row in rows] == list(range(1, 10))
    assert [row["decoded"] for row in rows] == list("110101110")
    assert [bool(row["image"]) for row in rows] == [row["decoded"] == "1" for row in rows]


def test_frames_that_are_aligned_crops_are_used_as_they_are(frames, checkpoint, tmp_path, capsys):
    detector = Detector()
    place = tmp_path / "crops" / "01"
    for number, image in stills.stills(stills.frame_files(frames / "extracted" / "01")):
        face = detector.detect(image)
        side = 112 if number < 5 else 128  # they need not have one size
        save(place / f"frame_{number:05d}.png", align(image, face.landmarks[0], side))
    more = ["--smooth", "none", "--videos", tmp_path / "crops"]
    assert predict(capsys, checkpoint, tmp_path / "a", *more)[0] == 0
    table = read_probabilities(tmp_path / "a")
    assert table["frame"].tolist() == [1, 2, 4, 6, 7, 8] and table["face"].all()
    predict(capsys, checkpoint, tmp_path / "b", "--images", place)
    images = pd.read_csv(tmp_path / "b" / "images.csv")
    assert set(images["face"]) == {"aligned before"}
    np.testing.assert_allclose(images[COLUMNS], table[COLUMNS], atol=2e-6)


@pytest.mark.parametrize(
    "names, complaint",
    [(["00000.jpg", "00001.jpg"], "from 0"), (["1.jpg", "00001.jpg"], "one number")],
)
def test_frames_whose_numbers_are_not_clear_are_refused(tmp_path, names, complaint):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=complaint):
        stills.frame_files(tmp_path)


@pytest.mark.parametrize("names", [[], ["notes.txt"], ["a1.jpg", "b1.jpg"], ["1.jpg", "cover.jpg"]])
def test_a_folder_of_other_pictures_is_none_of_frames(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    assert stills.frame_files(tmp_path) == {}

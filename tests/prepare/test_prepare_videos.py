"""01_prepare_data.py on the challenge's videos and the list of their frames."""

from __future__ import annotations

import os

import pytest
from helpers.drawn import scene
from helpers.preparing import prepare, rows_of, skipped, state_of, videos_tree
from helpers.raw_files import image, text
from helpers.videos import damage, write

from common.emotions import CHALLENGE
from common.manifest import read_manifest
from common.script.files import UserError


def test_without_a_list_every_frame_counts(tmp_path, capsys):
    videos_tree(tmp_path / "raw" / "Clips", {"a": 3})
    (tmp_path / "raw" / "Clips" / "CER.txt").unlink()
    prepared = prepare(tmp_path)
    assert len(rows_of(prepared / "frames.csv")) == 3
    assert not (prepared / "frame_list.txt").exists()
    assert "no frame list" in capsys.readouterr().out
    assert len(read_manifest(prepared / "manifest.csv")) == 0


def test_a_list_or_a_video_that_comes_changes_or_goes_later_counts(tmp_path, capsys):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"a": 3, "b": 2})
    image(tmp_path / "raw" / "Faces" / "0.jpg", side=90)
    listing = (place / "CER.txt").read_text()
    (place / "CER.txt").unlink()
    prepared = prepare(tmp_path)
    kept = prepared / "frame_list.txt"

    def frames():
        prepare(tmp_path, accept=False)
        return [(row["video"], int(row["frame"])) for row in rows_of(prepared / "frames.csv")]

    decoded = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
    text(place / "CER.txt", listing + "\na/00004.jpg,")
    assert frames() == sorted([*decoded, ("a", 4)]) and "a/00004" in kept.read_text()
    kept.unlink()
    frames()
    assert "a/00004" in kept.read_text()
    text(place / "CER.txt", listing)
    assert frames() == decoded and "a/00004" not in kept.read_text()
    assert frames() == decoded
    assert "Nothing new to prepare; the manifest is" in capsys.readouterr().out
    text(place / "CER.txt", "\n".join(x for x in listing.split("\n") if not x.startswith("b/")))
    (place / "videos" / "b.mp4").unlink()
    assert frames() == decoded[:3]
    (place / "CER.txt").unlink()
    assert frames() == decoded[:3] and not kept.exists()
    (place / "videos" / "b.mp4").write_bytes(b"no video" * 99)
    prepare(tmp_path)
    (place / "videos" / "b.mp4").unlink()  # as the complaint says
    assert frames() == decoded[:3] and not skipped(prepared)


def test_videos_and_list_that_do_not_match_are_named(tmp_path, capsys):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"a": 2, "b": 2})
    listing = (place / "CER.txt").read_text()
    text(place / "CER.txt", "\n".join(x for x in listing.split("\n") if not x.startswith("b/")))
    prepared = prepare(tmp_path)
    assert "the frame list names no frame of b" in capsys.readouterr().out
    assert len(rows_of(prepared / "frames.csv")) == 4
    text(place / "CER.txt", listing + "\nc/00001.jpg,")
    with pytest.raises(UserError, match=r"CER\.txt names the video 'c'"):
        prepare(tmp_path)
    text(place / "CER.txt", listing.replace(CHALLENGE[2], "Boredom"))
    with pytest.raises(UserError, match=r"CER\.txt, line 1"):
        prepare(tmp_path)


def test_an_unreadable_video_stops_the_run_if_it_is_listed(tmp_path, capsys):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"a": 2, "b": 2})
    (place / "videos" / "c.mp4").write_bytes(b"no video" * 99)
    prepared = prepare(tmp_path)
    assert skipped(prepared) == {"c.mp4": "unreadable video"}
    assert "warning" in capsys.readouterr().out
    manifest = state_of(prepared)["manifest.csv"]
    (place / "videos" / "b.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(UserError, match=r"b\.mp4 cannot be decoded .*CER\.txt lists its frames"):
        prepare(tmp_path, accept=False)
    assert state_of(prepared)["manifest.csv"] == manifest


def test_a_video_whose_name_cannot_stand_in_a_submission_stops_the_run_before_any_work(tmp_path):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"a": 2})
    (place / "videos" / "a,b.mp4").touch()
    with pytest.raises(UserError, match=r"a,b\.mp4.* rename it"):
        prepare(tmp_path)
    assert not (tmp_path / "prepared" / "crops").exists()


def test_a_frame_that_does_not_decode_is_a_row_and_is_said(tmp_path, capsys):
    place = tmp_path / "raw" / "Clips"
    place.mkdir(parents=True)
    write(place / "a.avi", "mjpeg", [scene((100 + 5 * n, 120, 90)) for n in range(5)])
    damage(place / "a.avi", 2, "zeroed")
    prepared = prepare(tmp_path)
    rows = rows_of(prepared / "frames.csv")
    assert [row["frame"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["decoded"] for row in rows] == ["1", "1", "0", "1", "1"]
    assert [bool(row["image"]) for row in rows] == [True, True, False, True, True]
    assert "1 frames of a do not decode" in capsys.readouterr().out


def test_a_damaged_crop_of_a_video_is_done_again(tmp_path):
    videos_tree(tmp_path / "raw" / "Clips", {"a": 3})
    prepared = prepare(tmp_path)
    crop = prepared / rows_of(prepared / "frames.csv")[0]["image"]
    content = crop.read_bytes()
    crop.write_bytes(content[:-100])
    prepare(tmp_path)
    assert crop.read_bytes() == content


def test_what_the_disk_refused_is_tried_again_though_the_file_looks_the_same(tmp_path):
    place = tmp_path / "raw"
    videos_tree(place / "Clips", {"a": 2, "b": 2})
    video, pipe = place / "Clips" / "videos" / "b.mp4", place / "Faces" / "pipe.jpg"
    image(place / "Faces" / "a.jpg")
    os.mkfifo(pipe)
    content, times = video.read_bytes(), (1e9, 1e9)
    video.write_bytes(bytes(len(content)))
    for path in (video, pipe):
        os.utime(path, times)
    prepared = prepare(tmp_path)
    assert skipped(prepared) == {"b.mp4": "unreadable video", "pipe.jpg": "cannot be read"}
    pipe.unlink()
    pipe.touch()
    video.write_bytes(content)
    for path in (video, pipe):
        os.utime(path, times)
    prepare(tmp_path)
    assert skipped(prepared) == {"pipe.jpg": "empty file"}
    assert len(rows_of(prepared / "frames.csv")) == 4

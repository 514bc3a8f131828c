"""MAFW, FER2013 with and without FERPlus, ExpW and CK+: labelled sets in forms of their own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers.raw_files import faults, image, read, text
from helpers.raw_trees_emotions import ckplus_tree, expw_tree, fer2013_tree
from helpers.raw_trees_videos import mafw_tree
from PIL import Image

from common.emotions import challenge_class
from common.prepare.ingest import Options, ingest
from common.raw import ckplus, clips, expw, fer2013, mafw, reader_of
from common.script.files import UserError


@pytest.fixture
def options(tmp_path):
    return Options(str(tmp_path), str(tmp_path / "prepared"), 16, "", 0.4, (160, 480))


@pytest.mark.parametrize("captions", ["no_caption", "with_caption"])
def test_mafw_gives_each_clip_its_compound_label_first(tmp_path, captions):
    place = mafw_tree(tmp_path / "clips of films", captions)
    assert reader_of(place) is mafw and mafw.form(place) == "lists of compound and single"
    items, skips, counts = read(mafw, place)
    clips = {(i.subject, i.split, i.kind, i.labels) for i in items.values()}
    assert clips == {
        ("00001", "train", "compound", "Fear Surprise"),
        ("00002", "train", "unlabelled", ""),  # anxiety
        ("00003", "test", "unlabelled", ""),  # three together
        ("00004", "train", "single", "Happiness"),  # in the single lists alone
    }
    assert len(items) == 8 * len(clips) and all(item.scene for item in items.values())
    assert {challenge_class(i.labels) for i in items.values() if i.kind == "compound"} == {0}
    assert counts["clips of Fearfully_Surprised (official 392)"] == 1
    assert skips == [
        ("train.txt:3", "not a line `clip label`"),
        ("train.txt:4", "listed clip is missing"),
    ]


def test_mafw_frames_are_spread_over_the_clip_and_aligned(tmp_path, options):
    place = mafw_tree(tmp_path / "MAFW")
    items = [i for i in read(mafw, place)[0].values() if i.subject == "00001"]
    # The drawn face moves 5 px a frame: its middle tells the frame. Of 20 frames, the middles
    # of eight equal parts are frames 2, 4, 7, 9, 12, 14, 17, 19 (from 1).
    pictures = [clips.open_frame(i.path, i.part).astype(int) for i in items]
    background = np.array((110, 130, 140))
    columns = [np.abs(p - background).sum(-1).sum(0) for p in pictures]
    middles = [np.average(np.arange(len(c)), weights=np.where(c > 2000, c, 0)) for c in columns]
    frames = [round((middle - 60) / 5) + 1 for middle in middles]
    assert frames == [2, 4, 7, 9, 12, 14, 17, 19]
    records = ingest(items, True, options)
    assert {(r.width, r.height, r.face) for r in records if not r.reason} == {
        ("256", "256", "aligned")
    }
    assert sum(not r.reason for r in records) >= 6
    assert [r.path for r in records][:1] == ["MAFW/data/clips/00001.mp4#1/8"]


def test_mafw_refuses_frames_without_a_face_and_clips_that_are_none(tmp_path, options):
    place = mafw_tree(tmp_path / "MAFW")
    items = [i for i in read(mafw, place)[0].values() if i.subject != "00001"]
    reasons = {}
    for item, record in zip(items, ingest(items, True, options), strict=True):
        reasons.setdefault(item.subject, []).append(record.reason)
    assert reasons["00002"] == ["no face found"] * 8
    assert reasons["00003"] == [""] * 3 + ["damaged image"] * 5  # it has three frames
    assert reasons["00004"] == ["damaged image"] * 8


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("data/clips", "lacks data/clips/"),
        ("Train & Test Set", "lacks Train & Test Set/compound"),
        ("Train & Test Set/single/no_caption/set_1/test.txt", r"lacks train\.txt or test\.txt"),
    ],
)
def test_mafw_without_its_parts_says_so(tmp_path, missing, words):
    place = mafw_tree(tmp_path / "MAFW")
    (place / missing).rename(tmp_path / "away")
    assert reader_of(place) is mafw
    with pytest.raises(UserError, match=words):
        mafw.read(place, Counter())


@pytest.mark.parametrize("mirror", [False, True])
def test_fer2013_rows_become_pictures_of_their_pixels(tmp_path, options, mirror):
    place = fer2013_tree(tmp_path / "FER", mirror=mirror)
    assert reader_of(place) is fer2013
    items, skips, _ = read(fer2013, place)
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "FER2013/train/fer0000000.jpg": ("train", "Anger"),
        "FER2013/val/fer0000001.jpg": ("val", "Happiness"),
        "FER2013/test/fer0000002.jpg": ("test", "Neutral"),
        "FER2013/train/fer0000004.jpg": ("train", "Surprise"),
    }
    assert [reason for _, reason in skips] == [
        "unknown label",
        "unknown usage",
        "not a row of 3 fields",
    ]
    assert [path.partition(":")[2] for path, _ in skips] == ["5", "7", "8"]
    records = ingest(list(items.values()), False, options)
    assert [r.reason for r in records] == ["", "", "", "damaged image"]
    assert records[3].detail.endswith("pixels instead of 2304")
    for record, gray in zip(records, (10, 60, 110), strict=False):
        picture = Image.open(tmp_path / "prepared" / record.image)
        assert picture.size == (48, 48) and picture.mode == "RGB"
        assert np.abs(np.asarray(picture, dtype=float) - gray).max() < 3


def test_fer2013_pixels_that_are_none_are_refused(tmp_path, options):
    place = fer2013_tree(tmp_path / "FER")
    lines = (place / "fer2013.csv").read_text().splitlines()
    for bad in ("256", "-1", "9" * 40, "x"):
        text(place / "fer2013.csv", "\n".join([lines[0], lines[1].replace("10 ", f"{bad} ", 1)]))
        items = list(read(fer2013, place)[0].values())
        assert [r.reason for r in ingest(items, False, options)] == ["damaged image"]
    text(place / "fer2013.csv", "\n".join(lines[1:]))  # without its header
    assert reader_of(place) is fer2013
    with pytest.raises(UserError, match="line 1: no column 'emotion'"):
        fer2013.read(place, Counter())


def test_ferplus_takes_the_label_of_more_than_half(tmp_path):
    place = fer2013_tree(tmp_path / "FER", votes=True)
    items, skips, _ = read(fer2013, place)
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "FERPlus/train/fer0000000.jpg": ("train", "Anger"),
        "FERPlus/val/fer0000001.jpg": ("val", ""),  # votes without a majority
        "FERPlus/train/fer0000003.jpg": ("train", "Contempt"),
    }
    assert skips == [
        ("fer2013.csv:4", "the majority says NF"),
        ("fer2013.csv:6", "the majority says unknown"),
        ("fer2013.csv:7", "unknown usage"),
        ("fer2013.csv:8", "not a row of 3 fields"),
    ]
    assert faults(fer2013, place) == ["fer2013.csv:7", "fer2013.csv:8"]


def test_a_damaged_row_of_fer2013_shifts_no_vote(tmp_path):
    place = fer2013_tree(tmp_path / "FER", votes=True)
    lines = (place / "fer2013.csv").read_text().splitlines()
    lines[1] = "torn"
    text(place / "fer2013.csv", "\n".join(lines))
    assert [i.labels for i in read(fer2013, place)[0].values()] == ["", "Contempt"]


def test_ferplus_of_another_length_is_told(tmp_path):
    place = fer2013_tree(tmp_path / "FER", votes=True)
    lines = (place / "fer2013new.csv").read_text().splitlines()
    text(place / "fer2013new.csv", "\n".join(lines[:3]))
    assert ("fer2013.csv:4", "no votes in its list") in read(fer2013, place)[1]
    text(place / "fer2013new.csv", "\n".join([*lines, *lines[1:5]]))
    assert ("fer2013.csv", "fewer rows than fer2013new.csv has") in read(fer2013, place)[1]
    (place / "fer2013.csv").unlink()
    with pytest.raises(UserError, match="votes but no pixels"):
        fer2013.read(place, Counter())


def test_expw_boxes_are_top_left_right_bottom(tmp_path):
    place = expw_tree(tmp_path / "Expression in the Wild")
    assert reader_of(place) is expw
    items, skips, _ = read(expw, place)
    assert {n: (i.labels, i.split, i.subject, i.box) for n, i in items.items()} == {
        # left 20 right 50 top 10 bottom 60, and a quarter more
        "ExpW/a_man_1.jpg_0.jpg": ("Happiness", "", "a_man_1.jpg", (13, -2, 57, 72)),
        "ExpW/a_man_1.jpg_1.jpg": ("Anger", "", "a_man_1.jpg", (64, -1, 101, 36)),
        "ExpW/b.jpg_3.jpg": ("Neutral", "", "b.jpg", (13, -2, 57, 72)),
    }
    assert skips == [
        ("label.lst:3", "face is in an earlier line"),
        ("label.lst:4", "face box without an area"),
        ("label.lst:5", "listed image is missing"),
        ("label.lst:6", "unknown label"),
        ("label.lst:7", "not a row of 8 fields"),
    ]
    (place / "image").rename(tmp_path / "away")
    with pytest.raises(UserError, match="lacks image/origin/"):
        expw.read(place, Counter())


def test_ckplus_reads_the_peak_of_labelled_sequences(tmp_path):
    place = ckplus_tree(tmp_path / "CK+")
    assert reader_of(place) is ckplus
    items, skips, counts = read(ckplus, place)
    assert {name: (i.labels, i.subject) for name, i in items.items()} == {
        f"CK+/S005/001/S005_001_{frame:08d}.png.jpg": ("Disgust", "S005") for frame in (3, 4, 5)
    }
    assert skips == [("S010_001_00000002_emotion.txt:1", "unknown label")]
    assert counts == {"sequences without a label": 1}
    (place / "Emotion").rename(tmp_path / "away")
    with pytest.raises(UserError, match="lacks Emotion/"):
        ckplus.read(place, Counter())


def test_ckplus_labels_are_its_own(tmp_path):
    place = ckplus_tree(tmp_path / "CK+")
    names = ["Neutral", "Anger", "Contempt", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"]
    for number, name in enumerate(names):
        person = f"S{100 + number}"
        image(place / "cohn-kanade-images" / person / "001" / f"{person}_001_00000001.png")
        text(
            place / "Emotion" / person / "001" / f"{person}_001_00000001_emotion.txt",
            f"  {number}.0e+00",
        )
        found = [i.labels for i in read(ckplus, place)[0].values() if i.subject == person]
        assert found == [name]

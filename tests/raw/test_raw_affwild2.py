"""Aff-Wild2, expressions of videos (EXPR) and of single frames (MTL)."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.raw_files import faults, image, read, text
from helpers.raw_trees_videos import HEADER, affwild2_tree, mtl_row, mtl_tree

from common.raw import affwild2, reader_of
from common.script.files import UserError


@pytest.mark.parametrize(
    "name", ["EXPR_Recognition_Challenge", "EXPR_Classification_Challenge", "EXPR_Set"]
)
def test_affwild2_line_i_is_frame_i_from_one(tmp_path, name):
    place = affwild2_tree(tmp_path / "whatever", name)
    assert reader_of(place) is affwild2
    items, skips, counts = read(affwild2, place)
    assert {name: (i.split, i.kind, i.labels, i.subject) for name, i in items.items()} == {
        "Aff-Wild2/1-30-1280x720/00001.jpg": ("train", "single", "Neutral", "1-30-1280x720"),
        "Aff-Wild2/1-30-1280x720/00004.jpg": ("train", "unlabelled", "", "1-30-1280x720"),
        "Aff-Wild2/1-30-1280x720/00005.jpg": ("train", "single", "Happiness", "1-30-1280x720"),
        "Aff-Wild2/v_left/00002.jpg": ("val", "single", "Disgust", "v"),
        "Aff-Wild2/v_right/00001.jpg": ("val", "single", "Sadness", "v"),
    }
    assert skips == [
        ("00003.jpg", "label -1: not annotated"),
        ("00006.jpg", "beyond the last label of its video"),
        ("00002.jpg", "unknown label"),
    ]
    assert counts["labelled frames without a face crop"] == 2  # frame 2, and 1 of v_left
    assert counts["frames one beyond the last label"] == 1


def test_affwild2_blank_line_shifts_no_label(tmp_path):
    place = affwild2_tree(tmp_path / "Aff-Wild2")
    path = place / "EXPR_Recognition_Challenge" / "Train_Set" / "1-30-1280x720.txt"
    text(path, f"{HEADER}\n0\n1\n\n7\n4\n\n")
    items, skips, counts = read(affwild2, place)
    assert [i.labels for i in items.values() if i.split == "train"] == ["Neutral", "", "Happiness"]
    assert skips[:2] == [
        ("00003.jpg", "no label"),
        ("00006.jpg", "beyond the last label of its video"),
    ]
    assert counts["frames one beyond the last label"] == 1


def test_affwild2_faults_are_named(tmp_path):
    place = affwild2_tree(tmp_path / "Aff-Wild2")
    text(place / "EXPR_Recognition_Challenge" / "Train_Set" / "gone.txt", f"{HEADER}\n1\n")
    assert ("gone.txt", "no folder of face crops for this video") in read(affwild2, place)[1]
    text(place / "EXPR_Recognition_Challenge" / "Train_Set" / "gone.txt", "0\n1\n")
    image(place / "cropped_aligned" / "gone" / "00001.jpg")
    items, skips, _ = read(affwild2, place)
    assert ("gone.txt:1", "no header of expressions") in skips and len(items) == 5
    text(place / "EXPR_Recognition_Challenge" / "Train_Set" / "gone.txt", "\0\0")
    items, skips, _ = read(affwild2, place)
    assert ("gone.txt", "no text") in skips and len(items) == 5
    for missing in ("EXPR_Recognition_Challenge", "cropped_aligned"):
        (place / missing).rename(tmp_path / missing)
    with pytest.raises(UserError, match="lacks its annotations"):
        affwild2.read(place, Counter())
    (tmp_path / "EXPR_Recognition_Challenge").rename(place / "EXPR_Recognition_Challenge")
    (place / "cropped_aligned_new_50_vids").rename(tmp_path / "away")
    with pytest.raises(UserError, match="lacks the folder cropped_aligned"):
        affwild2.read(place, Counter())


def test_affwild2_frames_that_nobody_labelled_are_no_fault(tmp_path):
    place = affwild2_tree(tmp_path / "Aff-Wild2")
    assert faults(affwild2, place) == ["00002.jpg"]  # its label is `x`
    image(place / "cropped_aligned" / "1-30-1280x720" / "00009.jpg")
    assert faults(affwild2, place) == ["00009.jpg", "00002.jpg"]


@pytest.mark.parametrize(
    ("expr", "first", "second"),
    [
        ("6th ABAW Annotations", "batch1 (1)", "batch2"),
        ("annotations", "cropped_aligned", "cropped_aligned"),  # archives unpacked in their names
        (".", "cropped_aligned_images", "cropped_aligned_images"),
    ],
)
def test_affwild2_is_found_where_its_archives_are_unpacked(tmp_path, expr, first, second):
    place = affwild2_tree(tmp_path / "raw")
    (place / expr).mkdir(exist_ok=True)
    if expr != ".":
        (place / "EXPR_Recognition_Challenge").rename(place / expr / "EXPR_Recognition_Challenge")
    for name in ("cropped_aligned", "cropped_aligned_new_50_vids"):
        (place / name).rename(tmp_path / name)
    for folder, name in ((first, "cropped_aligned"), (second, "cropped_aligned_new_50_vids")):
        (place / folder).mkdir(exist_ok=True)
        (tmp_path / name).rename(place / folder / name)
    assert reader_of(place) is affwild2
    assert len(read(affwild2, place)[0]) == 5


def test_mtl_reads_the_expression_of_16_fields(tmp_path):
    place = mtl_tree(tmp_path / "MTL")
    assert reader_of(place) is affwild2 and affwild2.form(place) == "MTL lists"
    items, skips, counts = read(affwild2, place)
    assert {name: (i.split, i.kind, i.labels, i.subject) for name, i in items.items()} == {
        "s-Aff-Wild2/341/00001.jpg": ("train", "unlabelled", "", "341"),  # Other
        "s-Aff-Wild2/341/00002.jpg": ("train", "single", "Surprise", "341"),  # valence -5
        "s-Aff-Wild2/9_left/00001.jpg": ("train", "single", "Happiness", "9"),
        "s-Aff-Wild2/12/00001.jpg": ("val", "single", "Sadness", "12"),
    }
    assert skips == [
        ("training_set_annotations.txt:4", "image is in an earlier line"),
        (
            "training_set_annotations.txt:5",
            "image is in an earlier line, otherwise labelled",
        ),
        ("00003.jpg", "label -1: not annotated"),
        ("training_set_annotations.txt:8", "not a row of 16 fields"),
        ("training_set_annotations.txt:10", "image points outside its folder"),
        ("00005.jpg", "unknown label"),
    ]
    assert counts == {"labelled frames without a face crop": 1}
    assert len(faults(affwild2, place)) == 4  # not the line that only comes twice, nor -1


def test_a_video_of_both_expr_and_mtl_is_read_once_so_that_no_split_shares_it(tmp_path):
    place = affwild2_tree(tmp_path / "Aff-Wild2")
    rows = [mtl_row(f"{v}/00001.jpg", 1) for v in ("v", "v_right", "1-30-1280x720", "other")]
    text(
        place / "training_set_annotations.txt",
        "\n".join(["image,valence,arousal,expression,aus", *rows]),
    )
    for video in ("v", "other"):
        image(place / "cropped_aligned" / video / "00001.jpg")
    items, skips, _ = read(affwild2, place)
    assert [i.name for i in items.values() if i.dataset == "s-Aff-Wild2"] == ["other/00001.jpg"]
    assert [reason for _, reason in skips].count("its video is read from EXPR") == 3
    by_video = {}
    for item in items.values():
        by_video.setdefault(item.subject, set()).add((item.dataset, item.split))
    assert all(len(places) == 1 for places in by_video.values())

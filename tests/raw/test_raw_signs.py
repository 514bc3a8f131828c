"""Labelled trees are never taken for plain faces, and plain faces are not taken for labelled."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.drawn import scene, write_video
from helpers.preparing import prepare, rows_of
from helpers.raw_files import image, read, text
from helpers.raw_forms import write_sheet

from common.raw import challenge, folder, reader_of
from common.script.files import UserError


def images_at(root, *folders, count=1):
    for place in folders:
        for number in range(count):
            image(root / place / f"{number}.jpg", side=16)


FRENCH = ("colere", "joie", "tristesse")


def yolo(root):
    for split in ("train", "val"):
        image(root / split / "images" / "1.jpg")
        text(root / split / "labels" / "1.txt", "0 0.5 0.5 0.9 0.9")


def names_with_expressions(root):
    for name in ("ann_happy_1", "bo_sad_2", "cy_anger_3", "di_fear_4"):
        image(root / "images" / f"{name}.jpg")


LABELLED = {
    "one expression": (lambda r: images_at(r, "happy"), "named after expressions, happy, in"),
    "one expression, in splits": (
        lambda r: images_at(r, "train/happy/p1", "test/happy/p1"),
        "named after expressions, happy, in .*Faces/t",
    ),
    "one expression of three": (
        lambda r: images_at(r, "Happy", "Sleepy", "Bored"),
        "named after expressions, Happy, in",
    ),
    "two expressions of five": (
        lambda r: images_at(r, "a/happy", "a/sad", "a/bored", "a/sleepy", "a/tired"),
        "named after expressions, happy, sad, in .*Faces/a",
    ),
    "splits below numbers": (
        lambda r: images_at(r, *(f"{n}/{split}" for n in range(3) for split in ("train", "val"))),
        "folders numbered 0 to 2",
    ),
    "numbers": (lambda r: images_at(r, "0", "1", "2"), "folders numbered 0 to 2"),
    "numbers below splits": (
        lambda r: images_at(r, "train/1", "train/2", "test/1", "test/2"),
        "folders numbered 1 to 2 in .*Faces/t",
    ),
    "numbers four folders down": (
        lambda r: images_at(r, "archive/data/train/0", "archive/data/train/1"),
        "folders numbered 0 to 1",
    ),
    "another language, in two splits": (
        lambda r: images_at(
            r, *(f"{split}/{name}" for split in ("train", "val") for name in FRENCH)
        ),
        "the same folders, colere, joie, tristesse, in train and val",
    ),
    "another language, many images": (
        lambda r: images_at(r, *FRENCH, count=60),
        "few folders of many images, colere, joie, tristesse",
    ),
    "class_1 to class_3": (
        lambda r: images_at(r, "class_1", "class_2", "class_3", count=60),
        "few folders of many images, class_1",
    ),
    "a table": (
        lambda r: (images_at(r, "faces"), text(r / "train.csv", "id,Emotion\n0.jpg,3\n")),
        r"the table .*train\.csv with a column 'emotion'",
    ),
    "a table without a header": (
        lambda r: (images_at(r, "faces"), text(r / "faces" / "label.csv", "0.jpg,4,0,0\n")),
        r"the list .*label\.csv",
    ),
    "a sheet": (
        lambda r: (images_at(r, "faces"), write_sheet(r / "a.xlsx", [["id", "Label"], [1, 2]])),
        r"the table .*a\.xlsx with a column 'label'",
    ),
    "boxes without their classes": (yolo, "a folder labels beside images"),
    "names of images": (
        names_with_expressions,
        "images named after expressions, such as ann_happy",
    ),
}

PLAIN = {
    "ids of CASIA": lambda r: images_at(r, *(f"{n:07d}" for n in range(5)), count=60),
    "ids of VGGFace2 in splits": lambda r: images_at(
        r, *(f"{split}/n{n:06d}" for split in ("train", "test") for n in range(4)), count=60
    ),
    "names of few persons": lambda r: images_at(r, "Ann_Lee", "Bo Rae", "George_W_Bush", count=60),
    "many persons of one name": lambda r: images_at(r, *(f"p{n}x" for n in range(40)), count=2),
    "few persons with few images": lambda r: images_at(r, "ann", "bo", "cy", count=20),
    "numbered persons": lambda r: images_at(r, *(str(n) for n in range(40))),
    "parts": lambda r: images_at(r, "part_1", "part_2", "part_3", count=60),
    "parts of persons": lambda r: images_at(
        r, *(f"{n}/000{m}" for n in range(3) for m in range(3))
    ),
    "parts of images and persons": lambda r: images_at(
        r, "", *(str(n) for n in range(3)), *(f"{n}/000{m}" for n in range(3) for m in range(3))
    ),
    "numbers with gaps": lambda r: images_at(r, "3", "17", "18"),
    "one person called Joy": lambda r: images_at(r, "Joy", "Ann", "Bo", "Cy"),
    "two persons called Joy": lambda r: images_at(r, "Joy", "joy_2", "Ann", "Bo", "Cy", "Di", "Ed"),
    "hundreds of persons and Joy": lambda r: images_at(r, "Joy", *(f"Ann{n}" for n in range(205))),
    "clips of hundreds of persons": lambda r: images_at(
        r, *(f"Ann{n}/{clip}" for n in range(205) for clip in range(2))
    ),
    "a list of persons": lambda r: (images_at(r, "a"), text(r / "identity.txt", "1.jpg 2880\n")),
    "splits alone": lambda r: images_at(r, "train", "test", count=60),
}


@pytest.mark.parametrize("tree", LABELLED)
def test_a_labelled_tree_is_never_taken_for_plain_faces(tmp_path, tree):
    build, words = LABELLED[tree]
    build(tmp_path / "Faces")
    with pytest.raises(UserError, match=words) as caught:
        reader_of(tmp_path / "Faces")
    for way_out in ("classes.csv", "labels.csv", "--unlabelled 'Faces'"):
        assert way_out in str(caught.value)
    assert reader_of(tmp_path / "Faces", unlabelled=True) is folder


@pytest.mark.parametrize("tree", PLAIN)
def test_plain_faces_are_not_taken_for_labelled(tmp_path, tree):
    PLAIN[tree](tmp_path / "Faces")
    assert reader_of(tmp_path / "Faces") is folder


@pytest.mark.parametrize(
    ("places", "words"),
    [(("Happy", "Sad"), "Happy, Sad"), (("Happy",), "Happy"), (("Sad/p1",), "Sad")],
)
def test_labelled_videos_are_never_taken_for_the_challenges(tmp_path, places, words):
    for name in places:
        (tmp_path / "Clips" / name).mkdir(parents=True)
        write_video(tmp_path / "Clips" / name / "1.mp4", [scene()] * 2)
    with pytest.raises(UserError, match=f"videos in folders named after expressions, {words}, in"):
        reader_of(tmp_path / "Clips")
    assert reader_of(tmp_path / "Clips", unlabelled=True) is challenge


def test_what_lies_below_a_split_is_held_out_labelled_or_not(tmp_path):
    names = (
        "train/n1/a.jpg",
        "Validation_Set/n2/b.jpg",
        "TEST/n1/c.jpg",
        "n3/d.jpg",
        "valid/e.jpg",
    )
    for name in names:
        image(tmp_path / "Faces" / name)
    items = read(folder, tmp_path / "Faces")[0]
    assert {name: (i.split, i.subject) for name, i in items.items()} == {
        "Faces/train/n1/a.jpg": ("train", "n1"),
        "Faces/Validation_Set/n2/b.jpg": ("val", "n2"),
        "Faces/TEST/n1/c.jpg": ("test", "n1"),
        "Faces/n3/d.jpg": ("", "n3"),
        "Faces/valid/e.jpg": ("val", ""),
    }


def test_01_stops_before_a_labelled_tree_and_goes_on_if_told(tmp_path):
    images_at(tmp_path / "raw" / "Faces", "0", "1", "val/0", "val/1", count=3)
    with pytest.raises(UserError, match="numbered 0 to 1"):
        prepare(tmp_path, "--list")
    flags = ("--duplicates", "keep", "--min-sharpness", "0")
    prepared = prepare(tmp_path, "--unlabelled", "Faces", *flags)
    splits = Counter((r["kind"], r["split"]) for r in rows_of(prepared / "manifest.csv"))
    assert splits == {("unlabelled", ""): 6, ("unlabelled", "val"): 6}
    with pytest.raises(UserError, match="names 'Face', which is no folder"):
        prepare(tmp_path, "--unlabelled", "Face")

"""Folders that say the class: names, numbers, boxes and splits; what is no class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_files import image, read, text
from helpers.raw_forms import FORMS
from PIL import Image

from common.emotions import parse_labels
from common.raw import affectnet_yolo, ckplus_faces, classes, reader_of, trees
from common.raw.layout import Skip
from common.script.files import UserError

SPLITS = ("train", "test")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("val", "val"),
        ("Validation_Set", "val"),
        ("VALID", "val"),
        ("Val_Aligned_Faces_new", "val"),
        ("test", "test"),
        ("Test_Set", "test"),
        ("train_data", "train"),
        ("Training", "train"),
        ("train_test", ""),
        ("Val_Kilmer", ""),
        ("0000045", ""),
        ("latest", ""),
    ],
)
def test_folders_named_after_splits_are_known(name, split):
    assert trees.split_of(name) == split


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("01_angry", ("Anger",)),
        ("3-sad", ("Sadness",)),
        ("HAPPINESS", ("Happiness",)),
        ("Happy faces", ("Happiness",)),
        ("suprise", ("Surprise",)),
        ("SadlyAngry", ("Anger", "Sadness")),
        ("others", ()),
        ("heureux", None),
        ("3", None),
        ("Ann_Lee", None),
    ],
)
def test_folders_named_after_expressions_are_known(name, labels):
    assert trees.class_of(name) == labels


@pytest.mark.parametrize("above", ["", "train", "data/train", "archive/data/train"])
def test_labels_that_only_folders_tell_are_read_at_any_depth(tmp_path, above):
    for name in ("angry", "Happy", "3_sad"):
        image(tmp_path / "Mine" / above / name / "1.jpg")
    assert reader_of(tmp_path / "Mine") is classes
    items = read(classes, tmp_path / "Mine")[0].values()
    assert sorted(i.labels for i in items) == ["Anger", "Happiness", "Sadness"]
    assert {i.split for i in items} == {"train" if above else ""}


def test_a_folder_of_another_name_among_classes_is_asked_about(tmp_path):
    for name in ("happy", "sad", "sleepy"):
        image(tmp_path / "Mine" / "train" / name / "1.jpg")
    assert reader_of(tmp_path / "Mine") is classes
    with pytest.raises(UserError, match=r"'sleepy', which are not; .* in a classes\.csv"):
        classes.read(tmp_path / "Mine", Counter())
    text(tmp_path / "Mine" / "classes.csv", "folder,label\nsleepy,other\n")
    labels = {name: item.labels for name, item in read(classes, tmp_path / "Mine")[0].items()}
    assert labels == {
        "Mine/train/happy/1.jpg": "Happiness",
        "Mine/train/sad/1.jpg": "Sadness",
        "Mine/train/sleepy/1.jpg": "",
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("0,bored\n", "line 2: unknown expression 'bored'"),
        ("0,sad\n1,fear\n0,happy\n", "lines 2 and 4 give the folder '0' two labels"),
    ],
)
def test_a_wrong_row_of_classes_csv_is_a_user_error(tmp_path, rows, words):
    image(tmp_path / "Mine" / "0" / "1.jpg")
    text(tmp_path / "Mine" / "classes.csv", f"folder,label\n{rows}")
    with pytest.raises(UserError, match=rf"classes\.csv, {words}"):
        classes.read(tmp_path / "Mine", Counter())


def test_classes_csv_that_names_some_folders_loses_none_without_a_word(tmp_path):
    for split in ("train", "val"):
        for name in ("Sad", "heureux", "triste"):
            image(tmp_path / "Mine" / split / name / "1.jpg")
    image(tmp_path / "Mine" / "test" / "pictures" / "1.jpg")
    text(tmp_path / "Mine" / "classes.csv", "folder,label\nheureux,joy\nHEUREUX,happy\nfou,mad\n")
    items, skips, counts = read(classes, tmp_path / "Mine")
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "Mine/train/Sad/1.jpg": ("train", "Sadness"),
        "Mine/train/heureux/1.jpg": ("train", "Happiness"),
        "Mine/val/Sad/1.jpg": ("val", "Sadness"),
        "Mine/val/heureux/1.jpg": ("val", "Happiness"),
        "Mine/test/pictures/1.jpg": ("test", ""),
    }
    assert skips == [
        ("1.jpg", "is not in the folder of a class"),
        ("1.jpg", "is not in the folder of a class"),
        ("classes.csv:4", "no image lies in a folder of this name"),
    ]
    assert counts == {"held out, in no class folder: kept without a label": 1}


DEEPER = {
    "persons": {f"{c}/p{n}/1.jpg": ("", c, f"p{n}") for c in ("happy", "sad") for n in range(12)},
    "few persons": {f"{c}/p{n}/1.jpg": ("", c, "") for c in ("happy", "sad") for n in range(3)},
    "splits below": {f"{c}/{s}/1.jpg": (s, c, "") for c in ("happy", "sad") for s in SPLITS},
    "splits and persons below": {
        f"{c}/{s}/p{n}/a/1.jpg": (s, c, f"p{n}/a")
        for c in ("happy", "sad")
        for s in SPLITS
        for n in range(12)
    },
    "one class a split": {"train/happy/1.jpg": ("train", "happy", "")}
    | {"test/sad/1.jpg": ("test", "sad", "")},
    "one class a person": {
        f"p{n}/{c}/1.jpg": ("", c, f"p{n}") for n in range(12) for c in (("happy", "sad")[n % 2],)
    },
    "hundreds of persons": {f"p{n}/sad/1.jpg": ("", "sad", f"p{n}") for n in range(205)}
    | {f"p{n}/happy/1.jpg": ("", "happy", f"p{n}") for n in range(205)},
    "persons in parts": {
        f"part{m}/p{n}/{c}/1.jpg": ("", c, f"p{n}")
        for m in range(70)
        for n in range(2)
        for c in ("happy", "sad")
    },
    "seven folders down": {f"a/b/c/d/e/f/{c}/1.jpg": ("", c, "") for c in ("happy", "sad")},
    "hundreds of loose images": {f"{c}/1.jpg": ("", c, "") for c in ("happy", "sad")}
    | {f"{n}.jpg": "is not in the folder of a class" for n in range(205)},
    "singles around compounds": {"sad/SadlyAngry/1.jpg": ("", "sadly angry", "")}
    | {"happy/1.jpg": ("", "happy", "")},
    "a person called Joy": {f"{c}/Ann/1.jpg": ("", c, "") for c in ("sad", "fear")}
    | {"sad/Joy/1.jpg": "is in the folders of two classes"},
}


@pytest.mark.parametrize("tree", DEEPER)
def test_folders_named_after_expressions_tell_the_labels_of_what_lies_below(tmp_path, tree):
    for name in DEEPER[tree]:
        text(tmp_path / "Mine" / name, "")
    assert reader_of(tmp_path / "Mine") is classes
    found = {}
    for one in classes.read(tmp_path / "Mine", Counter()):
        name = str(Path(one.path).relative_to(tmp_path / "Mine"))
        found[name] = one.reason if isinstance(one, Skip) else (one.split, one.labels, one.subject)
    assert found == {
        name: told if isinstance(told, str) else (told[0], " ".join(parse_labels(told[1])), told[2])
        for name, told in DEEPER[tree].items()
    }


@pytest.mark.parametrize("above", [True, False])
def test_many_folders_around_classes_are_persons(tmp_path, above):
    for number in range(12):
        for name in ("happy", "sad"):
            inner = f"p{number}/{name}" if above else f"{name}/p{number}"
            image(tmp_path / "Mine" / "train" / inner / "1.jpg")
    items = read(classes, tmp_path / "Mine")[0].values()
    assert {item.subject for item in items} == {f"p{number}" for number in range(12)}
    assert {(item.split, item.labels) for item in items} == {
        ("train", "Happiness"),
        ("train", "Sadness"),
    }


def test_a_few_folders_below_classes_are_views_and_no_persons(tmp_path):
    for name in ("happy", "sad"):
        for view in ("left", "right"):
            image(tmp_path / "Mine" / name / view / "1.jpg")
    assert {item.subject for item in read(classes, tmp_path / "Mine")[0].values()} == {""}


def test_boxes_are_cut_where_yolo_says(tmp_path):
    place = FORMS["AffectNet for YOLO"].build(tmp_path / "data")
    root = place / "AffectNet" / "YOLO_format"
    gray = np.zeros((40, 80, 3), np.uint8)
    gray[10:30, 40:60] = 200
    Image.fromarray(gray).save(root / "train" / "images" / "1.png")
    text(
        root / "train" / "labels" / "1.txt", "0 0.625 0.5 0.25 0.5\n2 0.1 0.1 0.1 0.1\n9 0 0 1 1\n"
    )
    items, skips, _ = read(affectnet_yolo, place)
    first, second = (i for i in items.values() if i.path.endswith("train/images/1.png"))
    assert (first.labels, second.labels) == ("Anger", "Surprise")
    assert first.subject == second.subject == "train/1.png"
    face = affectnet_yolo.open_box(first.path, first.part)
    assert face.shape == (20, 20, 3) and face.min() == 200
    assert ("1.txt:3", "no row of a known class") in skips
    text(root / "data.yaml", "names: {0: Anger, 1: Contempt, 2: Sleepy}")
    with pytest.raises(UserError, match="names the class 'Sleepy'"):
        affectnet_yolo.read(place, Counter())


def test_ckplus_in_both_forms_is_refused(tmp_path):
    for name in ("CK+48", "ckextended.csv"):
        FORMS[name].build(tmp_path / "data")
    with pytest.raises(UserError, match=r"in folders and as ckextended\.csv"):
        ckplus_faces.read(tmp_path / "data", Counter())


def test_numbers_and_compounds_above_the_classes_are_no_second_class(tmp_path):
    for split in ("train", "val"):
        for number in "01":
            image(tmp_path / "AffectNet" / "versions" / "1" / split / number / "a.jpg")
    for name in ("happy", "sad"):
        image(tmp_path / "Mine" / "happy_sad" / name / "1.jpg")
    for name, count in (("AffectNet", 4), ("Mine", 2)):
        items, skips, *_ = read(reader_of(tmp_path / name), tmp_path / name)
        assert len(items) == count and not skips


def test_a_row_of_classes_csv_whose_folder_is_empty_is_told(tmp_path):
    for name in ("happy", "sad"):
        image(tmp_path / "Mine" / name / "1.jpg")
    (tmp_path / "Mine" / "fou").mkdir()
    text(tmp_path / "Mine" / "classes.csv", "folder,label\nfou,mad\n")
    items, skips, *_ = read(classes, tmp_path / "Mine")
    assert len(items) == 2
    assert [skip[1] for skip in skips] == ["no image lies in a folder of this name"]

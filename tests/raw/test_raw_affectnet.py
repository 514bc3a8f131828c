"""AffectNet in its three forms."""

from __future__ import annotations

import os
import pickle
from collections import Counter

import numpy as np
import pytest
from helpers.raw_files import faults, image, read, text
from helpers.raw_trees_emotions import affectnet_lists_tree, affectnet_plus_tree, affectnet_tree

from common.raw import affectnet, affectnet_lists, reader_of
from common.script.files import UserError


def test_affectnet_labels_of_string_type_are_read_and_none_faces_dropped(tmp_path):
    place = affectnet_tree(tmp_path / "AffectNet")
    image(place / "val_set" / "images" / "77.jpg")  # without an annotation
    items, skips, _ = read(affectnet, place)
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "AffectNet/train/0.jpg": ("train", "Neutral"),
        "AffectNet/train/1.jpg": ("train", "Happiness"),
        "AffectNet/train/2.jpg": ("train", "Contempt"),
        "AffectNet/val/0.jpg": ("val", "Anger"),
        "AffectNet/val/1.jpg": ("val", "Fear"),
        "AffectNet/val/2.jpg": ("val", "Disgust"),
    }
    assert skips == [
        ("3.jpg", "label 8 (None) is no expression"),
        ("4.jpg", "label 9 (Uncertain) is no expression"),
        ("5.jpg", "label 10 (No-Face) is no expression"),
        ("6.jpg", "unknown label"),
        ("7.jpg", "annotation is not a number"),
        ("77.jpg", "no annotation"),
    ]


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_affectnet_never_unpickles(tmp_path):
    place = affectnet_tree(tmp_path / "AffectNet")
    bomb = _Bomb(tmp_path / "exploded")
    annotations = place / "train_set" / "annotations"
    np.save(annotations / "0_exp.npy", np.array(bomb, dtype=object), allow_pickle=True)
    (annotations / "1_exp.npy").write_bytes(pickle.dumps(bomb))
    (annotations / "2_exp.npy").write_bytes(b"")
    _, skips, _ = read(affectnet, place)
    assert not (tmp_path / "exploded").exists()
    assert skips[:3] == [(f"{n}.jpg", "annotation is not a number") for n in range(3)]


def test_affectnet_without_annotations_says_so(tmp_path):
    place = affectnet_tree(tmp_path / "x")
    (place / "val_set" / "annotations").rename(tmp_path / "away")
    assert reader_of(place) is affectnet
    with pytest.raises(UserError, match="val_set/annotations"):
        affectnet.read(place, Counter())


def test_affectnet_labels_of_bytes_are_read(tmp_path):
    place = affectnet_tree(tmp_path / "AffectNet")
    np.save(place / "train_set" / "annotations" / "0_exp.npy", np.array([b"3"]))
    assert read(affectnet, place)[0]["AffectNet/train/0.jpg"].labels == "Surprise"


def test_affectnet_annotations_of_any_damage_are_left_out(tmp_path):
    place = affectnet_tree(tmp_path / "AffectNet")
    annotations = place / "train_set" / "annotations"
    np.savez(annotations / "0", label=1)
    (annotations / "0.npz").rename(annotations / "0_exp.npy")
    good = (annotations / "1_exp.npy").read_bytes()
    (annotations / "1_exp.npy").write_bytes(good.replace(b"()", b"(9999999999999,)", 1))
    (annotations / "2_exp.npy").write_bytes(good.replace(b"'descr'", b"'descr", 1))
    assert read(affectnet, place)[1][:3] == [
        (f"{n}.jpg", "annotation is not a number") for n in range(3)
    ]


def test_affectnet_leaves_faceless_images_out_without_a_fault(tmp_path):
    assert faults(affectnet, affectnet_tree(tmp_path / "AffectNet")) == ["6.jpg", "7.jpg"]


def test_affectnet_plus_is_a_data_set_of_its_own(tmp_path):
    place = affectnet_plus_tree(tmp_path / "whatever")
    assert reader_of(place) is affectnet and affectnet.form(place) == "AffectNet+ json"
    items, skips, _ = read(affectnet, place)
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "AffectNet+/train/0.jpg": ("train", "Surprise"),
        "AffectNet+/train/1.jpg": ("train", "Happiness"),
        "AffectNet+/val/0.jpg": ("val", "Neutral"),
    }
    assert skips == [
        ("2.jpg", "label 9 (Uncertain) is no expression"),
        ("3.jpg", "annotation is not a number"),
        ("4.jpg", "annotation is not a number"),
        ("1.jpg", "unknown label"),
    ]


def test_affectnet_lists_cut_out_faces_and_leave_out_what_is_wrong(tmp_path):
    place = affectnet_lists_tree(tmp_path / "AffectNet")
    assert reader_of(place) is affectnet_lists
    items, skips, counts = read(affectnet_lists, place)
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "AffectNet/train/1/a.jpg": ("train", "Happiness"),
        "AffectNet/train/1/b.JPG": ("train", "Contempt"),
        "AffectNet/val/1/v.jpg": ("val", "Fear"),
        "AffectNet/val/1/b.JPG": ("val", "Sadness"),
    }
    # x 10 to 50, y 12 to 52, and a quarter more on each side
    assert items["AffectNet/train/1/a.jpg"].box == (0, 2, 60, 62)
    assert skips == [
        ("c.png#-1,-2,29,34", "label 8 (None) is no expression"),
        ("training.csv:5", "face box without an area"),
        ("training.csv:6", "image is in an earlier line"),
        ("training.csv:7", "listed image is missing"),
        ("training.csv:8", "listed image is missing"),
        ("training.csv:9", "not a row of the list"),
        ("training.csv:10", "not a row of the list"),
        ("e.jpg#-1,-2,29,34", "unknown label"),
    ]
    assert not counts
    (place / "Manually_Annotated_file_lists" / "validation.csv").unlink()
    assert read(affectnet_lists, place)[2] == {"lists missing: validation.csv": 1}


def test_affectnet_lists_without_photographs_say_so(tmp_path):
    place = affectnet_lists_tree(tmp_path / "x")
    (place / "Manually_Annotated").rename(tmp_path / "away")
    with pytest.raises(UserError, match="lacks the folder Manually_Annotated/"):
        affectnet_lists.read(place, Counter())


def test_a_folder_named_affectnet_without_its_parts_is_not_taken_for_unlabelled(tmp_path):
    image(tmp_path / "AffectNet" / "1.jpg")
    text(tmp_path / "AffectNet" / "training.csv", "a,b\n1,2")
    assert reader_of(tmp_path / "AffectNet") is affectnet
    with pytest.raises(UserError, match="neither train_set/ nor val_set/"):
        affectnet.read(tmp_path / "AffectNet", Counter())

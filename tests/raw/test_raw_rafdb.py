"""RAF-DB in its three layouts, and RAF-CE."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.raw_files import faults, image, read, text
from helpers.raw_trees_emotions import rafce_tree, rafdb_classes_tree, rafdb_mirror_tree, rafdb_tree

from common.emotions import RAF11, RAFCE14
from common.raw import rafce, rafdb, reader_of
from common.script.files import UserError


def test_rafdb_basic_and_compound_do_not_collide(tmp_path):
    items, skips, _ = read(rafdb, rafdb_tree(tmp_path / "RAF-DB"))
    assert {name: (i.split, i.kind, i.labels) for name, i in items.items()} == {
        "RAF-DB-basic/train_00001_aligned.jpg": ("train", "single", "Sadness"),
        "RAF-DB-basic/train_00002_aligned.jpg": ("train", "single", "Surprise"),
        "RAF-DB-basic/test_0001_aligned.jpg": ("test", "single", "Neutral"),
        "RAF-DB-compound/train_00001_aligned.jpg": ("train", "compound", "Happiness Surprise"),
        "RAF-DB-compound/test_0001_aligned.jpg": ("test", "compound", "Disgust Surprise"),
        "RAF-DB-compound/test_0002_aligned.jpg": ("test", "compound", "Anger Fear"),
    }
    assert all("aligned" in item.path for item in items.values())
    assert skips == [
        ("train_00003_aligned.jpg", "unknown label"),
        ("list_patition_label.txt:5", "listed image is missing"),
        ("list_patition_label.txt:6", "not a line `name label`"),
        ("valid_0001_aligned.jpg", "its name starts neither with train_ nor test_"),
        ("odd_aligned.jpg", "not in the list of labels"),
    ]


def test_rafdb_with_compound_alone_is_read(tmp_path):
    place = rafdb_tree(tmp_path / "somewhere")
    (place / "basic").rename(tmp_path / "away")
    assert reader_of(place) is rafdb
    assert {item.dataset for item in read(rafdb, place)[0].values()} == {"RAF-DB-compound"}


@pytest.mark.parametrize("missing", ["EmoLabel/list_patition_label.txt", "Image/aligned"])
def test_rafdb_without_its_labels_or_images_says_so_before_anything_is_read(tmp_path, missing):
    place = rafdb_tree(tmp_path / "RAF-DB")
    (place / "compound" / missing).rename(tmp_path / "away")
    with pytest.raises(UserError, match=f"RAF-DB-compound lacks .*compound/{missing}"):
        rafdb.read(place, Counter())


def test_a_folder_named_rafdb_without_its_parts_is_not_taken_for_unlabelled(tmp_path):
    image(tmp_path / "RAF-DB" / "train_00001.jpg")
    assert reader_of(tmp_path / "RAF-DB") is rafdb
    with pytest.raises(UserError, match="neither basic/ nor compound/"):
        rafdb.read(tmp_path / "RAF-DB", Counter())


def test_rafdb_in_class_folders_takes_its_split_from_names(tmp_path):
    for place in (tmp_path / "RAF", tmp_path / "RAF2" / "compound"):
        rafdb_classes_tree(place)
    for place in (tmp_path / "RAF", tmp_path / "RAF2"):
        assert reader_of(place) is rafdb and rafdb.form(place) == "class folders"
        items, skips, _ = read(rafdb, place)
        assert {name: (i.split, i.kind, i.labels) for name, i in items.items()} == {
            "RAF-DB-compound/train_0001.jpg": ("train", "compound", "Anger Surprise"),
            "RAF-DB-compound/test_0002.jpg": ("test", "compound", "Anger Surprise"),
            "RAF-DB-compound/train_0003.jpg": ("train", "compound", "Anger Sadness"),
        }
        assert skips == [
            ("Disgustly Surprised", "folder is not named after a class"),
            ("IMG_7.jpg", "its name starts neither with train_ nor test_"),
            ("train_0001.jpg", "image lies in two class folders"),
        ]


def test_folders_of_another_set_that_are_named_after_compounds_are_not_rafdb(tmp_path):
    for name in ("Angrily Surprised", "Sadly Angry"):
        image(tmp_path / "Mine" / name / "IMG_1.jpg")
    assert reader_of(tmp_path / "Mine") is not rafdb


def test_rafdb_mirror_takes_no_label_on_which_folder_and_list_disagree(tmp_path):
    place = rafdb_mirror_tree(tmp_path / "raf-db-dataset")
    assert rafdb.form(place) == "numbered folders"
    items, skips, _ = read(rafdb, place)
    assert {name: (i.split, i.labels) for name, i in items.items()} == {
        "RAF-DB-basic/train_00001_aligned.jpg": ("train", "Surprise"),
        "RAF-DB-basic/train_00002_aligned.jpg": ("train", "Neutral"),
        "RAF-DB-basic/test_00001_aligned.jpg": ("test", "Happiness"),
    }
    assert skips == [
        ("test_00002_aligned.jpg", "folder and list give other labels"),
        ("test_labels.csv:4", "listed image is missing"),
    ]
    for split in ("train", "test"):
        (place / f"{split}_labels.csv").unlink()  # then the folders alone say it
    assert len(read(rafdb, place)[0]) == 4


@pytest.mark.parametrize("inner", ["", "basic"])
def test_rafdb_mirror_of_the_basic_part_beside_the_owners_compound_part(tmp_path, inner):
    place = tmp_path / "RAF-DB"
    rafdb_mirror_tree(place / inner)
    image(place / "compound" / "Angrily Surprised" / "train_0001.jpg")
    assert rafdb.form(place) == "class folders, numbered folders"
    counts = Counter(item.dataset for item in read(rafdb, place)[0].values())
    assert counts == {"RAF-DB-basic": 3, "RAF-DB-compound": 1}


def test_rafce_counts_from_zero_in_its_own_order(tmp_path):
    place = rafce_tree(tmp_path / "Compound")
    assert reader_of(place) is rafce
    items, skips, _ = read(rafce, place)
    assert {name: (i.split, i.kind, i.labels) for name, i in items.items()} == {
        "RAF-CE/0001_aligned.jpg": ("train", "compound", "Happiness Surprise"),
        "RAF-CE/0002_aligned.jpg": ("test", "compound", "Disgust Fear"),
        "RAF-CE/0003_aligned.jpg": ("val", "compound", "Happiness Sadness"),
    }
    assert all("aligned" in item.path for item in items.values())
    assert skips == [
        ("RAFCE_partition.txt:5", "not a line `name 0|1|2`"),
        ("RAFCE_emolabel.txt:4", "not a line `name 0..13`"),
        ("RAFCE_emolabel.txt:5", "listed image is missing"),
        ("RAFCE_emolabel.txt:6", "not a line `name 0..13`"),
        ("RAFCE_emolabel.txt:7", "image is in an earlier line"),
        ("0007_aligned.jpg", "not in RAFCE_partition.txt"),
        ("0008_aligned.jpg", "not in the list of labels"),
    ]
    assert len(faults(rafce, place)) == len(skips)


def test_rafce_order_is_that_of_its_readme_and_not_rafdbs():
    # 8 is new, so that the next ones move by one; 12 and 13 are new.
    assert len(RAFCE14) == 14 and RAFCE14[:8] == RAF11[:8] and RAFCE14[9:12] == RAF11[8:]
    assert (RAFCE14[8], *RAFCE14[12:]) == ("Fearfully Disgusted", "Happily Fearful", "Happily Sad")


@pytest.mark.parametrize("missing", ["RAFCE_emolabel.txt", "RAFCE_partition.txt", "aligned"])
def test_rafce_without_a_list_or_its_images_says_so(tmp_path, missing):
    place = rafce_tree(tmp_path / "RAF-CE")
    (place / missing).rename(tmp_path / "away")
    assert reader_of(place) is rafce
    with pytest.raises(UserError, match=f"RAF-CE in .* lacks {missing}"):
        rafce.read(place, Counter())


def test_rows_that_are_no_text_are_left_out_one_by_one(tmp_path):
    place = rafdb_tree(tmp_path / "RAF-DB")
    listing = place / "basic" / "EmoLabel" / "list_patition_label.txt"
    listing.write_bytes(b"train_00001.jpg 5\ntrain_\xff\xfe.jpg 1\ntest_0001.jpg \xb2\n")
    items, skips, _ = read(rafdb, place)
    assert "RAF-DB-basic/train_00001_aligned.jpg" in items
    assert skips[:2] == [
        ("list_patition_label.txt:2", "listed image is missing"),
        ("list_patition_label.txt:3", "not a line `name label`"),
    ]
    text(listing, "train_00001.jpg 5\ntrain_00\x000002.jpg 1\n")
    assert read(rafdb, place)[1][0] == ("list_patition_label.txt:2", "listed image is missing")

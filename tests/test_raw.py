"""Each raw data set is read as its owners ship it, traps included."""

from __future__ import annotations

import os
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from drawn import scene, write_video
from PIL import Image

from common.files import UserError
from common.raw import READERS, affectnet, affwild2, challenge, folder, rafdb, reader_of, table
from common.raw.layout import Item, Skip

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


def image(path, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (90, 120, 150)).save(path, "JPEG")


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())


def read(reader, place):
    """Return items by prepared name, skips as (file name, reason), and counts."""
    counts = Counter()
    found = list(reader.read(place, counts))
    items = {f"{item.dataset}/{item.name}": item for item in found if isinstance(item, Item)}
    assert len(items) == sum(isinstance(item, Item) for item in found), "names collide"
    skips = [(os.path.basename(s.path), s.reason) for s in found if isinstance(s, Skip)]
    return items, skips, counts


def rafdb_tree(root):
    basic, compound = root / "basic", root / "compound"
    text(
        basic / "EmoLabel" / "list_patition_label.txt",
        "train_00001.jpg 5\r\ntrain_00002.jpg 1\r\ntest_0001.jpg 7\r\ntrain_00003.jpg 8\r\n"
        "train_00009.jpg 4\r\nnonsense\r\nvalid_0001.jpg 2",
    )
    for name in ("train_00001", "train_00002", "test_0001", "train_00003", "valid_0001", "odd"):
        image(basic / "Image" / "aligned" / f"{name}_aligned.jpg")
    image(basic / "Image" / "original" / "train_00001.jpg")
    text(
        compound / "EmoLabel" / "list_patition_label.txt",
        "train_00001.jpg 1\ntest_0001.jpg 11\ntest_0002.jpg 7\n",
    )
    for name in ("train_00001", "test_0001", "test_0002"):
        image(compound / "Image" / "aligned" / f"{name}_aligned.jpg")
    return root


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


def affectnet_tree(root):
    labels = {
        "train_set": ["0", "1", "7", "8", "9", "10", "11", "many"],
        "val_set": [np.int64(6), np.array([4]), np.float32(5)],
    }
    for name, values in labels.items():
        for number, value in enumerate(values):
            image(root / name / "images" / f"{number}.jpg")
            (root / name / "annotations").mkdir(exist_ok=True)
            np.save(root / name / "annotations" / f"{number}_exp.npy", np.array(value))
            np.save(root / name / "annotations" / f"{number}_val.npy", np.array("-2"))
    return root


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


HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def affwild2_tree(root, name="EXPR_Recognition_Challenge", header=HEADER):
    text(root / name / "Train_Set" / "1-30-1280x720.txt", f"{header}\n0\n1\n-1\n7\n4")
    text(root / name / "Validation_Set" / "v_left.txt", f"{header}\r\n6\r\n2\r\n")
    text(root / name / "Validation_Set" / "v_right.txt", f"{header}\r\n5\r\nx\r\n")
    for frame in (1, 3, 4, 5, 6):  # 2 has no face; 6 is one more than labels
        image(root / "cropped_aligned" / "1-30-1280x720" / f"{frame:05d}.jpg")
    image(root / "cropped_aligned_new_50_vids" / "v_left" / "00002.jpg")
    for frame in (1, 2):
        image(root / "cropped_aligned_new_50_vids" / "v_right" / f"{frame:05d}.jpg")
    return root


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
    with pytest.raises(UserError, match=r"gone\.txt, line 1"):
        read(affwild2, place)
    for missing in ("EXPR_Recognition_Challenge", "cropped_aligned"):
        (place / missing).rename(tmp_path / missing)
    with pytest.raises(UserError, match="lacks its annotations"):
        affwild2.read(place, Counter())
    (tmp_path / "EXPR_Recognition_Challenge").rename(place / "EXPR_Recognition_Challenge")
    (place / "cropped_aligned_new_50_vids").rename(tmp_path / "away")
    with pytest.raises(UserError, match="lacks the folder cropped_aligned"):
        affwild2.read(place, Counter())


def table_tree(root, rows, header="image,label"):
    text(root / "labels.csv", "\r\n".join([header, *rows]))
    for name in ("Ann_Lee_0001.jpg", "Ann_Lee_0012.jpg", "sub/Bo_0001.png"):
        image(root / "images" / name)
    image(root / "beside.jpg")
    return root


def test_table_reads_labels_by_name_however_written(tmp_path):
    rows = [
        "Ann_Lee_0001.jpg,HAPPY",
        "Ann_Lee_0012.jpg,fear+surprise",
        "sub/Bo_0001.png,Sadly_Angry",
        "beside.jpg,  contempt ",
        "gone.jpg,fear",
        "Ann_Lee_0001.jpg,fear",
        "../secret.jpg,fear",
        '"beside.jpg","bored"',
    ]
    place = table_tree(tmp_path / "Mine", rows)
    image(tmp_path / "secret.jpg")
    assert reader_of(place) is table
    items, skips, _ = read(table, place)
    assert {name: (i.split, i.kind, i.labels, i.subject) for name, i in items.items()} == {
        "Mine/Ann_Lee_0001.jpg": ("", "single", "Happiness", ""),
        "Mine/Ann_Lee_0012.jpg": ("", "compound", "Fear Surprise", ""),
        "Mine/sub/Bo_0001.png.jpg": ("", "compound", "Anger Sadness", ""),
        "Mine/beside.jpg": ("", "single", "Contempt", ""),
    }
    assert skips == [
        ("labels.csv:6", "image is not in the folder"),
        ("labels.csv:7", "image stands in an earlier line"),
        ("labels.csv:8", "image is not in the folder"),
        ("beside.jpg", "unknown label"),
    ]


def persons_of(place, names):
    text(place / "labels.csv", "image,label\n" + "".join(f"{name},fear\n" for name in names))
    for name in names:
        image(place / name, side=2)
    items, _, counts = read(table, place)
    return [item.subject for item in items.values()], counts["persons guessed from file names"]


def test_table_guesses_persons_where_names_look_like_persons(tmp_path):
    names = [f"Ann_Lee_{n:04d}.jpg" for n in range(4)]
    names += [f"Person-{n % 19}_{n}.jpg" for n in range(40)]
    subjects, count = persons_of(tmp_path / "People", names)
    assert subjects == [re.sub(r"_\d+\.jpg$", "", name) for name in names] and count == 20


@pytest.mark.parametrize(
    "names",
    [
        [f"img_{n:04d}.jpg" for n in range(50)],
        [f"cam{n % 5}_{n}.jpg" for n in range(50)],
        [f"Person-{n}_1.jpg" for n in range(50)],  # nobody twice
        [f"{'Bo' if n < 20 else f'Person-{n % 25}'}_{n}.jpg" for n in range(100)],
        [f"{'happiness' if n < 4 else f'Person-{n % 25}'}_{n}.jpg" for n in range(100)],
    ],
)
def test_table_guesses_no_persons_from_other_names(tmp_path, names):
    subjects, count = persons_of(tmp_path / "Things", names)
    assert set(subjects) == {""} and not count


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/real: real photographs are not here")
def test_table_guesses_the_persons_of_real_photographs():
    items, _, counts = read(table, REAL / "faces")
    subjects = Counter(item.subject for item in items.values())
    assert subjects["George_W_Bush"] == 63 and not subjects[""]
    assert counts["persons guessed from file names"] == len(subjects) > 700


def test_images_that_would_get_one_name_stay_two(tmp_path):
    place = tmp_path / "Faces"
    for name in ("a.png", "a.png.jpg", "a.PNG.jpg.jpg", "b.v2.jpg"):
        image(place / name)
    names = {Path(i.path).name: i.name for i in read(folder, place)[0].values()}
    assert len(set(names.values())) == 4 and names["b.v2.jpg"] == "b.v2.jpg"
    image(place / "images" / "b.v2.jpg")
    text(place / "labels.csv", "image,label\nimages/b.v2.jpg,fear\nb.v2.jpg,anger\n")
    items, skips, _ = read(table, place)
    assert [item.labels for item in items.values()] == ["Fear"]
    assert skips == [("labels.csv:3", "same prepared name as another")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_table_takes_split_subject_and_kind(tmp_path, delimiter):
    rows = [
        "Ann_Lee_0001.jpg,fear,Training,s1,single",
        "Ann_Lee_0012.jpg,fear,valid,s2,compound",
        "sub/Bo_0001.png,,test,s3,unlabelled",
        "beside.jpg,anger,elsewhere,,",
    ]
    rows = [row.replace(",", delimiter) for row in rows]
    header = "\ufeff Image ,LABEL,split,Subject,kind".replace(",", delimiter)
    place = table_tree(tmp_path / "Mine", rows, header)
    items, skips, _ = read(table, place)
    assert [(i.split, i.kind, i.labels, i.subject) for i in items.values()] == [
        ("train", "single", "Fear", "s1"),
        ("test", "unlabelled", "", "s3"),
    ]
    assert skips == [
        ("Ann_Lee_0012.jpg", "kind does not fit the label"),
        ("beside.jpg", "unknown split (train, val, test)"),
    ]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("image,label", ["beside.jpg,bored", "Ann_Lee_0001.jpg,3"], r"No label is known.*line 2"),
        ("image,emotion", ["beside.jpg,fear"], "no column 'label'"),
        ("", [], "no column 'image'"),
        ("image,label", [], "has no rows"),
    ],
)
def test_table_that_cannot_be_meant_is_a_user_error(tmp_path, header, rows, words):
    place = table_tree(tmp_path / "Mine", rows, header)
    with pytest.raises(UserError, match=words):
        read(table, place)


def test_table_in_another_encoding_is_a_user_error(tmp_path):
    place = table_tree(tmp_path / "Mine", ["beside.jpg,fear"])
    (place / "labels.csv").write_bytes(b"image,label\n\xff\xfe.jpg,fear\n")
    with pytest.raises(UserError, match="UTF-8"):
        read(table, place)


def test_folder_of_images_is_read_at_any_depth(tmp_path):
    place = tmp_path / "WebFace"
    for name in ("a.jpg", "0_0/0_0_1/x.JPG", "0_0/0_0_1/x.png", "7/y.webp", ".hidden/z.jpg"):
        image(place / name)
    text(place / "LICENSE", "words")
    text(place / "7" / "list.txt", "words")
    assert reader_of(place) is folder
    items, skips, _ = read(folder, place)
    assert {name: (i.kind, i.labels, i.split, i.subject) for name, i in items.items()} == {
        "WebFace/a.jpg": ("unlabelled", "", "", ""),
        "WebFace/0_0/0_0_1/x.JPG": ("unlabelled", "", "", "0_0/0_0_1"),
        "WebFace/0_0/0_0_1/x.png.jpg": ("unlabelled", "", "", "0_0/0_0_1"),
        "WebFace/7/y.webp.jpg": ("unlabelled", "", "", "7"),
    }
    assert not skips


def test_linked_folders_are_followed_but_never_in_a_circle(tmp_path):
    place = tmp_path / "Faces"
    image(place / "a" / "1.jpg")
    image(tmp_path / "other disc" / "2.jpg")
    (place / "b").symlink_to(tmp_path / "other disc")
    (place / "a" / "up").symlink_to(place)
    assert list(read(folder, place)[0]) == ["Faces/a/1.jpg", "Faces/b/2.jpg"]


LIST = "image_location,Fearfully_Surprised,Happily_Surprised\n01/00001.jpg,\n"


def test_challenge_videos_and_list_are_found(tmp_path):
    place = tmp_path / "C-EXPR-DB"
    (place / "videos").mkdir(parents=True)
    write_video(place / "videos" / "01.mp4", [scene()] * 2)
    (place / "videos" / "02.avi").write_bytes(b"")
    text(place / "LICENSE.txt", "words")
    assert reader_of(place) is challenge
    assert list(challenge.find_videos(place)) == ["01", "02"]
    assert challenge.find_frame_list(place) is None
    text(place / "frames.csv", "\ufeff" + LIST)
    assert challenge.find_frame_list(place) == place / "frames.csv"
    text(place / "more.txt", LIST)
    with pytest.raises(UserError, match="several frame lists"):
        challenge.find_frame_list(place)
    text(place / "CER.txt", "something else")  # the official name wins; its reader complains
    assert challenge.find_frame_list(place) == place / "CER.txt"
    (place / "01.mkv").write_bytes(b"")
    with pytest.raises(UserError, match="same name"):
        challenge.find_videos(place)


def test_an_empty_folder_is_a_user_error(tmp_path):
    (tmp_path / "Empty" / "deep").mkdir(parents=True)
    text(tmp_path / "Empty" / "README", "words")
    with pytest.raises(UserError, match="Empty holds no images"):
        reader_of(tmp_path / "Empty")


def test_every_reader_has_what_the_package_says():
    import importlib

    for name in READERS.values():
        reader = importlib.import_module(name)
        assert isinstance(reader.ALIGNED, bool) and callable(reader.recognises)
        assert reader is challenge or callable(reader.read)

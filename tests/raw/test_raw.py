"""Labelled tables, folders of images and challenge videos; which reader takes what."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.drawn import scene, write_video
from helpers.raw_files import REAL, faults, image, read, text
from helpers.raw_trees import TREES
from helpers.raw_trees_emotions import table_tree
from helpers.raw_trees_videos import challenge_tree

from common.raw import READERS, challenge, folder, layout, reader_of, table
from common.script.files import UserError, inside

MODULES = {name.rpartition(".")[2]: importlib.import_module(name) for name in READERS.values()}


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
        ("labels.csv:7", "image is in an earlier line"),
        ("labels.csv:8", "image is not in the folder"),
        ("labels.csv:9", "unknown label"),
    ]


def test_others_of_a_table_are_images_without_a_label(tmp_path):
    rows = ["Ann_Lee_0001.jpg,Others,single", "beside.jpg,other,", "Ann_Lee_0012.jpg,fear,"]
    place = table_tree(tmp_path / "Fuxi", rows, "image,label,kind")
    items, skips, _ = read(table, place)
    kinds = [(i.kind, i.labels) for i in items.values()]
    assert kinds == [("unlabelled", ""), ("unlabelled", ""), ("single", "Fear")] and not skips


def persons_of(place, names):
    text(place / "labels.csv", "image,label\n" + "".join(f"{name},fear\n" for name in names))
    for name in names:
        image(place / name, side=2)
    items, _, counts = read(table, place)
    return [item.subject for item in items.values()], counts[
        "different persons guessed from file names"
    ]


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
    assert counts["different persons guessed from file names"] == len(subjects) > 700


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
        ("labels.csv:3", "kind does not fit the label"),
        ("labels.csv:5", "unknown split (train, val, test)"),
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


def test_table_of_numbers_is_asked_for_names(tmp_path):
    place = table_tree(tmp_path / "Mine", ["beside.jpg,3", "Ann_Lee_0001.jpg,0"])
    with pytest.raises(
        UserError, match=r"line 2: '3' is a number.*write names; .* such as happiness"
    ):
        read(table, place)
    text(place / "labels.csv", "image,label\nbeside.jpg,3\nAnn_Lee_0001.jpg,SaDnEsS\n")
    items, skips, _ = read(table, place)
    assert [i.labels for i in items.values()] == ["Sadness"]
    assert skips == [("labels.csv:2", "unknown label")]


def test_a_bad_row_of_a_table_costs_only_itself(tmp_path):
    place = table_tree(tmp_path / "Mine")
    (place / "labels.csv").write_bytes(
        b'image,label\n\xff\xfe.jpg,fear\n"beside.jpg,fear\n,fear\n,,\nbeside.jpg,joy\n'
    )
    items, skips, _ = read(table, place)
    assert [i.labels for i in items.values()] == ["Happiness"]
    assert [path for path, _ in skips] == ["labels.csv:2", "labels.csv:3", "labels.csv:4"]
    assert len(faults(table, place)) == 3
    (place / "labels.csv").write_bytes("image,label\nbeside.jpg,joy\n".encode("utf-16"))
    with pytest.raises(UserError, match="line 1 is not text in UTF-8"):
        read(table, place)


def test_a_name_in_another_encoding_is_found_in_a_list(tmp_path):
    place = table_tree(tmp_path / "Mine")
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    (place / "beside.jpg").rename(place / name)
    (place / "labels.csv").write_bytes(b"image,label\ncaf\xe9.jpg,joy\n")
    assert [Path(i.path).name for i in read(table, place)[0].values()] == [name]


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
    text(place / "truth.csv", "image_location,label\n01/00001.jpg,3\n")
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


@pytest.mark.parametrize(
    "name",
    [
        "CER.txt",
        "CVPR_6th_ABAW_CE_test_set_example.txt",
        "CVPR_6th_ABAW_CE_test_set_sample.txt",
        "ICCV_9th_ABAW_CE_test_set_example.txt",
        "frames.txt",
    ],
)
@pytest.mark.parametrize("inner", ["", "prediction_files_format"])
def test_the_challenges_list_is_found_beside_those_of_other_tasks(tmp_path, name, inner):
    place = challenge_tree(tmp_path / "C-EXPR-DB")
    (place / "CER.txt").unlink()
    for task, columns in {
        "Expr": "Neutral,Anger",
        "VA": "valence,arousal",
        "AU": "AU1,AU2",
    }.items():
        listing = place / inner / f"CVPR_6th_ABAW_{task}_test_set_sample.txt"
        text(listing, f"image_location,{columns}\nv/00001.jpg,\n")
    assert challenge.find_frame_list(place) is None
    text(place / inner / name, LIST)
    assert reader_of(place) is challenge
    assert challenge.find_frame_list(place) == place / inner / name


def test_an_empty_folder_is_a_user_error(tmp_path):
    (tmp_path / "Empty" / "deep").mkdir(parents=True)
    text(tmp_path / "Empty" / "README", "words")
    with pytest.raises(UserError, match="Empty holds no images"):
        reader_of(tmp_path / "Empty")


def test_every_reader_has_what_the_package_says():
    for reader in MODULES.values():
        assert isinstance(reader.ALIGNED, bool) and callable(reader.recognises)
        assert callable(reader.form) and reader.__doc__
        assert reader is challenge or callable(reader.read)


@pytest.mark.parametrize("tree", TREES)
def test_each_data_set_is_taken_by_its_own_reader_and_no_other(tmp_path, tree):
    build, right = TREES[tree]
    place = build(tmp_path / "data")
    assert reader_of(place) is MODULES[right] and MODULES[right].form(place)
    takers = {name for name, reader in MODULES.items() if reader.recognises(place)}
    # Class folders and any folder of images are the last resorts, after all others.
    assert takers <= {right, "classes", "folder"}


@pytest.mark.parametrize("tree", [tree for tree in TREES if tree != "C-EXPR-DB"])
def test_each_data_set_is_read_in_the_same_order_with_unique_names(tmp_path, tree):
    build, right = TREES[tree]
    place = build(tmp_path / "data")
    first, second = (list(MODULES[right].read(place, Counter())) for _ in range(2))
    assert first == second
    names = [(item.dataset, item.name) for item in first if isinstance(item, layout.Item)]
    assert names and len(set(names)) == len(names)
    for row in first:
        assert row.source.startswith(str(place))  # by which skipped.csv and the ledger know it
        if isinstance(row, layout.Item):
            assert inside(place, row.name) and row.name.lower().endswith((".jpg", ".jpeg"))


LISTS = {
    "RAF-DB": "basic/EmoLabel/list_patition_label.txt",
    "RAF-DB mirror": "test_labels.csv",
    "RAF-CE": "RAFCE_partition.txt",
    "s-Aff-Wild2": "validation_set_annotations.txt",
    "MAFW": "Train & Test Set/single/no_caption/set_1/test.txt",
    "FER2013": "fer2013.csv",
    "FERPlus": "data/FER2013Valid/label.csv",
    "FERPlus, newer votes": "fer2013new.csv",
    "FERPlus beside pixels": "fer2013new.csv",
    "ExpW": "label/label.lst",
    "CelebA": "identity_CelebA.txt",
    "CelebA mirror": "list_eval_partition.csv",
    "labelled table": "labels.csv",
}


@pytest.mark.parametrize("tree", LISTS)
def test_a_list_that_is_no_text_stops_before_any_image_is_read(tmp_path, tree):
    build, right = TREES[tree]
    place = build(tmp_path / "data")
    (place / LISTS[tree]).write_bytes(b"PK\3\4\0\0" * 99)
    with pytest.raises(UserError, match="line 1 is not text"):
        MODULES[right].read(place, Counter())


@pytest.mark.parametrize("tree", TREES)
def test_an_archive_unpacked_in_a_folder_of_its_name_is_read_the_same(tmp_path, tree):
    build, right = TREES[tree]
    reader = MODULES[right]
    plain, wrapped = build(tmp_path / "data"), tmp_path / "more" / "data"
    build(wrapped / "archive")
    text(wrapped / "LICENSE", "words")
    assert reader_of(wrapped) is reader and reader.form(wrapped) == reader.form(plain)
    if reader is challenge:
        assert challenge.find_frame_list(wrapped) and list(challenge.find_videos(wrapped)) == ["01"]
        return
    found = [
        [
            (i.dataset, i.split, i.labels)
            for i in reader.read(p, Counter())
            if not hasattr(i, "reason")
        ]
        for p in (plain, wrapped)
    ]
    assert found[0] == found[1]


def test_official_counts_name_splits_and_labels_that_readers_give():
    for reader in MODULES.values():
        for splits in getattr(reader, "OFFICIAL", {}).values():
            assert set(splits) <= {"train", "val", "test", ""}
    assert sum(MODULES["rafdb"].OFFICIAL["RAF-DB-basic"]["train"].values()) == 12_271
    assert sum(MODULES["rafdb"].OFFICIAL["RAF-DB-basic"]["test"].values()) == 3_068
    assert sum(MODULES["affectnet"].OFFICIAL["AffectNet"]["train"].values()) == 287_651
    assert sum(MODULES["celeba"].OFFICIAL["CelebA"].values()) == 202_599
    assert sum(MODULES["fer2013"].OFFICIAL["FER2013"].values()) == 35_887

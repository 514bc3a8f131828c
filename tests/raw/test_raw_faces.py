"""Unlabelled faces: CelebA, IMDB-WIKI, RecordIO, CASIA-WebFace, WebFace42M, any folder."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from helpers.raw_files import faults, image, read, text
from helpers.raw_trees_faces import (
    RECORD_MAGIC,
    casia_tree,
    celeba_tree,
    image_header,
    imdbwiki_tree,
    jpeg_bytes,
    record,
    recordio_tree,
)
from PIL import Image

from common.prepare.ingest import Options, ingest
from common.raw import READERS, celeba, folder, imdbwiki, reader_of, recordio
from common.script.files import UserError


@pytest.mark.parametrize("mirror", [False, True])
def test_celeba_takes_partition_and_identities(tmp_path, mirror):
    place = celeba_tree(tmp_path / "faces", mirror)
    assert reader_of(place) is celeba
    items, skips, counts = read(celeba, place)
    person = "" if mirror else "2880"
    assert {name: (i.split, i.kind, i.subject) for name, i in items.items()} == {
        "CelebA/000001.jpg": ("train", "unlabelled", person),
        "CelebA/000002.jpg": ("val", "unlabelled", person),
        "CelebA/000003.jpg": ("test", "unlabelled", ""),
    }
    if mirror:
        assert skips == [("list_eval_partition.csv:5", "listed image is missing")]
        assert counts == {"identity_CelebA.txt is missing: persons are unknown": 1}
    else:
        assert skips == [
            ("identity_CelebA.txt:3", "not a line `name identity`"),
            ("list_eval_partition.txt:5", "not a line `name 0|1|2`"),
            ("list_eval_partition.txt:4", "listed image is missing"),
        ]


def test_celeba_without_its_partition_is_not_trained_on(tmp_path):
    place = celeba_tree(tmp_path / "faces")
    (place / "list_eval_partition.txt").unlink()
    assert reader_of(place) is celeba
    with pytest.raises(UserError, match=r"lacks list_eval_partition\.txt"):
        celeba.read(place, Counter())


def test_imdbwiki_filters_by_score_and_second_face(tmp_path):
    place = imdbwiki_tree(tmp_path / "faces")
    assert reader_of(place) is imdbwiki and imdbwiki.form(place) == "imdb.mat, wiki.mat"
    items, skips, counts = read(imdbwiki, place)
    assert counts == {
        "rows of imdb.mat, before the filter (official 460,723)": 7,
        "rows of wiki.mat, before the filter (official 62,328)": 1,
    }
    assert {name: i.subject for name, i in items.items()} == {
        "IMDB/01/nm0000001_rm124825600_1899-5-10_1968.jpg": "nm0000001",
        "WIKI/17/10000217_1981-05-05_2009.jpg": "10000217",
    }
    assert skips == [
        ("nm0000001_rm2_1899-5-10_1970.jpg", "face_score below 1"),
        ("nm0000002_rm3_1924-9-16_2004.jpg", "face_score below 1"),
        ("nm0000002_rm4_1924-9-16_2004.jpg", "a second face"),
        ("imdb.mat#4", "listed image is missing"),
        ("imdb.mat#5", "not a row of the table"),
        ("imdb.mat#6", "image is in an earlier row"),
    ]
    assert faults(imdbwiki, place) == ["imdb.mat#4", "imdb.mat#5", "imdb.mat#6"]


def test_imdbwiki_without_a_table_that_can_be_read_says_so(tmp_path):
    place = imdbwiki_tree(tmp_path / "faces")
    (place / "imdb_crop" / "imdb.mat").write_bytes(b"MATLAB 5.0" * 99)
    with pytest.raises(UserError, match=r"imdb\.mat cannot be read"):
        imdbwiki.read(place, Counter())
    (place / "imdb_crop" / "imdb.mat").unlink()
    with pytest.raises(UserError, match=r"imdb_crop lacks imdb\.mat"):
        imdbwiki.read(place, Counter())


def test_recordio_images_come_out_as_they_went_in(tmp_path):
    place = recordio_tree(tmp_path / "raw" / "CASIA")
    assert reader_of(place) is recordio
    items, skips, _ = read(recordio, place)
    assert [i.subject for i in items.values()] == ["3", "3", "7"] and not skips
    contents = [recordio.open_record(i.path, i.part) for i in items.values()]
    assert contents[:2] == [jpeg_bytes(), jpeg_bytes(gray=10)]
    assert contents[2] == jpeg_bytes(gray=200) + RECORD_MAGIC + b"tail"  # put together again
    options = Options(str(tmp_path / "raw"), str(tmp_path / "prepared"), 16, "", 0.4, (160, 480))
    records = ingest(list(items.values()), False, options)
    assert not any(r.reason for r in records)
    assert (tmp_path / "prepared" / records[0].image).read_bytes() == contents[0]
    assert Image.open(tmp_path / "prepared" / records[2].image).size == (20, 20)


def test_recordio_images_with_two_labels_each_are_images(tmp_path):
    place = tmp_path / "Glint"
    place.mkdir()
    labels = struct.pack("<2f", 8, 1)
    (place / "train.rec").write_bytes(
        record(image_header(0.0, flag=2) + struct.pack("<2f", 2, 3))
        + record(image_header(0.0, flag=2) + labels + jpeg_bytes())
    )
    items, skips, _ = read(recordio, place)
    assert [i.subject for i in items.values()] == ["8"] and not skips
    assert [recordio.open_record(i.path, i.part) for i in items.values()] == [jpeg_bytes()]


def test_a_damaged_recordio_file_gives_what_is_before_the_damage(tmp_path):
    place = recordio_tree(tmp_path / "CASIA")
    whole = (place / "train.rec").read_bytes()
    (place / "train.rec").write_bytes(whole[:600])
    items, skips, _ = read(recordio, place)
    assert [i.subject for i in items.values()] == ["3"]
    assert skips == [("train.rec#412", "damaged record: the rest of the file is lost")]
    huge = record(image_header(3.0) + jpeg_bytes())[:4] + b"\xff\xff\xff\x1f" + whole
    (place / "train.rec").write_bytes(huge)
    assert [path for path, _ in read(recordio, place)[1]] == ["train.rec#0"]


def test_a_rec_file_of_another_kind_is_not_recordio(tmp_path):
    image(tmp_path / "Faces" / "a.jpg")
    text(tmp_path / "Faces" / "sound.rec", "RIFF")
    assert reader_of(tmp_path / "Faces") is folder


def test_casia_folders_are_persons(tmp_path):
    place = casia_tree(tmp_path / "CASIA-WebFace")
    items, _, _ = read(folder, place)
    assert {i.subject for i in items.values()} == {f"{n:07d}" for n in range(3)}
    assert folder.OFFICIAL["CASIA-WebFace"][""] == 494_414


def test_looking_into_a_folder_costs_nothing_however_many_files_it_has(tmp_path):
    from common.raw import READERS, layout

    place = tmp_path / "Faces"
    image(place / "img_0.jpg")
    for n in range(1, 3000):
        os.link(place / "img_0.jpg", place / f"img_{n}.jpg")
    assert len(layout.look(place)) == 201
    assert reader_of(place) is folder and len(READERS) > 10
    assert layout.subfolder(place, "train_set") is None
    (place / "train_set").mkdir()
    assert layout.subfolder(place, "train_set") == place / "train_set"  # by its very spelling


def test_looking_into_a_tree_costs_nothing_however_many_folders_it_has(tmp_path, monkeypatch):
    for part in range(100):
        for person in range(20):
            (tmp_path / "Faces" / f"{part}" / f"{person}").mkdir(parents=True)
    image(tmp_path / "Faces" / "99" / "19" / "1.jpg")
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert reader_of(tmp_path / "Faces") is folder
    # The image itself was to be found, among 2,100 folders; each reader looks into 200 at most.
    assert len(listed) < 2_100 + 200 * len(READERS)


def test_a_stream_of_images_holds_names_and_no_items(tmp_path):
    place = tmp_path / "Faces"
    image(place / "0.jpg")
    count = 8_000
    for n in range(1, count):
        os.link(place / "0.jpg", place / f"{n:07d}.jpg")
    first = folder.read(place, Counter())
    tracemalloc.start()
    names = 0
    previous = ""
    for item in first:
        assert item.name > previous
        previous, names = item.name, names + 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert names == count
    assert peak / count < 120  # bytes a file: its name in a list, no path, no Item


def test_links_in_a_circle_end(tmp_path):
    place = tmp_path / "Faces"
    (place / "a").mkdir(parents=True)
    (place / "a" / "up").symlink_to(place)
    assert not folder.recognises(place)
    image(tmp_path / "elsewhere" / "1.jpg")
    (place / "b").symlink_to(tmp_path / "elsewhere")
    assert folder.recognises(place) and len(read(folder, place)[0]) == 1
    assert Path(next(iter(read(folder, place)[0].values())).path).parent.name == "b"

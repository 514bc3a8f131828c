"""Every file below raw/ is used, refused or counted; names that nearly match are not lost."""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
from collections import Counter
from fractions import Fraction

import av
import pytest
from helpers.preparing import prepare, rows_of, videos_tree
from helpers.raw_files import image, read, text
from helpers.raw_trees import TREES
from helpers.raw_trees_emotions import affectnet_lists_tree, expw_tree, rafdb_tree
from PIL import Image

from common.faces.video import pictures
from common.manifest import read_manifest
from common.prepare import ledger
from common.raw import affectnet_lists, challenge, expw, folder, reader_of, table
from common.raw.layout import VIDEO_SUFFIXES
from common.script.files import UserError

LITTER = ("Thumbs.db", "desktop.ini", ".DS_Store", "._a.jpg", "._01.mp4", "__MACOSX/._b.jpg")


def test_every_file_below_raw_is_used_or_refused_or_counted_by_kind(tmp_path, capsys):
    raw = tmp_path / "raw"
    rafdb_tree(raw / "RAF-DB")
    image(raw / "Faces" / "a.jpg", side=60)
    text(raw / "Faces" / "broken.jpg", "no image")
    image(raw / "Faces" / "more" / "b.jpg", side=60)
    for name in ("b.wmv", "c.wmv", "than/d.wmv"):
        text(raw / "Faces" / "three" / "levels" / name, name)
    for name in ("e.zip", "README", "notes.txt"):
        text(raw / "Faces" / name, name)
    for name in LITTER:
        text(raw / "Faces" / name, name)
    videos_tree(raw / "Clips", {"01": 2})
    text(raw / "Clips" / "a" / "b" / "02.mp4", "two levels deeper than is looked")
    text(raw / "AffectNet.zip", "not unpacked")
    prepared = prepare(tmp_path, "--align", "never")
    expected = {
        "": {".zip": 1},
        "RAF-DB": {".jpg": 1, ".txt": 1},  # of the two lists one is named in skipped.csv
        "Faces": {".wmv": 3, ".zip": 1, "without ending": 1, ".txt": 1},
        "Clips": {".mp4": 1},
    }
    found = json.loads((prepared / "summary.json").read_text())["left_alone"]
    assert found == expected
    out = capsys.readouterr().out
    assert "raw/Faces: left alone: 3 .wmv, 1 .zip, 1 without ending; lists and notes: 1 .txt" in out
    assert "raw/: left alone: 1 .zip" in out and "raw/Clips: left alone: 1 .mp4" in out
    prepare(tmp_path, "--align", "never", "--only", "Faces")  # the others as they were
    assert json.loads((prepared / "summary.json").read_text())["left_alone"].keys() >= {"Clips"}
    capsys.readouterr()
    prepare(tmp_path, "--align", "never", "--list")
    assert "raw/Faces: left alone: 3 .wmv" in capsys.readouterr().out


def test_an_image_of_a_row_that_is_refused_is_not_counted_as_left_alone(tmp_path, capsys):
    for name in "abcdef":
        image(tmp_path / "raw" / "val" / "val" / f"{name}.jpg")
    text(
        tmp_path / "raw" / "val" / "labels.csv",
        "image,label,split,kind\nval/a.jpg,sad\nval/b.jpg,bored\nval/c.jpg,sad,eval\n"
        "val/d.jpg,sad,val,compound\nval/e.jpg,sad,train\n",
    )
    prepare(tmp_path, "--list")
    assert capsys.readouterr().out.endswith("raw/val: left alone: 1 .jpg\n")  # f.jpg


def images_below(place):
    return [p for p in place.rglob("*") if p.suffix in (".jpg", ".png", ".webp")]


@pytest.mark.parametrize("tree", [name for name in TREES if name != "C-EXPR-DB"])
def test_images_are_used_refused_or_counted_in_every_data_set(tmp_path, tree):
    build, _ = TREES[tree]
    build(tmp_path / "raw" / "Set")
    image(tmp_path / "raw" / "Faces" / "a.jpg")  # of some trees nothing is sound
    prepared = prepare(tmp_path, "--align", "never", "--duplicates", "keep")
    summary = json.loads((prepared / "summary.json").read_text())
    left = sum(map(Counter, summary["left_alone"].values()), Counter())
    blocks = ledger.load(prepared / "state" / "images" / "Set" / "done.csv")
    named = {path.partition("#")[0] for block in blocks for path in block["path"].split("\n")}
    below = images_below(tmp_path / "raw" / "Set")
    # A folder that is refused as such takes its files with it.
    raw = tmp_path / "raw"
    lost = [
        p for p in below if not {str(p.relative_to(raw)), str(p.parent.relative_to(raw))} & named
    ]
    lost += tmp_path.glob("raw/*.jpg")
    assert Counter(path.suffix for path in lost) == Counter(
        {kind: count for kind, count in left.items() if kind in (".jpg", ".png", ".webp")}
    )


@pytest.mark.parametrize("tree", [name for name in TREES if name != "C-EXPR-DB"])
def test_labelled_images_of_unknown_persons_are_told_of_every_data_set(tmp_path, tree, capsys):
    place = TREES[tree][0](tmp_path / "raw" / "Set")
    items, _, _ = read(reader_of(place), place)
    expected = Counter(i.dataset for i in items.values() if i.labels and not i.subject)
    prepare(tmp_path, "--list")
    told = capsys.readouterr().out
    found = map(int, re.findall(r"persons unknown: (\d+) images", told))
    assert sorted(found) == sorted(expected.values()), told


def test_a_table_whose_names_tell_no_persons_says_so_until_it_has_a_column(tmp_path, capsys):
    names = [f"Person_{n // 2:02d}_{n}.jpg" for n in range(12)]  # too few persons to guess
    for name in names:
        image(tmp_path / "raw" / "Mine" / name, side=40)
    for column, known in (("", False), (",subject", True)):
        rows = [f"{name},fear{f',{name[:9]}' * known}" for name in names]
        text(tmp_path / "raw" / "Mine" / "labels.csv", "\n".join([f"image,label{column}", *rows]))
        prepared = prepare(tmp_path, "--align", "never", "--duplicates", "keep")
        summary = json.loads((prepared / "summary.json").read_text())["datasets"]["Mine"]
        assert summary["images"] == 12 and summary["persons_unknown"] == 12 * (not known)
        assert ("persons unknown: 12 images" in capsys.readouterr().out) == (not known)


@pytest.mark.parametrize("tree", TREES)
def test_what_operating_systems_leave_behind_is_no_damage_in_any_data_set(tmp_path, tree):
    build, _ = TREES[tree]
    place = build(tmp_path / "plain" / "Set")
    reader = reader_of(place)
    littered = build(tmp_path / "littered" / "Set")
    for inner in [littered, *(path for path in littered.rglob("*") if path.is_dir())]:
        for name in LITTER:
            text(inner / name, "")
    assert reader_of(littered) is reader
    if reader is challenge:
        assert challenge.find_videos(littered).keys() == challenge.find_videos(place).keys()
        return
    (plain, skips, _), (again, skips_again, _) = read(reader, place), read(reader, littered)
    assert again.keys() == plain.keys() and skips_again == skips


def write(path, codec, size=(160, 128)):
    """Write three frames, as whatever FFmpeg takes an ending for."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height = size
        stream.pix_fmt = stream.codec.video_formats[0].name
        for shade in (40, 90, 140):
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (shade, 80, 120)))
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())


@pytest.mark.parametrize("ending", [*sorted(VIDEO_SUFFIXES), ".gif"])
def test_all_endings_of_videos_that_the_decoder_reads_are_videos(tmp_path, ending):
    path = tmp_path / f"01{ending.upper()}"
    for codec in ("mpeg4", "mpeg1video", "flv", "h263", "gif", "mjpeg"):
        with contextlib.suppress(av.FFmpegError, ValueError, UserError):
            write(path.with_suffix(ending), codec, (176, 144))
            if len(list(pictures(path.with_suffix(ending)))) == 3:
                break
    else:  # FFmpeg writes none with these codecs; it reads by content
        write(tmp_path / "01.mkv", "mpeg4")
        (tmp_path / "01.mkv").rename(path.with_suffix(ending))
    path.with_suffix(ending).rename(path)
    assert len(list(pictures(path))) == 3
    assert challenge.recognises(tmp_path) and challenge.find_videos(tmp_path) == {"01": path}


def test_a_folder_of_pictures_is_not_taken_for_videos_because_one_moves(tmp_path):
    image(tmp_path / "a.jpg")
    write(tmp_path / "moving.gif", "gif")
    Image.new("RGB", (30, 30)).save(tmp_path / "still.gif")
    assert reader_of(tmp_path) is folder


KINDS = {
    "Unicode form": ("née.jpg", unicodedata.normalize("NFD", "née.jpg")),
    "case": ("Smile.JPG", "smile.jpg"),
    "ending": ("a.png", "a.jpg"),
    "backslashes": ("sub\\a.jpg", "sub/a.jpg"),
    "an absolute path": ("/home/me/data/sub/a.jpg", "sub/a.jpg"),
    "backslashes and an absolute path": ("C:\\data\\sub\\a.jpg", "sub/a.jpg"),
    "case and ending": ("A", "a.jpg"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_nearly_names_its_file_is_matched_and_counted(tmp_path, kind):
    given, there = KINDS[kind]
    image(tmp_path / there)
    image(tmp_path / "other.jpg")
    text(tmp_path / "labels.csv", f"image,label\n{given},fear\nother.jpg,anger\n")
    items, skips, counts = read(table, tmp_path)
    assert {item.path for item in items.values()} == {
        str(tmp_path / there),
        str(tmp_path / "other.jpg"),
    }
    assert not skips and counts == {f"names matched with their files that differ by {kind}": 1}


def test_a_label_that_may_mean_several_files_or_none_is_refused_with_what_differs(tmp_path):
    place = tmp_path / "raw" / "Mine"
    for name in ("a.jpg", "a.jpeg", "b.jpg", "elsewhere/c.jpg"):
        image(place / name, side=40)
    names = ("a.png", "../b.jpg", "C.jpg", "d.jpg", "b.jpg")
    text(place / "labels.csv", "image,label\n" + "".join(f"{name},fear\n" for name in names))
    prepared = prepare(tmp_path, "--align", "never")
    details = {row["detail"].split()[0]: row["detail"] for row in rows_of(prepared / "skipped.csv")}
    assert details["a.png"] == "a.png differs from a.jpeg by ending, from a.jpg by ending"
    assert details["C.jpg"] == "C.jpg differs from elsewhere/c.jpg by its folder and case"
    assert details["d.jpg"] == "d.jpg" and "../b.jpg" in details
    assert len(read_manifest(prepared / "manifest.csv")) == 1


@pytest.mark.parametrize("reader", [expw, affectnet_lists])
def test_the_owners_lists_are_matched_with_files_of_another_case_too(tmp_path, reader):
    build = {expw: expw_tree, affectnet_lists: affectnet_lists_tree}[reader]
    place = build(tmp_path / "Set")
    before, _, _ = read(reader, place)
    path = sorted({item.path for item in before.values()})[0]
    renamed = path.rpartition("/")[2].swapcase()
    (place / path).rename((place / path).with_name(renamed))
    after, _, counts = read(reader, place)
    assert len(after) == len(before) and any(i.path.endswith(renamed) for i in after.values())
    assert counts["names matched with their files that differ by case"] >= 1


@pytest.mark.parametrize(
    ("listed", "differs"),
    [("Single_Face", "case"), ("single_face.mp4", "ending"), ("007", "leading zeros")],
)
def test_a_listed_video_that_is_not_there_is_named_with_the_nearest(tmp_path, listed, differs):
    place = tmp_path / "raw" / "Clips"
    there = "7" if listed == "007" else "single_face"
    videos_tree(place, {there: 2})
    text(place / "CER.txt", (place / "CER.txt").read_text().replace(f"{there}/", f"{listed}/"))
    sentence = f"video '{listed}' .*there is '{there}', which differs by {differs}"
    with pytest.raises(UserError, match=sentence):
        prepare(tmp_path)


def test_a_mistyped_video_is_named_with_the_nearest_that_the_list_lacks(tmp_path):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"single_face": 2, "no_face": 2, "typo_fact": 2})
    listing = (place / "CER.txt").read_text()
    text(place / "CER.txt", listing.replace("no_face/", "typo_face/"))
    with pytest.raises(UserError, match=r"'typo_face' .*the nearest name is 'no_face'"):
        prepare(tmp_path)
    for other in ("xyz/", "no_face_2/"):
        text(place / "CER.txt", listing.replace("no_face/", other))
        with pytest.raises(UserError, match="no file of that name beside it; add it"):
            prepare(tmp_path)

"""01_prepare_data.py from raw folders to the manifest; what it tells, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from helpers.preparing import SCRIPT, prepare, rows_of, skipped, state_of, videos_tree
from helpers.raw_files import image, text
from helpers.raw_trees_emotions import affectnet_tree, rafdb_tree
from helpers.raw_trees_videos import affwild2_tree
from helpers.running import ROOT, run
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from common.manifest import read_manifest
from common.script.files import UserError


def test_all_families_go_into_one_manifest(tmp_path, capsys):
    raw = tmp_path / "raw"
    rafdb_tree(raw / "RAF-DB")
    affectnet_tree(raw / "AffectNet")
    affwild2_tree(raw / "Aff-Wild2")
    image(raw / "Faces" / "person" / "a.jpg")
    videos_tree(raw / "C-EXPR-DB", {"01": 4, "02": 3}, extra=1)
    text(raw / "notes.txt", "loose files do no harm")
    prepared = prepare(tmp_path)
    manifest = read_manifest(prepared / "manifest.csv")
    assert manifest["dataset"].value_counts().to_dict() == {
        "AffectNet": 6,
        "Aff-Wild2": 5,
        "RAF-DB-basic": 3,
        "RAF-DB-compound": 3,
        "Faces": 1,
    }
    for name in manifest["image"]:
        assert decode_image(str(prepared / name), mode=ImageReadMode.RGB).shape == (3, 20, 20)
    frames = rows_of(prepared / "frames.csv")
    assert [(row["video"], int(row["frame"])) for row in frames] == [
        *(("01", n) for n in range(1, 6)),
        *(("02", n) for n in range(1, 5)),
    ]
    assert [bool(row["image"]) for row in frames] == [1, 0, 1, 1, 0, 1, 0, 1, 0]
    for row in frames:
        if row["image"]:
            assert Image.open(prepared / row["image"]).size == (256, 256)
            assert 0.4 <= float(row["score"]) <= 1 and len(row["box"].split()) == 4
        else:
            assert row["box"] == row["score"] == ""
    assert (prepared / "frame_list.txt").read_bytes() == (
        raw / "C-EXPR-DB" / "CER.txt"
    ).read_bytes()
    summary = json.loads((prepared / "summary.json").read_text())
    assert summary["videos"]["01"] == {
        "listed": 5,
        "decoded": 4,
        "not decoded": 1,
        "faces": 3,
        "remarks": [],
    }
    raf = summary["datasets"]["RAF-DB-basic"]
    assert raf["splits"]["train"] == {"Sadness": 1, "Surprise": 1}
    assert raf["official"]["train"]["Sadness"] == 1982
    assert raf["skipped"]["unknown label"] == 1
    assert "12,271" in capsys.readouterr().out


def test_only_and_limit_take_a_part(tmp_path):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    for n in range(5):
        image(tmp_path / "raw" / "Faces" / f"{n}.jpg")
    prepared = prepare(tmp_path, "--only", "Faces", "--limit", "3")
    assert read_manifest(prepared / "manifest.csv")["image"].tolist() == [
        f"images/Faces/{n}.jpg" for n in range(3)
    ]
    with pytest.raises(UserError, match=r"no folder 'Face' in .*Faces, RAF-DB"):
        prepare(tmp_path, "--only", "Face")


def test_more_than_a_twentieth_lost_stops_the_run_and_nothing_is_lost(tmp_path, capsys):
    place = tmp_path / "raw" / "Faces"
    for n in range(40):
        image(place / f"{n:02d}.jpg", side=60)
    for n in range(2):
        text(place / f"{n:02d}.jpg", "")
    image(place / "small.jpg", side=10)  # left out by a rule, which is no loss
    prepared = prepare(tmp_path, accept=False)
    done = capsys.readouterr().out.splitlines()[-1]
    assert done.startswith("41 inputs read, 38 images kept, 3 skipped (see ")
    text(place / "02.jpg", "no picture")
    with pytest.raises(UserError, match=r"3 of 41 in Faces \(7%\).*skipped\.csv.*--accept-losses"):
        prepare(tmp_path, accept=False)
    assert skipped(prepared)["02.jpg"] == "not an image"
    assert len(read_manifest(prepared / "manifest.csv")) == 38  # that of the run before
    capsys.readouterr()
    prepare(tmp_path)
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith(
        "Nothing new to prepare, 37 images kept, 4 skipped (see "
    )
    assert "skipped, empty file: 2 (such as Faces/00.jpg)" in out
    assert len(read_manifest(prepared / "manifest.csv")) == 37
    with pytest.raises(UserError, match="--accept-losses"):
        prepare(tmp_path, accept=False)
    assert len(read_manifest(prepared / "manifest.csv")) == 37


def test_a_list_tells_what_is_there_beside_the_official_counts_and_prepares_nothing(
    tmp_path, capsys
):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    image(tmp_path / "raw" / "Faces" / "a.jpg")
    videos_tree(tmp_path / "raw" / "Clips", {"01": 2, "02": 2})
    before = state_of(tmp_path)
    prepare(tmp_path, "--list", accept=False)
    out = capsys.readouterr().out
    assert state_of(tmp_path) == before and not (tmp_path / "prepared").exists()
    rows = {tuple(line.split()[:4]) for line in out.splitlines()}
    assert ("RAF-DB-basic", "train", "2", "12,271") in rows
    assert ("RAF-DB-compound", "test", "2", "792") in rows and ("Faces", "-", "1", "-") in rows
    assert "Sadness 1/1,982" in out and "Anger 0/705" in out
    assert "missing of train: 12,269" in out
    assert "skipped, unknown label: 1 (such as RAF-DB/basic/" in out
    assert "RAF-DB: RAF-DB, " in out and "Faces: folder of images" in out
    assert "2 videos" in out and "4 frames of 2 videos listed in CER.txt" in out


def test_help_and_mistakes_need_no_heavy_library():
    code = (
        "import runpy, sys; sys.argv = ['01', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'onnxruntime', 'av', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_two_folders_of_one_data_set_are_refused(tmp_path):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    rafdb_tree(tmp_path / "raw" / "RAF-DB copy")
    with pytest.raises(UserError, match="both hold RAF-DB-basic"):
        prepare(tmp_path)


def test_mistakes_end_in_one_sentence_and_status_2(tmp_path):
    status, output, complaints = run(SCRIPT, "--data-dir", tmp_path / "nowhere")
    assert status == 2 and output == "" and complaints.count("\n") == 1
    assert complaints.startswith("error: There is no folder")
    (tmp_path / "raw").mkdir()
    status, _, complaints = run(SCRIPT, "--data-dir", tmp_path)
    assert status == 2 and "has no folders" in complaints
    assert list(tmp_path.iterdir()) == [tmp_path / "raw"]

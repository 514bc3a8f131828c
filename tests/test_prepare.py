"""01_prepare_data.py on small trees in the owners' layouts, from raw files to the manifest."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn import scene, write_video
from PIL import Image
from raw_trees import affectnet_tree, affwild2_tree, image, rafdb_tree, text
from torchvision.io import ImageReadMode, decode_image

from common.emotions import CHALLENGE
from common.files import UserError, only_process
from common.manifest import read_manifest
from common.raw import folder as folder_reader
from common.raw.layout import Item

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"
SCRIPT = ROOT / "01_prepare_data.py"
HEADER = ",".join(("image_location", *CHALLENGE))


def prepare(data, *flags, accept=True):
    """Run the script in this process. accept: whatever share of these small trees is bad."""
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    flags = [*flags, *["--accept-losses"] * accept]
    before, sys.argv = sys.argv, ["x", "--data-dir", str(data), "--workers", "0", *flags]
    try:
        module.main()
    finally:
        sys.argv = before
    return data / "prepared"


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def skipped(prepared):
    return {os.path.basename(r["path"]): r["reason"] for r in rows_of(prepared / "skipped.csv")}


def state_of(folder):
    """Every file below a folder with its inode, time and content's length."""
    return {
        str(path.relative_to(folder)): (s.st_ino, s.st_mtime_ns, s.st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (s := path.stat())
    }


def videos_tree(place, lengths, extra=0):
    """Videos of a moving face and the list of their frames, `extra` longer than they are."""
    (place / "videos").mkdir(parents=True)
    lines = [HEADER]
    for video, length in lengths.items():
        pictures = [scene((90 + 4 * i, 120, 90)) for i in range(length)]
        pictures[1:2] = [scene()]
        write_video(place / "videos" / f"{video}.mp4", pictures)
        lines += [f"{video}/{frame:05d}.jpg," for frame in range(1, length + 1 + extra)]
    text(place / "CER.txt", "\r\n".join(lines))


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
    assert summary["videos"]["01"] == {"listed": 5, "decoded": 4, "faces": 3}
    raf = summary["datasets"]["RAF-DB-basic"]
    assert raf["splits"]["train"] == {"Sadness": 1, "Surprise": 1}
    assert raf["official"]["train"]["Sadness"] == 1982
    assert raf["skipped"]["unknown label"] == 1
    assert "12,271" in capsys.readouterr().out


def test_a_second_run_does_nothing_and_gives_the_same(tmp_path, capsys):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    videos_tree(tmp_path / "raw" / "C-EXPR-DB", {"01": 3})
    prepared = prepare(tmp_path)
    manifest = (prepared / "manifest.csv").read_bytes()
    before = {k: v for k, v in state_of(prepared).items() if k.startswith(("images", "crops"))}
    capsys.readouterr()
    prepare(tmp_path)
    assert "Nothing new" in capsys.readouterr().out
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert prepare(moved) == moved / "prepared"
    assert "Nothing new" in capsys.readouterr().out
    prepared = moved / "prepared"
    after = {k: v for k, v in state_of(prepared).items() if k.startswith(("images", "crops"))}
    assert after == before and (prepared / "manifest.csv").read_bytes() == manifest


def test_a_new_data_set_leaves_the_others_alone(tmp_path, capsys):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    prepare(tmp_path)
    image(tmp_path / "raw" / "Faces" / "a.jpg")
    capsys.readouterr()
    prepared = prepare(tmp_path)
    assert "1 inputs prepared" in capsys.readouterr().out
    assert len(read_manifest(prepared / "manifest.csv")) == 7


@pytest.mark.parametrize("change", ["label", "content", "prepared", "cut off", "setting", "ledger"])
def test_what_has_changed_is_done_again(tmp_path, change, capsys):
    place = tmp_path / "raw" / "Mine"
    names = [f"{n}.jpg" for n in range(5)]
    for name in names:
        image(place / name, side=30)
    text(place / "labels.csv", "image,label\n" + "".join(f"{n},fear\n" for n in names))
    prepared = prepare(tmp_path, "--align", "never")
    flags = []
    if change == "label":
        table = (place / "labels.csv").read_text().replace("2.jpg,fear", "2.jpg,anger")
        text(place / "labels.csv", table)
    elif change == "content":
        image(place / "2.jpg", side=40)
    elif change == "prepared":
        (prepared / "images" / "Mine" / "2.jpg").unlink()
        (prepared / "images" / "Mine" / "2.jpg").touch()  # as after a power cut
    elif change == "cut off":
        path = prepared / "images" / "Mine" / "2.jpg"
        content = path.read_bytes()
        path.unlink()  # it may be a link to the raw file
        path.write_bytes(content[:-100])
    elif change == "setting":
        flags = ["--min-side", "35"]
    else:
        ledger = prepared / "state" / "images" / "Mine" / "done.csv"
        ledger.write_bytes(ledger.read_bytes()[:-40])
    capsys.readouterr()
    if change == "setting":
        with pytest.raises(UserError, match="No image or video could be used"):
            prepare(tmp_path, "--align", "never", *flags)
        assert set(skipped(prepared).values()) == {"smaller than --min-side"}
        return
    prepare(tmp_path, "--align", "never")
    done = capsys.readouterr().out.splitlines()[-1]
    assert done.startswith("1 inputs prepared, 0 skipped")
    manifest = read_manifest(prepared / "manifest.csv").set_index("image")
    assert manifest.loc["images/Mine/2.jpg", "labels"] == ("Anger" if change == "label" else "Fear")
    assert manifest.loc["images/Mine/2.jpg", "width"] == (40 if change == "content" else 30)
    assert len(manifest) == 5
    for name in manifest.index:
        assert decode_image(str(prepared / name)).shape[1] >= 30


def png_of_20000_pixels_square():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bad_images_are_refused_one_by_one_with_a_reason(tmp_path):
    place = tmp_path / "raw" / "Faces"
    image(place / "good.jpg")
    image(place / "cut.jpg", side=200)
    (place / "cut.jpg").write_bytes((place / "cut.jpg").read_bytes()[:-300])
    text(place / "empty.jpg", "")
    text(place / "words.jpg", "these are words")
    (place / "bomb.png").write_bytes(png_of_20000_pixels_square())
    image(place / "small.jpg", side=15)
    (place / "line\nfeed.jpg").write_bytes((place / "good.jpg").read_bytes())
    (place / os.fsdecode(b"latin-\xe9.jpg")).write_bytes((place / "good.jpg").read_bytes())
    (place / "gone.jpg").symlink_to(place / "nowhere")
    prepared = prepare(tmp_path)
    assert read_manifest(prepared / "manifest.csv")["image"].tolist() == ["images/Faces/good.jpg"]
    assert skipped(prepared) == {
        "bomb.png": "too many pixels",
        "cut.jpg": "damaged image",
        "empty.jpg": "empty file",
        "gone.jpg": "cannot be read",
        "latin-\\udce9.jpg": "unusable file name",
        "line feed.jpg": "unusable file name",
        "small.jpg": "smaller than --min-side",
        "words.jpg": "not an image",
    }
    assert [p.name for p in (prepared / "images").rglob("*") if p.is_file()] == ["good.jpg"]


def test_whatever_the_format_what_is_prepared_is_an_upright_rgb_jpeg(tmp_path):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    left_red = np.zeros((60, 100, 3), dtype=np.uint8)
    left_red[:, :50] = (250, 0, 0)
    picture = Image.fromarray(left_red)
    picture.save(place / "webp.jpg", "WEBP", lossless=True)
    picture.save(place / "rgba.png")
    picture.convert("P").save(place / "palette.gif")
    picture.convert("CMYK").save(place / "cmyk.jpg", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise: what is left comes up
    picture.save(place / "turned.jpg", exif=turned, quality=95)
    deep = np.tile(np.linspace(0, 65535, 100).astype(np.uint16), (60, 1))
    Image.fromarray(deep).save(place / "deep.png")
    picture.resize((1000, 600)).save(place / "large.jpg", quality=95)
    picture.save(place / "plain.jpg", quality=37)
    prepared = prepare(tmp_path, "--duplicates", "keep", "--min-sharpness", "0")
    manifest = read_manifest(prepared / "manifest.csv").set_index("image")
    assert len(manifest) == 8 and not skipped(prepared)
    for name, row in manifest.iterrows():
        decoded = decode_image(str(prepared / name), mode=ImageReadMode.RGB).numpy()
        kind = Path(name).name.split(".")[0]
        assert Image.open(prepared / name).format == "JPEG"
        assert decoded.shape == (3, row["height"], row["width"])
        if kind == "turned":
            assert decoded.shape == (3, 100, 60)
            assert decoded[0, :40].mean() > 200 and decoded[0, 60:].mean() < 50
        elif kind == "deep":
            assert abs(decoded[0, :, 95:].mean() - 250) < 8 and decoded[0, :, :5].mean() < 12
        else:
            half = decoded.shape[2] // 2
            assert decoded[0, :, : half - 5].mean() > 180 and decoded[0, :, half + 5 :].mean() < 60
    assert min(manifest.loc["images/Faces/large.jpg", ["width", "height"]]) == 256
    # A small JPEG is not compressed a second time.
    assert (prepared / "images" / "Faces" / "plain.jpg").read_bytes() == (
        place / "plain.jpg"
    ).read_bytes()


def test_a_jpeg_that_only_pillow_reads_is_written_anew(tmp_path):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    noise = np.random.RandomState(0).randint(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "a.jpg", quality=60)
    content = bytearray((place / "a.jpg").read_bytes())
    content[685] = 255  # the start of a marker amid the data
    (place / "a.jpg").write_bytes(content)
    with pytest.raises(RuntimeError):
        decode_image(str(place / "a.jpg"))
    prepared = prepare(tmp_path)
    image_name = read_manifest(prepared / "manifest.csv")["image"][0]
    assert decode_image(str(prepared / image_name)).shape == (3, 40, 40)


def photographs(place, aligned):
    """Faces drawn where TEMPLATE has them, or small and aside."""
    names = [f"Ann_Lee_{n:04d}.jpg" for n in range(4)]
    (place / "images").mkdir(parents=True)
    for number, name in enumerate(names):
        face = (50, 52, 90) if aligned else (30 + 3 * number, 60, 50)
        Image.fromarray(scene(face, size=(100, 100))).save(place / "images" / name)
    text(place / "labels.csv", "image,label\n" + "".join(f"{n},fear\n" for n in names))


@pytest.mark.parametrize("align", ["auto", "always", "never"])
def test_photographs_are_aligned_as_asked(tmp_path, align):
    photographs(tmp_path / "raw" / "Mine", aligned=False)
    manifest = read_manifest(prepare(tmp_path, "--align", align) / "manifest.csv")
    assert set(manifest["width"]) == ({100} if align == "never" else {256})


def test_a_photograph_without_a_face_is_kept_and_counted(tmp_path):
    photographs(tmp_path / "raw" / "Mine", aligned=False)
    image(tmp_path / "raw" / "Mine" / "images" / "Ann_Lee_0002.jpg", side=70)
    prepared = prepare(tmp_path)
    assert sorted(read_manifest(prepared / "manifest.csv")["width"]) == [70, 256, 256, 256]
    faces = json.loads((prepared / "summary.json").read_text())["datasets"]["Mine"]["faces"]
    assert faces == {"aligned": 3, "none found": 1}


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


def test_a_limited_run_throws_no_earlier_work_away(tmp_path, capsys):
    for n in range(5):
        image(tmp_path / "raw" / "Faces" / f"{n}.jpg")
    whole = (prepare(tmp_path) / "manifest.csv").read_bytes()
    prepared = prepare(tmp_path, "--limit", "3")
    assert len(read_manifest(prepared / "manifest.csv")) == 3
    capsys.readouterr()
    prepare(tmp_path)
    assert "Nothing new" in capsys.readouterr().out
    assert (prepared / "manifest.csv").read_bytes() == whole
    (tmp_path / "raw" / "Faces" / "4.jpg").unlink()
    prepare(tmp_path)
    assert len(read_manifest(prepared / "manifest.csv")) == 4


def test_only_keeps_what_was_prepared_of_the_others(tmp_path, capsys):
    raw = tmp_path / "raw"
    rafdb_tree(raw / "RAF-DB")
    for n in range(3):
        image(raw / "Faces" / f"{n}.jpg")
    videos_tree(raw / "Clips", {"a": 2})
    (raw / "Clips" / "videos" / "c.mp4").write_bytes(b"no video" * 99)
    prepared = prepare(tmp_path)
    files = ("manifest.csv", "frames.csv", "frame_list.txt", "skipped.csv")
    whole = [(prepared / name).read_bytes() for name in files]
    summary = json.loads((prepared / "summary.json").read_text())
    for name in ("Faces", "Clips", "RAF-DB"):
        prepare(tmp_path, "--only", name)
        assert [(prepared / name).read_bytes() for name in files] == whole
        again = json.loads((prepared / "summary.json").read_text())
        assert (again["datasets"], again["videos"]) == (summary["datasets"], summary["videos"])
    image(raw / "Faces" / "3.jpg")
    image(raw / "More" / "1.jpg")
    capsys.readouterr()
    prepare(tmp_path, "--only", "Faces")
    assert "More is not prepared yet" in capsys.readouterr().out
    assert len(read_manifest(prepared / "manifest.csv")) == 6 + 4
    shutil.rmtree(raw / "RAF-DB")
    shutil.rmtree(raw / "Clips")
    prepare(tmp_path, "--only", "More")
    assert len(read_manifest(prepared / "manifest.csv")) == 4 + 1
    assert not rows_of(prepared / "frames.csv") and not (prepared / "frame_list.txt").exists()


def test_only_does_not_mix_two_folders_of_one_data_set(tmp_path):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    prepare(tmp_path)
    rafdb_tree(tmp_path / "raw" / "RAF-DB copy")
    with pytest.raises(UserError, match="both hold RAF-DB-basic"):
        prepare(tmp_path, "--only", "RAF-DB copy")


def test_a_second_run_at_once_is_refused(tmp_path):
    image(tmp_path / "raw" / "Faces" / "a.jpg")
    with only_process(tmp_path / "prepared"):
        second = run(tmp_path)
    assert second.returncode == 2 and f"(process {os.getpid()}) works in" in second.stderr
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [".lock"]


def launch(data, processes, *flags):
    """Run the script in several processes, as `accelerate launch` or torchrun does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), str(SCRIPT), "--data-dir", str(data)]
    command += ["--workers", "0", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def test_two_processes_do_the_work_of_one_and_take_over_what_was_done(tmp_path):
    raw = tmp_path / "one" / "raw"
    for n in range(200):
        image(raw / "Faces" / f"{n % 3}" / f"{n}.jpg", side=60)
    text(raw / "Faces" / "empty.jpg", "")
    videos_tree(raw / "Clips", {"01": 3, "02": 2})
    shutil.copytree(raw, tmp_path / "two" / "raw")
    prepare(tmp_path / "one", "--align", "never")
    # A run of one process that was killed: a part of its notes is there, and no manifest.
    prepare(tmp_path / "two", "--align", "never", "--only", "Faces", "--limit", "150")
    state = tmp_path / "two" / "prepared" / "state" / "images" / "Faces"
    lines = (state / "limited.csv").read_bytes().splitlines(keepends=True)
    (state / "limited.csv").unlink()
    (state / "current-0.csv").write_bytes(b"".join(lines[:102]) + lines[102][:30])
    before = state_of(tmp_path / "two" / "prepared" / "images")
    two = launch(tmp_path / "two", 2, "--align", "never")
    assert two.returncode == 0, two.stderr
    # Of 201 images 100 were noted, and of videos none.
    assert two.stdout.splitlines()[-1].startswith("103 inputs prepared, 1 skipped")
    assert two.stdout.count("inputs prepared") == two.stdout.count("data set ") == 1
    after = state_of(tmp_path / "two" / "prepared" / "images")
    assert len(before) == 149 and all(before[name] == after[name] for name in before)
    assert [path.name for path in state.iterdir()] == ["done.csv"]
    for name in ("manifest.csv", "frames.csv", "skipped.csv", "manifest.npz"):
        one, two = (tmp_path / part / "prepared" / name for part in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_more_than_a_twentieth_lost_stops_the_run_and_nothing_is_lost(tmp_path, capsys):
    place = tmp_path / "raw" / "Faces"
    for n in range(40):
        image(place / f"{n:02d}.jpg", side=60)
    for n in range(2):
        text(place / f"{n:02d}.jpg", "")
    image(place / "small.jpg", side=10)  # left out by a rule, which is no loss
    prepared = prepare(tmp_path, accept=False)
    text(place / "02.jpg", "no picture")
    with pytest.raises(UserError, match=r"3 of 41 in Faces \(7%\).*skipped\.csv.*--accept-losses"):
        prepare(tmp_path, accept=False)
    assert skipped(prepared)["02.jpg"] == "not an image"
    assert len(read_manifest(prepared / "manifest.csv")) == 38  # that of the run before
    capsys.readouterr()
    prepare(tmp_path)
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("Nothing new to prepare, 4 skipped (see ")
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


def test_only_new_and_changed_images_are_prepared(tmp_path, capsys):
    place = tmp_path / "raw" / "Faces"
    for n in range(150):
        image(place / f"{n:03d}.jpg", side=40)
    prepare(tmp_path)
    image(place / "000a.jpg", side=40)  # all that come after it move on by one
    (place / "100.jpg").unlink()
    capsys.readouterr()
    prepared = prepare(tmp_path)
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 inputs prepared, 0 skipped")
    names = read_manifest(prepared / "manifest.csv")["image"].tolist()
    assert len(names) == 150 and names == sorted(names)
    prepare(tmp_path)
    assert capsys.readouterr().out.count("\n") == 1
    (prepared / "frames.csv").unlink()
    prepare(tmp_path)
    assert (prepared / "frames.csv").exists()


def climbing_reader(folder, counts):
    for name in ("../../../out.jpg", "/out.jpg", "a/../../out.jpg", "n" * 300 + ".jpg"):
        yield Item(str(folder / "a.jpg"), name, "Faces")
    yield Item(str(folder / "a.jpg"), "in/a.jpg", "Faces")


def test_no_prepared_name_leaves_the_prepared_folder(tmp_path, monkeypatch):
    outside = tmp_path / "elsewhere" / "more"
    image(outside / "b.jpg")
    image(tmp_path / "raw" / "Faces" / "a.jpg")
    # Data folders are often linked: what lies behind a link is read like the rest.
    (tmp_path / "raw" / "Faces" / "linked").symlink_to(outside)
    manifest = read_manifest(prepare(tmp_path) / "manifest.csv")
    assert manifest["image"].tolist() == ["images/Faces/a.jpg", "images/Faces/linked/b.jpg"]
    monkeypatch.setattr(folder_reader, "read", climbing_reader)
    before = set(state_of(tmp_path))
    prepared = prepare(tmp_path)
    assert read_manifest(prepared / "manifest.csv")["image"].tolist() == ["images/Faces/in/a.jpg"]
    assert set(skipped(prepared).values()) == {"unusable file name"}
    assert {name for name in state_of(tmp_path) if "out.jpg" in name or "nnn" in name} == set()
    assert all(name.startswith("prepared") for name in set(state_of(tmp_path)) - before)


def test_pipes_and_huge_files_cost_neither_time_nor_memory(tmp_path):
    place = tmp_path / "raw" / "Faces"
    image(place / "a.jpg")
    os.mkfifo(place / "pipe.jpg")
    with open(place / "huge.jpg", "wb") as file:
        file.truncate(1 << 40)
    (place / "bomb.png").write_bytes(png_of_20000_pixels_square())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepared = prepare(tmp_path)
    assert skipped(prepared) == {
        "bomb.png": "too many pixels",
        "huge.jpg": "damaged image",
        "pipe.jpg": "cannot be read",
    }
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 600 * 1024  # two copies of 256 MiB, and not 1 TiB or 1.2 GB


def test_help_and_mistakes_need_no_heavy_library():
    code = (
        "import runpy, sys; sys.argv = ['01', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'onnxruntime', 'av', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_a_damaged_crop_of_a_video_is_done_again(tmp_path):
    videos_tree(tmp_path / "raw" / "Clips", {"a": 3})
    prepared = prepare(tmp_path)
    crop = prepared / rows_of(prepared / "frames.csv")[0]["image"]
    content = crop.read_bytes()
    crop.write_bytes(content[:-100])
    prepare(tmp_path)
    assert crop.read_bytes() == content


def test_without_a_list_every_frame_counts(tmp_path, capsys):
    videos_tree(tmp_path / "raw" / "Clips", {"a": 3})
    (tmp_path / "raw" / "Clips" / "CER.txt").unlink()
    prepared = prepare(tmp_path)
    assert len(rows_of(prepared / "frames.csv")) == 3
    assert not (prepared / "frame_list.txt").exists()
    assert "no frame list" in capsys.readouterr().out
    assert len(read_manifest(prepared / "manifest.csv")) == 0


def test_videos_and_list_that_do_not_match_are_named(tmp_path, capsys):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"a": 2, "b": 2})
    listing = (place / "CER.txt").read_text()
    text(place / "CER.txt", "\n".join(x for x in listing.split("\n") if not x.startswith("b/")))
    prepared = prepare(tmp_path)
    assert "the frame list names no frame of b" in capsys.readouterr().out
    assert len(rows_of(prepared / "frames.csv")) == 4
    text(place / "CER.txt", listing + "\nc/00001.jpg,")
    with pytest.raises(UserError, match=r"CER\.txt names the video 'c'"):
        prepare(tmp_path)
    text(place / "CER.txt", listing.replace(CHALLENGE[2], "Boredom"))
    with pytest.raises(UserError, match=r"CER\.txt, line 1"):
        prepare(tmp_path)


def test_an_unreadable_video_stops_the_run_if_it_is_listed(tmp_path, capsys):
    place = tmp_path / "raw" / "Clips"
    videos_tree(place, {"a": 2, "b": 2})
    (place / "videos" / "c.mp4").write_bytes(b"no video" * 99)
    prepared = prepare(tmp_path)
    assert skipped(prepared) == {"c.mp4": "unreadable video"}
    assert "warning" in capsys.readouterr().out
    manifest = state_of(prepared)["manifest.csv"]
    (place / "videos" / "b.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(UserError, match=r"b\.mp4 cannot be decoded .*CER\.txt lists its frames"):
        prepare(tmp_path, accept=False)
    assert state_of(prepared)["manifest.csv"] == manifest


def test_what_the_disk_refused_is_tried_again_though_the_file_looks_the_same(tmp_path):
    place = tmp_path / "raw"
    videos_tree(place / "Clips", {"a": 2, "b": 2})
    video, pipe = place / "Clips" / "videos" / "b.mp4", place / "Faces" / "pipe.jpg"
    image(place / "Faces" / "a.jpg")
    os.mkfifo(pipe)
    content, times = video.read_bytes(), (1e9, 1e9)
    video.write_bytes(bytes(len(content)))
    for path in (video, pipe):
        os.utime(path, times)
    prepared = prepare(tmp_path)
    assert skipped(prepared) == {"b.mp4": "unreadable video", "pipe.jpg": "cannot be read"}
    pipe.unlink()
    pipe.touch()
    video.write_bytes(content)
    for path in (video, pipe):
        os.utime(path, times)
    prepare(tmp_path)
    assert skipped(prepared) == {"pipe.jpg": "empty file"}
    assert len(rows_of(prepared / "frames.csv")) == 4


def test_two_folders_of_one_data_set_are_refused(tmp_path):
    rafdb_tree(tmp_path / "raw" / "RAF-DB")
    rafdb_tree(tmp_path / "raw" / "RAF-DB copy")
    with pytest.raises(UserError, match="both hold RAF-DB-basic"):
        prepare(tmp_path)


def run(data, *flags, **options):
    return subprocess.run(
        [sys.executable, SCRIPT, "--data-dir", data, *flags],
        capture_output=True,
        text=True,
        **options,
    )


def test_mistakes_end_in_one_sentence_and_status_2(tmp_path):
    missing = run(tmp_path / "nowhere")
    assert missing.returncode == 2 and missing.stdout == ""
    assert (
        missing.stderr.startswith("error: There is no folder") and missing.stderr.count("\n") == 1
    )
    (tmp_path / "raw").mkdir()
    empty = run(tmp_path)
    assert empty.returncode == 2 and "has no folders" in empty.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "raw"]


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    raw = tmp_path / "whole" / "raw"
    for n in range(300):
        image(raw / "Faces" / f"{n % 7}" / f"{n}.jpg", side=100 + n % 50)
    videos_tree(raw / "C-EXPR-DB", {"01": 4, "02": 4})
    shutil.copytree(raw, tmp_path / "killed" / "raw")
    whole = run(tmp_path / "whole", "--workers", "2", "--align", "never")
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, SCRIPT, "--data-dir", tmp_path / "killed", "--workers", "2"]
    process = subprocess.Popen([*command, "--align", "never"], start_new_session=True)
    state = tmp_path / "killed" / "prepared" / "state" / "images" / "Faces"
    ledger = state / "current-0.csv"
    for _ in range(600):
        if ledger.exists() and ledger.read_bytes().count(b"\n") > 66:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "prepared" / "manifest.csv").exists()
    again = run(tmp_path / "killed", "--workers", "2", "--align", "never")
    assert again.returncode == 0, again.stderr
    done = int(again.stdout.splitlines()[-1].split()[0])
    assert done <= 302 - 64
    for name in ("manifest.csv", "frames.csv", "frame_list.txt"):
        assert (tmp_path / "killed" / "prepared" / name).read_bytes() == (
            tmp_path / "whole" / "prepared" / name
        ).read_bytes()


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/real: real photographs are not here")
def test_real_photographs_are_read_and_their_faces_found(tmp_path):
    shutil.copytree(REAL / "faces", tmp_path / "raw" / "Photographs")
    prepared = prepare(tmp_path, "--limit", "60")
    manifest = read_manifest(prepared / "manifest.csv")
    assert len(manifest) == 60 and not skipped(prepared)
    faces = json.loads((prepared / "summary.json").read_text())["datasets"]["Photographs"]["faces"]
    assert faces["aligned"] >= 57
    assert decode_image(str(prepared / manifest["image"][0])).shape == (3, 256, 256)

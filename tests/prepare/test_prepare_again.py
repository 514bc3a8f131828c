"""01_prepare_data.py run once more: only what is new is done, by however many processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
from helpers.preparing import SCRIPT, prepare, rows_of, skipped, state_of, videos_tree
from helpers.raw_files import image, text
from helpers.raw_trees_emotions import rafdb_tree
from helpers.running import run, script
from torchvision.io import decode_image

from common.manifest import read_manifest
from common.script.files import UserError, only_process


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
    assert "1 inputs read, 7 images kept, " in capsys.readouterr().out
    assert len(read_manifest(prepared / "manifest.csv")) == 7


def test_only_new_and_changed_images_are_prepared(tmp_path, capsys):
    place = tmp_path / "raw" / "Faces"
    for n in range(150):
        image(place / f"{n:03d}.jpg", side=40)
    prepare(tmp_path)
    image(place / "000a.jpg", side=40)  # all that come after it move on by one
    (place / "100.jpg").unlink()
    capsys.readouterr()
    prepared = prepare(tmp_path)
    done = capsys.readouterr().out.splitlines()[-1]
    assert done.startswith("1 inputs read, 150 images kept, 0 skipped")
    names = read_manifest(prepared / "manifest.csv")["image"].tolist()
    assert len(names) == 150 and names == sorted(names)
    prepare(tmp_path)
    assert capsys.readouterr().out.count("\n") == 1
    (prepared / "frames.csv").unlink()
    prepare(tmp_path)
    assert (prepared / "frames.csv").exists()


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
        with pytest.raises(UserError, match="No input could be used"):
            prepare(tmp_path, "--align", "never", *flags)
        assert set(skipped(prepared).values()) == {"smaller than --min-side"}
        return
    prepare(tmp_path, "--align", "never")
    done = capsys.readouterr().out.splitlines()[-1]
    manifest = read_manifest(prepared / "manifest.csv").set_index("image")
    assert done.startswith(f"1 inputs read, {len(manifest)} images kept, 0 skipped")
    assert manifest.loc["images/Mine/2.jpg", "labels"] == ("Anger" if change == "label" else "Fear")
    assert manifest.loc["images/Mine/2.jpg", "width"] == (40 if change == "content" else 30)
    assert len(manifest) == 5
    for name in manifest.index:
        assert decode_image(str(prepared / name)).shape[1] >= 30


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
        status, _, complaints = run(SCRIPT, "--data-dir", tmp_path)
    assert status == 2 and f"(process {os.getpid()}) works in" in complaints
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [".lock"]


def test_two_processes_do_the_work_of_one_and_take_over_what_was_done(tmp_path):
    raw = tmp_path / "one" / "raw"
    for n in range(200):
        image(raw / "Faces" / f"person {n % 3}" / f"{n}.jpg", side=60)
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
    flags = ["--workers", "0", "--align", "never"]
    status, output, complaints = run(SCRIPT, "--data-dir", tmp_path / "two", *flags, processes=2)
    assert status == 0, complaints
    # Of 201 images 100 were noted, and of videos none.
    assert output.splitlines()[-1].startswith("103 inputs read, 200 images kept, 1 skipped")
    assert output.count("inputs read") == output.count("data set ") == 1
    after = state_of(tmp_path / "two" / "prepared" / "images")
    assert len(before) == 149 and all(before[name] == after[name] for name in before)
    assert [path.name for path in state.iterdir()] == ["done.csv"]
    for name in ("manifest.csv", "frames.csv", "skipped.csv"):
        one, two = (tmp_path / part / "prepared" / name for part in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    raw = tmp_path / "whole" / "raw"
    for n in range(300):
        image(raw / "Faces" / f"person {n % 7}" / f"{n}.jpg", side=100 + n % 50)
    videos_tree(raw / "C-EXPR-DB", {"01": 4, "02": 4})
    shutil.copytree(raw, tmp_path / "killed" / "raw")
    flags = ["--workers", "2", "--align", "never"]
    status, _, complaints = run(SCRIPT, "--data-dir", tmp_path / "whole", *flags)
    assert status == 0, complaints
    killed = [SCRIPT, "--data-dir", tmp_path / "killed", *flags]
    process = script(*killed, start_new_session=True)
    state = tmp_path / "killed" / "prepared" / "state" / "images" / "Faces"
    ledger = state / "current-0.csv"
    for _ in range(3000):  # on a busy machine workers start slowly
        if ledger.exists() and ledger.read_bytes().count(b"\n") > 66:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "prepared" / "manifest.csv").exists()
    status, output, complaints = run(*killed)
    assert status == 0, complaints
    done = int(output.splitlines()[-1].split()[0])
    assert done <= 302 - 64
    for name in ("manifest.csv", "frames.csv", "frame_list.txt"):
        assert (tmp_path / "killed" / "prepared" / name).read_bytes() == (
            tmp_path / "whole" / "prepared" / name
        ).read_bytes()

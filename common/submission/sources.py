"""What 05 predicts: prepared crops or raw videos, and the frames that are listed.

The list is the truth, not the decoder: videos it does not name are left out, frames that it names
and that do not decode are filled. Without a list, every frame counts that a video holds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.hardware import default_batch_size, default_workers
from common.networks.weights import TRACKS
from common.raw.challenge import find_frame_list, find_videos_and_rest
from common.raw.matching import nearest_name
from common.script.config import settings_of
from common.script.files import UserError, file_digest, inside, some
from common.script.flags import DETECT_SIDES_PX
from common.script.main import batch_is
from common.submission.ensemble import Ensemble, checkpoints_of, load_ensemble, record_of
from common.submission.files import (
    HEADER,
    check_video_names,
    locate,
    read_frame_list,
    split_location,
)
from common.submission.fusion import Table, describe, read_table, weight_matrix
from common.submission.inference import Observed, check_faces, predict_crops, predict_videos
from common.submission.tracks import judge_by_unseen, leave_out, track_and_seen
from common.submission.truth import read_truth, tuning_frames

_COLUMNS = {"video": str, "frame": "int64", "image": str, "decoded": "int64"}  # of frames.csv


@dataclass
class Source:
    """Frames to predict.

    frames: rows of `frames.csv` in `folder`, where crops are prepared; else videos: name → path.
    list_path: the frame list in use, or None; header: its, verbatim; locations: its frames, or None
    for all that there are; listing: its bytes. unlisted: videos of which it names no frame. rest:
    files beside the videos that are not read.
    """

    folder: Path
    frames: pd.DataFrame | None
    videos: dict[str, Path] | None
    list_path: Path | None
    header: str = HEADER
    locations: list[str] | None = None
    listing: bytes | None = None
    unlisted: Sequence[str] = ()
    rest: Sequence[str] = ()

    @property
    def names(self) -> set[str]:
        """The videos that are there."""
        return set(self.frames["video"]) if self.videos is None else set(self.videos)

    def absent(self, locations: list[str]) -> list[str]:
        """Return the videos of image locations that are not there, in their order."""
        return [name for name in listed_videos(locations) if name not in self.names]

    def only(self, names: set[str]) -> Source:
        """Return the part of the source that is in these videos."""
        if self.videos is not None:
            videos = {name: path for name, path in self.videos.items() if name in names}
            return replace(self, videos=videos)
        rows = self.frames[self.frames["video"].isin(names)].reset_index(drop=True)
        return replace(self, frames=rows)


@dataclass
class Inputs:
    """What is fused: frames, networks and tables; members names the latter two, in their order.

    weights: float64 [M, 6] of `fusion.weight_matrix`. record: what run.json notes. seen: videos
    that nobody may judge, see `tracks`.
    """

    source: Source
    ensemble: Ensemble
    tables: list[Table]
    members: list[Path]
    weights: np.ndarray
    record: dict
    seen: set[str]

    def observe(self, folder: Path, args: argparse.Namespace) -> Observed:
        """Find every face and its probabilities, as 05's arguments say: see `observe`."""
        how = args.batch_size, args.workers, args.faces, args.detect_sides
        observed = observe(self.source, self.ensemble, folder, *how)
        judge_by_unseen(observed, self.ensemble.labelled)
        return observed


def open_inputs(args: argparse.Namespace, flip: bool) -> Inputs:
    """Open what 05's arguments name, and print the networks. flip: with mirror images.

    Raises UserError where something is missing, or does not fit together.
    """
    check_faces(args.faces, args.videos)
    checkpoints = checkpoints_of(args)
    members = [*checkpoints, *(args.fuse or [])]
    weights = weight_matrix(args.weights, members)
    source = open_source(args.data_dir / "prepared", args.videos, args.frame_list)
    tables = [read_table(path, source.names, source.videos) for path in args.fuse or []]
    ensemble = load_ensemble(checkpoints, args.mixed_precision, flip, args.shifts)
    record = record_of(ensemble, checkpoints, source.list_path, settings_of(args))
    record["tables_sha256"] = {str(path): file_digest(path) for path in args.fuse or []}
    record["track"], seen = track_and_seen(ensemble, args.fuse or [], source.names)
    record["seen_videos"] = sorted(seen)
    if record["track"] == TRACKS[1]:
        print(f"track      {TRACKS[1]}; a network does not judge those that it was trained on")
    return Inputs(source, ensemble, tables, members, weights, record, seen)


def print_tables(tables: Sequence[Table], locations: Sequence[str]) -> None:
    """Print what is read of each table for these frames."""
    for table in tables:
        print(f"table      {describe(table, locations)}")


def open_source(prepared: Path, videos: Path | None, frame_list: Path | None) -> Source:
    """Find what is to be predicted: the videos of a folder, or one video, else prepared crops.

    frame_list: the list, or None for the one beside the videos, or that of the prepared folder.
    Raises UserError where there is nothing to predict, or the list names none of the videos.
    """
    if videos:
        if not videos.exists():
            raise UserError(f"There is no folder of videos {videos}.")
        if videos.is_dir():
            list_path = frame_list or find_frame_list(videos)
            found, rest = find_videos_and_rest(videos)
            source = Source(videos, None, found, list_path, rest=rest)
        else:
            list_path = frame_list
            source = Source(videos, None, {videos.stem: videos}, list_path)
        if not source.videos:
            raise UserError(
                f"{videos} holds no video (such as 01.mp4), and no frames (such as 01/00001.jpg)."
            )
    else:
        own = prepared / "frame_list.txt"
        list_path = frame_list or (own if own.is_file() else None)
        source = Source(prepared, read_frames(prepared), None, list_path)
    if list_path is None:  # which else names the videos
        check_video_names(source.videos or {})
        return source
    source.header, source.locations = read_frame_list(list_path)
    if list_path.is_file():  # a pipe is read only once
        source.listing = list_path.read_bytes()
    listed = listed_videos(source.locations)
    if not source.names & set(listed):
        near = nearest_name(listed[0], source.names)
        raise UserError(
            f"{list_path} names none of the videos in {source.folder}: it begins with "
            f"{source.locations[0]}, and there are {some(sorted(source.names), 3)}"
            f"{near and f' ({near})'}."
        )
    source.unlisted = sorted(source.names - set(listed))
    return source.only(set(listed))


def labelled_part(source: Source, path: Path, seen: set[str]) -> tuple[Source, dict[str, int]]:
    """Return the part of the source that can be tuned on, and the class 0..6 of its frames.

    path: of the truth. seen: videos to leave out, see `Inputs`. Prints a warning for each labelled
    video that is not there: it would count as one without a face, wrong under every setting. Raises
    UserError as `tuning_frames`.
    """
    truth = leave_out(read_truth(path, source.videos), seen, path)
    absent = source.absent(list(truth))
    unlabelled = source.names - set(listed_videos(list(truth)))
    for name in absent:
        near = nearest_name(name, unlabelled)
        print(
            f"warning: {path} labels {name}, which is not among the videos"
            f"{near and f' ({near}: rename one)'}: left out.",
            file=sys.stderr,
        )
    truth = {k: known for k, known in truth.items() if split_location(k)[0] not in absent}
    usable = tuning_frames(truth, source.locations, path)
    return source.only({split_location(place)[0] for place in usable}), usable


def listed_videos(locations: list[str]) -> list[str]:
    """Return the videos of image locations, each once, in their order."""
    return list(dict.fromkeys(split_location(location)[0] for location in locations))


def observe(
    source: Source,
    ensemble: Ensemble,
    folder: Path,
    batch_size: int | None = None,
    workers: int | None = None,
    faces: str = "main",
    sides_px: Sequence[int] = DETECT_SIDES_PX,
) -> Observed:
    """Find every face of a source and its probabilities.

    folder: for temporary files. batch_size: faces at once. workers: processes that read crops, or
    threads that read videos. faces: main, or max for the maximum over all faces of a frame.
    sides_px: of the detector, where videos are read.
    """
    batch_size = batch_size or default_batch_size()
    batch_is(batch_size)
    if source.videos is None:
        workers = default_workers() if workers is None else workers
        return predict_crops(ensemble, source.folder, source.frames, batch_size, workers)
    return predict_videos(
        ensemble,
        source.videos,
        folder,
        batch_size=batch_size,
        threads=max(1, min(os.cpu_count(), 16) if workers is None else workers),
        everyone=faces == "max",
        sides_px=sides_px,
    )


def frames_to_decide(source: Source, observed: Observed) -> tuple[list[str], list[str]]:
    """Return the listed frames, or without a list all that there are, and warnings about videos."""
    warnings = [
        f"{source.folder} also holds what is not read as a video (such as 01.mp4) or its frames "
        f"(01/00001.jpg): {some(source.rest)}."
    ] * bool(source.rest)
    if source.locations is None:
        beside = sorted(name for name, path in (source.videos or {}).items() if path.is_dir())
        if 0 < len(beside) < len(source.videos or ()):
            warnings.append(f"Folders of frames beside video files are videos too: {some(beside)}.")
        held = sorted(observed.held.items())
        return [locate(name, number) for name, numbers in held for number in numbers], warnings
    for name in source.absent(source.locations):
        near = nearest_name(name, source.unlisted)
        warnings.append(
            f"The list names video {name}, which is not among the videos"
            f"{near and f' ({near}: rename one)'}."
        )
    if source.unlisted:
        warnings.append(f"The list names no frame of {some(source.unlisted)}: not predicted.")
    return source.locations, warnings


def unseen_videos(source: Source, observed: Observed) -> set[str]:
    """Return the videos that are listed but not there, or there and without a decoded frame."""
    unread = {name for name in observed.held if not observed.decoded.get(name)}
    return unread | set(source.absent(source.locations or []))


def undecoded(locations: list[str], observed: Observed) -> dict[str, int]:
    """Return how many frames to predict are missing or unreadable, by video, where any are."""
    decoded = {name: set(numbers) for name, numbers in observed.decoded.items()}
    frames = map(split_location, locations)
    return dict(Counter(name for name, frame in frames if frame not in decoded.get(name, ())))


def read_frames(prepared: str | Path) -> pd.DataFrame:
    """Read `frames.csv` of a prepared folder.

    Columns: video (str), frame (int64), image (str or empty), decoded (bool). Raises UserError if
    it is missing or damaged, or names an image outside the folder.
    """
    path = Path(prepared) / "frames.csv"
    if not path.is_file():
        raise UserError(
            f"There is no {path}: run 01_prepare_data.py with the challenge's videos under "
            "<data-dir>/raw, or name a folder of videos with --videos."
        )
    try:
        table = pd.read_csv(
            path,
            usecols=list(_COLUMNS),
            dtype=_COLUMNS,
            keep_default_na=False,
        )
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error}); run 01_prepare_data.py again.") from None
    table["decoded"] = table["decoded"] == 1
    twice = table[table.duplicated(["video", "frame"])]
    if len(twice) or (table["frame"] < 1).any() or not len(table):
        what = f"frame {twice.iloc[0].frame} of {twice.iloc[0].video} twice" if len(twice) else ""
        raise UserError(f"{path} holds {what or 'no valid frames'}; run 01_prepare_data.py again.")
    for image in table["image"]:
        inside(prepared, image)
    return table

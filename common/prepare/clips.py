"""The challenge's videos into face crops: which there are, which are done, what was found."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from common.prepare.ingest import (
    VERSION,
    Options,
    detection_settings,
    ingest_video,
    is_written,
    stamp_of,
)
from common.raw import challenge, matching
from common.script.files import UserError, write_json
from common.script.progress import progress_bar
from common.script.workers import Team, in_order
from common.submission.files import check_video_names, read_frame_list, split_location

# Change this number where the same video is now prepared otherwise: earlier results are redone.
_VIDEOS = 2


class Challenge(NamedTuple):
    """Videos by name, their frame list, the frames that it lists by video, and their folders."""

    paths: dict[str, Path]
    frame_list: Path | None
    listed: dict[str, list[int]]
    folders: Sequence[Path] = ()


def find_challenge(folders: Sequence[Path]) -> Challenge:
    """Return the videos and the frame list of folders. Raises UserError where they do not match."""
    videos: dict[str, Path] = {}
    for folder in folders:
        for name, path in challenge.find_videos(folder).items():
            if name in videos:
                raise UserError(f"{path} and {videos[name]} have the same name; rename one.")
            videos[name] = path
    check_video_names(videos)
    lists = [path for folder in folders if (path := challenge.find_frame_list(folder))]
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
            near = matching.nearest_name(missing[0], videos.keys() - listed)
            raise UserError(
                f"{path} names the video {missing[0]!r} ({len(missing)} such), but there is no "
                f"file of that name beside it{near and f' ({near})'}; add it, rename one, or take "
                "its frames out of the list."
            )
    return Challenge(videos, lists[0] if lists else None, listed, folders)


def prepare_videos(
    given: Challenge, limit: int | None, options: Options, pool: Executor | None, team: Team
) -> int:
    """Crop the main face of this process's share of the videos; return how many were new.

    One that could not be read is tried again: fixing a permission leaves no trace on the file.
    """
    chosen = sorted(given.paths)[:limit]
    mine = chosen[team.rank :: team.count]
    todo: dict[str, str | None] = {}  # and what an earlier run had to complain of
    for name in mine:
        old = load(given.paths[name], name, options)
        if old is None or old["complaint"]:
            todo[name] = old and old["complaint"]
    new = 0
    calls = ((ingest_video, str(given.paths[name]), name, options) for name in todo)
    bar = progress_bar("videos", "video", len(mine), team.main)
    with bar:
        bar.update(len(mine) - len(todo))
        results = in_order(pool, calls, ahead=2 * (os.cpu_count() or 1))
        for name, result in zip(todo, results, strict=True):
            # Of one without a complaint, "" is not None: it is new.
            result["settings"] = _settings(options)
            new += result["complaint"] != todo[name]
            write_json(_state(name, options), result, indent=None)
            bar.update()
    return new


def load(path: Path, video: str, options: Options) -> dict | None:
    """Return what an earlier run found in a video, or None where it must be done (again)."""
    try:
        old = json.loads(_state(video, options).read_text(encoding="utf-8"))
        same = old["settings"] == _settings(options) and old["stamp"] == stamp_of(str(path))
        same = same and {"remarks", "complaint"} <= old.keys()
        images = [os.path.join(options.prepared, row[2]) for row in old["rows"] if row[2]]
        there = len(images) == len(old["sizes"]) and all(map(is_written, images, old["sizes"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return old if same and there else None


def load_all(given: Challenge, limit: int | None, options: Options) -> dict[str, dict]:
    """Return what was found in each video. Raises UserError where one is not there any more."""
    found = {}
    for name in sorted(given.paths)[:limit]:
        found[name] = load(given.paths[name], name, options)
        if found[name] is None:
            raise UserError(
                f"The video {given.paths[name]} changed while it was read; rerun the command."
            )
    return found


def _settings(options: Options) -> dict:
    return {"version": VERSION, "videos": _VIDEOS, **detection_settings(options)}


def _state(video: str, options: Options) -> Path:
    # A name that is not UTF-8 has a state too: that it cannot be used.
    name = video.encode("utf-8", "backslashreplace").decode()
    return Path(options.prepared, "state", "videos", f"{name}.json")

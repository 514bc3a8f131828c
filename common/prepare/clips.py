"""The challenge's videos into face crops: which there are, which are done, what was found."""

from __future__ import annotations

import json
import os
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
from common.script.files import UserError, whole_file
from common.script.progress import progress_bar
from common.script.workers import Team, in_order


class Challenge(NamedTuple):
    """Videos by name, their frame list, and the frames that it lists by video."""

    paths: dict[str, Path]
    frame_list: Path | None
    listed: dict[str, list[int]]


def prepare_videos(
    given: Challenge, limit: int | None, options: Options, pool: Executor | None, team: Team
) -> int:
    """Crop the main face of this process's share of the videos; return how many were new.

    One that could not be read is tried again: permissions are mended without a trace on the file.
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
            with whole_file(_state(name, options), "w") as file:
                json.dump(result, file)
            bar.update()
    return new


def load(path: Path, video: str, options: Options) -> dict | None:
    """Return what an earlier run found in a video, or None where it must be done (again)."""
    try:
        old = json.loads(_state(video, options).read_text(encoding="utf-8"))
        same = old["settings"] == _settings(options) and old["stamp"] == stamp_of(str(path))
        same = same and {"counts", "complaint"} <= old.keys()
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
            raise UserError(f"The video {given.paths[name]} changed meanwhile; run again.")
    return found


def _settings(options: Options) -> dict:
    return {"version": VERSION, **detection_settings(options)}


def _state(video: str, options: Options) -> Path:
    # A name that is not UTF-8 has a state too: that it cannot be used.
    name = video.encode("utf-8", "backslashreplace").decode()
    return Path(options.prepared, "state", "videos", f"{name}.json")

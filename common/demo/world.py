"""Writes the whole demo world: `make_world(out, settings)`."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tqdm import tqdm

from common.demo.layouts import Layout, all_layouts
from common.demo.settings import VERSION, Settings
from common.demo.stills import Still, write_still
from common.demo.videos import (
    FOLDER,
    LIST,
    Video,
    frame_list,
    plan_videos,
    truth_table,
    write_video,
)
from common.files import UserError, whole_file

STAMP = "world.json"


def make_world(out: Path, settings: Settings, processes: int | None = None) -> bool:
    """Write `out/raw` and `out/truth.csv`; returns False where they are there already.

    The same settings give the same bytes, whatever the number of processes (default: the CPUs
    this process may use). Everything is made in `out/raw.part` and renamed at the end, so an
    interrupted run leaves nothing that looks complete, and the next one starts again.
    Raises UserError where `out/raw` is another world, or no world of ours at all.
    """
    raw, part, stamp = out / "raw", out / "raw.part", stamp_of(settings)
    videos = plan_videos(settings)
    if raw.exists():
        _check_stamp(raw, stamp)
        if not (out / "truth.csv").exists():
            _write_truth(out, videos)
        return False
    shutil.rmtree(part, ignore_errors=True)
    layout = all_layouts(settings)
    layout.files[LIST] = frame_list(videos).encode()
    _write_files(part, layout)
    (part / FOLDER).mkdir(parents=True)
    _draw_everything(part, settings, layout.stills, videos, processes)
    (part / STAMP).write_text(stamp, encoding="utf-8")
    # The truth goes first: once the raw folder has its name, the world is complete.
    _write_truth(out, videos)
    os.replace(part, raw)
    return True


def stamp_of(settings: Settings) -> str:
    """Return the text of the stamp file: everything that decides a world's bytes."""
    return json.dumps({"version": VERSION, **asdict(settings)}, indent=1) + "\n"


def _check_stamp(raw: Path, stamp: str) -> None:
    try:
        found = (raw / STAMP).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{raw} exists but holds no demo world ({STAMP} is missing); "
            "choose another --out, or move that folder away."
        ) from None
    if found != stamp:
        raise UserError(
            f"{raw} holds a demo world of other settings (see its {STAMP}); "
            f"delete {raw} to draw it anew, or choose another --out."
        )


def _write_truth(out: Path, videos: list[Video]) -> None:
    with whole_file(out / "truth.csv", "w") as file:
        file.write(truth_table(videos))


def _write_files(part: Path, layout: Layout) -> None:
    """Write the label files and make every folder that the pictures need."""
    folders = {(part / path).parent for path in [*layout.files, *(s.path for s in layout.stills)]}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for path, content in layout.files.items():
        (part / path).write_bytes(content)


def _draw_everything(
    part: Path,
    settings: Settings,
    stills: list[Still],
    videos: list[Video],
    processes: int | None,
) -> None:
    processes = processes or len(os.sched_getaffinity(0))
    # Videos first: they are the longest tasks, and the short ones then fill the gaps. Stills go
    # in batches, as one costs about as much as handing it over.
    batches = [stills[k : k + 16] for k in range(0, len(stills), 16)]
    tasks = [*videos, *batches]
    total = len(stills) + sum(video.decoded for video in videos)
    work = partial(_draw_task, settings, part)
    bar = tqdm(total=total, desc="drawing the demo world", unit="face", disable=None)
    with bar:
        if processes == 1:
            for task in tasks:
                bar.update(work(task))
            return
        # A fresh interpreter each: forking a process that runs threads can hang.
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for drawn in pool.imap_unordered(work, tasks):
                bar.update(drawn)


def _draw_task(settings: Settings, part: Path, task: Video | list[Still]) -> int:
    """Draw one video or some stills; returns how many pictures that were."""
    if isinstance(task, Video):
        write_video(settings, part, task)
        return task.decoded
    for still in task:
        write_still(settings, part, still)
    return len(task)

"""Writes the whole demo world: `make_world(out, settings)`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from common.demo.layouts import all_layouts
from common.demo.settings import VERSION, Settings
from common.demo.stills import Still, write_still
from common.demo.videos import LIST, Video, frame_list, plan_videos, truth_table, write_video
from common.script.files import UserError, only_process, whole_file
from common.script.progress import progress_bar
from common.script.workers import in_order, worker_pool

STAMP = "world.json"
ASIDE = ".aside"  # folder below raw.part of pictures that are not whole yet


def make_world(out: Path, settings: Settings, processes: int | None = None) -> bool:
    """Write `out/raw` and `out/truth.csv`; returns False where they are there already.

    The same settings give the same bytes, whatever the number of processes (default: the CPUs
    this process may use) and of interruptions: everything is made in `out/raw.part`, where the next
    run of the same settings goes on, and renamed at the end.
    Raises UserError where `out/raw` is another world, or no world of ours at all, and where another
    process is drawing in `out`.
    """
    raw, part, stamp = out / "raw", out / "raw.part", stamp_of(settings)
    videos = plan_videos(settings)
    with only_process(out):
        if raw.exists():
            _check_stamp(raw, stamp)
            if not (out / "truth.csv").exists():
                _write_truth(out, videos)
            return False
        if part.exists() and not _has_stamp(part, stamp):
            shutil.rmtree(part)
        layout = all_layouts(settings)
        layout.files = {STAMP: stamp.encode(), LIST: frame_list(videos).encode()} | layout.files
        # Videos first: they are the longest tasks, and the short ones then fill the gaps.
        pictures = [*videos, *layout.stills]
        _write_files(part, layout.files, pictures)
        _draw_everything(part, settings, pictures, processes)
        shutil.rmtree(part / ASIDE)
        # The truth goes first: once the raw folder has its name, the world is complete.
        _write_truth(out, videos)
        os.replace(part, raw)
    return True


def stamp_of(settings: Settings) -> str:
    """Return the text of the stamp file: everything that decides a world's bytes."""
    return json.dumps({"version": VERSION, **asdict(settings)}, indent=1) + "\n"


def _has_stamp(part: Path, stamp: str) -> bool:
    try:
        return (part / STAMP).read_bytes() == stamp.encode()
    except OSError:
        return False


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
            f"delete {raw} to draw it again, or choose another --out."
        )


def _write_truth(out: Path, videos: list[Video]) -> None:
    with whole_file(out / "truth.csv", "w") as file:
        file.write(truth_table(videos))


def _write_files(part: Path, files: dict[str, bytes], pictures: list[Video | Still]) -> None:
    """Write the label files and make every folder that the pictures need."""
    places = [part / path for path in (*files, *(picture.path for picture in pictures))]
    for folder in {part / ASIDE, *(place.parent for place in places)}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (part / path).write_bytes(content)


def _draw_everything(
    part: Path, settings: Settings, pictures: list[Video | Still], processes: int | None
) -> None:
    """Draw the pictures that an earlier run has not drawn."""
    todo = [picture for picture in pictures if not _is_drawn(part / picture.path)]
    total, left = (sum(map(_faces, some)) for some in (pictures, todo))
    # Stills go in batches, as one costs about as much as handing it over.
    stills = [picture for picture in todo if isinstance(picture, Still)]
    batches = [[picture] for picture in todo if isinstance(picture, Video)]
    batches += [stills[k : k + 16] for k in range(0, len(stills), 16)]
    processes = processes or len(os.sched_getaffinity(0))
    if left:
        print(f"Drawing the demo world: {left:,} of {total:,} faces to go.", flush=True)
    bar = progress_bar("drawing the demo world", "face", total, initial=total - left)
    with bar, worker_pool(processes) as pool:
        calls = ((_draw, settings, part, batch) for batch in batches)
        for drawn in in_order(pool, calls, ahead=4 * processes):
            bar.update(drawn)


def _is_drawn(path: Path) -> bool:
    # Pictures get their names when whole; only a power cut can leave one empty.
    return path.is_file() and path.stat().st_size > 0


def _faces(picture: Video | Still) -> int:
    return picture.decoded if isinstance(picture, Video) else 1


def _draw(settings: Settings, part: Path, pictures: list[Video | Still]) -> int:
    """Draw some pictures, each whole or not at all; returns how many faces that were."""
    for picture in pictures:
        write = write_video if isinstance(picture, Video) else write_still
        # Not `whole_file`: to sync each of thousands of files costs time, and the loss of one in a
        # power cut costs a redrawing.
        aside = part / ASIDE / str(os.getpid())
        write(settings, aside, picture)
        os.replace(aside, part / picture.path)
    return sum(map(_faces, pictures))

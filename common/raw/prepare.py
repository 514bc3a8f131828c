"""From readers to the prepared folder: all images of a data set, all videos, resumable."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from statistics import median

from tqdm import tqdm

from common.files import UserError, whole_file
from common.raw import challenge, results
from common.raw.ingest import (
    Options,
    Record,
    ingest,
    ingest_video,
    is_written,
    place_of,
    prepared_image,
    stamp_of,
    template_distances,
)
from common.raw.layout import Item, Skip
from common.raw.ledger import Ledger, plain_text, whole_lines
from common.raw.workers import batches, in_order

# Change this number where the same input is now prepared otherwise: earlier results are redone.
VERSION = 1
BATCH = 64  # images that a worker takes at once
SAMPLE = 64  # images by which to tell whether a data set comes aligned
ALIGNED_WITHIN = 0.035  # mean distance of landmarks from the template, in sides of the image


def prepare_images(
    folder: Path, reader, inputs, counts: Counter, owners: dict[str, Path], arguments, options, pool
) -> results.Images:
    """Prepare one folder's images and keep its ledger; return where the ledger lies, and counts."""
    inputs = claim(itertools.islice(inputs, arguments.limit), folder, owners)
    first = list(itertools.islice(inputs, SAMPLE))
    inputs = itertools.chain(first, inputs)
    align = arguments.align == "always" or (
        arguments.align == "auto" and not reader.ALIGNED and not come_aligned(first, options)
    )
    settings = {"version": VERSION, "align": align, "min_side": options.min_side_px}
    if align:
        settings |= detection_settings(options)
    path = ledger_of(folder, Path(options.prepared))
    with contextlib.closing(Ledger(path, settings, Record._fields)) as ledger:
        todo = ledger.resume(
            inputs,
            lambda row, item: still_holds(row, item, options),
            limited=arguments.limit is not None,
        )
        calls = ((ingest, batch, align, options) for batch in batches(todo, BATCH))
        done = 0
        with tqdm(desc=folder.name, unit="image", initial=ledger.kept, disable=None) as bar:
            for records in in_order(pool, calls, ahead=4 * (os.cpu_count() or 1)):
                ledger.append(records)
                done += len(records)
                bar.update(len(records))
        rows = ledger.kept + done
    official = getattr(reader, "OFFICIAL", {})
    return results.Images(folder.name, path, rows, official, counts, done)


def ledger_of(folder: Path, prepared: Path) -> Path:
    """Return the path of a raw folder's ledger."""
    return prepared / "state" / f"{folder.name}.csv"


def earlier_images(
    folders: list[Path], prepared: Path, owners: dict[str, Path]
) -> list[results.Images]:
    """Return what earlier runs prepared of the folders that `--only` does not name."""
    before = results.earlier_summary(prepared)["datasets"]
    images = []
    for folder in folders:
        path = ledger_of(folder, prepared)
        rows = whole_lines(path, VERSION, Record._fields)
        if not rows:
            if not challenge.recognises(folder):
                print(f"{folder.name} is not prepared yet and not named by --only: left out")
            continue
        official, remarks = {}, Counter()
        for dataset in results.datasets_of(path, rows):
            own(dataset, folder, owners)
            part = before.get(dataset, {})
            official[dataset] = part.get("official", {})
            remarks |= part.get("remarks", {})
        images.append(results.Images(folder.name, path, rows, official, remarks, 0))
    return images


def claim(inputs, folder: Path, owners: dict[str, Path]) -> Iterator[Item | Skip]:
    """Pass inputs on, unless another folder has the same data set: its images would collide."""
    for item in inputs:
        own(item.dataset, folder, owners)
        yield item


def own(dataset: str, folder: Path, owners: dict[str, Path]) -> None:
    """Note that a folder holds a data set. Raises UserError where another folder does."""
    if owners.setdefault(dataset, folder) != folder:
        raise UserError(f"{folder} and {owners[dataset]} both hold {dataset}; keep one of them.")


def detection_settings(options: Options) -> dict:
    """Return the settings on which crops depend, as JSON gives them back."""
    return {
        "min_score": options.min_score,
        "detect_sides": list(options.detect_sides_px),
        "detector": options.detector_file,
    }


def come_aligned(first: list[Item | Skip], options: Options) -> bool:
    """Say whether a data set's faces lie as in our crops already, by its first images."""
    items = [item for item in first if isinstance(item, Item)]
    distances = template_distances(items, options)
    return bool(distances) and median(distances) < ALIGNED_WITHIN


def still_holds(row: list[str], item: Item | Skip, options: Options) -> bool:
    """Say whether an earlier run's record is what this run would write for the same input."""
    if len(row) != len(Record._fields):
        return False
    old = Record(*row)
    if old.path != plain_text(place_of(item.source, options)) or old.dataset != item.dataset:
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
    return same and is_written(os.path.join(options.prepared, old.image), old.size)


def prepare_videos(
    videos: dict[str, Path],
    frame_list: Path | None,
    listed: dict[str, list[int]],
    limit: int | None,
    options: Options,
    pool: Executor | None,
) -> tuple[results.Videos, int]:
    """Crop the main face of every video; return all their frames, and how many videos were new."""
    chosen = sorted(videos)[:limit]
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
        images = [os.path.join(options.prepared, row[2]) for row in old["rows"] if row[2]]
        there = len(images) == len(old["sizes"]) and all(map(is_written, images, old["sizes"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return old if same and there else None

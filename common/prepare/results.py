"""What 01 leaves behind: manifest, frames, skipped inputs, summary; all but flat in memory."""

from __future__ import annotations

import csv
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.faces.follow import FrameRow
from common.manifest import CATEGORICAL, COLUMNS, hashes_from_text, write_manifest
from common.prepare import tally
from common.prepare.clean import (
    BLURRED,
    KEPT,
    REASONS,
    SMALL_FACE,
    Rules,
    clean,
    names_of,
    survey,
)
from common.prepare.clips import Challenge
from common.prepare.ingest import Record
from common.prepare.ledger import plain_text, rows_of
from common.script.files import UserError, file_digest, whole_file

# Whose digests tell whether anything has changed since.
TABLES = ("manifest.csv", "frames.csv", "frame_list.txt", "skipped.csv")

LOSSES_MAX = 0.05  # share of a data set's inputs that may be missing or damaged


class Images(NamedTuple):
    """A folder of images, prepared: its name, its ledger's file, official counts, remarks.

    frames: the images are frames of videos, so that neighbours look alike.
    """

    folder: str
    ledger: Path
    official: dict
    remarks: Counter
    frames: bool


class Videos(NamedTuple):
    """The challenge, and by video what was found in it."""

    given: Challenge
    found: dict[str, dict]


def finish(
    prepared: Path,
    images: list[Images],
    videos: Videos | None,
    rules: Rules,
    done: int,
    settings: dict,
    accept_losses: bool,
    pool: Executor | None,
    started: float,
) -> None:
    """Write the tables unless they are there, and tell the user what came of the run.

    done: inputs that this run has prepared. started: when, by time.monotonic().
    """
    before = earlier_summary(prepared)
    now = {"rules": rules._asdict(), "sha256": digests_of(prepared, images)}
    if videos:
        now |= _challenge_parts(videos)
    if not done and all(before[key] == value for key, value in now.items()):
        if not accept_losses:
            refuse_losses(before, prepared, videos)
        print(f"Nothing new to prepare; the manifest is {prepared / 'manifest.csv'}")
        return
    summary = write(
        prepared, images, videos, rules, settings, accept_losses=accept_losses, pool=pool
    )
    tally.print_datasets(summary["datasets"])
    tally.print_videos(summary["videos"], (prepared / "frame_list.txt").exists())
    skipped = sum(part["inputs"] - part["images"] for part in summary["datasets"].values())
    skipped += sum("unreadable" in part for part in summary["videos"].values())
    what = f"{done:,} inputs prepared" if done else "Nothing new to prepare"
    print(
        f"{what}, {skipped:,} skipped (see {prepared / 'skipped.csv'}) in "
        f"{time.monotonic() - started:.1f} s; the manifest is {prepared / 'manifest.csv'}"
    )


def write(
    prepared: Path,
    images: list[Images],
    videos: Videos | None,
    rules: Rules,
    settings: dict,
    *,
    accept_losses: bool,
    pool: Executor | None,
) -> dict:
    """Write manifest.csv, frames.csv, skipped.csv, frame_list.txt, summary.json; return the last.

    videos: None leaves the challenge's frames and its list as an earlier run wrote them. Raises
    UserError, with only skipped.csv written, where no input at all could be used, or where too
    many are lost.
    """
    ledgers = [result.ledger for result in images]
    found = survey([(result.ledger, result.frames) for result in images])
    code, stays = clean(found, ledgers, prepared, rules, pool)
    summary = {
        "settings": settings,
        "rules": rules._asdict(),
        "datasets": {},
    }
    before = earlier_summary(prepared)
    earlier = {key: before[key] for key in ("videos", "frame_list")}
    summary |= _challenge_parts(videos) if videos else earlier
    with _table(prepared / "skipped.csv", ("path", "dataset", "reason", "detail")) as skipped:
        twins = names_of(np.unique(stays[stays >= 0]), found.starts, ledgers)
        for result, start, rows in _blocks(images, found.starts):
            span = slice(start, start + len(rows))
            _account(result, rows, code[span], stays[span], twins, skipped, summary["datasets"])
        for part in summary["videos"].values():
            if "unreadable" in part:
                row = (part.get("file", ""), "videos", "unreadable video", part["unreadable"])
                skipped.writerow([plain_text(value) for value in row])
    used = found.used & (code == KEPT)
    if not used.any() and not any(part["decoded"] for part in summary["videos"].values()):
        raise UserError(
            f"No image or video could be used; {prepared / 'skipped.csv'} says why for each."
        )
    if not accept_losses:
        refuse_losses(summary, prepared, videos)
    if videos or not summary["videos"]:
        _write_frames(prepared, videos or Videos(Challenge({}, None, {}), {}))
    write_manifest(prepared / "manifest.csv", _manifest_parts(images, found.starts, used))
    summary["sha256"] = digests_of(prepared, images)
    # The summary comes last: where it stands, all else does.
    with whole_file(prepared / "summary.json", "w") as file:
        json.dump(summary, file, indent=1)
    return summary


def digests_of(prepared: Path, images: Sequence[Images]) -> dict[str, str]:
    """Return the digests of the ledgers and of what was made of them; "" for a missing file."""
    paths = {f"ledger of {result.folder}": result.ledger for result in images}
    paths |= {name: prepared / name for name in TABLES}
    return {name: file_digest(path) if path.is_file() else "" for name, path in paths.items()}


def _challenge_parts(videos: Videos) -> dict:
    """Return the summary's parts on the challenge: its videos, and the digest of its list or ""."""
    listed = videos.given.frame_list
    return {
        "videos": _summarise_videos(videos),
        "frame_list": file_digest(listed) if listed else "",
    }


def earlier_summary(prepared: Path) -> dict:
    """Return the summary that an earlier run wrote, an empty one where there is none."""
    empty = {"rules": {}, "datasets": {}, "videos": {}, "frame_list": "", "sha256": {}}
    try:
        summary = json.loads((prepared / "summary.json").read_text(encoding="utf-8"))
        return {key: summary[key] for key in empty}
    except (OSError, ValueError, LookupError, TypeError):
        return empty


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator:
    """Open a CSV table that appears whole, its header written."""
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer


def _write_frames(prepared: Path, videos: Videos) -> None:
    with _table(prepared / "frames.csv", FrameRow._fields) as table:
        table.writerows(_frame_rows(videos))
    if videos.given.frame_list:
        with whole_file(prepared / "frame_list.txt") as file:
            file.write(videos.given.frame_list.read_bytes())
    else:
        (prepared / "frame_list.txt").unlink(missing_ok=True)


def _frame_rows(videos: Videos) -> Iterator[FrameRow]:
    """Yield a row for every frame that is listed or decoded, by video and frame."""
    for video in sorted(videos.found.keys() | videos.given.listed.keys()):
        decoded = videos.found.get(video, {"rows": []})["rows"]
        yield from (FrameRow(*row) for row in decoded)
        extra = {frame for frame in videos.given.listed.get(video, ()) if frame > len(decoded)}
        yield from (FrameRow(video, frame, "", "", "") for frame in sorted(extra))


def _blocks(
    images: Sequence[Images], starts: Sequence[int]
) -> Iterator[tuple[Images, int, list[list[str]]]]:
    """Yield the ledgers' records in blocks, each with the row at which it starts."""
    for result, start in zip(images, starts, strict=False):
        for rows in rows_of(result.ledger):
            yield result, start, rows
            start += len(rows)


def _manifest_parts(
    images: Sequence[Images], starts: Sequence[int], used: np.ndarray
) -> Iterator[pd.DataFrame]:
    names = Record._fields
    for _, start, rows in _blocks(images, starts):
        kept = list(itertools.compress(rows, used[start : start + len(rows)].tolist()))
        columns = dict(zip(names, zip(*kept, strict=True), strict=True)) if kept else {}
        yield pd.DataFrame(
            {
                "image": columns.get("image", ()),
                **{name: columns.get(name, ()) for name in CATEGORICAL},
                "width": np.array(columns.get("width", ()), dtype=np.int32),
                "height": np.array(columns.get("height", ()), dtype=np.int32),
                "hash": hashes_from_text(columns.get("hash", ())),
            },
            columns=list(COLUMNS),
        )


def _account(
    result: Images,
    rows: list[list[str]],
    code: np.ndarray,
    stays: np.ndarray,
    twins: dict[int, str],
    skipped,
    datasets: dict[str, dict],
) -> None:
    """Count a block of records by data set, and write those that are left out to `skipped`."""
    counts: Counter = Counter()
    for row, number, other in zip(rows, code.tolist(), stays.tolist(), strict=True):
        record = Record(*row)
        reason, detail = record.reason, record.detail
        if number and not reason:
            reason = REASONS[number]
            detail = twins[other] if other >= 0 else record.image
            if number == BLURRED:
                detail = record.sharpness
            elif number == SMALL_FACE:
                detail = f"{record.face_px} px"
        counts[record.dataset, reason, record.fault, record.face, record.split, record.labels] += 1
        if reason:
            skipped.writerow((record.path, record.dataset, reason, detail))
            examples = datasets.setdefault(record.dataset, _empty(result, record.dataset))
            examples["examples"].setdefault(reason, " ".join(filter(None, (record.path, detail))))
    for (dataset, reason, fault, face, split, labels), count in sorted(counts.items()):
        part = datasets.setdefault(dataset, _empty(result, dataset))
        tally.add(part, count, reason, bool(fault), face, split, labels)


def _empty(result: Images, dataset: str) -> dict:
    return tally.empty(result.official.get(dataset, {}), dict(result.remarks))


def refuse_losses(summary: dict, prepared: Path, videos: Videos | None) -> None:
    """Raise UserError where too many inputs of a data set are missing or damaged."""
    listed = videos.given.listed if videos else {}
    broken = {name: part for name, part in summary["videos"].items() if "unreadable" in part}
    for name, part in broken.items():
        if name in listed:
            raise UserError(
                f"{part['unreadable'][:-1]} ({videos.given.frame_list} lists its frames), or go on "
                "without it with --accept-losses."
            )
    lost = {name: (part["lost"], part["inputs"]) for name, part in summary["datasets"].items()}
    lost["videos"] = len(broken), len(summary["videos"])
    many = [
        f"{count} of {total} in {name} ({count / total:.0%})"
        for name, (count, total) in lost.items()
        if count > LOSSES_MAX * total
    ]
    if many:
        raise UserError(
            f"Too many inputs are missing or damaged: {', '.join(many)}; "
            f"{prepared / 'skipped.csv'} names each with its reason. Mend them, or go on without "
            "them with --accept-losses: nothing is done twice."
        )


def _summarise_videos(videos: Videos) -> dict:
    summary = {}
    listed = videos.given.listed
    for video in sorted(videos.found.keys() | listed.keys()):
        result = videos.found.get(video, {"rows": [], "counts": {}, "complaint": ""})
        summary[video] = {
            "listed": len(listed.get(video, ())),
            "decoded": len(result["rows"]),
            "faces": sum(1 for row in result["rows"] if row[2]),
            **result["counts"],
        }
        if result["complaint"]:
            summary[video] |= {
                "unreadable": result["complaint"],
                "file": str(videos.given.paths[video]),
            }
    return summary

"""The tables that 01 writes: manifest, frames, skipped inputs, summary."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.faces.follow import FrameRow
from common.manifest import CATEGORICAL, VOTES, write_manifest
from common.prepare import clean, ledger, tally
from common.prepare.clips import Challenge
from common.script.config import settings_of
from common.script.files import UserError, csv_rows, file_digest, whole_file, write_json

# Their digests show whether anything has changed since.
TABLES = ("manifest.csv", "frames.csv", "frame_list.txt", "skipped.csv")

LOSSES_MAX = 0.05  # share of a data set's inputs that may be lost, see tally.empty

_ACCOUNTED = (
    *("path", "image", "dataset", "reason", "detail", "fault", "face", "split", "labels"),
    "subject",
)


class Images(NamedTuple):
    """A prepared folder of images: its name, the file of its ledger, official counts, remarks.

    frames: the images are frames of videos, so that neighbours look alike. blocks: the records of
    the ledger where it has been loaded already.
    """

    folder: str
    ledger: Path
    official: dict
    remarks: Counter
    frames: bool
    blocks: list[dict[str, str]] | None = None


class Videos(NamedTuple):
    """The challenge, and by video what was found in it."""

    given: Challenge
    found: dict[str, dict]


def finish(
    arguments: argparse.Namespace,
    images: list[Images],
    videos: Videos | None,
    left_alone: dict[str, dict[str, int]],
    done: int,
    pool: Executor | None,
    started: float,
) -> None:
    """Write the tables unless they are there already, and print what the run did.

    videos: None leaves the challenge's frames and its list as an earlier run wrote them.
    left_alone: files that were no inputs, by folder and ending. done: how many inputs this run
    read, used or not. started: when it began, by time.monotonic(). Raises UserError, with only
    skipped.csv written, where no input could be used or too many are lost.
    """
    prepared = arguments.data_dir / "prepared"
    before = earlier_summary(prepared)
    rules = clean.Rules.of(arguments)
    ledgers = {f"ledger of {result.folder}": file_digest(result.ledger) for result in images}
    if videos:
        listed = videos.given.frame_list
        challenge = {
            "videos": _summarise_videos(videos),
            "frame_list": file_digest(listed) if listed else "",
        }
    else:
        challenge = {key: before[key] for key in ("videos", "frame_list")}
    now = {"rules": rules._asdict(), **challenge, "left_alone": left_alone}
    now["sha256"] = ledgers | digests_of(prepared)
    if not done and all(before[key] == value for key, value in now.items()):
        if not arguments.accept_losses:
            refuse_losses(before, prepared, videos)
        print(f"Nothing new to prepare; the manifest is {prepared / 'manifest.csv'}")
        return
    found, owners = _survey(images)
    code, stays = clean.clean(found, prepared, rules, pool)
    summary = {"settings": settings_of(arguments), **now}
    with csv_rows(prepared / "skipped.csv", ("path", "dataset", "reason", "detail")) as skipped:
        summary["datasets"] = _account(found, owners, code, stays, skipped)
        for part in summary["videos"].values():
            if "unreadable" in part:
                row = (part.get("file", ""), "videos", "unreadable video", part["unreadable"])
                skipped.writerow([ledger.plain_text(value) for value in row])
    used = found.used & (code == clean.KEPT)
    if not used.any() and not any(part["decoded"] for part in summary["videos"].values()):
        raise UserError(
            f"No input could be used; {prepared / 'skipped.csv'} gives the reason for each."
        )
    if not arguments.accept_losses:
        refuse_losses(summary, prepared, videos)
    if videos or not summary["videos"]:
        _write_frames(prepared, videos or Videos(Challenge({}, None, {}), {}))
    write_manifest(prepared / "manifest.csv", _manifest_parts(found, used))
    summary["sha256"] = ledgers | digests_of(prepared)
    # The summary comes last: where it stands, all else does.
    write_json(prepared / "summary.json", summary, indent=1)
    tally.print_datasets(summary["datasets"])
    tally.print_videos(summary["videos"], (prepared / "frame_list.txt").exists())
    tally.print_left_alone(left_alone)
    left_out = sum(part["inputs"] - part["images"] for part in summary["datasets"].values())
    left_out += sum("unreadable" in part for part in summary["videos"].values())
    what = f"{done:,} inputs read" if done else "Nothing new to prepare"
    what += f", {used.sum():,} images kept"  # of all runs, as what is skipped
    print(
        f"{what}, {left_out:,} skipped (see {prepared / 'skipped.csv'}) in "
        f"{time.monotonic() - started:.1f} s; the manifest is {prepared / 'manifest.csv'}"
    )


def digests_of(prepared: Path) -> dict[str, str]:
    """Return the digests of the tables; "" for a missing file."""
    paths = {name: prepared / name for name in TABLES}
    return {name: file_digest(path) if path.is_file() else "" for name, path in paths.items()}


def earlier_summary(prepared: Path) -> dict:
    """Return the summary that an earlier run wrote, or an empty one."""
    kinds = ("rules", "datasets", "videos", "left_alone", "sha256")
    empty = {"frame_list": "", **{kind: {} for kind in kinds}}
    try:
        summary = json.loads((prepared / "summary.json").read_text(encoding="utf-8"))
        return {key: summary[key] for key in empty}
    except (OSError, ValueError, LookupError, TypeError):
        return empty


def earlier_left_alone(folders: Sequence[Path], prepared: Path) -> dict[str, dict[str, int]]:
    """Return what an earlier run left alone in the folders that `--only` does not name."""
    before = earlier_summary(prepared)["left_alone"]
    return {f.name: before[f.name] for f in folders if f.name in before}


def _survey(images: Sequence[Images]) -> tuple[clean.Survey, list[Images]]:
    """Return what all ledgers hold, and which folder each block is of."""
    blocks, owners = [], []
    for result in images:
        loaded = ledger.load(result.ledger) if result.blocks is None else result.blocks
        blocks += [(block, result.frames) for block in loaded]
        owners += [result] * len(loaded)
    return clean.survey(blocks), owners


def _account(
    found: clean.Survey, owners: list[Images], code: np.ndarray, stays: np.ndarray, skipped
) -> dict[str, dict]:
    """Count all records by data set, and write those that are left out to `skipped`."""
    datasets: dict[str, dict] = {}
    twins = found.names(np.unique(stays[stays >= 0]))
    for result, (start, end), texts in zip(owners, found.spans, found.texts, strict=True):
        counts: Counter = Counter()
        columns = [texts[name].split("\n") for name in _ACCOUNTED]
        for row, number, *record in zip(
            range(start, end), code[start:end].tolist(), *columns, strict=True
        ):
            path, image, dataset, reason, detail, fault, face, split, labels, subject = record
            if number and not reason:
                reason, detail = clean.REASONS[number], twins.get(int(stays[row]), image)
                if number == clean.BLURRED:
                    detail = f"{found.sharpness[row]:.4g}"
                elif number == clean.SMALL_FACE:
                    detail = f"{found.face_px[row]} px"
            counts[dataset, reason, fault, face, split, labels, bool(subject)] += 1
            if not reason and not detail:
                continue
            part = datasets.setdefault(dataset, tally.empty(result, dataset))
            like = "like" if number in clean.ALIKE and detail else ""  # the other image
            example = " ".join(filter(None, (path, like, detail)))
            part["examples"].setdefault(reason or tally.KEPT_DAMAGED, example)
            if reason:
                skipped.writerow((path, dataset, reason, detail))
            else:
                part["kept_damaged"] += 1
        for (dataset, reason, fault, *what), count in sorted(counts.items()):
            part = datasets.setdefault(dataset, tally.empty(result, dataset))
            tally.add(part, count, reason, bool(fault), *what)
    return datasets


def _manifest_parts(found: clean.Survey, used: np.ndarray) -> Iterator[pd.DataFrame]:
    def column(block: int, name: str) -> list[str]:
        kept = used[slice(*found.spans[block])].tolist()
        return list(itertools.compress(found.texts[block][name].split("\n"), kept))

    blocks = range(len(found.spans))
    voted = any(any(column(block, VOTES)) for block in blocks)
    texts = ("image", *CATEGORICAL, *([VOTES] if voted else ()))
    for block in blocks:
        span = slice(*found.spans[block])
        yield pd.DataFrame(
            {
                **{name: column(block, name) for name in texts},
                "width": np.array(column(block, "width"), dtype=np.int32),
                "height": np.array(column(block, "height"), dtype=np.int32),
                "hash": found.hashes[span, 0][used[span]],
            }
        )


def _write_frames(prepared: Path, videos: Videos) -> None:
    with csv_rows(prepared / "frames.csv", FrameRow._fields) as table:
        table.writerows(_frame_rows(videos))
    if videos.given.frame_list:
        with whole_file(prepared / "frame_list.txt") as file:
            file.write(videos.given.frame_list.read_bytes())
    else:
        (prepared / "frame_list.txt").unlink(missing_ok=True)


def _frame_rows(videos: Videos) -> Iterator[FrameRow]:
    """Yield a row for every frame that is listed or that the video holds, by video and frame."""
    for video in sorted(videos.found.keys() | videos.given.listed.keys()):
        rows = [FrameRow(*row) for row in videos.found.get(video, {"rows": []})["rows"]]
        held = {row.frame for row in rows}
        extra = (frame for frame in videos.given.listed.get(video, ()) if frame not in held)
        yield from sorted([*rows, *(FrameRow(video, frame, decoded=0) for frame in extra)])


def refuse_losses(summary: dict, prepared: Path, videos: Videos | None) -> None:
    """Raise UserError where too many inputs of a data set are lost."""
    listed = videos.given.listed if videos else {}
    broken = {name: part for name, part in summary["videos"].items() if "unreadable" in part}
    for name, part in broken.items():
        if name in listed:
            raise UserError(
                f"{part['unreadable'][:-1]} ({videos.given.frame_list} lists its frames), or "
                "continue without it with --accept-losses."
            )
    lost = {name: (part["lost"], part["inputs"]) for name, part in summary["datasets"].items()}
    named = f"videos, such as {next(iter(broken))}," if broken else "videos"
    lost[named] = len(broken), len(summary["videos"])
    many = [
        f"{count} of {total} in {name} ({count / total:.0%})"
        for name, (count, total) in lost.items()
        if count > LOSSES_MAX * total
    ]
    if many:
        raise UserError(
            "Too many inputs are missing, damaged, or in rows that are wrong (such as an unknown "
            f"label): {', '.join(many)}; {prepared / 'skipped.csv'} gives the reason for each. Fix "
            "them, or continue without them with --accept-losses: nothing is done twice."
        )


def _summarise_videos(videos: Videos) -> dict:
    summary = {}
    listed = videos.given.listed
    for video in sorted(videos.found.keys() | listed.keys()):
        result = videos.found.get(video, {"rows": [], "remarks": [], "complaint": ""})
        rows = [FrameRow(*row) for row in result["rows"]]
        decoded = {row.frame for row in rows if row.decoded}
        wanted = listed.get(video, ()) if videos.given.frame_list else [row.frame for row in rows]
        summary[video] = {
            "listed": len(listed.get(video, ())),
            "decoded": len(decoded),
            "not decoded": sum(frame not in decoded for frame in wanted),
            "faces": sum(1 for row in rows if row.image),
            "remarks": result["remarks"],
        }
        if result["complaint"]:
            summary[video] |= {
                "unreadable": result["complaint"],
                "file": str(videos.given.paths[video]),
            }
    return summary

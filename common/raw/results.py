"""What 01 leaves behind: manifest, frames, skipped inputs, summary."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from common.faces import FrameRow
from common.files import UserError, whole_file
from common.manifest import CATEGORICAL, COLUMNS, hashes_from_text, write_manifest
from common.raw.ledger import plain_text


class Images(NamedTuple):
    """A folder of images, prepared: its name, ledger, official counts, remarks, new inputs.

    rows: lines of the ledger that count, from its first.
    """

    folder: str
    ledger: Path
    rows: int
    official: dict
    remarks: Counter
    done: int


class Videos(NamedTuple):
    """The challenge: by video what was found in it, the frames that are listed, and its file."""

    found: dict[str, dict]
    listed: dict[str, list[int]]
    paths: dict[str, Path]


def write(
    prepared: Path,
    images: list[Images],
    videos: Videos | None,
    frame_list: Path | None,
    settings: dict,
) -> None:
    """Write manifest.csv, frames.csv, skipped.csv, summary.json, frame_list.txt; print a table.

    videos: None leaves the challenge's frames and its list as an earlier run wrote them. Raises
    UserError, with only skipped.csv written, where no input at all could be used.
    """
    tables = [_read_ledger(result) for result in images]
    _mark_twins(tables)
    of_videos = _summarise_videos(videos) if videos else earlier_summary(prepared)["videos"]
    _write_skipped(prepared / "skipped.csv", tables, of_videos)
    manifest = _manifest_of(tables)
    if manifest.empty and not any(part["decoded"] for part in of_videos.values()):
        raise UserError(
            f"No image or video could be used; {prepared / 'skipped.csv'} says why for each."
        )
    if videos or not of_videos:
        _write_frames(prepared, videos or Videos({}, {}, {}), frame_list)
    summary = {"settings": settings, "datasets": {}, "videos": of_videos}
    for result, table in zip(images, tables, strict=True):
        summary["datasets"] |= _summarise(result, table)
    with whole_file(prepared / "summary.json", "w") as file:
        json.dump(summary, file, indent=1)
    # The manifest comes last: where it stands, all else does.
    write_manifest(prepared / "manifest.csv", manifest)
    _print_summary(summary, (prepared / "frame_list.txt").exists())


def earlier_summary(prepared: Path) -> dict:
    """Return the summary that an earlier run wrote, an empty one where there is none."""
    try:
        summary = json.loads((prepared / "summary.json").read_text(encoding="utf-8"))
        return {"datasets": summary["datasets"], "videos": summary["videos"]}
    except (OSError, ValueError, LookupError, TypeError):
        return {"datasets": {}, "videos": {}}


def _write_frames(prepared: Path, videos: Videos, frame_list: Path | None) -> None:
    frames = _frame_rows(videos)
    with whole_file(prepared / "frames.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FrameRow._fields)
        writer.writerows(frames)
    if frame_list:
        with whole_file(prepared / "frame_list.txt") as file:
            file.write(frame_list.read_bytes())
    else:
        (prepared / "frame_list.txt").unlink(missing_ok=True)


def _mark_twins(tables: list[pd.DataFrame]) -> None:
    """Refuse the second of two inputs with one prepared name, such as a.png and a.png.jpg."""
    for table in tables:
        twin = ((table["reason"] == "") & table["image"].duplicated()).to_numpy()
        reasons = table["reason"].astype("str")
        table["reason"] = reasons.mask(twin, "same prepared name as another").astype("category")


def _write_skipped(path: Path, tables: list[pd.DataFrame], videos: dict[str, dict]) -> None:
    columns = ["path", "dataset", "reason", "detail"]
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for table in tables:
            refused = table.loc[(table["reason"] != "").to_numpy(), columns]
            writer.writerows(refused.itertuples(index=False))
        for part in videos.values():
            if "unreadable" in part:
                row = (part.get("file", ""), "videos", "unreadable video", part["unreadable"])
                writer.writerow([plain_text(value) for value in row])


def datasets_of(ledger: Path, rows: int) -> list[str]:
    """Return the data sets of the first rows of a ledger."""
    column = pd.read_csv(
        ledger, skiprows=1, nrows=rows, usecols=["dataset"], dtype="category", na_filter=False
    )
    return list(column["dataset"].cat.categories)


def _read_ledger(result: Images) -> pd.DataFrame:
    repeated = (*CATEGORICAL, "reason", "detail", "face")
    return pd.read_csv(
        result.ledger,
        skiprows=1,  # the settings
        nrows=result.rows,
        dtype=dict.fromkeys(repeated, "category") | {"width": "str", "height": "str"},
        keep_default_na=False,
        na_filter=False,
        low_memory=False,
    )


def _manifest_of(tables: list[pd.DataFrame]) -> pd.DataFrame:
    parts = []
    for table in tables:
        used = table.loc[(table["reason"] == "").to_numpy(), list(COLUMNS)]
        parts.append(
            used.assign(
                width=used["width"].astype("int32"),
                height=used["height"].astype("int32"),
                hash=hashes_from_text(used["hash"].astype("str")),
                **{name: used[name].astype("str") for name in CATEGORICAL},
            )
        )
    if not parts:
        return pd.DataFrame({name: [] for name in COLUMNS})
    return pd.concat(parts, ignore_index=True)


def _frame_rows(videos: Videos) -> list[FrameRow]:
    """Return a row for every frame that is listed or decoded, by video and frame."""
    rows = []
    for video in sorted(videos.found.keys() | videos.listed.keys()):
        decoded = videos.found.get(video, {"rows": []})["rows"]
        rows += [FrameRow(*row) for row in decoded]
        extra = [frame for frame in videos.listed.get(video, ()) if frame > len(decoded)]
        rows += [FrameRow(video, frame, "", "", "") for frame in sorted(extra)]
    return rows


def _summarise(result: Images, table: pd.DataFrame) -> dict[str, dict]:
    """Return, for each data set of a folder, its counts by split and label and its skips."""
    summary: dict[str, dict] = {}
    columns = ["dataset", "reason", "face", "split", "labels"]
    for (dataset, reason, face, split, labels), count in (
        table.groupby(columns, observed=True, sort=True).size().items()
    ):
        part = summary.setdefault(
            dataset,
            {
                "images": 0,
                "splits": {},
                "official": result.official.get(dataset, {}),
                "faces": {},
                "remarks": dict(result.remarks),
                "skipped": {},
            },
        )
        if reason:
            part["skipped"][reason] = part["skipped"].get(reason, 0) + int(count)
            continue
        part["images"] += int(count)
        by_label = part["splits"].setdefault(split, {})
        by_label[labels] = by_label.get(labels, 0) + int(count)
        if face:
            part["faces"][face] = part["faces"].get(face, 0) + int(count)
    return summary


def _summarise_videos(videos: Videos) -> dict:
    summary = {}
    for video in sorted(videos.found.keys() | videos.listed.keys()):
        result = videos.found.get(video, {"rows": [], "counts": {}, "complaint": ""})
        summary[video] = {
            "listed": len(videos.listed.get(video, ())),
            "decoded": len(result["rows"]),
            "faces": sum(1 for row in result["rows"] if row[2]),
            **result["counts"],
        }
        if result["complaint"]:
            summary[video] |= {
                "unreadable": result["complaint"],
                "file": str(videos.paths[video]),
            }
    return summary


def _print_summary(summary: dict, with_list: bool) -> None:
    print(f"{'data set':<20} {'split':<6}{'images':>9}{'official':>10}  by label")
    for name, part in summary["datasets"].items():
        for split, by_label in part["splits"].items() or [("", {})]:
            official = part["official"].get(split, "")
            if isinstance(official, dict):
                official = sum(official.values())
            labels = ", ".join(f"{label or 'none'} {n}" for label, n in by_label.items())
            images = sum(by_label.values())
            print(f"{name:<20} {split or '-':<6}{images:>9}{official:>10}  {labels}")
        if part["faces"]:
            aligned, none = (part["faces"].get(key, 0) for key in ("aligned", "none found"))
            print(f"    photographs aligned: {aligned}; without a face found, kept as is: {none}")
        for remark, count in part["remarks"].items():
            print(f"    {remark}: {count}")
        for reason, count in part["skipped"].items():
            print(f"    skipped, {reason}: {count}")
    if videos := summary["videos"]:
        listed, decoded, faces = (
            sum(part[key] for part in videos.values()) for key in ("listed", "decoded", "faces")
        )
        print(
            f"{len(videos)} videos: {listed} frames listed, {decoded} decoded, a face in {faces} "
            f"({faces / max(1, decoded):.1%})"
        )
        if not with_list:
            print("    no frame list beside them: every frame that decodes counts")
        for video, part in videos.items():
            if "unreadable" in part:
                print(f"    warning: {part['unreadable']}")
            elif not part["faces"]:
                print(f"    {video}: no face in {part['decoded']} frames")
            if with_list and not part["listed"]:
                print(f"    warning: the frame list names no frame of {video}")
            if part.get("videos that end early"):
                print(f"    warning: {video} breaks off after {part['decoded']} frames")

"""What was found or prepared, counted by data set, split and label beside the official counts."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.prepare.clips import Challenge
from common.raw import RawFolder
from common.raw.layout import Item, entries, walk_files
from common.script.files import some
from common.script.progress import progress_bar

# Endings of what readers read beside images, or people write.
_TEXTS = "bib csv docx html idx json lst mat md npy pdf rst rtf tex txt xls xlsx xml yaml yml"
_NOTES = frozenset(f".{ending}" for ending in _TEXTS.split())
_FILES = 1 << 16  # looked up at once


def empty(result, dataset: str) -> dict:
    """Return the counts of a data set before anything is counted, as JSON takes them.

    result: a RawFolder or the Images of one, with `official` and `remarks`.
    inputs: all; images: those that are used; lost: those that are missing, damaged, or in a row
    that is wrong; kept_damaged: damaged ones among those that are used; persons_unknown: labelled
    ones without a subject. splits: images by split and label; official: the same as the owners
    publish it. faces: how many were aligned. skipped: by reason; examples: one for each reason.
    """
    return {
        "inputs": 0,
        "images": 0,
        "lost": 0,
        "kept_damaged": 0,
        "persons_unknown": 0,
        "splits": {},
        "official": result.official.get(dataset, {}),
        "faces": {},
        "remarks": dict(result.remarks),
        "skipped": {},
        "examples": {},
    }


KEPT_DAMAGED = "damaged, but kept: images of val and test all count"


def add(
    part: dict,
    count: int,
    reason: str,
    fault: bool,
    face: str,
    split: str,
    labels: str,
    known: bool,
):
    """Add `count` inputs to a data set's counts.

    reason: empty where they are used. known: they have a subject.
    """
    part["inputs"] += count
    part["lost"] += count if fault else 0
    if reason:
        part["skipped"][reason] = part["skipped"].get(reason, 0) + count
        return
    part["images"] += count
    part["persons_unknown"] += count if labels and not known else 0
    by_label = part["splits"].setdefault(split, {})
    by_label[labels] = by_label.get(labels, 0) + count
    if face:
        part["faces"][face] = part["faces"].get(face, 0) + count


def print_found(
    raw: Path, folders: Sequence[RawFolder], given: Challenge, limit: int | None
) -> None:
    """Print what `--list` prints: what each folder holds, without opening an image."""
    for folder in folders:
        print(f"{folder.path.name}: {folder.form}")
        print_datasets(_found_in(folder, limit))
    print_challenge(given)
    if limit is None:
        print_left_alone(left_alone(raw, folders, given))


def left_alone(
    raw: Path, folders: Sequence[RawFolder], given: Challenge
) -> dict[str, dict[str, int]]:
    """Count the files that are neither used nor refused: by folder, "" for raw/ itself, and ending.

    The inputs of the folders must have been read to their end.
    """
    counts = {"": Counter(_kind(entry.path) for entry in entries(raw) if not entry.is_dir())}
    known = {folder.path: np.sort(folder.seen) for folder in folders}
    videos = [*map(str, given.paths.values()), str(given.frame_list)]
    known |= dict.fromkeys(given.folders, np.sort(np.array([hash(v) for v in videos])))
    for folder, seen in known.items():
        counts[folder.name] = Counter()
        files = walk_files(folder, None)
        while block := list(itertools.islice(files, _FILES)):
            # A folder of frames is one input.
            left = ~np.isin([hash(path) for path in block], seen)
            left &= ~np.isin([hash(os.path.dirname(path)) for path in block], seen)
            counts[folder.name].update(map(_kind, itertools.compress(block, left)))
    return {
        name: dict(sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0])))
        for name, kinds in counts.items()
        if kinds
    }


def _kind(path: str) -> str:
    return os.path.splitext(path)[1].lower() or "without ending"


def print_left_alone(counts: dict[str, dict[str, int]]) -> None:
    """Print, by folder, what left_alone has counted."""
    for folder, kinds in counts.items():
        notes = {kind: count for kind, count in kinds.items() if kind in _NOTES}
        parts = (("left alone", kinds.keys() - notes), ("lists and notes", notes))
        texts = [
            f"{what}: {', '.join(f'{kinds[kind]:,} {kind}' for kind in kinds if kind in some)}"
            for what, some in parts
            if some
        ]
        print(f"raw/{folder}: {'; '.join(texts)}")


def _found_in(folder: RawFolder, limit: int | None) -> dict[str, dict]:
    """Count the inputs of a data set's folder as its reader names them."""
    datasets: dict[str, dict] = {}
    counts: Counter = Counter()
    with progress_bar(folder.path.name, "image", leave=False) as bar:
        for item in itertools.islice(folder.inputs, limit):
            bar.update()
            if isinstance(item, Item):
                known = bool(item.subject)
                counts[item.dataset, "", False, "", item.split, item.labels, known] += 1
                continue
            counts[item.dataset, item.reason, item.fault, "", "", "", False] += 1
            part = datasets.setdefault(item.dataset, empty(folder, item.dataset))
            example = f"{os.path.relpath(item.path, folder.path.parent)} {item.detail}".strip()
            part["examples"].setdefault(item.reason, example)
    for (dataset, *what), count in sorted(counts.items()):
        part = datasets.setdefault(dataset, empty(folder, dataset))
        add(part, count, *what)
    for part in datasets.values():
        part["remarks"] = dict(folder.remarks)  # which are complete only now
        for split, wanted in part["official"].items():
            labels = part["splits"].setdefault(split, {})
            for label in wanted if isinstance(wanted, dict) else ():
                labels.setdefault(label, 0)
    return datasets


def print_datasets(datasets: dict[str, dict]) -> None:
    """Print images by split and label, `found/official` where the owners publish counts."""
    if datasets:
        print(f"{'data set':<20} {'split':<6}{'images':>10}{'official':>11}  by label")
    for name, part in datasets.items():
        for split, by_label in part["splits"].items() or [("", {})]:
            wanted = part["official"].get(split, {})
            each = wanted if isinstance(wanted, dict) else {}
            official = sum(each.values()) if each else wanted
            labels = ", ".join(
                f"{label or 'none'} {count:,}" + (f"/{each[label]:,}" if label in each else "")
                for label, count in sorted(by_label.items())
            )
            images = sum(by_label.values())
            total = f"{official:,}" if official else "-"
            print(f"{name:<20} {split or '-':<6}{images:>10,}{total:>11}  {labels}")
            if official and images < official:
                print(f"    missing of {split or 'all'}: {official - images:,}")
        if part["faces"]:
            aligned, none = (part["faces"].get(key, 0) for key in ("aligned", "none found"))
            print(f"    photographs aligned: {aligned:,}; no face found, kept as is: {none:,}")
        if part["persons_unknown"]:
            print(
                f"    persons unknown: {part['persons_unknown']:,} images, so a person may be on "
                "both sides of a split; in a labels.csv, write a `subject` column"
            )
        for remark, count in part["remarks"].items():
            print(f"    {remark}: {count:,}")
        if part["kept_damaged"]:
            example = part["examples"].get(KEPT_DAMAGED, "")[:160]
            print(f"    {KEPT_DAMAGED}: {part['kept_damaged']:,} (such as {example})")
        for reason, count in part["skipped"].items():
            example = part["examples"].get(reason, "")[:160]
            print(f"    skipped, {reason}: {count:,}" + (f" (such as {example})" * bool(example)))


def print_videos(videos: dict[str, dict], with_list: bool) -> None:
    """Print what was found in the challenge's videos, and what does not match the frame list."""
    if not videos:
        return
    listed, decoded, faces = (
        sum(part[key] for part in videos.values()) for key in ("listed", "decoded", "faces")
    )
    wanted = f"{listed:,} frames listed, " if with_list else ""
    share = f"{faces / max(1, decoded):.1%}"
    print(f"{len(videos)} videos: {wanted}{decoded:,} decoded, a face in {faces:,} ({share})")
    if not with_list:
        print("    no frame list beside them: every frame that decodes counts")
    for video, part in videos.items():
        if "unreadable" in part:
            print(f"    warning: {part['unreadable']}")
        elif not part["faces"]:
            print(f"    {video}: no face in {part['decoded']} frames")
        if with_list and not part["listed"]:
            print(f"    warning: the frame list names no frame of {video}")
        elif part.get("not decoded"):
            print(
                f"    warning: {part['not decoded']:,} {'listed ' * with_list}frames of {video} "
                "do not decode"
            )
        for remark in part.get("remarks", ()):
            print(f"    warning: {video} {remark}")


def print_challenge(given: Challenge) -> None:
    """Print which videos and which list there are, without decoding anything."""
    paths, frame_list, listed, _ = given
    if not paths:
        return
    size = sum(path.stat().st_size for path in paths.values() if path.is_file())
    text = f"{len(paths)} videos ({size / 1e6:,.0f} MB)"
    if frame_list is None:
        print(f"{text}, no frame list beside them: every frame that decodes will count")
        return
    frames = sum(map(len, listed.values()))
    print(f"{text}, {frames:,} frames of {len(listed)} videos listed in {frame_list.name}")
    if unnamed := sorted(paths.keys() - listed.keys()):
        print(f"    not in the list: {some(unnamed)}")

"""Labelled frames of the challenge's videos as compounds to train on: `04 --challenge-labels`.

The winner's released code trains on the challenge's own videos, with labels of its own and five
folds by video (`Data_Competition: True`), which the paper does not say. Such a run is in another
track, and each of its files says so.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import pandas as pd
from accelerate import PartialState

from common.emotions import CHALLENGE_PAIRS, label_of
from common.manifest import CATEGORICAL, VOTES, read_manifest
from common.networks.weights import labelled_videos
from common.script.files import UserError, file_digest

DATASET = "challenge-labels"  # in the manifest that a run holds in memory; no file has it


def read_rows(args: argparse.Namespace) -> pd.DataFrame:
    """Return the manifest, and with --challenge-labels a compound for each labelled frame.

    The added rows are 01's crops, with the video as subject, so that no fold splits one. All
    labelled frames of a video are test if one of them is marked so. Without the flag no label of
    these videos is read. Raises UserError where the labels fit no frame.
    """
    prepared, path = args.data_dir / "prepared", args.challenge_labels
    manifest = read_manifest(prepared / "manifest.csv")
    if not path:
        return manifest
    # The readers of all data sets and of video, for which no other training waits.
    from common.raw.challenge import find_videos
    from common.submission.files import locate, split_location
    from common.submission.sources import read_frames
    from common.submission.truth import check_truth, read_truth

    check_truth(path, args.videos)
    truth = read_truth(path, find_videos(args.videos) if args.videos else None)
    known = {place: label for place, label in truth.items() if label.label >= 0}
    test = {split_location(place)[0] for place, label in known.items() if label.split == "test"}
    frames = read_frames(prepared)
    places = list(map(locate, frames["video"], frames["frame"]))
    shown = frames.assign(place=places)[[place in known for place in places]]
    rows = shown[shown["image"] != ""]
    if not len(rows):
        raise UserError(
            f"{path} labels no frame in {prepared / 'frames.csv'} that shows a face, such as "
            f"{places[0]}, with one of the seven compounds."
        )
    names = [label_of(pair) for pair in CHALLENGE_PAIRS]
    added = pd.DataFrame(
        {
            "image": rows["image"],
            "dataset": DATASET,
            "split": [
                "test" if video in test else known[place].split
                for video, place in zip(rows["video"], rows["place"], strict=True)
            ],
            "kind": "compound",
            "labels": [names[known[place].label] for place in rows["place"]],
            "subject": rows["video"],
            **dict.fromkeys(("width", "height", "hash"), 0),  # nothing asks for them in training
            **({VOTES: ""} if VOTES in manifest else {}),
        }
    )
    if PartialState().is_main_process:
        print(
            f"track: with labels of the challenge's videos. {path} labels {len(known):,} frames; "
            f"{len(rows):,} of {rows['video'].nunique()} videos become compounds to train and "
            f"validate on, {len(shown) - len(rows):,} show no face, "
            f"{len(known) - len(shown):,} are not in frames.csv.",
            flush=True,
        )
    together = pd.concat([manifest, added.astype({"hash": "uint64"})], ignore_index=True)
    # Together, categories of two tables are plain text.
    return together.astype({name: "category" for name in (*CATEGORICAL, VOTES) if name in together})


def facts_of(
    args: argparse.Namespace,
    rows: pd.DataFrame,
    training: pd.Series,
    held_out: pd.Series,
    init: str,
) -> dict:
    """Return what run.json says of the labels: their digest, and the videos that train.

    rows: of read_rows. training, held_out: bool [n]. init: first weights. Raises UserError where
    these were trained on labels of a video that is held out.
    """
    if not args.challenge_labels:
        return {}
    ours = rows.dataset == DATASET
    if seen := sorted(labelled_videos(init) & set(rows.subject[ours & held_out])):
        raise UserError(
            f"{init} was trained on labels of the challenge's video {seen[0]}, on which this run "
            "validates; start from weights that have seen no such labels."
        )
    return {
        "challenge_labels_sha256": _digest(args.challenge_labels),
        "challenge_videos": sorted(rows.subject[ours & training].unique().tolist()),
    }


def _digest(path: Path) -> str:
    """Return the digest of a file, or of the tables in a folder and their names."""
    if path.is_file():
        return file_digest(path)
    parts = [f"{table.name} {file_digest(table)}" for table in sorted(path.glob("*.csv"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

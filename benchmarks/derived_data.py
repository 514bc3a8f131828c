"""Prepared folders made of another: its images by links, under a manifest of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.batches.targets import voted
from common.emotions import ADAPTATION_SETS, BASIC, CHALLENGE, CHALLENGE_PAIRS, label_of
from common.manifest import VOTES, read_manifest, write_manifest
from common.splits import folds, hold_out, training_rows
from common.submission.files import locate

# Of the frames decided for a class, the share whose decision is taken for a label: those with the
# largest distance between the best and the second score.
SUREST = 0.5


def write_derived(folder: Path, data: Path, manifest: pd.DataFrame) -> None:
    """Write `folder`/prepared: the images of `data`, by links, and another manifest of them."""
    source, prepared = (data / "prepared").resolve(), folder / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    for name in ("images", "crops"):
        if (source / name).is_dir() and not (prepared / name).is_symlink():
            (prepared / name).symlink_to(source / name)
    write_manifest(prepared / "manifest.csv", manifest)


def training_singles(manifest: pd.DataFrame) -> pd.Series:
    """Return the single expressions that 03 and 04 train on by default, bool [n]."""
    chosen = (manifest.kind == "single") & manifest.labels.isin(BASIC)
    chosen &= ~manifest.dataset.isin(ADAPTATION_SETS)
    return chosen & training_rows(manifest, hold_out(manifest))


def keep_part(folder: Path, data: Path, parts: int, seed: int) -> None:
    """Write `folder`/prepared with one of `parts` parts of the single expressions to train on.

    Persons are kept or left out whole, labels stay balanced. Sets to adapt on, and what validates,
    are all there.
    """
    manifest = read_manifest(data / "prepared" / "manifest.csv")
    left_out = training_singles(manifest)
    left_out[left_out] = folds(manifest[left_out], parts, seed) != 0
    # A set without splits is told what is held out of it: of fewer rows other ones would be.
    split, held = manifest["split"].astype("str"), hold_out(manifest)
    open_ = (split == "") & (manifest.kind != "unlabelled")
    split[open_] = np.where(held[open_], "val", "train")
    write_derived(folder, data, manifest.assign(split=split.astype("category"))[~left_out])


def keep_labels(folder: Path, data: Path, share: float, seed: int) -> None:
    """Write `folder`/prepared where a share of the persons that train keep their labels and votes.

    The others' images stay, without either. What is held out, and sets to adapt on, are as
    they were. Labels stay balanced.
    """
    manifest = read_manifest(data / "prepared" / "manifest.csv")
    labelled = (manifest.kind != "unlabelled") | voted(manifest)  # votes teach without a majority
    labelled &= ~manifest.dataset.isin(ADAPTATION_SETS)
    labelled &= training_rows(manifest, hold_out(manifest))
    bare = labelled.copy()
    bare[bare] = folds(manifest[labelled], round(1 / share), seed) != 0
    changed = manifest.astype(
        {name: "str" for name in ("kind", "labels", "split", VOTES) if name in manifest}
    )
    changed.loc[bare, ["kind", "labels"]] = "unlabelled", ""
    if VOTES in changed:
        changed.loc[bare, VOTES] = ""
    # A set without splits is told what is held out of it: of fewer rows other ones would be.
    open_ = (changed.split == "") & ((manifest.kind != "unlabelled") | voted(manifest))
    changed.loc[open_, "split"] = np.where(hold_out(manifest)[open_], "val", "train")
    write_derived(folder, data, changed)


def drop_votes(folder: Path, data: Path) -> None:
    """Write `folder`/prepared with the labels that 01 made of votes, but without the votes."""
    manifest = read_manifest(data / "prepared" / "manifest.csv")
    write_derived(folder, data, manifest.drop(columns=VOTES, errors="ignore"))


def add_pseudo_labels(folder: Path, data: Path, predictions: Path) -> None:
    """Write `folder`/prepared: the images of `data`, and the surest challenge frames as compounds.

    Nobody's labels are read: a frame's class is that of a first model. It is a transductive
    setting, as submissions to the challenge often use: the second model has seen the images that
    it is judged on. predictions: probabilities.csv of 05 on the crops of `data`. The added rows
    belong to the data set `pseudo`, split train.
    """
    source = data / "prepared"
    seen = pd.read_csv(predictions)
    scores = np.sort(seen[list(CHALLENGE)].to_numpy(), axis=1)
    seen["margin"] = scores[:, -1] - scores[:, -2]
    crops = pd.read_csv(source / "frames.csv", dtype={"video": str}, keep_default_na=False)
    crops["image_location"] = list(map(locate, crops["video"], crops["frame"]))
    seen = seen.merge(crops[crops.image != ""], on="image_location")
    rank = seen.groupby("decision")["margin"].rank(pct=True, ascending=False)
    chosen = seen[rank <= SUREST]
    side = Image.open(source / chosen["image"].iloc[0]).width  # the same for all of 01's crops
    names = [label_of(pair) for pair in CHALLENGE_PAIRS]
    rows = pd.DataFrame(
        {
            "image": chosen["image"],
            "dataset": "pseudo",
            "split": "train",
            "kind": "compound",
            "labels": [names[label] for label in chosen["decision"]],
            "subject": "challenge " + chosen["video"],
            "width": side,
            "height": side,
            "hash": np.uint64(0),
        }
    )
    plain = read_manifest(source / "manifest.csv")
    write_derived(folder, data, pd.concat([plain, rows], ignore_index=True))

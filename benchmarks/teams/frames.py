#!/usr/bin/env python3
"""The frame network that all other teams' rows start from, and its own score by the sum rule.

A light residual network (`--model cnn_small`, 1.2 million parameters, 48 pixels) with softmax over
eight expressions, trained on all single expressions: RAF-DB, AffectNet and Aff-Wild2, no compound.
The teams start from networks that were pretrained on millions of faces, each from another; here
they share one, which has seen what this world has.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.teams import harness
from common.script.main import run_script

SETS = ("AffectNet", "RAF-DB-basic", "Aff-Wild2")
NETWORK = ["--model", "cnn_small", "--model-options", "--image-size", "48", "--loss", "softmax"]


def train(row, epochs: int, rate: float, *network: str) -> list[str]:
    """Return the command of 03 that trains a frame network on single expressions."""
    flags = [*harness.flags_of(row), "--datasets", *SETS, "--init", "none", "--adapt-epochs", "0"]
    flags += [*NETWORK, *network, "--epochs", str(epochs), "--lr", str(rate)]
    return ["03_finetune_single.py", *flags]


def commands(row) -> list[list[str]]:
    """Return the commands of the row."""
    network = f"{row.folder}/single/model.safetensors"
    return [
        train(row, 12, 3e-3),
        harness.script(row, "frames"),
        harness.score(row, "--checkpoints", network),
    ]


def main() -> None:
    """Keep the features of all images that teams look at."""
    args = harness.arguments(__doc__)
    network = args.run_dir / "single" / "model.safetensors"
    harness.save_frames(args.data_dir / "prepared", network, args.run_dir / "frames.npz")


if __name__ == "__main__":
    run_script(main)

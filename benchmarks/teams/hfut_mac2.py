#!/usr/bin/env python3
"""HFUT-MAC2 (arXiv 2407.12257; 0.2281 in table 3): three networks, features, late fusion.

A ResNet, a Vision Transformer and a third network (POSTER) learn one unified set of single
expressions. Features of two of them, side by side, go through a small network to the seven
compounds; a late fusion averages this answer and those of the three.

Assumed: which two (ResNet and the third), the size of the small network (one hidden layer of 128),
equal weights. It learns from the natural compounds of RAF-DB: nothing else has such labels without
the challenge's videos. Networks: timm's resnet10t at 48 pixels; the world's own ViT after 02 and
03; the shared frame network in place of POSTER.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import nn

from benchmarks.teams import frames, harness
from common.emotions import CHALLENGE
from common.script.main import run_script

NOW = np.zeros(1, dtype=np.int64)  # a window of the frame itself
EPOCHS = 60


def commands(row) -> list[list[str]]:
    """Return the commands of the row."""
    third, vit = str(harness.network_of(row)), row.world.partition(":")[2]
    resnet = f"{row.folder}/resnet/single/model.safetensors"
    three = ("--checkpoints", resnet, f"{vit}/single/model.safetensors", third)
    return [
        frames.train(row._replace(folder=row.folder / "resnet"), 4, 3e-3, "--model", "resnet10t"),
        harness.script(row, "hfut_mac2"),
        harness.score(row, *three, "--fuse", f"{row.folder}/compounds.csv"),
    ]


def make_network(features: int) -> nn.Module:
    """Return the network from two networks' features to the seven: [b, 1, D] → [b, 7]."""
    hidden = nn.Linear(features, 128)
    layers = nn.Flatten(), nn.LayerNorm(features), hidden, nn.GELU(), nn.Dropout(0.3)
    return nn.Sequential(*layers, nn.Linear(128, len(CHALLENGE)))


def main() -> None:
    """Train on the natural compounds and write the table of the challenge's frames."""
    args = harness.arguments(__doc__)
    prepared, resnet = args.data_dir / "prepared", args.run_dir / "resnet" / "single"
    known = harness.load_frames(prepared, args.frames / "frames.npz")
    classes = harness.classes_of(known, CHALLENGE)
    part = known.rows["part"].to_numpy()
    used = (part == "challenge") | ((part == "stills") & (classes >= 0))
    images = known.rows["image"][used].tolist()
    other, _ = harness.read_images(resnet / "model.safetensors", prepared, images)
    both = np.concatenate([known.features[used], other], axis=2)
    rows = known.rows[used].reset_index(drop=True)
    known = replace(known, rows=rows, features=both, probabilities=known.probabilities[used])
    stills, challenge = known.part("stills"), known.part("challenge")
    aims = torch.from_numpy(harness.classes_of(stills, CHALLENGE))
    torch.manual_seed(args.seed)
    network = make_network(both.shape[2])

    def loss(output: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
        return nn.functional.cross_entropy(output, aims[chosen])

    harness.fit(network, stills, NOW, loss, EPOCHS, args.seed)
    found = torch.from_numpy(harness.answers(network, challenge, NOW)).softmax(1).numpy()
    harness.write_table(args.run_dir / "compounds.csv", challenge, CHALLENGE, found)


if __name__ == "__main__":
    run_script(main)

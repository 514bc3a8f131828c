#!/usr/bin/env python3
"""ETS-LIVIA (arXiv 2407.12927; 0.2591 in table 3): features over time, sound and words.

Visual features of each frame go through a temporal convolutional network to the seven compounds,
beside features of sound and of the transcript.

The team trains on labels of the challenge's videos; the row does not, as these are given to our own
row alone. What is left: the visual branch, trained on the natural compounds of RAF-DB, each taken
for a video that does not move. Of sound and words the drawn videos have none; where a world has
tables of them, sound.csv and words.csv beside its truth, they are fused with equal weights.
Assumed: three layers of width 64, kernel 3, dilation 1, 4, 16, on the 31 frames around a frame; the
frame network stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import nn

from benchmarks.teams import harness
from common.emotions import CHALLENGE
from common.script.main import run_script

AROUND = np.arange(-15, 16)  # frames
EPOCHS = 60


def commands(row) -> list[list[str]]:
    """Return the commands of the row."""
    tables = [f"{row.folder}/compounds.csv", *harness.tables_of(row)]
    fused = ("--fuse", *tables, "--weights", "0", *["1"] * len(tables))
    return [
        harness.script(row, "ets_livia"),
        harness.score(row, "--checkpoints", str(harness.network_of(row)), *fused),
    ]


class TemporalConvolutions(nn.Module):
    """Dilated convolutions in time: [b, T, D] → [b, classes], of the frame in the middle."""

    def __init__(self, features: int, classes: int, width: int = 64):
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=step, dilation=step) for step in (1, 4, 16)
        )
        self.drop, self.classify = nn.Dropout(0.3), nn.Linear(width, classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = self.project(frames).transpose(1, 2)  # [b, width, T]
        for layer in self.layers:
            x = x + nn.functional.gelu(layer(x))
        return self.classify(self.drop(x[:, :, x.shape[2] // 2]))


def main() -> None:
    """Train on the natural compounds and write the table of the challenge's frames."""
    args = harness.arguments(__doc__)
    known = harness.load_frames(args.data_dir / "prepared", args.frames / "frames.npz")
    stills = known.part("stills", harness.classes_of(known, CHALLENGE) >= 0)
    aims = torch.from_numpy(harness.classes_of(stills, CHALLENGE))
    torch.manual_seed(args.seed)
    network = TemporalConvolutions(known.features.shape[2], len(CHALLENGE))

    def loss(output: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
        return nn.functional.cross_entropy(output, aims[chosen])

    harness.fit(network, stills, AROUND, loss, EPOCHS, args.seed)
    challenge = known.part("challenge")
    found = torch.from_numpy(harness.answers(network, challenge, AROUND)).softmax(1).numpy()
    harness.write_table(args.run_dir / "compounds.csv", challenge, CHALLENGE, found)


if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env python3
"""AIPL-BME-SEU (arXiv 2407.12973; 0.1644 in table 3): a pyramid of times, a hierarchy of labels.

A ResNet18 reads each frame; a Transformer reads three sequences of 15 frames in parallel, with
different strides, around the frame that is judged. Vote distributions of DFEW are turned into the
seven compounds. A coarse answer, after valence and arousal, comes before the fine one.

Assumed: strides 1, 2 and 4, one Transformer layer of width 64 that the three share, and the coarse
classes: happy; surprised and unpleasant; sad. The seven's probability is the coarse class's times
its share within it. No drawn video has votes or valence in our tables, so the compounds are the
natural ones of RAF-DB, each taken for a video that does not move. The frame network is the shared
one and stays as it is.
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

FRAMES, STRIDES = 15, (1, 2, 4)
AROUND = np.array([(np.arange(FRAMES) - FRAMES // 2) * stride for stride in STRIDES])  # [3, 15]
# The coarse class of each of CHALLENGE: 0 happy, 1 surprised and unpleasant, 2 sad.
COARSE = torch.tensor([1, 0, 2, 1, 1, 2, 2])
EPOCHS = 60


def commands(row) -> list[list[str]]:
    """Return the commands of the row."""
    fused = ("--fuse", f"{row.folder}/compounds.csv", "--weights", "0", "1")
    return [
        harness.script(row, "aipl_bme_seu"),
        harness.score(row, "--checkpoints", str(harness.network_of(row)), *fused),
    ]


class TimePyramid(nn.Module):
    """Three sequences through one Transformer: [b, 3, T, D] → log-probabilities [b, 7]."""

    def __init__(self, features: int, width: int = 64):
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))
        self.place = nn.Parameter(torch.zeros(FRAMES, width))
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.3, batch_first=True)
        self.coarse = nn.Linear(len(STRIDES) * width, int(COARSE.max()) + 1)
        self.fine = nn.Linear(len(STRIDES) * width, len(CHALLENGE))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        tokens = (self.project(frames) + self.place).flatten(0, 1)  # [3b, T, width]
        pyramid = self.layer(tokens).mean(1).reshape(len(frames), -1)  # [b, 3 width]
        coarse = self.coarse(pyramid).log_softmax(1)
        fine = self.fine(pyramid)
        within = torch.stack([fine[:, k == COARSE].logsumexp(1) for k in COARSE], dim=1)
        return coarse[:, COARSE] + fine - within


def main() -> None:
    """Train on the natural compounds and write the table of the challenge's frames."""
    args = harness.arguments(__doc__)
    known = harness.load_frames(args.data_dir / "prepared", args.frames / "frames.npz")
    stills = known.part("stills", harness.classes_of(known, CHALLENGE) >= 0)
    aims = torch.from_numpy(harness.classes_of(stills, CHALLENGE))
    torch.manual_seed(args.seed)
    network = TimePyramid(known.features.shape[2])

    def loss(output: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
        return nn.functional.nll_loss(output, aims[chosen])  # of the coarse and of the fine answer

    harness.fit(network, stills, AROUND, loss, EPOCHS, args.seed)
    challenge = known.part("challenge")
    found = np.exp(harness.answers(network, challenge, AROUND))
    harness.write_table(args.run_dir / "compounds.csv", challenge, CHALLENGE, found)


if __name__ == "__main__":
    run_script(main)

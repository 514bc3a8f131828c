#!/usr/bin/env python3
"""SUN/AVCER (arXiv 2403.12687; 0.2201 in the 6th challenge): frames, time and sound, weighted.

A static network reads each frame; an LSTM reads ten frames, every fifth up to the one that is
judged; a third reads the sound. They give probabilities of basic emotions, fused with a weight for
each model and emotion that is the best of many draws from a Dirichlet distribution on labelled
frames of Aff-Wild2. No compound is ever trained on. Rule 1 adds the two probabilities of a pair;
rule 2 weighs an emotion the more, the fewer of the seven it is part of.

The LSTM learns the frames of Aff-Wild2, and single expressions of the other sets, each taken for a
video that does not move. Of sound the drawn videos have none; where a world has a table of it,
sound.csv beside its truth, it is fused with the mean weight. Assumed: one layer of width 64; 500
draws (the team: 10,000). Left out: probabilities below 1/7 set to 0, an option of their code.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.teams import harness
from common.emotions import ADAPTATION, BASIC, CHALLENGE, CHALLENGE_PAIRS
from common.metrics import single_emotion_f1
from common.script.files import whole_file, write_csv
from common.script.main import run_script
from common.submission.fusion import weight_matrix
from common.submission.tuning import dirichlet

BEFORE = np.arange(-45, 1, 5)  # ten of every fifth frame
EPOCHS = 8
# How many of the seven each emotion is part of: surprise of five.
PARTS = np.bincount(np.array(CHALLENGE_PAIRS).ravel(), minlength=len(BASIC))


def commands(row) -> list[list[str]]:
    """Return the commands of the row by rule 1."""
    fused = ("--fuse", f"{row.folder}/dynamic.csv", *harness.tables_of(row)[:1])
    chosen = ("--config", f"{row.folder}/chosen.toml")
    network = str(harness.network_of(row))
    return [
        harness.script(row, "avcer"),
        harness.score(row, "--checkpoints", network, *fused, *chosen),
    ]


def weighted(row) -> list[list[str]]:
    """Return the commands of the row by rule 2, which builds on that by rule 1."""
    network = row.world.partition(":")[2] + "/single/model.safetensors"  # weighs nothing
    fused = ("--fuse", f"{row.folder}/pairs.csv", "--weights", "0", "1")
    return [
        harness.script(row, "avcer", "--weigh-pairs"),
        harness.score(row, "--checkpoints", network, *fused),
    ]


class Memory(nn.Module):
    """An LSTM over features: [b, T, D] → [b, 8], what it answers at the last frame."""

    def __init__(self, features: int, width: int = 64):
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(features), nn.Dropout(0.3)
        self.lstm = nn.LSTM(features, width, batch_first=True)
        self.classify = nn.Linear(width, len(ADAPTATION))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.classify(self.drop(self.lstm(self.norm(frames))[0][:, -1]))


def weigh_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the seven's scores by rule 2. table: of 05's probabilities.csv."""
    emotions = table[[f"p_{name}" for name in BASIC]].to_numpy()
    scores = {}
    for name, pair in zip(CHALLENGE, map(list, CHALLENGE_PAIRS), strict=True):
        share = (len(CHALLENGE) - PARTS)[pair] / (len(CHALLENGE) - PARTS)[pair].sum()
        scores[name] = (emotions[:, pair] * share).sum(axis=1)
    return table[["image_location"]].assign(**scores)


def best_weights(static: np.ndarray, dynamic: np.ndarray, truth: np.ndarray, seed: int):
    """Return the weights, 12 numbers as 05's --weights, that are best on singles of the six.

    static, dynamic: probabilities, [n, 6]. truth: [n], of BASIC.
    """

    def f1(draw: tuple[float, ...]) -> float:
        first, second = weight_matrix(draw, ("static", "dynamic"))
        return single_emotion_f1(truth, static * first + dynamic * second)

    best = max(dirichlet(2, seed), key=f1)
    return weight_matrix(best, ("static", "dynamic")).ravel().tolist()


def main() -> None:
    """Train the LSTM, choose the weights, write its table and the recipe of 05; or rule 2's."""
    args = harness.arguments(__doc__)
    if args.weigh_pairs:
        rule_1 = pd.read_csv(args.frames / "submission" / "probabilities.csv")
        args.run_dir.mkdir(parents=True, exist_ok=True)
        write_csv(args.run_dir / "pairs.csv", weigh_pairs(rule_1), "%.6f")
        return
    known = harness.load_frames(args.data_dir / "prepared", args.frames / "frames.npz")
    labelled = harness.classes_of(known, ADAPTATION) >= 0
    training = labelled & known.rows["training"].to_numpy(bool)
    taught = harness.joined(known.part("sequences", training), known.part("stills", training))
    aims = torch.from_numpy(harness.classes_of(taught, ADAPTATION))
    torch.manual_seed(args.seed)
    network = Memory(known.features.shape[2])

    def loss(output: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
        return nn.functional.cross_entropy(output, aims[chosen])

    def dynamic(frames: harness.Frames) -> np.ndarray:
        logits = torch.from_numpy(harness.answers(network, frames, BEFORE))
        return logits.softmax(1)[:, : len(BASIC)].numpy()

    harness.fit(network, taught, BEFORE, loss, EPOCHS, args.seed)
    truth = harness.classes_of(known, ADAPTATION)
    judged = known.part("sequences", (truth >= 0) & (truth < len(BASIC)) & ~training)
    static = judged.probabilities[:, :2, : len(BASIC)].mean(axis=1)
    truth = harness.classes_of(judged, ADAPTATION)
    weights = best_weights(static, dynamic(judged), truth, args.seed)
    sound = [0.5] * len(BASIC) * (args.data_dir / "sound.csv").is_file()
    with whole_file(args.run_dir / "chosen.toml", "w") as file:
        file.write(f"[predict_submit]\nweights = {[*weights, *sound]}\n")
    challenge = known.part("challenge")
    harness.write_table(args.run_dir / "dynamic.csv", challenge, BASIC, dynamic(challenge))


if __name__ == "__main__":
    run_script(main)

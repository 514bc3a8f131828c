"""A tiny prepared folder, coloured squares that tell their label, and training on it in little."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.emotions import ADAPTATION, BASIC, CHALLENGE_PAIRS, label_of

TINY = [
    *("--model", "vit_tiny_patch16_224", "--image-size", "16", "--global-batch", "12"),
    *("--batch-size", "5", "--workers", "0", "--mixed-precision", "no", "--model-options"),
    *("patch_size=4", "embed_dim=16", "depth=1", "num_heads=2"),
]
DECODER = ["--decoder-dim", "16", "--decoder-depth", "1", "--decoder-heads", "2"]
# The three stages in little: long enough to be struck again and again, on a machine that is busy.
STAGES = {
    "mae": [
        *("02_pretrain_mae.py", *DECODER, "--warmup-epochs", "1", "--epochs", "4"),
        *("--ema", "0.9"),
    ],
    "single": ["03_finetune_single.py", "--lr", "3e-3", "--epochs", "3", "--adapt-epochs", "2"],
    "curriculum": [
        *("04_curriculum.py", "--lr", "3e-3", "--stage-epochs", "2", "2"),
        *("--compound-shares", "0", "0.5", "--start-share", "0.2"),
    ],
}
SAVE_ALWAYS = ["--save-minutes", "0.0001"]


def make_prepared(folder: Path, singles: int = 46, compounds: int = 21) -> Path:
    """Write manifest.csv and images of singles (two sets), compounds and unlabelled squares."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(2 * singles + compounds + 10):
        if number < 2 * singles:
            dataset, kind = ("Toy", "AffectNet")[number % 2], "single"
            labels = BASIC[number // 2 % 6]
        elif number < 2 * singles + compounds:
            dataset, kind = "Toy-compound", "compound"
            labels = label_of(CHALLENGE_PAIRS[number % 7])
        else:
            dataset, kind, labels = "Faces", "unlabelled", ""
        pixels = random.integers(0, 60, (20, 20, 3))
        for name in labels.split():
            index = BASIC.index(name)
            pixels[10 * (index // 3) :, :, index % 3] += 120
        image = f"images/{dataset}/{number}.png"
        path = folder / "prepared" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        split = "" if kind == "unlabelled" else "val" if number % 5 == 0 else "train"
        rows.append((image, dataset, split, kind, labels, f"s{number}", 20, 20, f"{number:016x}"))
    columns = ["image", "dataset", "split", "kind", "labels", "subject", "width", "height", "hash"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "prepared" / "manifest.csv", index=False)
    return folder


def make_ferplus(folder: Path, compounds: int = 42) -> Path:
    """Write the toy world as FERPlus: under its name, some singles Neutral or Contempt, votes."""
    path = make_prepared(folder, compounds=compounds) / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    table["dataset"] = table.dataset.replace(["Toy", "Toy-compound"], "FERPlus")
    alone = table.index[(table.dataset == "FERPlus") & (table.kind == "single")][::6]
    table.loc[alone, "labels"] = [("Neutral", "Contempt")[n % 2] for n in range(len(alone))]
    ballots = []
    for number, labels in enumerate(table.labels):
        share = 10 - number % 4 if len(labels.split()) == 1 else 5
        votes = {"Neutral": number % 4 * (share > 5)} | dict.fromkeys(labels.split(), share)
        ballots.append(" ".join(str(votes.get(name, 0)) for name in ADAPTATION))
    table["votes"] = [
        text if dataset == "FERPlus" else ""
        for text, dataset in zip(ballots, table.dataset, strict=True)
    ]
    table.to_csv(path, index=False)
    return folder


def command(stage: str, prepared: Path, folder: Path) -> list:
    """Return the script of a stage and its arguments, to be run in a run folder."""
    return [*STAGES[stage], "--data-dir", prepared, "--run-dir", folder, *TINY]


def inherit(run_folder: Path, folder: Path, stage: str) -> None:
    """Give a run folder the stages of another that come before a stage: what it starts from."""
    for name in itertools.takewhile(lambda name: name != stage, STAGES):
        (folder / name).symlink_to(run_folder / name)

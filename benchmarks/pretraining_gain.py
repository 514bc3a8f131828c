#!/usr/bin/env python3
"""Does pretraining help? Single-expression macro-F1 with 02 before 03, and without.

The scripts are run as a user runs them, on a prepared folder; a fold and a seed at a time. Sets
without splits of their own are divided into folds by person, so that every person is judged once,
by a model that has not seen them. A score is that of the last epoch: none is chosen by the images
that it is judged on. What is finished is kept; the same command goes on.

Writes OUT/gain.md and OUT/gain.csv, and prints the table after each fold.

Examples:
    python benchmarks/pretraining_gain.py --data-dir data/demo
    python benchmarks/pretraining_gain.py --data-dir data-own --longer-epochs 18 --balance
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import Section, markdown
from benchmarks.derived_data import write_derived
from common.manifest import folds, read_manifest
from common.script.files import UserError, whole_file, write_csv
from common.script.flags import positive
from common.script.main import run_script

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run every arm on every fold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of prepared/")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/demo.toml", help="recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/gain"), help="folder of results")
    parser.add_argument("--folds", type=positive, default=5, help="folds, a seed each")
    parser.add_argument("--epochs", type=positive, default=10, help="of 03, with and without")
    parser.add_argument(
        "--longer-epochs", type=positive, help="of 03 in a third arm: as long as 02 and 03 together"
    )
    parser.add_argument(
        "--balance", action="store_true", help="also compare 03's answers to rare emotions"
    )
    arguments = parser.parse_args()
    # Of each arm: first weights, epochs, and other flags of 03.
    arms = {
        "from random weights": ("none", arguments.epochs),
        "from the masked autoencoder": ("mae", arguments.epochs),
    }
    if arguments.longer_epochs:
        title = f"from random weights, {arguments.longer_epochs} epochs"
        arms[title] = ("none", arguments.longer_epochs)
    for form in ("sampling", "logit-adjustment") if arguments.balance else ():
        title = f"from random weights, --balance {form}"
        arms[title] = ("none", arguments.epochs, "--balance", form)
    title = f"Single expressions, macro-F1 over six, {arguments.epochs} epochs of 03"
    section = Section(title, [(arm, arm, None) for arm in arms])
    rows = []
    for fold in range(arguments.folds):
        folder = arguments.out / f"fold-{fold}"
        write_fold(arguments.data_dir, folder, fold, arguments.folds)
        for arm, settings in arms.items():
            rows.append(
                {
                    "row": arm,
                    "world": str(arguments.data_dir),
                    "seed": fold,
                    "score": score(arguments.config, folder, fold, *settings),
                }
            )
        table = pd.DataFrame(rows)
        text = markdown(section, table)
        print(f"{text}\n({fold + 1} of {arguments.folds} folds)\n", flush=True)
        write_csv(arguments.out / "gain.csv", table, float_format=None)
        with whole_file(arguments.out / "gain.md", "w") as file:
            file.write(text)


def write_fold(data: Path, folder: Path, fold: int, count: int) -> None:
    """Write a prepared folder that holds out one of `count` folds: links, and another manifest."""
    manifest = read_manifest(data / "prepared" / "manifest.csv")
    split = manifest["split"].astype("str")
    for dataset in manifest["dataset"].unique():
        rows = manifest["dataset"] == dataset
        own = set(split[rows]) - {""}
        if not own and (manifest["kind"][rows] != "unlabelled").any():
            held = folds(manifest[rows], count, seed=0) == fold
            split[rows] = ["val" if one else "train" for one in held]
    write_derived(folder, data, manifest.assign(split=split.astype("category")))


def score(config: Path, folder: Path, seed: int, init: str, epochs: int, *flags: str) -> float:
    """Run 03 on a fold, after 02 where it starts from it; return the last epoch's macro-F1."""
    shared = ["--config", config, "--data-dir", folder, "--seed", seed]
    weights = "none"
    if init == "mae":
        execute("02_pretrain_mae.py", *shared, "--run-dir", folder)
        weights = folder / "mae" / "model.safetensors"
    run = folder / "-".join([init, str(epochs), *flags[1:]])
    execute(
        "03_finetune_single.py",
        *shared,
        "--run-dir",
        run,
        "--init",
        weights,
        "--epochs",
        epochs,
        "--adapt-epochs",
        0,
        *flags,
    )
    table = pd.read_csv(run / "single" / "metrics.csv")
    return float(table[table.phase == "single"].val_macro_f1.iloc[-1])


def execute(script: str, *arguments) -> None:
    """Run one of the numbered scripts; raise UserError where it fails."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"{script} failed; the command was {' '.join(command)}")


if __name__ == "__main__":
    run_script(main)

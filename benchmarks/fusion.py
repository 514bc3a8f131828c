#!/usr/bin/env python3
"""What a fusion is worth on the demo: two networks and an outside model, alone and together.

For each seed: the demo's world and ViT (as `make demo SEED=k`), a small CNN (03 and 04 by
configs/demo_cnn.toml), and a table of a model that is none of ours: logistic regressions on
histograms of oriented gradients (HOG), fitted to the images that 04 trains on. Then 05's fusion of
the three, judged on the challenge videos. Weights are tuned on four fifths of the videos and
judged on the rest, in turn; or chosen on the compounds that validate 04, as a competitor can.
Differences are to the best single member, in pairs of the same seed.

Writes OUT/fusion.md and OUT/fusion.csv, and prints the table after each seed. What is finished is
kept; the same command goes on.

Examples:
    python benchmarks/fusion.py                                  three seeds
    python benchmarks/fusion.py --seeds 3 4 --out runs/fusion-b  other worlds
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import Section, markdown
from benchmarks.outside_model import write_outside
from benchmarks.pretraining_gain import execute
from benchmarks.submission_effects import DEFAULT
from common.demo.settings import settings_for
from common.demo.world import make_world
from common.emotions import BASIC, CHALLENGE, challenge_class, compound_scores
from common.hardware import default_precision
from common.metrics import macro_f1
from common.script.files import file_digest, whole_file, write_csv, write_json
from common.script.flags import count
from common.script.main import run_script
from common.submission.decision import Timelines, decide
from common.submission.ensemble import load_ensemble, weighted_mean
from common.submission.fusion import read_table, weight_matrix
from common.submission.sources import observe, open_source
from common.submission.truth import read_truth
from common.submission.tuning import dirichlet, simplex, tune

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STAGES = ("02_pretrain_mae.py", "03_finetune_single.py", "04_curriculum.py")
MEMBERS = ("ViT", "CNN", "outside model")  # in the order of weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=count, nargs="+", default=[0, 1, 2], help="of worlds")
    parser.add_argument("--out", type=Path, default=Path("runs/fusion"), help="folder of results")
    arguments = parser.parse_args()
    rows = []
    for seed in dict.fromkeys(arguments.seeds):
        folder = arguments.out / f"seed-{seed}"
        make_world(folder / "data", settings_for(seed))
        for command in commands(folder, seed):
            execute(*command)
        if not (folder / "outside.csv").is_file():
            write_outside(folder)
        for row, score in scores(folder, seed).items():
            rows.append({"row": row, "world": "demo", "seed": seed, "score": score})
        table = pd.DataFrame(rows)
        text = markdown(section_of(table), table)
        print(f"{text}\n(seeds up to {seed})\n", flush=True)
        write_csv(arguments.out / "fusion.csv", table, float_format=None)
        with whole_file(arguments.out / "fusion.md", "w") as file:
            file.write(text)


def section_of(table: pd.DataFrame) -> Section:
    """Return the rows in their order, the best of the single members first."""
    means = table.groupby("row", sort=False)["score"].mean()
    alone = sorted(MEMBERS, key=lambda name: -means[name])
    order = [*alone, *(name for name in means.index if name not in MEMBERS)]
    return Section("Macro-F1 on the challenge videos", [(name, name, None) for name in order])


def commands(folder: Path, seed: int) -> list[tuple]:
    """Return the scripts that prepare the world and train the networks, each with its flags."""
    data = ("--data-dir", folder / "data")
    found = [("01_prepare_data.py", "--config", CONFIGS / "demo.toml", *data)]
    for run, recipe, stages in (("vit", "demo", STAGES), ("cnn", "demo_cnn", STAGES[1:])):
        flags = ("--config", CONFIGS / f"{recipe}.toml", *data, "--run-dir", folder / run)
        flags += ("--seed", seed)
        found += [(stage, *flags) for stage in stages]
    return found


def scores(folder: Path, seed: int) -> dict[str, float]:
    """Return the macro-F1 of each member and fusion; kept in scores.json while inputs stay."""
    runs = [folder / name / "curriculum" for name in ("vit", "cnn")]
    networks, outside = [run / "model.safetensors" for run in runs], folder / "outside.csv"
    inputs = {str(path): file_digest(path) for path in (*networks, outside)}
    record = folder / "scores.json"
    if record.is_file() and (before := json.loads(record.read_text()))["inputs"] == inputs:
        return before["scores"]
    source = open_source(folder / "data" / "prepared", None, None)
    tables = [read_table(outside, source.names, None)]
    ensemble = load_ensemble(networks, default_precision(), flip=True, shift=0.0)
    observed = observe(source, ensemble, folder)
    truth = read_truth(folder / "data" / "truth.csv")
    labels = np.array([truth[place].label if place in truth else -1 for place in source.locations])
    timelines = Timelines(source.locations, observed.frames, tables)
    tuned = tune(timelines, observed, labels, DEFAULT, MEMBERS, "class", seed)
    found = {**tuned.alone, "equal mean": tuned.given_f1}
    validations = [*(run / "validation.csv" for run in runs), folder / "outside_validation.csv"]
    weights = validation_weights(validations, seed)
    for what, chosen in weights.items():
        matrix = weight_matrix(chosen, MEMBERS)
        table = decide(timelines, observed.mean(matrix[: len(networks)]), DEFAULT, matrix)
        classes = table["decision"].to_numpy()[labels >= 0]
        f1 = macro_f1(labels[labels >= 0], classes, len(CHALLENGE))
        found[f"{what}, chosen on validation images"] = f1
    kinds = ("equal mean and settings", "weights by member", "weights by member and settings")
    kinds += ("weights by emotion", "weights by emotion and settings")
    for what, trial in zip(kinds, tuned.trials, strict=True):
        found[f"{what}, tuned on other videos"] = trial.held_out_f1
    first = replace(observed, probabilities=observed.probabilities[:, :1])
    timelines = Timelines(source.locations, observed.frames)
    alone = tune(timelines, first, labels, DEFAULT, MEMBERS[:1], "member", seed)
    found["ViT and settings, tuned on other videos"] = alone.best.held_out_f1
    write_json(record, {"inputs": inputs, "weights": weights, "scores": found})
    return found


def validation_weights(paths: list[Path], seed: int) -> dict[str, tuple[float, ...]]:
    """Return the weights that are best on the images that validate 04, of those --tune tries.

    paths: validation.csv of each member.
    """
    tables = [pd.read_csv(path).set_index("image") for path in paths]
    truth = tables[0].labels.map(challenge_class)
    images = truth.index[truth >= 0]
    stack = np.stack([table.loc[images, list(BASIC)] for table in tables], axis=1)  # [N, M, 6]

    def f1(weights: tuple[float, ...]) -> float:
        mean = weighted_mean(stack, weight_matrix(weights, paths))
        return macro_f1(truth[images], compound_scores(mean).argmax(axis=1), len(CHALLENGE))

    members = len(paths)
    searches = {
        "weights by member": simplex(members),
        "weights by emotion": dirichlet(members, seed),
    }
    return {what: max(tried, key=f1) for what, tried in searches.items()}


if __name__ == "__main__":
    run_script(main)

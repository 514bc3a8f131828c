#!/usr/bin/env python3
"""Does pretraining help? Single-expression macro-F1 with 02 before 03, and without.

The scripts are run as a user runs them, on a prepared folder; a fold and a seed at a time. Sets
without splits of their own are divided into folds by person, so that every person is judged once,
by a model that has not seen them; sets with splits are judged by theirs, under several seeds. A
score is that of the last epoch: none is chosen by the images that it is judged on. What is finished
is kept; the same command goes on.

With --label-shares the same of fewer labels: 02 sees all faces, 03 the labels of a share of the
persons, in as many steps (--most-epochs at most). With --same-time 03 from random weights trains as
long as 02 and 03 did together, by the seconds that they took: read it on a quiet machine. --encoder
takes one finished run of 02 for all folds, in place of one a fold, and with --same-time one of this
machine; what a fold holds out it must not have seen, so that this is for sets with splits of their
own. With `loss = "softmax"` in the recipe, the accuracy over eight expressions is told too, and the
macro-F1 over the challenge's compounds.

Writes OUT/gain.md, gain.csv and, of several shares, gain.png, and prints the table after each fold.

Examples:
    python benchmarks/pretraining_gain.py --data-dir data/demo
    python benchmarks/pretraining_gain.py --data-dir data-own --longer-epochs 18 --balance
    python benchmarks/pretraining_gain.py --data-dir data/demo --same-time \\
        --label-shares 0.02 0.05 0.1 0.25 1
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import Section, differences, markdown, means, standard_error
from benchmarks.derived_data import keep_labels, training_singles, write_derived
from common.emotions import ADAPTATION_SETS
from common.manifest import read_manifest
from common.pictures import RULE, new_figure, save_figure
from common.script.files import UserError, file_digest, whole_file, write_csv
from common.script.flags import fraction, positive
from common.script.main import run_script
from common.splits import folds

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
    parser.add_argument(
        "--label-shares", type=fraction, nargs="+", default=[1.0], help="1, 1/2, 1/3, … of persons"
    )
    parser.add_argument(
        "--most-epochs", type=positive, default=100, help="of 03, where there are few labels"
    )
    parser.add_argument(
        "--same-time", action="store_true", help="also 03 alone for as long as 02 and 03 together"
    )
    parser.add_argument(
        "--encoder", type=Path, help="model.safetensors of a 02 on the same data, for all folds"
    )
    arguments = parser.parse_args()
    check_encoder(arguments)
    for share in arguments.label_shares:
        if not share or abs(1 / share - round(1 / share)) > 1e-3 / share:
            raise UserError(f"--label-shares {share:g} is none of 1, 1/2, 1/3, 1/4, 0.1, 0.02, ….")
    rows, sections = [], {}
    for fold in range(arguments.folds):
        folder = arguments.out / f"fold-{fold}"
        write_fold(arguments.data_dir, folder, fold, arguments.folds)
        for share in arguments.label_shares:
            made = run_share(arguments, folder, fold, share)
            rows += made
            title = f"Single expressions, macro-F1 over six, {made[0]['epochs']} epochs of 03"
            title += f", labels of {share:.0%} of the persons" if share < 1 else ""
            arms = [(row["arm"], row["row"], None) for row in made]
            sections.setdefault(share, Section(title, arms))
        table = pd.DataFrame(rows)
        text = "\n".join(tables_of(section, table) for section in sections.values())
        print(f"{text}\n({fold + 1} of {arguments.folds} folds)\n", flush=True)
        write_csv(arguments.out / "gain.csv", table, float_format=None)
        with whole_file(arguments.out / "gain.md", "w") as file:
            file.write(text)
        if len(sections) > 1:
            save_curve(arguments.out / "gain.png", table)


def tables_of(section: Section, table: pd.DataFrame) -> str:
    """Return a section as Markdown, and what a loss over eight expressions is measured by too."""
    others = [name for name in ("accuracy", "compounds") if table[name].notna().any()]
    parts = [markdown(section, table)]
    if others:
        parts += [means(section, table, others), differences(section, table, others)]
    return "\n".join(parts)


def run_share(arguments: argparse.Namespace, folder: Path, fold: int, share: float) -> list[dict]:
    """Run every arm on one fold with a share of the labels; return a row of results for each."""
    data = folder / f"labels-{share:g}" if share < 1 else folder
    if share < 1:
        keep_labels(data, folder, share, seed=fold)
    images = int(training_singles(read_manifest(data / "prepared" / "manifest.csv")).sum())
    epochs = min(round(arguments.epochs / share), max(arguments.most_epochs, arguments.epochs))
    # Of each arm: first weights, epochs, and other flags of 03.
    arms = {
        "from random weights": ("none", epochs),
        "from the masked autoencoder": ("mae", epochs),
    }
    if arguments.longer_epochs:
        title = f"from random weights, {arguments.longer_epochs} epochs"
        arms[title] = ("none", arguments.longer_epochs)
    for form in ("sampling", "logit-adjustment") if arguments.balance else ():
        title = f"from random weights, --balance {form}"
        arms[title] = ("none", epochs, "--balance", form)
    found = {arm: score(arguments, folder, data, fold, *a) for arm, a in arms.items()}
    if arguments.same_time:
        where = arguments.encoder.parent if arguments.encoder else folder / "mae"
        both = found["from the masked autoencoder"]["seconds"] + seconds_of(where, "mae")
        longer = epochs_for(both, epochs, found["from random weights"]["seconds"])
        arms["from random weights, for the time of both"] = ("none", longer)
        found["from random weights, for the time of both"] = score(
            arguments, folder, data, fold, "none", longer
        )
    return [
        {
            "row": f"{share:g}: {arm}",
            "world": str(arguments.data_dir),
            "seed": fold,
            "arm": arm,
            "share": share,
            "images": images,
            "epochs": settings[1],
            **found[arm],
        }
        for arm, settings in arms.items()
    ]


def epochs_for(seconds: float, epochs: int, took_s: float) -> int:
    """Return how many epochs fit into a time, where so many took `took_s`; no fewer than these."""
    return max(epochs, round(epochs * seconds / took_s)) if took_s else epochs


def check_encoder(arguments: argparse.Namespace) -> None:
    """Raise UserError for an encoder that is not there, or may have seen what a fold holds out."""
    if not arguments.encoder:
        return
    if not arguments.encoder.is_file():
        raise UserError(f"--encoder {arguments.encoder}: there is no such file.")
    path = arguments.data_dir / "prepared" / "manifest.csv"
    try:
        record = json.loads(arguments.encoder.with_name("run.json").read_text(encoding="utf-8"))
        same = record["settings"]["manifest_sha256"] == file_digest(path)
        same = same and float(record["phases"]["mae"]["seconds"]) >= 0
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(f"--encoder {arguments.encoder}: its run.json does not name {path}.")
    manifest = read_manifest(path)
    judged = (manifest["kind"] != "unlabelled") & ~manifest["dataset"].isin(ADAPTATION_SETS)
    for dataset, rows in manifest[judged].groupby("dataset", observed=True):
        if set(rows["split"]) == {""}:
            raise UserError(
                f"--encoder: {dataset} has no splits of its own, so each fold holds out other "
                "persons, whom the encoder has seen; leave --encoder out."
            )


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


def score(
    arguments: argparse.Namespace,
    folder: Path,
    data: Path,
    seed: int,
    init: str,
    epochs: int,
    *flags: str,
) -> dict[str, float]:
    """Run 03 on `data`, after 02 on the fold where it starts from it.

    Returns the last epoch's macro-F1 as `score`, its accuracy over eight expressions and macro-F1
    over compounds (NaN where 03 has six logits), and the seconds of 03.
    """
    shared = ["--config", arguments.config, "--seed", seed]
    weights = arguments.encoder if init == "mae" else None
    if init == "mae" and not weights:
        execute("02_pretrain_mae.py", *shared, "--data-dir", folder, "--run-dir", folder)
        weights = folder / "mae" / "model.safetensors"
    run = data / "-".join([init, str(epochs), *flags[1:]])
    settings = ["--run-dir", run, "--init", weights or "none", "--epochs", epochs]
    settings += ["--adapt-epochs", 0, "--keep", "last", "--validate-every", epochs]
    execute("03_finetune_single.py", *shared, "--data-dir", data, *settings, *flags)
    table = pd.read_csv(run / "single" / "metrics.csv")
    last = table[table.phase == "single"].iloc[-1]
    return {
        "score": float(last.val_macro_f1),
        "accuracy": float(last.get("val_accuracy", math.nan)),
        "compounds": float(last.get("val_compound_f1", math.nan)),
        "seconds": seconds_of(run / "single", "single"),
    }


def seconds_of(folder: Path, phase: str) -> float:
    """Return how long a phase of a run took, seconds."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record["phases"][phase]["seconds"]


def save_curve(path: Path, table: pd.DataFrame) -> None:
    """Draw the mean and standard error of each arm by the share of the labels."""
    figure, axes = new_figure(6.4, 4.2, 1)
    for (arm, rows), marker in zip(table.groupby("arm", sort=False), "os^Dv", strict=False):
        scores = rows.groupby("share")["score"]
        errors = scores.apply(lambda values: standard_error(values.to_numpy()))
        axes[0].errorbar(scores.mean().index, scores.mean(), errors, marker=marker, label=arm)
    axes[0].set_xscale("log")
    shares = sorted(set(table.share))
    axes[0].set_xticks(shares, [f"{share:.0%}" for share in shares], minor=False)
    axes[0].minorticks_off()
    axes[0].set_xlabel("share of the labels")
    axes[0].set_title("macro-F1 over six emotions", loc="left", fontsize=10, fontweight="bold")
    axes[0].grid(color=RULE, linewidth=0.6)
    axes[0].legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def execute(script: str, *arguments) -> None:
    """Run one of the numbered scripts; raise UserError where it fails."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"{script} failed; the command was {' '.join(command)}")


if __name__ == "__main__":
    run_script(main)

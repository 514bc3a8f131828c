"""The charts of the README and of docs/, which benchmarks/pictures.py draws."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.comparison import interval_95
from common.emotions import CHALLENGE
from common.pictures import BLUE, INK, RULE, new_figure
from common.script.files import whole_file

DOCS = Path(__file__).resolve().parents[1] / "docs"
DPI = 100
FONT = 13  # points: 9 pixels high where a page shows 800 pixels as 400
# Rows of docs/paper_tables.csv, and their names here.
ROWS = {
    "singles": "single expressions only",
    "generated": "+ generated compounds",
    "natural": "+ 80 natural compounds",
    "curriculum": "+ both, from single to\ncompound (the paper)",
    "constant": "+ both, in random order",
    "reversed": "+ both, in reversed order",
}

# Systems of docs/ferplus.csv, and their names here.
SYSTEMS = {"03": "this project", "face-api.js 1.7.15": "face-api.js", "fer 25.10.3": "fer"}
MEASURES = {  # columns of docs/ferplus.csv, and their titles
    "accuracy": "accuracy,\neight expressions",
    "six": "macro-F1,\nsix emotions",
    "seven": "macro-F1,\nseven compounds",
}


def draw_compounds(args: argparse.Namespace, path: Path) -> None:
    """Draw each run of a row as a point, their mean as a bar with its interval, and chance."""
    table = pd.read_csv(DOCS / "paper_tables.csv")
    figure, (axis,) = new_figure(8.0, 4.4, 1)
    figure.set_dpi(DPI)
    for place, row in enumerate(ROWS):
        scores = table[table["row"] == row]
        mean = scores.score.mean()
        axis.barh(place, mean, color=RULE, height=0.72)
        for world, mark in zip(("demo", "demo-1"), "os", strict=True):
            values = scores.score[scores.world == world]
            axis.plot(values, [place + 0.2] * len(values), mark, color=BLUE, markersize=5)
        half = interval_95(scores.score.to_numpy())
        axis.errorbar(mean, place - 0.12, xerr=half, color=INK, capsize=5, linewidth=2, fmt="|")
    axis.axvline(1 / len(CHALLENGE), color=INK, linestyle="--", linewidth=1)
    axis.text(1 / len(CHALLENGE) + 0.006, -0.62, "chance", fontsize=FONT, color=INK)
    axis.set_yticks(range(len(ROWS)), ROWS.values(), fontsize=FONT)
    axis.set_ylim(len(ROWS) - 0.5, -0.95)
    axis.tick_params(axis="x", labelsize=FONT)
    axis.set_xlabel("macro-F1 in the demo; dots and squares: runs in two worlds", fontsize=FONT)
    axis.spines[["top", "right"]].set_visible(False)
    save(drawn(figure), path)


def draw_ferplus(args: argparse.Namespace, path: Path) -> None:
    """Draw the scores on real faces of 03, a point a seed, and of the other networks."""
    table = pd.read_csv(DOCS / "ferplus.csv")
    table = table[table.images == "all"]
    figure, axes = new_figure(8.0, 3.0, len(MEASURES))
    figure.set_dpi(DPI)
    for axis, (measure, title) in zip(axes, MEASURES.items(), strict=True):
        for place, (system, name) in enumerate(SYSTEMS.items()):
            scores = table[table.system == system][measure]
            axis.barh(place, scores.mean(), color=RULE, height=0.72)
            axis.text(0.16, place - 0.14, name, va="center", fontsize=FONT, color=INK)
            axis.text(0.16, place + 0.16, f"{scores.mean():.2f}", va="center", fontsize=FONT)
            axis.plot(scores, [place] * len(scores), "o", color=BLUE, markersize=5)
        chance = table[table.system == "uniform guessing"][measure].item()
        axis.axvline(chance, color=INK, linestyle="--", linewidth=1)
        axis.set(xlim=(0, 1), ylim=(len(SYSTEMS) - 0.5, -0.5), yticks=[], xticks=(0, 0.5, 1))
        axis.set_title(title, fontsize=FONT)
        axis.tick_params(labelsize=FONT)
        axis.spines[["top", "right"]].set_visible(False)
    save(drawn(figure), path)


def draw_curriculum(args: argparse.Namespace, path: Path) -> None:
    """Draw the score of each epoch of 04 over the share of compounds, by sub-stage."""
    table = pd.read_csv(args.run_dir / "curriculum" / "metrics.csv")
    figure, (axis,) = new_figure(8.0, 4.2, 1)
    figure.set_dpi(DPI)
    compounds = table.natural + table.generated
    axis.bar(table.epoch, compounds / (table.single + compounds), width=1, color=RULE)
    scored = table.dropna(subset="val_macro_f1")
    axis.plot(scored.epoch, scored.val_macro_f1, "o-", color=BLUE, linewidth=2.5)
    for stage, rows in table.groupby("stage"):
        middle, last = rows.epoch.mean(), rows.epoch.max()
        axis.text(middle, 1.06, f"sub-stage {stage}", ha="center", fontsize=FONT, color=INK)
        axis.axvline(last + 0.5, color=INK, linestyle=":", linewidth=1)
    axis.text(0.8, 0.36, "macro-F1 on held-out\ncompounds", fontsize=FONT, color=BLUE)
    axis.text(15, 0.9, "share of\ncompounds", ha="center", va="center", fontsize=FONT, color=INK)
    axis.set(xlim=(0.5, len(table) + 0.5), ylim=(0, 1.15), yticks=np.arange(0, 1.01, 0.2))
    axis.tick_params(labelsize=FONT)
    axis.set_xlabel("epoch", fontsize=FONT)
    axis.spines[["top", "right"]].set_visible(False)
    save(drawn(figure), path)


def drawn(figure) -> Image.Image:
    """Return a figure as a picture."""
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG of 128 colours, whole or not at all."""
    with whole_file(path) as file:
        picture.quantize(128, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)

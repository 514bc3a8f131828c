"""Rows of runs beside the paper's values: means, differences with intervals, Markdown, plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from common.pictures import BLUE, INK, RULE, new_figure, save_figure

# Of the runs in a plot, by world: distinct in grey too, and for every kind of colour vision.
MARKS = (("o", BLUE, "dots"), ("s", "#D55E00", "squares"), ("^", "#009E73", "triangles"))


@dataclass(frozen=True)
class Section:
    """A table: rows of label, name of the run, the paper's value; differences are to the first.

    pairs: the rows come two and two, and a difference is to the first of its two.
    """

    title: str
    rows: list[tuple[str, str, float | None]]
    pairs: bool = False


def scores_of(table: pd.DataFrame, run: str, measure: str = "score") -> pd.Series:
    """Return a run's scores by (world, seed). table: columns row, world, seed and the measure."""
    scores = table[table["row"] == run].set_index(["world", "seed"])[measure]
    return scores.astype(float).dropna()


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean, NaN for fewer than two values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def interval_95(values: np.ndarray) -> float:
    """Return half the 95 % interval of the mean (Student's), NaN for fewer than two values."""
    return float(student.ppf(0.975, len(values) - 1)) * standard_error(values)


def difference(scores: pd.Series, reference: pd.Series) -> tuple[float, float, int]:
    """Return the mean difference, half its 95 % interval, and the number of pairs.

    Pairs are runs of the same world and seed; the interval is Student's, of the differences within
    pairs, infinite for a single one.
    """
    both = (scores - reference).dropna().to_numpy()
    if not len(both):
        return float("nan"), float("nan"), 0
    if len(both) == 1:
        return float(both[0]), float("inf"), 1
    return (
        float(both.mean()),
        float(student.ppf(0.975, len(both) - 1) * standard_error(both)),
        len(both),
    )


def markdown(section: Section, table: pd.DataFrame) -> str:
    """Return a section as a Markdown table; rows without a run yet have a dash."""
    paper = any(value for _, _, value in section.rows)
    other = "row above" if section.pairs else "first row"
    lines = [
        f"**{section.title}**",
        "",
        f"| |{' paper |' if paper else ''} ours (mean ± SE) | n | "
        f"difference to the {other} (95 %) |",
    ]
    lines.append("|---|" + ("---|" if paper else "") + "---|---|---|")
    for number, (label, run, value) in enumerate(section.rows):
        scores = scores_of(table, run)
        beside = number - number % 2 if section.pairs else 0
        reference = scores_of(table, section.rows[beside][1])
        cells = [label, *([f"{value:.4f}" if value else ""] if paper else [])]
        cells += [with_error(scores.to_numpy()), str(len(scores))]
        cells += ["" if number == beside else with_interval(*difference(scores, reference))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def means(section: Section, table: pd.DataFrame, measures: Sequence[str]) -> str:
    """Return a section's means and standard errors of several measures, as a Markdown table."""
    lines = [f"**{section.title}**: mean ± SE over runs", ""]
    lines += [f"| | n | {' | '.join(measures)} |", "|---|---|" + "---|" * len(measures)]
    for label, run, _ in section.rows:
        found = [scores_of(table, run, measure).to_numpy() for measure in measures]
        cells = [label, str((table["row"] == run).sum()), *map(with_error, found)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def differences(section: Section, table: pd.DataFrame, measures: Sequence[str]) -> str:
    """Return the differences of each row to the first, or to the one above it, as Markdown."""
    above = "row above" if section.pairs else "first row"
    lines = [f"Difference to the {above} (95 %, paired by seed)", ""]
    lines += [f"| | pairs | {' | '.join(measures)} |", "|---|---|" + "---|" * len(measures)]
    for number, (label, run, _) in enumerate(section.rows):
        beside = section.rows[number - number % 2 if section.pairs else 0][1]
        if beside == run:
            continue
        found = [
            difference(scores_of(table, run, measure), scores_of(table, beside, measure))
            for measure in measures
        ]
        cells = [label, str(max(pairs for *_, pairs in found))]
        cells += [with_interval(*one) for one in found]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def with_error(values: np.ndarray) -> str:
    """Return `mean ± standard error`."""
    if not len(values):
        return "–"
    error = standard_error(values)
    return f"{np.mean(values):.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


def with_interval(mean: float, half: float, pairs: int) -> str:
    """Return `+0.012 (−0.003 to +0.027)`, bold where the interval leaves out 0."""
    if not pairs:
        return "–"
    if np.isinf(half):
        return f"{mean:+.3f} (one pair)"
    text = f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})".replace("-", "−")
    return f"**{text}**" if abs(mean) > half else text


def save_plot(path: Path, sections: list[Section], table: pd.DataFrame) -> None:
    """Draw a panel a section: runs by world, their mean with its interval, the paper's value."""
    rows = sum(len(section.rows) for section in sections)
    figure, axes = new_figure(
        9,
        0.9 * len(sections) + 0.42 * rows,
        len(sections),
        heights=[len(section.rows) for section in sections],
    )
    worlds = table["world"].unique()
    for axis, section in zip(axes, sections, strict=True):
        for place, (_, run, paper) in enumerate(section.rows):
            scores = scores_of(table, run)
            for number, world in enumerate(worlds):
                here = scores[scores.index.get_level_values("world") == world]
                mark, colour, _ = MARKS[number % len(MARKS)]
                below = np.full(len(here), place + 0.18)
                axis.plot(here, below, mark, color=colour, alpha=0.6, markersize=5)
            if len(scores):
                half = interval_95(scores.to_numpy())
                how = {"fmt": "|", "color": INK, "capsize": 3, "markersize": 12, "linewidth": 2}
                axis.errorbar(scores.mean(), place - 0.15, xerr=half, **how)
            if paper:
                axis.plot(paper, place - 0.15, "x", color=INK, markersize=7)
        labels = [label for label, _, _ in section.rows]
        axis.set_yticks(range(len(labels)), labels, fontsize=10)
        axis.set_ylim(len(section.rows) - 0.5, -0.5)
        axis.set_title(section.title, loc="left", fontsize=11, fontweight="bold")
        axis.grid(axis="x", color=RULE, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    where = ", ".join(f"{MARKS[n % len(MARKS)][2]} {world}" for n, world in enumerate(worlds))
    axes[-1].set_xlabel(
        f"macro-F1 (runs: {where};\nbars: mean and 95 % interval; crosses: the paper's, on its own "
        "data)"
    )
    save_figure(figure, path)

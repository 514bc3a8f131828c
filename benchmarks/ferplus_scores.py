"""Scores of answers on FER+ by the protocol of docs/ferplus.md, as rows of one table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.comparison import standard_error
from common.emotions import ADAPTATION, BASIC, RULES
from common.manifest import VOTES
from common.metrics import guessed_f1
from common.raw.votes import RULE, labels_of
from common.script.files import UserError
from common.training.evaluation import COMMON_CLASS, expression_scores

SAMPLES = 200  # of the bootstrap behind a standard error
COUNTED = ("singles", "basic", "compounds")  # keys of expression_scores: numbers of images
# Columns: title, and what it shows of the scores by rule.
FIGURES: dict[str, Callable[[dict], float]] = {
    "accuracy": lambda by: by["sum"]["accuracy"],
    "six": lambda by: by["sum"]["six"],
    "seven": lambda by: by["sum"]["seven"],
    "seven, geometric": lambda by: by["geometric"]["seven"],
    "seven, harmonic": lambda by: by["harmonic"]["seven"],
    "five": lambda by: by["sum"]["five"],
}


def line(name: str, rows: pd.DataFrame, found: np.ndarray, singles: bool = True) -> dict:
    """Return a row of the table: the figures, their standard errors, the numbers of images.

    singles: False where the answers cannot tell Neutral and Contempt.
    """
    labels, random = rows.labels.astype(str).to_numpy(), np.random.default_rng(0)

    def figures(chosen: np.ndarray) -> list[float]:
        by = {rule: expression_scores(labels[chosen], found[chosen], rule) for rule in RULES}
        return [figure(by) for figure in FIGURES.values()]

    draws = [figures(random.integers(0, len(rows), len(rows))) for _ in range(SAMPLES)]
    scores = expression_scores(labels, found)
    values, errors = figures(np.arange(len(rows))), np.std(draws, axis=0, ddof=1)
    if not singles:
        values[0] = np.nan
    if not scores["basic"]:
        values[1] = np.nan
    return {"name": name, "values": values, "errors": errors, "scores": scores}


def guessing(rows: pd.DataFrame) -> dict:
    """Return a row: about the expected scores of uniform guessing on these images.

    Where runs are judged by others, these are the last one's; the notes below the table count them.
    """
    scores = expression_scores(rows.labels.astype(str).tolist(), np.ones((len(rows), 8)))
    support = np.array(scores["support"])
    f1 = guessed_f1(support)
    basic = np.array([(rows.labels == name).sum() for name in BASIC])
    five = f1[support >= COMMON_CLASS].mean() if (support >= COMMON_CLASS).any() else 0.0
    seven = [f1.mean()] * len(RULES)
    six = guessed_f1(basic).mean() if basic.any() else np.nan
    values = np.array([1 / len(ADAPTATION), six, *seven, five])
    errors = np.full(len(values), np.nan)
    return {"name": "uniform guessing", "values": values, "errors": errors, "scores": scores}


def ceiling(rows: pd.DataFrame, shares: np.ndarray, draws: int = 100) -> dict:
    """Return a row: what the true shares of votes would score, were they these.

    shares: float [n, 8]. As many votes as an image has are drawn by them and make its label, by
    RULE and without votes for what is no expression; the answers are the shares themselves. Values
    are means over the draws, errors their standard deviations, and so are the numbers of images.
    Raises UserError where an image has no count of votes.
    """
    counted = rows[VOTES].str.fullmatch(r"\d+( \d+)*") if VOTES in rows else rows.image.isna()
    if not counted.all():
        image = rows.image[~counted].iloc[0]
        raise UserError(f"--ceiling needs counts of votes; {image} of the manifest has none.")
    asked = [sum(map(int, text.split())) for text in rows[VOTES]]
    random, drawn, numbers = np.random.default_rng(0), [], []
    for _ in range(draws):
        votes = random.multinomial(asked, shares / shares.sum(1, keepdims=True))
        labels = [" ".join(labels_of(one, RULE)) for one in votes.tolist()]
        by = {rule: expression_scores(labels, shares, rule) for rule in RULES}
        drawn.append([figure(by) for figure in FIGURES.values()])
        numbers.append([by["sum"][key] for key in COUNTED])
    values, errors = np.mean(drawn, axis=0), np.std(drawn, axis=0, ddof=1)
    scores = dict(zip(COUNTED, np.mean(numbers, axis=0).round().astype(int).tolist(), strict=True))
    scores["support"] = "mean of the draws"
    name = "were its answers all people's shares of votes"
    return {"name": name, "values": values, "errors": errors, "scores": scores}


def figures_of(one: dict) -> dict:
    """Return a row's name and figures as plain JSON values, None for what it does not have."""
    values = (None if np.isnan(value) else float(value) for value in one["values"])
    return {"name": one["name"], **dict(zip(FIGURES, values, strict=True))}


def mean_line(lines: list[dict]) -> dict:
    """Return the mean of runs, with the standard error over them."""
    values = np.array([one["values"] for one in lines])
    errors = [standard_error(column) for column in values.T]
    return {
        "name": f"mean of {len(lines)} runs",
        "values": values.mean(0),
        "errors": errors,
        "scores": lines[0]["scores"],
    }


def table(lines: list[dict]) -> str:
    """Return the rows as Markdown, with the numbers of images below."""
    header, *rest = cells(lines)
    rows = [header, ["---"] * len(header), *rest]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", *notes(lines)]) + "\n"


def cells(lines: list[dict]) -> list[list[str]]:
    """Return the cells of the table, the titles of its columns first."""
    rows = [["", *FIGURES]]
    for one in lines:
        pairs = zip(one["values"], one["errors"], strict=True)
        shown = [f"{value:.3f} ± {error:.3f}".replace(" ± nan", "") for value, error in pairs]
        rows.append([one["name"], *("–" if text.startswith("nan") else text for text in shown)])
    return rows


def notes(lines: list[dict]) -> list[str]:
    """Return a line on the numbers of images of each row."""
    return [
        f"{one['name']}: n = {one['scores']['singles']:,} (accuracy), {one['scores']['basic']:,} "
        f"(six), {one['scores']['compounds']:,} compounds: {one['scores']['support']}"
        for one in lines
    ]

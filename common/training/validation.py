"""What 03 and 04 say about the images they did not train on: predictions kept, scores by class."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from common.emotions import BASIC, CHALLENGE, challenge_class, compound_scores, multi_hot
from common.metrics import emotion_scores, macro_f1, summarise
from common.pictures import save_confusion
from common.script.files import whole_file

# Probability from which an emotion counts as shown: the logits of balanced MSE aim at 0 and 1.
THRESHOLDS = {"bce": 0.5, "bmc": float(expit(0.5))}


def compound_f1(truth: np.ndarray, logits: np.ndarray) -> float:
    """Return the macro-F1 over the seven (eq. 2) of the paper's rule, from logits [n, 6]."""
    return macro_f1(truth, compound_scores(expit(logits)).argmax(1), len(CHALLENGE))


def chosen_on_test(rows: pd.DataFrame) -> str:
    """Say, or "", that the rows which choose the epoch are of owners' test splits.

    So it is with sets that have no `val` split, as RAF-DB.
    """
    sets = sorted(set(rows.dataset[rows.split == "test"].astype(str)))
    named = f"the epoch is chosen on the test split of {', '.join(sets)}: no test score"
    return named if sets else ""


def prediction_table(rows: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """Return image, labels, group (person or video) and the six probabilities of manifest rows."""
    subject = np.where(rows["subject"] == "", rows["image"], rows["subject"])
    table = {
        "image": rows["image"].to_numpy(),
        "labels": rows["labels"].astype(str).to_numpy(),
        "group": rows["dataset"].astype(str).to_numpy() + "/" + subject.astype(str),
    }
    return pd.DataFrame({**table, **dict(zip(BASIC, expit(logits).T, strict=True))})


def score_predictions(
    predictions: pd.DataFrame, names: Sequence[str], threshold: float, seed: int
) -> dict:
    """Score a table of prediction_table by class, and by emotion: plain JSON values.

    names: CHALLENGE, decided by the paper's rule, or BASIC, the most probable emotion. threshold:
    of the probability from which an emotion counts as shown.
    """
    probabilities = predictions[list(BASIC)].to_numpy()
    shown = np.stack([multi_hot(text) for text in predictions["labels"]]) > 0
    if names is CHALLENGE:
        truth = predictions["labels"].map(challenge_class).to_numpy()
        answers = compound_scores(probabilities).argmax(1)
    else:
        truth, answers = shown.argmax(1), probabilities.argmax(1)
    groups = predictions["group"].to_numpy()
    return {
        "classes": list(names),
        **summarise(truth, answers, groups, len(names), seed=seed),
        "emotions": {"names": list(BASIC), **emotion_scores(shown, probabilities, threshold)},
    }


def save_validation(
    path: Path,
    predictions: pd.DataFrame,
    names: Sequence[str],
    args: argparse.Namespace,
    say: Callable[[str], None],
) -> None:
    """Keep predictions in `path`; say their score; report.json and confusion.png beside it.

    names: as for score_predictions. args: 03's or 04's settings.
    """
    score = score_predictions(predictions, names, THRESHOLDS[args.loss], args.seed)
    with whole_file(path, "w") as file:
        predictions.to_csv(file, index=False, float_format="%.6f")
    with whole_file(path.with_name("report.json"), "w") as file:
        json.dump(score, file, indent=2)
    save_confusion(
        path.with_name("confusion.png"), np.array(score["confusion"]), names, "Validation"
    )
    say_score(score, say)


def say_score(score: dict, say: Callable[[str], None]) -> None:
    """Print a score: the figure, its interval, and one line a class and an emotion."""
    interval = score["interval"]
    between = f"95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else "no interval"
    say(
        f"validation macro-F1 {score['macro_f1']:.4f} ({between}; {score['frames']:,} images, "
        f"{score['groups']:,} persons or videos)"
    )
    columns = ("precision", "recall", "f1", "support", "predicted")
    say(f"{'':24}" + "".join(f"{column:>11}" for column in columns))
    for index, name in enumerate(score["classes"]):
        values = [score[column][index] for column in columns]
        cells = (f"{v:>11,}" if isinstance(v, int) else f"{v:>11.3f}" for v in values)
        say(f"  {name:22}" + "".join(cells))
    emotions = score["emotions"]
    each = zip(emotions["names"], emotions["f1"], emotions["average_precision"], strict=True)
    say(
        f"emotions: mean F1 {np.mean(emotions['f1']):.3f} at a probability of "
        f"{emotions['threshold']:.2f}, mean average precision "
        f"{np.mean(emotions['average_precision']):.3f}; F1, average precision of "
        + ", ".join(f"{name} {f1:.2f} {ap:.2f}" for name, f1, ap in each)
    )

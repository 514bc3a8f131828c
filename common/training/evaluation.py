"""How good a network is on the images held out from training: predictions, scores, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from torch import nn

from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.emotions import BASIC, CHALLENGE, challenge_class, compound_scores, multi_hot
from common.metrics import emotion_scores, macro_f1, summarise
from common.pictures import save_confusion
from common.script import signals
from common.script.files import UserError, write_csv, write_json
from common.training.runs import Run


@torch.no_grad()
def predict(
    run: Run,
    network: nn.Module,
    store: ImageStore,
    outputs: int,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    what: str = "validation",
) -> np.ndarray:
    """Return the network's outputs for a store's images, float32 [n, outputs], in every process.

    prepare: uint8 [b, 3, S, S] on the device → the network's input. Each image is computed once,
    by one process. what: names the images in an error. Raises UserError where a file cannot be
    read: a score over fewer images than are labelled would be another score.
    """
    accelerator = run.accelerator
    accelerator.unwrap_model(network).eval()
    results = torch.zeros((len(store), outputs), device=accelerator.device)
    mine = np.arange(len(store))[accelerator.process_index :: accelerator.num_processes]
    batches = evaluation_batches(
        store, run.settings["image_size"], 4 * run.batch_size, run.workers, mine
    )
    for positions, images, valid in batches:
        if not valid.all():
            lost = store.path(int(positions[~valid][0]))
            raise UserError(
                f"The {what} image {lost} cannot be read; run 01_prepare_data.py again."
            )
        with accelerator.autocast(), run.uncompiled():
            output = accelerator.unwrap_model(network)(prepare(images.to(accelerator.device)))
        results[positions.to(accelerator.device)] = output.float()
    with signals.deferred():  # raised where the loader is deleted, a signal would be lost
        del batches
    return accelerator.reduce(results, "sum").cpu().numpy()


def compound_f1(truth: np.ndarray, logits: np.ndarray) -> float:
    """Return the macro-F1 over the seven (eq. 2) of the paper's rule, from logits [n, 6]."""
    return macro_f1(truth, compound_scores(expit(logits)).argmax(1), len(CHALLENGE))


def chosen_on_test(rows: pd.DataFrame) -> str:
    """Return a warning where the rows that choose the epoch are of test splits, else "".

    This is so for sets without a `val` split, such as RAF-DB.
    """
    sets = sorted(set(rows.dataset[rows.split == "test"].astype(str)))
    named = f"the epoch is chosen on the test split of {', '.join(sets)}: no test score"
    return named if sets else ""


def prediction_table(rows: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """Return image, labels, group (person or video) and six probabilities of manifest rows.

    logits: float [n, 6].
    """
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
    """Score a table of prediction_table by class, and by emotion, as plain JSON values.

    names: CHALLENGE, decided by the paper's rule, or BASIC, the most probable emotion. threshold:
    the probability from which an emotion counts as shown.
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
    *,
    threshold: float,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Write predictions to `path`, with report.json and confusion.png beside it; print the score.

    names, threshold: as for score_predictions. seed: of the confidence interval.
    """
    score = score_predictions(predictions, names, threshold, seed)
    write_csv(path, predictions, "%.6f")
    write_json(path.with_name("report.json"), score)
    confusion = np.array(score["confusion"])
    save_confusion(path.with_name("confusion.png"), confusion, names, "Validation")
    say_score(score, say)


def say_score(score: dict, say: Callable[[str], None]) -> None:
    """Print a score: macro-F1 with its interval, a line for each class, a line for the emotions."""
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

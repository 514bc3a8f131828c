"""How good a network is on the images held out from training: predictions, scores, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, softmax
from torch import nn

from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.emotions import (
    ADAPTATION,
    BASIC,
    CHALLENGE,
    challenge_class,
    compound_scores,
    multi_hot,
)
from common.metrics import (
    emotion_scores,
    f1_per_class,
    macro_f1,
    single_emotion_f1,
    summarise,
)
from common.networks.weights import track_of
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
    # Without a gradient there is room for more; but every worker shall have a share.
    size = min(4 * run.batch_size, max(1, -(-len(mine) // max(1, run.workers))))
    batches = evaluation_batches(store, run.settings["image_size"], size, run.workers, mine)
    for positions, images, valid in batches:
        if not valid.all():
            lost = store.path(int(positions[~valid][0]))
            raise UserError(
                f"The {what} image {lost} cannot be read; run 01_prepare_data.py again."
            )
        with accelerator.autocast(), run.uncompiled():
            images = images.to(accelerator.device, non_blocking=True)
            output = accelerator.unwrap_model(network)(prepare(images))
        results[positions.to(accelerator.device, non_blocking=True)] = output.float()
    with signals.deferred():  # raised where the loader is deleted, a signal would be lost
        del batches
    return accelerator.reduce(results, "sum").cpu().numpy()


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, [n, C]: six logits have a sigmoid each, eight share a softmax."""
    return expit(logits) if logits.shape[1] == len(BASIC) else softmax(logits, axis=1)


def compound_f1(truth: np.ndarray, logits: np.ndarray) -> float:
    """Return the macro-F1 over the seven (eq. 2) of the paper's rule, from logits [n, 6 or 8]."""
    scores = compound_scores(probabilities_of(logits)[:, : len(BASIC)])
    return macro_f1(truth, scores.argmax(1), len(CHALLENGE))


def single_figures(labels: pd.Series, logits: np.ndarray) -> dict[str, float]:
    """Return the validation figures of an epoch of 03: val_macro_f1, over singles of the six.

    labels: of the manifest, [n]. logits: [n, 6], or [n, 8]: then also val_accuracy, over singles of
    all eight expressions, and val_compound_f1, over the challenge's seven, where there are some.
    """
    names = labels.astype(str).to_numpy()
    basic = np.isin(names, BASIC)
    truth = np.array([BASIC.index(name) for name in names[basic]], dtype=np.int64)
    figures = {"val_macro_f1": single_emotion_f1(truth, logits[basic, : len(BASIC)])}
    if logits.shape[1] == len(ADAPTATION):
        scores = expression_scores(names, probabilities_of(logits))
        figures["val_accuracy"] = scores["accuracy"]
        if scores["compounds"]:
            figures["val_compound_f1"] = scores["seven"]
    return figures


# A class with fewer images than this has an F1 of little meaning.
COMMON_CLASS = 10


def expression_scores(
    labels: Sequence[str], probabilities: np.ndarray, rule: str = "sum"
) -> dict[str, float | int | list]:
    """Score answers about singles of eight expressions and about compounds, as plain JSON values.

    labels: of the manifest, [n]; others than these two kinds do not count. probabilities: float
    [n, 8], order of ADAPTATION. rule: of compound_scores. Keys: `accuracy` over `singles` images
    of the eight; `six`, macro-F1 over the six emotions, the most probable of the six being the
    answer, over `basic` images; `seven`, macro-F1 over the challenge's seven (a class without an
    image counts 0) over `compounds` images, `f1` and `support` by class; `present`, its mean over
    the classes that have images; `five`, over those that have ten or more (five in FERPlus).
    """
    names = np.asarray(labels, dtype=object)
    single, basic = np.isin(names, ADAPTATION), np.isin(names, BASIC)
    eight = np.array([ADAPTATION.index(name) for name in names[single]], dtype=np.int64)
    six = np.array([BASIC.index(name) for name in names[basic]], dtype=np.int64)
    seven = np.array([challenge_class(name) for name in names], dtype=np.int64)
    compound = seven >= 0
    emotions = probabilities[:, : len(BASIC)]
    answers = compound_scores(emotions[compound], rule).argmax(1)
    f1 = f1_per_class(seven[compound], answers, len(CHALLENGE))
    support = np.bincount(seven[compound], minlength=len(CHALLENGE))

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else 0.0

    return {
        "accuracy": mean(probabilities[single].argmax(1) == eight),
        "singles": int(single.sum()),
        "six": single_emotion_f1(six, emotions[basic]),
        "basic": int(basic.sum()),
        "seven": float(f1.mean()),
        "present": mean(f1[support > 0]),
        "five": mean(f1[support >= COMMON_CLASS]),
        "compounds": int(compound.sum()),
        "f1": f1.tolist(),
        "support": support.tolist(),
    }


def chosen_on_test(rows: pd.DataFrame) -> str:
    """Return a warning where the rows that choose the epoch are of test splits, else "".

    This is so for sets without a `val` split, such as RAF-DB.
    """
    sets = sorted(set(rows.dataset[rows.split == "test"].astype(str)))
    named = f"the epoch is chosen on the test split of {', '.join(sets)}: no test score"
    return named if sets else ""


def prediction_table(rows: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """Return image, labels, group (person or video) and the probabilities of manifest rows.

    An image of an unknown person is a group of its own, named after the image.
    logits: float [n, 6] or [n, 8]; the last columns are named after the expressions.
    """
    subject = np.where(rows["subject"] == "", rows["image"], rows["subject"])
    table = {
        "image": rows["image"].to_numpy(),
        "labels": rows["labels"].astype(str).to_numpy(),
        "group": rows["dataset"].astype(str).to_numpy() + "/" + subject.astype(str),
    }
    names = ADAPTATION[: logits.shape[1]]
    return pd.DataFrame({**table, **dict(zip(names, probabilities_of(logits).T, strict=True))})


def score_predictions(
    predictions: pd.DataFrame, names: Sequence[str], threshold: float, seed: int
) -> dict:
    """Score a table of prediction_table by class, and by emotion, as plain JSON values.

    names: CHALLENGE, decided by the paper's rule, or BASIC, the most probable emotion; rows of
    other labels do not count. threshold: the probability from which an emotion counts as shown.
    With eight probabilities `expressions` holds the expression_scores of all rows;
    `persons_unknown` is the number of images that are a group of their own, see prediction_table.
    """
    eight = {}
    if ADAPTATION[-1] in predictions:
        everything = predictions[list(ADAPTATION)].to_numpy()
        eight = {"expressions": expression_scores(predictions["labels"], everything)}
        known = predictions["labels"].map(challenge_class) >= 0
        predictions = predictions[
            known if names is CHALLENGE else predictions["labels"].isin(names)
        ]
    probabilities = predictions[list(BASIC)].to_numpy()
    shown = (
        np.array([multi_hot(text) for text in predictions["labels"]]).reshape(-1, len(BASIC)) > 0
    )
    if names is CHALLENGE:
        truth = predictions["labels"].map(challenge_class).to_numpy()
        answers = compound_scores(probabilities).argmax(1)
    else:
        truth, answers = shown.argmax(1), probabilities.argmax(1)
    groups = predictions["group"].to_numpy()
    named = zip(predictions["image"], predictions["group"], strict=True)
    return {
        "classes": list(names),
        **summarise(truth, answers, groups, len(names), seed=seed),
        "persons_unknown": sum(group.endswith(f"/{image}") for image, group in named),
        "emotions": {"names": list(BASIC), **emotion_scores(shown, probabilities, threshold)},
        **eight,
    }


def save_validation(
    path: Path,
    predictions: pd.DataFrame,
    names: Sequence[str],
    *,
    threshold: float,
    settings: Mapping,
    say: Callable[[str], None],
) -> None:
    """Write predictions to `path`, with report.json and confusion.png beside it; print the score.

    names, threshold: as for score_predictions. settings: of the run, for seed and track.
    """
    score = score_predictions(predictions, names, threshold, settings["seed"])
    write_csv(path, predictions, "%.6f")
    write_json(path.with_name("report.json"), {"track": track_of(settings), **score})
    confusion = np.array(score["confusion"])
    save_confusion(path.with_name("confusion.png"), confusion, names, "Validation")
    say_score(score, say)


def say_score(score: dict, say: Callable[[str], None]) -> None:
    """Print a score: macro-F1 with its interval, a line for each class, a line for the emotions."""
    interval = score["interval"]
    between = f"95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else "no interval"
    unknown = score["persons_unknown"]
    persons = score["groups"] - unknown
    of = [f"of {persons:,} persons or videos"] * (persons > 0)
    of += [f"{unknown:,} of unknown persons" if persons else "persons unknown"] * (unknown > 0)
    say(
        f"validation macro-F1 {score['macro_f1']:.4f} ({between}; {score['frames']:,} images, "
        f"{', '.join(of) or 'none'})"
    )
    if (seen := sum(map(bool, score["support"]))) < len(score["classes"]):
        say(f"at most {seen / len(score['classes']):.3f}, as a class without an image counts 0")
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
    if scores := score.get("expressions"):
        say(describe_expressions(scores))


def describe_expressions(scores: dict) -> str:
    """Return expression_scores as a sentence, without those of which there is no image."""
    parts = []
    if scores["singles"]:
        parts.append(f"accuracy {scores['accuracy']:.3f} over {scores['singles']:,} singles")
    if scores["basic"]:
        parts.append(f"macro-F1 over six emotions {scores['six']:.3f} ({scores['basic']:,} images)")
    if scores["compounds"]:
        present = sum(number > 0 for number in scores["support"])
        common = sum(number >= COMMON_CLASS for number in scores["support"])
        parts.append(
            f"over the seven compounds {scores['seven']:.3f} ({scores['compounds']:,} images), "
            f"over the {present} that have images {scores['present']:.3f}"
            + f", over the {common} that have {COMMON_CLASS} or more {scores['five']:.3f}"
            * (common > 0)
        )
    return "eight expressions: " + "; ".join(parts or ["no image"])

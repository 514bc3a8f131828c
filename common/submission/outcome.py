"""What a prediction leaves beside the submission: score, warnings, records, the words printed."""

from __future__ import annotations

import filecmp
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from common.emotions import CHALLENGE
from common.metrics import divergence, summarise
from common.script.files import UserError, whole_file
from common.submission.decision import PUBLISHED, Timelines
from common.submission.files import read_truth

# Files of an earlier run that the next one may not make again.
_OPTIONAL = ("score.json", "frame_list.txt")


def clear(folder: Path) -> None:
    """Remove what an earlier submission may have left in the folder and this one may not write."""
    for name in _OPTIONAL:
        (folder / name).unlink(missing_ok=True)


def keep_earlier(folder: Path) -> Path | None:
    """Keep an earlier submission, and the record of its run, under the next free number.

    Returns the kept file, which may be there already; None where there was no submission.
    """
    now = folder / "predictions.txt"
    if not now.is_file():
        return None
    for path in sorted(folder.glob("predictions-*.txt")):
        if filecmp.cmp(path, now, shallow=False):
            return path
    number = next(n for n in itertools.count(1) if not (folder / f"predictions-{n}.txt").exists())
    for path in (folder / "run.json", now):
        if path.is_file():
            with whole_file(path.with_stem(f"{path.stem}-{number}")) as file:
                file.write(path.read_bytes())
    return folder / f"predictions-{number}.txt"


def settle(earlier: Path | None, now: Path) -> str:
    """Say, or "", where a submission is kept that differs from the new one; else delete it."""
    if earlier is None:
        return ""
    if not filecmp.cmp(earlier, now, shallow=False):
        return f"earlier    {earlier}, which differs"
    number = earlier.stem.removeprefix("predictions-")
    for path in (earlier, earlier.with_name(f"run-{number}.json")):
        path.unlink(missing_ok=True)
    return ""


def unseen_text(lost: set[str], table: pd.DataFrame) -> str:
    """Say in a line, or "", what became of the videos that are missing or cannot be read."""
    if not lost:
        return ""
    named = ", ".join(sorted(lost)[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    if frames := int(table["video"].isin(lost).sum()):
        fate = f"frames that have nothing but the most frequent class: {frames:,}"
    else:
        fate = "no list names their frames, so that the submission is without them"
    return f"not seen   videos missing or unreadable: {named}; {fate}"


def class_counts(table: pd.DataFrame) -> np.ndarray:
    """Return how many frames each class was given: int [7]."""
    return np.bincount(table["decision"], minlength=len(CHALLENGE))


def warnings_of(table: pd.DataFrame, timelines: Timelines) -> list[str]:
    """Return what a user should know before handing this in."""
    likeliest = CHALLENGE[int(PUBLISHED.argmax())]
    warnings = [
        f"Video {name} has no frame with a face: its frames get the database's most frequent "
        f"class, {likeliest}."
        for name in timelines.faceless
    ]
    if len(table) > 1 and table["decision"].nunique() == 1:
        warnings.append(
            f"All {len(table):,} frames get one class, {CHALLENGE[table['decision'].iloc[0]]}: "
            "the classifier may not have learned, or not see faces."
        )
    return warnings


def score(
    path: Path | None, locations: list[str], table: pd.DataFrame, seed: int
) -> tuple[np.ndarray | None, dict | None, str]:
    """Score the frames whose truth is known.

    path: of the truth table, or None. Returns the truth, int [N], class or -1, the score as
    `metrics.summarise` gives it, and why there is none although a truth was named, or "". Its
    not_test counts the frames marked train or val, on which settings may have been tuned.
    """
    if path is None:
        return None, None, ""
    try:
        known = read_truth(path)
    except UserError as error:
        return None, None, str(error)
    truth = np.array([known[place].label if place in known else -1 for place in locations])
    scored = truth >= 0
    if not scored.any():
        return None, None, f"{path} has a label for none of the predicted frames."
    decision, videos = table["decision"].to_numpy()[scored], table["video"].to_numpy()[scored]
    summary = summarise(truth[scored], decision, videos, len(CHALLENGE), seed=seed)
    places = (place for place, one in zip(locations, scored, strict=True) if one)
    summary["not_test"] = sum(known[place].split in ("train", "val") for place in places)
    return truth, summary, ""


def summary_of(table: pd.DataFrame) -> dict:
    """Return the figures of a submission that need no truth, for run.json."""
    return {
        "frames": len(table),
        "frames_without_face": int((table["face"] == 0).sum()),
        "class_counts": class_counts(table).tolist(),
        "divergence_nats": divergence(class_counts(table), PUBLISHED),
    }


def distribution_text(counts: np.ndarray) -> str:
    """Return the predicted shares beside the published ones, and what their divergence means."""
    lines = [f"{'class':<24}{'predicted':>10}{'published':>10}"]
    for name, share, published in zip(CHALLENGE, counts / counts.sum(), PUBLISHED, strict=True):
        lines.append(f"{name.replace('_', ' '):<24}{share:>9.1%}{published:>10.1%}")
    nats = divergence(counts, PUBLISHED)
    return "\n".join(
        [
            *lines,
            f"Kullback-Leibler divergence {nats:.3f} nats (information in units of the natural "
            "logarithm; 0: the same shares):",
            f"the class of a frame is, on geometric average, {np.exp(nats):.2f} times as frequent "
            "here as in the whole database.",
        ]
    )


def score_text(score: dict) -> str:
    """Return the macro-F1 and its interval in one line."""
    where = f"{score['frames']:,} frames of {score['groups']} videos"
    if not score["interval"]:
        where = f"no interval: {score['frames']:,} frames of one video"
    else:
        where = "95 % interval {:.4f} to {:.4f}, {}".format(*score["interval"], where)
    if score["not_test"]:
        where += f"; {score['not_test']:,} of them marked train or val: no test score"
    return f"macro-F1 {score['macro_f1']:.4f} ({where})"


def write_json(path: Path, content: dict) -> None:
    """Write a record, whole or not at all."""
    with whole_file(path, "w") as file:
        json.dump(content, file, indent=2)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole_file(path, "w") as file:
        table.to_csv(file, index=False, float_format="%.6f")

"""How good a submission is: by the shares of its classes, and by the truth where it is known."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pandas as pd

from common.emotions import CHALLENGE
from common.metrics import divergence, summarise
from common.script.files import UserError, some, write_csv
from common.submission.decision import PUBLISHED, Timelines
from common.submission.tracks import leave_out
from common.submission.truth import read_truth

NAMES = tuple(name.replace("_", " ") for name in CHALLENGE)


def score(
    path: Path | None,
    videos: dict[str, Path] | None,
    table: pd.DataFrame,
    seed: int,
    seen: set[str],
) -> tuple[np.ndarray | None, dict | None, str]:
    """Score the frames whose truth is known.

    path: of the truth, or None. videos: as of `read_truth`. table: of `decision.decide`,
    N rows. seen: videos that are not scored, see `tracks`. Returns the truth, int [N], class or
    -1; the score as `metrics.summarise` gives it, with not_test, the number of frames marked train
    or val, on which settings may have been tuned; and the reason why there is no score although a
    truth was named, or "".
    """
    if path is None:
        return None, None, ""
    try:
        known = leave_out(read_truth(path, videos), seen, path)
    except UserError as error:
        return None, None, str(error)
    locations = table["image_location"]
    truth = np.array([known[place].label if place in known else -1 for place in locations])
    scored = truth >= 0
    if not scored.any():
        return None, None, f"{path} has a label for none of the predicted frames."
    decision, videos = table["decision"].to_numpy()[scored], table["video"].to_numpy()[scored]
    summary = summarise(truth[scored], decision, videos, len(CHALLENGE), seed=seed)
    summary["not_test"] = sum(known[place].split in ("train", "val") for place in locations[scored])
    return truth, summary, ""


def score_text(score: dict) -> str:
    """Return the macro-F1 and its interval in one line."""
    where = f"{score['frames']:,} frames of {score['groups']} videos"
    if not score["interval"]:
        where = f"no interval: {score['frames']:,} frames of one video"
    else:
        where = "95 % interval {:.4f} to {:.4f}, {}".format(*score["interval"], where)
    if score["not_test"]:
        where += f"; {score['not_test']:,} of them marked train or val: not a test score"
    return f"macro-F1 {score['macro_f1']:.4f} ({where})"


def class_counts(table: pd.DataFrame) -> np.ndarray:
    """Return the number of frames of each class: int [7]."""
    return np.bincount(table["decision"], minlength=len(CHALLENGE))


def summary_of(
    table: pd.DataFrame, undecoded: dict[str, int], warnings: list[str], seconds: float
) -> dict:
    """Return the figures of a submission that need no truth, for run.json.

    undecoded: of `sources.undecoded`. seconds: since the start of the script.
    """
    return {
        "frames": len(table),
        "frames_without_face": int((table["face"] == 0).sum()) - sum(undecoded.values()),
        "frames_not_decoded": sum(undecoded.values()),
        "class_counts": class_counts(table).tolist(),
        "divergence_nats": divergence(class_counts(table), PUBLISHED),
        "warnings": warnings,
        "wall_s": round(seconds, 1),
        "frames_per_s": round(len(table) / seconds, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def summary_text(table: pd.DataFrame, summary: dict, unseen: set[str], kept: str) -> str:
    """Return what 05 prints about a submission: class shares beside the published ones, counts.

    summary: of `summary_of`. unseen: videos that are missing or cannot be read. kept: a line about
    an earlier submission, or "".
    """
    lines = [f"{'class':<24}{'predicted':>10}{'published':>10}"]
    counts, nats = class_counts(table), summary["divergence_nats"]
    for name, share, published in zip(NAMES, counts / counts.sum(), PUBLISHED, strict=True):
        lines.append(f"{name:<24}{share:>9.1%}{published:>10.1%}")
    lines += [
        f"Kullback-Leibler divergence {nats:.3f} nats (0: the same shares)",
        f"predicted {len(table):,} frames of {table['video'].nunique():,} videos, "
        f"{summary['frames_without_face']:,} of them without a face and "
        f"{summary['frames_not_decoded']:,} missing from their video or unreadable, at "
        f"{summary['frames_per_s']:.3g} frames/s with start-up",
    ]
    if unseen:
        named = some(sorted(unseen))
        fate = "no list names their frames, so the submission does not contain them"
        if frames := int(table["video"].isin(unseen).sum()):
            fate = f"{frames:,} frames have nothing but the most frequent class"
        lines.append(f"not seen   videos missing or unreadable: {named}; {fate}")
    return "\n".join([*lines, kept] if kept else lines)


def write_probabilities(path: Path, table: pd.DataFrame) -> None:
    """Write the table of `decision.decide` as CSV; image_location stands for video and frame.

    A video column would read back as a number: `01` as 1.
    """
    write_csv(path, table.drop(columns=["video", "frame"]), "%.6f")


def warnings_of(table: pd.DataFrame, timelines: Timelines, undecoded: dict[str, int]) -> list[str]:
    """Return what a user should know before submitting this."""
    warnings = [
        f"Video {name} has no frame with a face: its frames get the database's most frequent "
        f"class, {CHALLENGE[int(PUBLISHED.argmax())]}."
        for name in timelines.faceless
    ]
    if len(table) > 1 and table["decision"].nunique() == 1:
        warnings.append(
            f"All {len(table):,} frames get the same class, {table['class_name'].iloc[0]}: the "
            "classifier may not have learned, or may not see faces."
        )
    if undecoded:
        named = ", ".join(f"{count:,} of {video}" for video, count in sorted(undecoded.items()))
        warnings.append(f"Frames that are missing from their video or unreadable: {named}.")
    return warnings

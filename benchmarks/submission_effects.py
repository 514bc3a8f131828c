#!/usr/bin/env python3
"""What smoothing, averaging of networks and test-time augmentation add to the macro-F1.

Draws worlds of labelled videos (the demo's, other people), predicts them once by each network with
all its views of a face (mirrored, moved), and prints the macro-F1 of each way to decide, mean ±
standard error over worlds. What was drawn is kept in OUT and used again.

Examples:
    python benchmarks/submission_effects.py --checkpoints runs/demo/curriculum
    python benchmarks/submission_effects.py --checkpoints runs/a/curriculum runs/b/curriculum
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.demo.settings import Settings
from common.demo.videos import plan_videos, truth_table, write_video
from common.emotions import CHALLENGE
from common.hardware import default_precision
from common.metrics import macro_f1
from common.script.files import whole_file
from common.script.main import run_script
from common.submission.decision import Decision, Timelines, decide
from common.submission.ensemble import find_checkpoints, load_ensemble
from common.submission.sources import frames_to_decide, observe, open_source
from common.submission.truth import read_truth

SHIFT = 0.03
PLAIN = Decision(smooth="none")
DEFAULT = Decision(smooth="median", smooth_width=25)  # as 05's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True)
    parser.add_argument("--worlds", type=int, nargs="+", default=[101, 102, 103], help="seeds")
    parser.add_argument("--out", type=Path, default=Path("runs/effects"))
    arguments = parser.parse_args()
    checkpoints = find_checkpoints(arguments.checkpoints)
    rows: dict[str, list[float]] = {}
    for seed in arguments.worlds:
        folder = arguments.out / f"world-{seed}"
        draw(folder, seed)
        for name, f1 in effects(folder, checkpoints).items():
            rows.setdefault(name, []).append(f1)
    print(f"macro-F1 on {len(arguments.worlds)} worlds, mean ± standard error")
    reference = np.array(rows["smooth none"])
    for name, values in rows.items():
        gain = np.array(values) - reference
        print(f"{name:<32} {_spread(np.array(values))}   {_spread(gain, sign='+')}")


def draw(folder: Path, seed: int) -> None:
    """Draw a world's videos, with a truth whose frames may be tuned on, unless they are there."""
    settings, truth = Settings(seed=seed), folder / "truth.csv"
    if truth.is_file():
        return
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    videos = plan_videos(settings)
    for video in videos:
        write_video(settings, folder / "videos" / f"{video.name}.mp4", video)
    header, *lines = truth_table(videos).splitlines()
    with whole_file(truth, "w") as file:  # last: it says that all is drawn
        file.write("\n".join([f"{header},split", *(f"{line},val" for line in lines)]) + "\n")


def effects(folder: Path, checkpoints: list[Path]) -> dict[str, float]:
    """Return the macro-F1 of each way to decide one world's videos."""
    truth = read_truth(folder / "truth.csv")
    source = open_source(folder, folder / "videos", None)
    views = []  # of each network: [K, 2, 5, 6], mirrored or not, moved or not
    for path in checkpoints:
        ensemble = load_ensemble([path], default_precision(), flip=True, shift=SHIFT)
        observed = observe(source, ensemble, folder)
        views.append(observed.probabilities[:, 0])
    locations = [place for place in frames_to_decide(source, observed)[0] if place in truth]
    labels = np.array([truth[place].label for place in locations])
    timelines = Timelines(locations, observed.frames)

    def f1(probabilities: np.ndarray, decision: Decision) -> float:
        table = decide(timelines, probabilities, decision)
        return macro_f1(labels, table["decision"].to_numpy(), len(CHALLENGE))

    flipped = [one[:, :, 0].mean(axis=1) for one in views]  # 05's default views
    mean = np.mean
    found = {"smooth none": f1(flipped[0], PLAIN)}
    for width in (9, 25):
        for kind in ("box", "gaussian", "median"):
            found[f"smooth {kind} {width}"] = f1(flipped[0], Decision(kind, width))
    for rule in ("geometric", "harmonic"):
        found[f"smooth none, rule {rule}"] = f1(flipped[0], Decision("none", rule=rule))
    found["smooth none, prior correction 1"] = f1(flipped[0], Decision("none", prior_correction=1))
    found["smooth none, no flip"] = f1(views[0][:, 0, 0], PLAIN)
    found["smooth none, shifts"] = f1(views[0].mean(axis=(1, 2)), PLAIN)
    if len(views) > 1:
        found[f"smooth none, {len(views)} networks"] = f1(mean(flipped, axis=0), PLAIN)
        everything = mean([one.mean(axis=(1, 2)) for one in views], axis=0)
        found[f"median 25, shifts, {len(views)} networks"] = f1(everything, DEFAULT)
    return found


def _spread(values: np.ndarray, sign: str = "") -> str:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():{sign}.3f} ± {error:.3f}"


if __name__ == "__main__":
    run_script(main)

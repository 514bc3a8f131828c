"""A model that is none of ours, for the fusion: logistic regressions on oriented gradients.

It stands for what others hand in as a table: another toolkit, other features, no network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.derived_data import training_singles
from common.emotions import BASIC, multi_hot
from common.manifest import read_manifest
from common.script.files import write_csv
from common.splits import hold_out, training_rows
from common.submission.decision import fill_gaps
from common.submission.files import locate
from common.submission.sources import read_frames


def hog(path: Path, side: int = 96, cells: int = 12, bins: int = 8) -> np.ndarray:
    """Return an image's histograms of oriented gradients (Dalal & Triggs 2005), float32 [3872].

    Each cell's histogram is normalised with those of its right and lower neighbours.
    """
    from PIL import Image

    grey = Image.open(path).convert("L").resize((side, side), Image.Resampling.BILINEAR)
    dy, dx = np.gradient(np.sqrt(np.asarray(grey, dtype=np.float32)))
    strength, angle = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi / np.pi * bins
    low, (row, column) = np.floor(angle).astype(int), np.indices(grey.size) * cells // side
    found = np.zeros((cells, cells, bins), dtype=np.float32)
    np.add.at(found, (row, column, low % bins), strength * (1 + low - angle))
    np.add.at(found, (row, column, (low + 1) % bins), strength * (angle - low))
    blocks = (found[:-1, :-1], found[:-1, 1:], found[1:, :-1], found[1:, 1:])
    joined = np.concatenate(blocks, axis=-1)
    return (joined / (np.linalg.norm(joined, axis=-1, keepdims=True) + 0.1)).ravel()


def write_outside(folder: Path) -> None:
    """Fit the outside model; write its table for --fuse, and its validation as 04 writes it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    prepared = folder / "data" / "prepared"
    manifest = read_manifest(prepared / "manifest.csv")
    chosen = (manifest.kind == "compound") & training_rows(manifest, hold_out(manifest))
    shown = manifest[chosen | training_singles(manifest)]
    # Of what was tried on seed 0's validation compounds, the best: docs/submission.md.
    one = LogisticRegression(C=1e-3, max_iter=1000)
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(one))

    def features(images) -> np.ndarray:
        return np.stack([hog(prepared / image) for image in images])

    model.fit(features(shown.image), np.stack([multi_hot(text) for text in shown.labels]))
    validation = pd.read_csv(folder / "vit" / "curriculum" / "validation.csv")
    validation[list(BASIC)] = model.predict_proba(features(validation.image))
    write_csv(folder / "outside_validation.csv", validation)
    rows = []
    for video, frames in read_frames(prepared).groupby("video"):
        faces = frames[frames.image != ""].sort_values("frame")
        if len(faces):  # gaps between faces are filled as 05 fills them
            found = model.predict_proba(features(faces.image))
            found = fill_gaps(faces.frame.to_numpy(), found, frames.frame.to_numpy())
            places = [locate(video, number) for number in frames.frame]
            rows.append(pd.DataFrame(found, places, list(BASIC)).rename_axis("image_location"))
    write_csv(folder / "outside.csv", pd.concat(rows).reset_index())

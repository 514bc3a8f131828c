"""Photographs and face crops outside of any video: probabilities and compound of each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from common.emotions import BASIC, CHALLENGE, compound_scores
from common.faces.alignment import align, is_crop
from common.faces.detector import Detector
from common.faces.follow import main_face
from common.faces.stills import read_still
from common.raw.layout import IMAGE_SUFFIXES
from common.script.files import UserError, write_csv
from common.script.progress import progress_bar
from common.submission.ensemble import (
    Ensemble,
    all_probabilities,
    checkpoints_of,
    load_ensemble,
    weighted_mean,
)
from common.submission.files import readable
from common.submission.fusion import weight_matrix
from common.submission.streaming import resize

_BATCH = 32
_PRINTED = 50  # rows

ALIGNED, FOUND, WHOLE = "aligned before", "found", "none found: the whole image"


def print_images(args: argparse.Namespace) -> None:
    """Predict the images of 05's --images; print the table, and write it to the run folder."""
    if args.fuse:
        raise UserError("--fuse is for frames of videos; --images are predicted without tables.")
    paths = find_images(args.images)
    checkpoints = checkpoints_of(args)
    weights = weight_matrix(args.weights, checkpoints)
    ensemble = load_ensemble(checkpoints, args.mixed_precision, args.flip, args.shifts)
    table = predict_images(paths, ensemble, args.rule, args.detect_sides, weights)
    write_csv(args.run_dir / "images.csv", table, "%.6f")
    print(describe(table), f"table      {args.run_dir / 'images.csv'}", sep="\n")


def find_images(places: Sequence[Path]) -> list[Path]:
    """Return the images that are named, and those in folders that are, at any depth, by name.

    Raises UserError where one is not there, or a folder has none.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            inside = [path for path in inside if not path.name.startswith(".")]
            if not inside:
                raise UserError(f"{place} holds no image (such as a.jpg).")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise UserError(f"There is no image {place}.")
    return list(dict.fromkeys(found))


def predict_images(
    paths: Sequence[Path],
    ensemble: Ensemble,
    rule: str,
    sides_px: Sequence[int],
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return a row an image: image (of `files.readable`), face, p_Surprise … p_Anger, compound.

    face: `found` and aligned; `aligned before`, where the image is such a crop, and is used as it
    is; `none found: the whole image`; or why the image cannot be read, and the rest is empty.
    sides_px: of the detector. weights: of the networks, as of `ensemble.weighted_mean`. Raises
    UserError where no image can be read.
    """
    detector, faces, rows, parts = Detector(sides_px=sides_px), {}, [], []
    with progress_bar("images", "image", len(paths)) as bar:
        for start in range(0, len(paths), _BATCH):
            crops = list(_crops(paths[start : start + _BATCH], detector, faces))
            if crops:
                rows += [path for path, _ in crops]
                parts.append(crop_probabilities(ensemble, [crop for _, crop in crops], weights))
            bar.update(len(paths[start : start + _BATCH]))
    if not rows:
        raise UserError(f"{paths[0]} cannot be read: {faces[paths[0]]}.")
    probabilities = pd.DataFrame(np.concatenate(parts), rows, [f"p_{name}" for name in BASIC])
    table = pd.DataFrame({"face": faces}).join(probabilities)
    best = compound_scores(probabilities.to_numpy(), rule).argmax(axis=1)
    compounds = pd.Series([CHALLENGE[number] for number in best], rows, dtype=str)
    table["compound"] = compounds.reindex(table.index).fillna("")
    table.index = pd.Index([readable(path) for path in table.index], name="image")
    return table.reset_index()


def _crops(
    paths: Sequence[Path], detector: Detector, faces: dict[Path, str]
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield (path, its main face, or the image) of those that can be read; say it in `faces`."""
    for path in paths:
        try:
            image = read_still(path)
        except ValueError as error:
            faces[path] = f"cannot be read: {error}"
            continue
        found = detector.detect(image)
        best = main_face(found)
        if is_crop(found if best is None else found.take([best]), image.shape[:2]):
            faces[path] = ALIGNED
        elif best is None:
            faces[path] = WHOLE
        else:
            faces[path], image = FOUND, align(image, found.landmarks[best])
        yield path, image


def crop_probabilities(
    ensemble: Ensemble, crops: Sequence[np.ndarray], weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the networks' mean probabilities of faces: float64 [B, 6].

    crops: B of uint8 [H, W, 3], of any sizes. weights: as of `inference.weighted_mean`.
    """
    tensors = [torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None] for crop in crops]
    views = {size: torch.cat([resize(one, size) for one in tensors]) for size in ensemble.sizes}
    return weighted_mean(all_probabilities(ensemble, views), weights).mean(axis=(1, 2))


def describe(table: pd.DataFrame) -> str:
    """Return the first rows of a table of `predict_images` to read, and what is odd, counted."""
    shown = table.head(_PRINTED).copy()
    shown.columns = [name.removeprefix("p_") for name in shown.columns]
    lines = [shown.to_string(index=False, float_format="{:.3f}".format, na_rep="")]
    if len(table) > _PRINTED:
        lines.append(f"… and {len(table) - _PRINTED:,} more")
    kinds = table["face"].where(table["face"].isin((ALIGNED, FOUND, WHOLE)), "cannot be read")
    counts = kinds.value_counts().items()
    lines.append("faces      " + ", ".join(f"{count:,} {kind}" for kind, count in counts))
    return "\n".join(lines)

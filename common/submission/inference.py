"""The faces of prepared crops or raw videos, and what each network makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.pictures import PictureFile, data_url, thumbnail
from common.script.files import UserError
from common.script.progress import progress_bar
from common.submission.ensemble import (
    Ensemble,
    all_probabilities,
    face_probabilities,
    weighted_mean,
)


@dataclass
class Observed:
    """The faces that were found, and their probabilities.

    frames: [K] rows (video, frame), each once. probabilities: float32 [faces, M, F, S, 6] of M
    networks; F = 2 with mirror images, else 1; S = 5 with shifts, else 1. first: int [K], the row
    of each frame's first face; its others follow. held: the numbers of each video's frames;
    decoded: of those that could be read. picture: the face of row k as a data URL, or "".
    """

    frames: pd.DataFrame
    probabilities: np.ndarray
    first: np.ndarray
    held: dict[str, Sequence[int]]
    decoded: dict[str, Sequence[int]]
    picture: Callable[[int], str]
    warnings: list[str] = field(default_factory=list)

    def mean(self, weights: np.ndarray | None = None, flip: bool = True) -> np.ndarray:
        """Return the frames' probabilities, float64 [K, 6]: the mean over networks and variants.

        weights: as of `weighted_mean`. flip: with the mirror images, where there are any. Of a
        frame with several faces, the maximum, emotion by emotion.
        """
        faces = weighted_mean(self.probabilities[:, :, : 1 + flip], weights)
        if len(self.first):
            faces = np.maximum.reduceat(faces, self.first)
        return faces.mean(axis=(1, 2))


def check_faces(faces: str, videos: Path | None) -> None:
    """Raise UserError where all faces of a frame are asked for, but crops hold the main one."""
    if faces == "max" and not videos:
        raise UserError("--faces max needs --videos: 01 crops only the main face.")


def predict_crops(
    ensemble: Ensemble, root: Path, frames: pd.DataFrame, batch_size: int, workers: int
) -> Observed:
    """Predict the crops that 01 has prepared.

    frames: rows of `read_frames`; no image means no face. Crops are read once for all networks of
    the same input size. An unreadable crop counts as no face and costs a warning.
    """
    faces = frames[frames["image"] != ""].reset_index(drop=True)
    store = ImageStore(root, faces["image"].tolist())
    found = np.zeros((len(faces), *ensemble.shape), dtype=np.float32)
    sizes = np.array([settings["image_size"] for _, settings in ensemble.networks])
    readable = np.ones(len(faces), dtype=bool)
    bar = progress_bar("predict", "img", len(store) * len(ensemble.sizes))
    for size in ensemble.sizes if len(store) else []:
        for positions, images, valid in evaluation_batches(store, size, batch_size, workers):
            rows = positions.numpy()
            found[np.ix_(rows, sizes == size)] = face_probabilities(ensemble, size, images)
            readable[rows] = valid.numpy()
            bar.update(len(rows))
    bar.close()
    warnings = []
    if not readable.all():
        warnings.append(
            f"{(~readable).sum():,} crops cannot be read and count as frames without a face; "
            f"the first is {store.path(int(np.flatnonzero(~readable)[0]))}."
        )
    images = faces.loc[readable, "image"].tolist()
    return Observed(
        faces.loc[readable, ["video", "frame"]].reset_index(drop=True),
        found[readable],
        np.arange(readable.sum()),
        _by_video(frames),
        _by_video(frames[frames["decoded"]]),
        lambda row: thumbnail(root / images[row]),
        warnings,
    )


def predict_videos(
    ensemble: Ensemble,
    paths: dict[str, Path],
    folder: Path,
    *,
    batch_size: int,
    threads: int,
    everyone: bool,
    sides_px: Sequence[int],
) -> Observed:
    """Predict videos while they are decoded; only numbers and small pictures are kept.

    folder: for the pictures. everyone: take the maximum over all faces of a frame, emotion by
    emotion, instead of the main face. sides_px: of the detector. Unreadable videos cost a warning;
    raises UserError where all are unreadable.
    """
    # Here, because prepared crops need neither decoder nor detector.
    from common.submission.streaming import VideoEnd, stream_faces

    pictures, keys, parts, warnings = PictureFile(folder), [], [], []
    held, decoded = {}, {}
    with progress_bar("videos", "video", len(paths)) as bar:
        for item in stream_faces(
            paths,
            ensemble.sizes,
            batch_size=batch_size,
            everyone=everyone,
            threads=threads,
            sides_px=sides_px,
        ):
            if isinstance(item, VideoEnd):
                held[item.video], decoded[item.video] = item.held, item.decoded
                warnings += item.warnings
                bar.update()
                continue
            parts.append(all_probabilities(ensemble, item.views))
            places = map(pictures.add, item.pictures)
            keys += [
                (item.video, frame, place)
                for frame, place in zip(item.frames.tolist(), places, strict=True)
            ]
    if not any(decoded.values()):
        raise UserError(warnings[0])
    faces = pd.DataFrame(keys, columns=["video", "frame", "picture"])
    probabilities = np.concatenate(parts) if parts else np.zeros((0, *ensemble.shape))
    order = np.lexsort((faces["frame"], faces["video"]))  # threads mix the videos
    faces, probabilities = faces.iloc[order], probabilities[order]
    first = ~faces.duplicated(["video", "frame"]).to_numpy()  # the surest face of each frame
    faces = faces[first].reset_index(drop=True)
    places = faces["picture"].tolist()
    return Observed(
        faces[["video", "frame"]],
        probabilities,
        np.flatnonzero(first),
        held,
        decoded,
        lambda row: data_url(pictures.read(places[row])),
        warnings,
    )


def _by_video(frames: pd.DataFrame) -> dict[str, list[int]]:
    return {video: rows.tolist() for video, rows in frames.groupby("video")["frame"]}

"""Probabilities of faces from one or more classifiers, for prepared crops or raw videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.batches.augment import normalise
from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.emotions import BASIC
from common.hardware import best_device, default_precision, provenance
from common.networks.classifier import expression_probabilities, load_classifier
from common.networks.weights import refuse_unfinished
from common.pictures import PictureFile, data_url, thumbnail
from common.script.files import UserError, file_digest
from common.script.progress import progress_bar

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Ensemble:
    """Networks, and the variants of a face that each of them is given.

    networks: of `classifier.load_classifier`. flip: also the mirror image. shift: also the face
    moved left, right, up and down by this share of its side; 0 for none.
    """

    networks: list[tuple[nn.Module, dict]]
    device: torch.device
    precision: str
    flip: bool
    shift: float

    @property
    def sizes(self) -> list[int]:
        """The sides of the networks' inputs, in pixels."""
        return sorted({settings["image_size"] for _, settings in self.networks})


@dataclass
class Observed:
    """The faces that were found, and their probabilities.

    frames: [K] rows (video, frame), each once. probabilities: float64 [K, F, S, 6], mean over
    networks; F = 2 with mirror images, else 1; S = 5 with shifts, else 1. held: the numbers of each
    video's frames; decoded: of those that could be read. picture: the face of row k as a data URL,
    or "".
    """

    frames: pd.DataFrame
    probabilities: np.ndarray
    held: dict[str, Sequence[int]]
    decoded: dict[str, Sequence[int]]
    picture: Callable[[int], str]
    warnings: list[str] = field(default_factory=list)

    def mean(self) -> np.ndarray:
        """Return the mean over all variants: float64 [K, 6]."""
        return self.probabilities.mean(axis=(1, 2))


def check_faces(faces: str, videos: Path | None) -> None:
    """Raise UserError where all faces of a frame are asked for, but crops hold the main one."""
    if faces == "max" and not videos:
        raise UserError("--faces max needs --videos: 01 crops only the main face.")


def find_checkpoints(named: Sequence[Path]) -> list[Path]:
    """Return the weight files that --checkpoints names, directly or by their folder.

    A folder stands for its own model.safetensors, or for those in the folders directly below it
    (folds, seeds). A run folder stands for its folder `curriculum`. Raises UserError where weights
    are missing, named twice, or of a run that has not ended.
    """
    found: list[Path] = []
    for place in named:
        files = [place]
        if place.is_dir():
            if (place / "curriculum").is_dir():
                place = place / "curriculum"
            own = place / "model.safetensors"
            files = [own] if own.is_file() else sorted(place.glob("*/model.safetensors"))
            if not files:
                raise UserError(
                    f"{place} and its folders hold no model.safetensors; run 04_curriculum.py, or "
                    "name the weights with --checkpoints."
                )
        found += files
    for path in found:
        refuse_unfinished(path)
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise UserError(f"--checkpoints names {twice} twice.")
    return found


def named(checkpoints: Sequence[Path]) -> str:
    """Return the names of the averaged files, and of unused folds beside them."""
    unused = {fold for path in checkpoints for fold in path.parent.glob("fold-*/model.safetensors")}
    beside = sorted({fold.parent.parent for fold in unused - set(checkpoints)})
    text = ", ".join(map(str, checkpoints))
    return text + "".join(f" (not the folds beside: {folder}/fold-*)" for folder in beside)


def load_ensemble(
    checkpoints: Sequence[Path], precision: str | None, flip: bool, shift: float
) -> Ensemble:
    """Load the networks onto the best device. precision: a key of PRECISIONS, None for its best."""
    device = best_device()
    networks = [load_classifier(path, say=print) for path in checkpoints]
    networks = [(network.to(device), settings) for network, settings in networks]
    return Ensemble(networks, device, precision or default_precision(), flip, shift)


def record_of(
    ensemble: Ensemble, checkpoints: Sequence[Path], frame_list: Path | None, settings: dict
) -> dict:
    """Return what run.json records about the inputs. settings: as given; the defaults are added."""
    return {
        "settings": settings
        | {
            "checkpoints": list(map(str, checkpoints)),
            "frame_list": str(frame_list) if frame_list else None,
            "mixed_precision": ensemble.precision,
        },
        "weights_sha256": {str(path): file_digest(path) for path in checkpoints},
        "frame_list_sha256": file_digest(frame_list) if frame_list else None,
        **provenance(ensemble.device),
    }


def variants(images: torch.Tensor, flip: bool, shift: float) -> list[list[torch.Tensor]]:
    """Return the images for test-time augmentation: [F][S], each [B, 3, H, W].

    F: unchanged, mirrored. S: in place, then moved by `shift` of their side, at least one pixel,
    left, right, up and down; the edge is repeated.
    """
    shifted = [images]
    if shift:
        side = images.shape[-1]
        move = max(1, round(shift * side))
        wide = nn.functional.pad(images, (move,) * 4, mode="replicate")
        corners = ((move, 2 * move), (move, 0), (2 * move, move), (0, move))
        shifted += [wide[..., top : top + side, left : left + side] for top, left in corners]
    return [shifted, [image.flip(-1) for image in shifted]] if flip else [shifted]


@torch.inference_mode()
def face_probabilities(ensemble: Ensemble, size: int, images: torch.Tensor) -> np.ndarray:
    """Sum the probabilities of the networks of one input size: float64 [B, F, S, 6].

    images: uint8 [B, 3, size, size]. Raises UserError for a number that is not finite.
    """
    total: np.ndarray | float = 0.0
    images = images.to(ensemble.device, non_blocking=True)
    kind, precision = ensemble.device.type, ensemble.precision
    for network, settings in ensemble.networks:
        if settings["image_size"] != size:
            continue
        face = normalise(images, settings["mean"], settings["std"])
        by_flip = []  # F of [B, S, 6]
        for shifted in variants(face, ensemble.flip, ensemble.shift):
            with torch.autocast(kind, PRECISIONS[precision], enabled=precision != "no"):
                logits = [network(one) for one in shifted]  # S of [B, 6], or [B, 8]
            by_flip.append(torch.stack(list(map(expression_probabilities, logits)), dim=1))
        total = total + torch.stack(by_flip, dim=1).double().cpu().numpy()
    if not np.isfinite(total).all():
        raise UserError("The network's output is not finite; try --mixed-precision no.")
    return total


def predict_crops(
    ensemble: Ensemble, root: Path, frames: pd.DataFrame, batch_size: int, workers: int
) -> Observed:
    """Predict the crops that 01 has prepared.

    frames: rows of `read_frames`; no image means no face. Crops are read once for all networks of
    the same input size. An unreadable crop counts as no face and costs a warning.
    """
    faces = frames[frames["image"] != ""].reset_index(drop=True)
    store = ImageStore(root, faces["image"].tolist())
    total = np.zeros((len(faces), *_variants_shape(ensemble), len(BASIC)))
    readable = np.ones(len(faces), dtype=bool)
    bar = progress_bar("predict", "img", len(store) * len(ensemble.sizes))
    for size in ensemble.sizes if len(store) else []:
        for positions, images, valid in evaluation_batches(store, size, batch_size, workers):
            rows = positions.numpy()
            total[rows] += face_probabilities(ensemble, size, images)
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
        total[readable] / len(ensemble.networks),
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
    shape = (*_variants_shape(ensemble), len(BASIC))
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
            total = sum(
                face_probabilities(ensemble, size, view) for size, view in item.views.items()
            )
            parts.append(total / len(ensemble.networks))
            places = map(pictures.add, item.pictures)
            keys += [
                (item.video, frame, place)
                for frame, place in zip(item.frames.tolist(), places, strict=True)
            ]
    if not any(decoded.values()):
        raise UserError(warnings[0])
    faces = pd.DataFrame(keys, columns=["video", "frame", "picture"])
    probabilities = np.concatenate(parts) if parts else np.zeros((0, *shape))
    order = np.lexsort((faces["frame"], faces["video"]))  # threads mix the videos
    faces, probabilities = faces.iloc[order], probabilities[order]
    first = ~faces.duplicated(["video", "frame"]).to_numpy()  # the surest face of each frame
    if len(faces):
        probabilities = np.maximum.reduceat(probabilities, np.flatnonzero(first))
    faces = faces[first].reset_index(drop=True)
    places = faces["picture"].tolist()
    return Observed(
        faces[["video", "frame"]],
        probabilities,
        held,
        decoded,
        lambda row: data_url(pictures.read(places[row])),
        warnings,
    )


def _by_video(frames: pd.DataFrame) -> dict[str, list[int]]:
    return {video: rows.tolist() for video, rows in frames.groupby("video")["frame"]}


def _variants_shape(ensemble: Ensemble) -> tuple[int, int]:
    return (2 if ensemble.flip else 1, 5 if ensemble.shift else 1)

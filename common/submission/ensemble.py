"""Several classifiers that give a face one set of probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.batches.augment import normalise
from common.emotions import BASIC
from common.hardware import best_device, default_precision, provenance
from common.networks.classifier import expression_probabilities, load_classifier
from common.networks.exchange import card_path, export_onnx, load_onnx
from common.networks.weights import TRACKS, refuse_unfinished, track_of
from common.script.files import UserError, file_digest

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

    @property
    def labelled(self) -> list[set[str]]:
        """The challenge's videos on whose labels each network was trained."""
        return [set(settings.get("challenge_videos", ())) for _, settings in self.networks]

    @property
    def track(self) -> str:
        """Whether any network was trained with such labels: of TRACKS."""
        return max((track_of(settings) for _, settings in self.networks), key=TRACKS.index)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """M, F, S, 6 of a face's probabilities: networks, mirror images, shifts, emotions."""
        variants = 2 if self.flip else 1, 5 if self.shift else 1
        return len(self.networks), *variants, len(BASIC)


def checkpoints_of(args: argparse.Namespace) -> list[Path]:
    """Return the weight files that 05's arguments name, as `find_checkpoints`.

    Raises UserError also where they name a table twice.
    """
    refuse_twice("--fuse", args.fuse or [])
    return find_checkpoints(args.checkpoints or [args.run_dir / "curriculum"])


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
    refuse_twice("--checkpoints", found)
    return found


def refuse_twice(flag: str, paths: Sequence[Path]) -> None:
    """Raise UserError where two of a flag's paths are one file, however they are written."""
    known: dict[Path, Path] = {}
    for path in paths:
        if (first := known.setdefault(path.resolve(), path)) is not path:
            also = f", as {first} too" if first != path else ""
            raise UserError(f"{flag} names {path} twice{also}.")


def named(checkpoints: Sequence[Path]) -> str:
    """Return the names of the averaged files, and of unused folds beside them."""
    unused = {fold for path in checkpoints for fold in path.parent.glob("fold-*/model.safetensors")}
    beside = sorted({fold.parent.parent for fold in unused - set(checkpoints)})
    text = ", ".join(map(str, checkpoints))
    return text + "".join(f" (not the folds beside: {folder}/fold-*)" for folder in beside)


def print_export(args: argparse.Namespace) -> None:
    """Write the one network that 05's arguments name as ONNX, with its card."""
    checkpoints = checkpoints_of(args)
    if len(checkpoints) > 1 or checkpoints[0].suffix == ".onnx":
        raise UserError(f"--export writes one network of a run, not {named(checkpoints)}.")
    apart = export_onnx(args.export, *load_classifier(checkpoints[0], say=print))
    print(
        f"exported   {args.export} and {card_path(args.export).name}; its probabilities differ by "
        f"at most {apart:.1g} from those of {checkpoints[0]} (three images)"
    )


def load_ensemble(
    checkpoints: Sequence[Path],
    precision: str | None,
    flip: bool,
    shift: float,
    say: Callable[[str], None] = print,
) -> Ensemble:
    """Load the networks onto the best device.

    precision: a key of PRECISIONS, None for the device's best. say: is given what was loaded.
    """
    device = best_device()
    networks = [
        load_onnx(path) if path.suffix == ".onnx" else load_classifier(path, say=say)
        for path in checkpoints
    ]
    networks = [(network.to(device), settings) for network, settings in networks]
    say(f"networks   {named(checkpoints)}")
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
    """Return the probabilities by the m networks of one input size: float32 [B, m, F, S, 6].

    images: uint8 [B, 3, size, size]. Raises UserError for a number that is not finite.
    """
    members = []  # of [B, F, S, 6]
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
        members.append(torch.stack(by_flip, dim=1).cpu().numpy())
    found = np.stack(members, axis=1)
    if not np.isfinite(found).all():
        raise UserError("The network's output is not finite; try --mixed-precision no.")
    return found


def all_probabilities(ensemble: Ensemble, views: dict[int, torch.Tensor]) -> np.ndarray:
    """Return the probabilities by all M networks: float32 [B, M, F, S, 6].

    views: by size, the same faces as of `face_probabilities`.
    """
    sizes = np.array([settings["image_size"] for _, settings in ensemble.networks])
    count = len(next(iter(views.values())))
    found = np.zeros((count, *ensemble.shape), dtype=np.float32)
    for size, images in views.items():
        found[:, sizes == size] = face_probabilities(ensemble, size, images)
    return found


def weighted_mean(probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean over networks: float [B, M, ..., 6] → float64 [B, ..., 6].

    weights: float [M, 6], one for a network and emotion; None for equal ones. Where all are 0,
    they are equal too.
    """
    members = probabilities.shape[1]
    weights = np.ones((members, len(BASIC))) if weights is None else weights
    weights = np.where(weights.sum(axis=0) > 0, weights, 1.0)
    total = sum(probabilities[:, m] * weights[m] for m in range(members))
    return total / weights.sum(axis=0)

"""Classifiers as ONNX files, with a card beside each that says how its images and outputs are read.

The card of `model.onnx` is `model.onnx.json`. Files of other makers need one too: ONNX states no
colours and no names of classes.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.emotions import ADAPTATION, BASIC, parse_labels
from common.networks.classifier import expression_probabilities
from common.script.files import UserError, whole_file, write_json
from common.sessions import open_session

# HSEmotion's files, https://github.com/sb-ai-lab/EmotiEffLib: the card that others are shown.
HSEMOTION = {
    "image_size": 224,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "classes": [
        *("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise"),
        *("valence", "arousal"),
    ],
    "activation": "softmax",
}
SEEN = "challenge_videos"  # may stand beside: the videos on whose labels it was trained
NO_CLASS = ("valence", "arousal")  # outputs that a model may have beside its expressions
ACTIVATIONS = ("softmax", "sigmoid", "none")
_LONGEST_CARD = 2**16  # bytes
_LARGEST_PX = 2048
_WEIGHTS_LIMIT = 2**31 - 2**24  # bytes of one ONNX file, which is one protobuf message
_TOLERANCE = 1e-3  # of probabilities, between torch and an exported file


class OnnxClassifier(nn.Module):
    """An ONNX file as a network: float [B, 3, S, S] → logits as `expression_probabilities` reads.

    columns: of each of ADAPTATION, its output, or None. With the activation softmax they are eight
    logits; else the six of BASIC.
    """

    def __init__(self, session, columns: Sequence[int | None], activation: str):
        super().__init__()
        self.session, self.columns, self.activation = session, columns, activation
        self.batch = session.get_inputs()[0].shape[0]  # a name where it is free

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Return the first output of the file: float32 [B, 3, S, S] → [B, C]."""
        wanted, size = len(images), self.batch if isinstance(self.batch, int) else len(images)
        padded = np.concatenate([images, np.zeros_like(images[:1]).repeat(-wanted % size, axis=0)])
        name = self.session.get_inputs()[0].name
        found = [
            self.session.run(None, {name: padded[start : start + size]})[0]
            for start in range(0, len(padded), size)
        ]
        return np.concatenate(found)[:wanted]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = torch.from_numpy(self.outputs(images.float().cpu().numpy())).to(images.device)
        if self.activation != "softmax":
            six = found[:, self.columns[: len(BASIC)]]
            return torch.logit(six) if self.activation == "none" else six
        logits = found.new_full((len(found), len(ADAPTATION)), -math.inf)
        for place, column in enumerate(self.columns):
            if column is not None:
                logits[:, place] = found[:, column]
        return logits


def card_path(path: Path) -> Path:
    """Return where the card of an ONNX file lies."""
    return path.with_name(path.name + ".json")


def load_onnx(path: Path) -> tuple[OnnxClassifier, dict]:
    """Return the classifier of an ONNX file, and its settings: image_size, mean, std.

    Raises UserError where the file or its card cannot be used, or they do not fit each other.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    card, columns = _read_card(card_path(path), path)
    try:
        session = open_session(str(path), torch.get_num_threads())
    except Exception as error:  # onnxruntime's own errors share no base class
        raise UserError(f"{path} is not a usable ONNX file: {_first_line(error)}.") from None
    [image, *others] = session.get_inputs()
    size = card["image_size"]
    fits = len(image.shape) == 4 and all(
        not isinstance(found, int) or found == expected
        for found, expected in zip(image.shape[1:], (3, size, size), strict=True)
    )
    if others or image.type != "tensor(float)" or not fits:
        raise UserError(
            f"{path} takes {image.type} {image.shape}"
            f"{' and other inputs' if others else ''}, not images float [N, 3, {size}, {size}] as "
            f"its {card_path(path).name} says."
        )
    network = OnnxClassifier(session, columns, card["activation"])
    _try_out(network, card, path)
    return network, {key: card[key] for key in ("image_size", "mean", "std", SEEN) if key in card}


def _read_card(path: Path, model: Path) -> tuple[dict, list[int | None]]:
    """Return the card of a model, and the output of each of ADAPTATION, or None."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST_CARD + 1)
        if len(text) > _LONGEST_CARD:
            raise ValueError("it is longer than any card")
        card = json.loads(text)
        if not isinstance(card, dict) or set(card) - {SEEN} != set(HSEMOTION):
            raise ValueError(f"it must hold {', '.join(HSEMOTION)}")
        if type(card["image_size"]) is not int or not 8 <= card["image_size"] <= _LARGEST_PX:
            raise ValueError(f"image_size is no whole number from 8 to {_LARGEST_PX}")
        for key in ("mean", "std"):
            values = card[key]
            if not isinstance(values, list) or len(values) != 3:
                raise ValueError(f"{key} is not three numbers")
            if not all(type(x) in (int, float) and 0 <= x <= 1 for x in values):
                raise ValueError(f"{key} is not three numbers from 0 to 1")
        names = card.get(SEEN, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{SEEN} is no list of names")
        if 0 in card["std"]:
            raise ValueError("std holds a 0")
        if card["activation"] not in ACTIVATIONS:
            raise ValueError(f"activation is none of {', '.join(ACTIVATIONS)}")
        return card, _columns(card["classes"], card["activation"])
    except FileNotFoundError:
        wrong = f"{model} has no {path.name} beside it"
    except OSError as error:
        wrong = f"{path} cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError too
        wrong = f"{path} cannot be used: {_first_line(error)}"
    raise UserError(
        f"{wrong}. Write one that names what the model was trained with, classes in the order of "
        f"its outputs, activation one of {', '.join(ACTIVATIONS)} (of outputs that are "
        f"probabilities already), such as {json.dumps(HSEMOTION)}"
    )


def _columns(classes: object, activation: str) -> list[int | None]:
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes is not a list of names")
    column_of: dict[str, int] = {}
    for column, name in enumerate(classes):
        if name.lower() in NO_CLASS:
            continue
        found = parse_labels(name[:80])
        if len(found) > 1:
            raise ValueError(f"the class {name!r} is no single expression")
        if found[0] in column_of:
            raise ValueError(f"classes names {found[0]} twice")
        column_of[found[0]] = column
    if absent := [name for name in BASIC if name not in column_of]:
        raise ValueError(f"classes lacks {', '.join(absent)}")
    return [column_of.get(name) for name in ADAPTATION]


def _try_out(network: OnnxClassifier, card: dict, path: Path) -> None:
    """Raise UserError where the file does not give what its card says, on two made-up images."""
    side = card["image_size"]
    images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    try:
        found = network.outputs(images)
    except Exception as error:  # as above
        raise UserError(f"{path} cannot be run: {_first_line(error)}.") from None
    expected = (2, len(card["classes"]))
    if found.shape != expected or found.dtype != np.float32:
        raise UserError(
            f"{path} gives {found.dtype} {list(found.shape)} for two images, not float32 "
            f"{list(expected)}: {card_path(path).name} must name its outputs, all, in their order."
        )
    inside = bool(((found >= 0) & (found <= 1)).all())
    names = [column for column in network.columns if column is not None]
    if card["activation"] == "none" and not inside:
        raise UserError(
            f'{path} gives numbers outside of 0 to 1: these are no probabilities, as "activation": '
            f'"none" in {card_path(path).name} says; write softmax or sigmoid.'
        )
    if card["activation"] == "softmax" and inside and np.allclose(found[:, names].sum(axis=1), 1):
        raise UserError(
            f'{path} gives probabilities already: write "activation": "none" in '
            f"{card_path(path).name}, or they would go through a softmax twice."
        )


def export_onnx(path: Path, network: nn.Module, settings: dict) -> float:
    """Write a network and its card; return how far its probabilities are from the network's own.

    path: ends in .onnx. network: of `classifier.load_classifier`, with its settings. Both files
    are checked by loading them before they replace earlier ones. Raises UserError where the
    packages onnx and onnxscript are not installed, or the network cannot be written.
    """
    if path.suffix != ".onnx":
        raise UserError(f"--export {path}: the name must end in .onnx.")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--export needs the packages onnx and onnxscript ({error}): pip install onnx "
            "onnxscript."
        ) from None
    size = settings["image_size"]
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    if weights > _WEIGHTS_LIMIT:
        raise UserError(
            f"The network has {weights / 2**30:.1f} GiB of weights; an ONNX file holds up to 2."
        )
    network = network.float().cpu().eval()
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = network(images)
    exclusive = logits.shape[1] == len(ADAPTATION)
    card = {
        "image_size": size,
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "classes": list(ADAPTATION if exclusive else BASIC),
        "activation": "softmax" if exclusive else "sigmoid",
        **{key: settings[key] for key in (SEEN,) if key in settings},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        aside = Path(folder) / path.name
        try:
            _write(aside, network, images)
        except Exception as error:  # torch's exporter raises a dozen kinds
            raise UserError(
                f"torch cannot write this network as ONNX: {_first_line(error)}."
            ) from None
        write_json(card_path(aside), card)
        again, _ = load_onnx(aside)
        own = expression_probabilities(logits)
        apart = float((expression_probabilities(again(images)) - own).abs().max())
        if not apart < _TOLERANCE:
            raise UserError(
                f"The exported network's probabilities differ by {apart:.2g} from its own: nothing "
                "was written."
            )
        with suppress(FileNotFoundError):
            path.unlink()  # never an old network beside a new card
        os.replace(card_path(aside), card_path(path))
        with whole_file(path) as file:
            file.write(aside.read_bytes())
    return apart


def _write(path: Path, network: nn.Module, images: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts
        torch.onnx.export(
            network,
            (images,),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

"""Weights in and out of a network: from files or from timm, into a run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import nn

from common.networks.fitting import (
    DECODER,
    LoadingReport,
    Weights,
    fit_weights,
    refuse_values,
    resize_positions,
)
from common.networks.formats import read_tensors, split_entry, to_timm_names
from common.script.files import UserError, whole_file
from common.script.flags import FACE_MEAN, FACE_STD, INFINITE

Colours = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of R, G, B in 0..1


def load_weights(init: str, network: nn.Module) -> Weights:
    """Return weights for a network: of a file, or timm's published ones by `timm:NAME`.

    init: may end in `::ENTRY`, an entry of the file such as `model_ema`. Raises UserError where
    there is no such file, entry or name.
    """
    if init.startswith("timm:"):
        return _published(init)
    path, entry = split_entry(init)
    tensors, taken = read_tensors(path, entry)
    tensors, form = to_timm_names(tensors, network.state_dict(), init)
    decoder = any(name.startswith("decoder_") for name in tensors)
    # A pretrained encoder without its decoder tells what it is by its run, or by its name alone.
    pretrained = "mask_ratio" in settings_beside(Path(path)) or "mae" in Path(path).name.lower()
    return Weights(init, tensors, taken, form, autoencoder=decoder or pretrained)


def _published(init: str) -> Weights:
    name = init.removeprefix("timm:")
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises a dozen kinds
        reason = " ".join(str(error).split())
        raise UserError(f"timm could not fetch {name!r}: {reason}") from None
    return Weights(init, model.state_dict(), autoencoder=name.endswith(".mae"))


def colours_of(init: str) -> tuple[Colours, str]:
    """Return the colours that weights were trained with, and whose they are, in words.

    Those of the run that a file belongs to, of timm's configuration, of CLIP; ImageNet's for
    other files, as in the reference code of masked autoencoders; of faces for random weights.
    """
    if init == "none":
        return (FACE_MEAN, FACE_STD), "faces"
    if init.startswith("timm:"):
        try:
            config = timm.get_pretrained_cfg(init.removeprefix("timm:"))
            return (tuple(config.mean), tuple(config.std)), "timm"
        except (RuntimeError, AttributeError):  # load_weights reports it, with its reason
            return (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), "ImageNet"
    path, entry = split_entry(init)
    settings = settings_beside(Path(path))
    if settings:
        colours = tuple(map(float, settings["mean"])), tuple(map(float, settings["std"]))
        return colours, "the run of these weights"
    if any(name.endswith("visual.class_embedding") for name in read_tensors(path, entry)[0]):
        return (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD), "CLIP"
    return (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), "ImageNet"


def flags_of(init: str, settings: Mapping) -> str:
    """Return the flags of the network of a run's weights; "" where `settings` name that network.

    init: file of weights, or another value of --init, of which nothing is known.
    """
    known = settings_beside(Path(init))
    names = ("model", "image_size", "model_options")
    if any(name not in known for name in names):
        return ""
    if all(known[name] == settings[name] for name in names):
        return ""
    options = "".join(f" {key}={value}" for key, value in known["model_options"].items())
    flags = f"--model {known['model']} --image-size {known['image_size']}"
    return flags + f" --model-options{options}" * bool(options)


def settings_beside(path: Path) -> dict:
    """Return the settings in the run.json beside a file of weights; empty where it is no run's.

    Raises UserError where it is damaged, see read_record.
    """
    try:
        settings = (read_record(path.parent) or {"settings": {}})["settings"]
    except UserError as error:  # which would have a stage start over: these may be its only weights
        fault = str(error).partition(";")[0]
        raise UserError(f"{fault}; correct it, or take the weights out of that folder.") from None
    return settings if {"mean", "std"} <= settings.keys() else {}


def start_autoencoder(model: nn.Module, init: str) -> tuple[LoadingReport, bool]:
    """Load weights into a MaskedAutoencoder: the encoder, and the decoder where the file has it.

    Returns the report and whether the decoder was loaded: it must be of this depth and width.
    Raises UserError as fit_weights does.
    """
    weights = load_weights(init, model.encoder)
    report = fit_weights(model.encoder, weights)
    found = {k: v for k, v in weights.tensors.items() if k.startswith(DECODER)}
    own = {k: v for k, v in model.state_dict().items() if k.startswith(DECODER)}
    positions = found.get("decoder_pos_embed")
    if positions is not None and positions.ndim == 3:
        grid = (model.grid, model.grid)
        prefix = int(weights.has("cls_token"))
        try:
            found["decoder_pos_embed"] = resize_positions(
                positions, grid, model.prefix_tokens, prefix
            )
        except UserError as error:
            raise UserError(f"{init}, decoder_pos_embed: {error}.") from None
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in own.items()}:
        return report, False
    refuse_values(init, own, found)
    model.load_state_dict(found, strict=False)
    report.taken += len(found)
    report.left_out = [name for name in report.left_out if name not in found]
    return report, True


def save_model(folder: str | Path, network: nn.Module) -> None:
    """Write `model.safetensors` with timm's parameter names into a run folder."""
    save_weights(Path(folder) / "model.safetensors", network)


def save_weights(path: str | Path, network: nn.Module) -> None:
    """Write the tensors of a network, as they are named, into a safetensors file."""
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with whole_file(path) as file:
        file.write(safetensors.torch.save(tensors))


# Whoever compares figures must say on which side they stand: the challenge hands out no labels.
TRACKS = ("without labels of the challenge's videos", "with labels of the challenge's videos")


def track_of(settings: Mapping) -> str:
    """Return the track of a run, by its settings: of TRACKS."""
    labelled = settings.get("challenge_labels") or settings.get("challenge_videos")
    return TRACKS[bool(labelled)]


def labelled_videos(init: str) -> set[str]:
    """Return the challenge's videos on whose labels weights were trained, by their run's record.

    init: as in load_weights, or `none`. What came from elsewhere has no record.
    """
    if init == "none" or init.startswith("timm:"):
        return set()
    record = read_record(Path(split_entry(init)[0]).parent) or {"settings": {}}
    return set(record["settings"].get("challenge_videos", ()))


def _colour(value: object, accepts: Callable[[float], bool]) -> bool:
    numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    return numbers and len(value) == 3 and all(map(accepts, value))


# What settings of a run.json must be to be used again, and that in words.
_EXPECTED = {
    "model": (lambda value: isinstance(value, str), "a name"),
    "image_size": (lambda value: type(value) is int and value > 0, "a whole number above 0"),
    "model_options": (lambda value: isinstance(value, dict), "options by name"),
    "mean": (lambda value: _colour(value, lambda x: 0 <= x <= 1), "three colours from 0 to 1"),
    "std": (lambda value: _colour(value, lambda x: 0 < x < INFINITE), "three numbers above 0"),
    "challenge_videos": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of names",
    ),
}


def read_record(folder: Path) -> dict | None:
    """Return the run.json of a run folder, or None where it has none.

    Raises UserError where the file is damaged, or a setting that is used again is of another type.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["settings"].keys()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is damaged; delete {folder} to start this stage over.") from None
    for name, (accepts, expected) in _EXPECTED.items():
        if name in found and not accepts(record["settings"][name]):
            raise UserError(
                f"{path} is damaged: its {name} is not {expected}; correct it, or delete {folder} "
                "to start this stage over."
            )
    return record


def refuse_unfinished(weights: str | Path) -> None:
    """Raise UserError where weights lie in the folder of a run that has not ended."""
    record = read_record(Path(weights).parent)
    if record and record.get("finished") is False:
        raise UserError(
            f"{weights} belongs to a run that has not ended; run that stage to its end, or copy "
            "the file (and, for 05, its run.json without `finished`) elsewhere to use it as it is."
        )

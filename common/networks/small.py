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


class SmallCNN(nn.Module):
    """Four stages of one residual block, and the mean over places: [B, 3, S, S] → [B, classes].

    1.2 million parameters. Each image is brought to a mean of 0 and a deviation of 1 first, so that
    light and contrast do not count, nor do --mean and --std. drop_rate: dropout before the head.
    drop_path_rate: of the last block; it rises from 0 at the first.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stem_stride: int = 2,
    ):
        super().__init__()
        self.num_classes, self.num_features = num_classes, WIDTHS[-1]
        self.pretrained_cfg = {"classifier": "head"}
        self.grad_checkpointing = False
        self.conv = nn.Conv2d(3, WIDTHS[0], 3, stem_stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.blocks, channels = nn.ModuleList(), WIDTHS[0]
        for number, width in enumerate(WIDTHS):
            rate = drop_path_rate * number / (len(WIDTHS) - 1)
            self.blocks.append(_Block(channels, width, 2 if number else 1, rate))
            channels = width
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(WIDTHS[-1], num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, _Block):  # each block starts as its shortcut (Goyal et al. 2017)
                nn.init.zeros_(module.bn2.weight)

    def get_classifier(self) -> nn.Module:
        """Return the head, as timm's networks do."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return the layers for --layer-decay and --freeze, as timm's networks do."""
        return {"stem": r"^(?:conv|bn)\.", "blocks": r"^blocks\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass."""
        self.grad_checkpointing = enable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
        images = (images - mean) / (deviation + 0.1)  # a flat picture stays flat
        # On CPUs a third faster with a pixel's channels side by side.
        x = self.conv(images.contiguous(memory_format=torch.channels_last))
        x = functional.relu(self.bn(x), inplace=True)
        for block in self.blocks:
            again = self.grad_checkpointing and self.training
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.head(self.drop(x.mean((2, 3))))


@register_model
def cnn_small(pretrained: bool = False, **options) -> SmallCNN:
    """Return a SmallCNN, for timm.create_model; there are no pretrained weights."""
    return SmallCNN(
        **{name: options[name] for name in options if "cfg" not in name and name != "cache_dir"}
    )

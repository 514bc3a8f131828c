"""Parts for Vision Transformers on small data sets: a convolutional stem, a head with positions.

With few images the usual stem and pooling learn little.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from common.script.files import UserError


class ConvStem(nn.Module):
    """Patch embedding by 3×3 convolutions of stride 2 (Xiao et al. 2021), for small data sets.

    Its receptive fields overlap, so a masked autoencoder must blank hidden pixels before it
    (`overlaps`). GroupNorm, which does not couple the images of a batch as BatchNorm would. Same
    interface as timm's PatchEmbed: [B, 3, H, W] → [B, N, D].
    """

    overlaps = True

    def __init__(
        self,
        img_size=224,
        patch_size=16,
        in_chans=3,
        embed_dim=768,
        bias=True,
        device=None,
        dtype=None,
        **_,
    ):
        super().__init__()
        stages = int(math.log2(patch_size))
        if 2**stages != patch_size or embed_dim % (4 * patch_size):
            raise UserError(
                "The conv stem halves the image in each layer: patch_size must be a power of 2 "
                f"(not {patch_size}) and embed_dim a multiple of 4 times that (not {embed_dim})."
            )
        factory = {"device": device, "dtype": dtype}
        self.patch_size = (patch_size, patch_size)
        side = img_size if isinstance(img_size, int) else img_size[0]
        self.grid_size = (side // patch_size, side // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        layers, channels = [], in_chans
        for stage in range(1, stages + 1):
            width = embed_dim // 2 ** (stages - stage)
            layers += [
                nn.Conv2d(channels, width, 3, 2, 1, bias=False, **factory),
                nn.GroupNorm(8, width, **factory),
                nn.GELU(),
            ]
            channels = width
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim, embed_dim, 1, bias=bias, **factory))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class PositionHead(nn.Module):
    """Logits from all tokens side by side, each projected to a few features: [B, N, D] → [B, C].

    Keeps what stands where in the face. With a thousand images to learn from, average and
    attention pooling stayed at chance where this learned.
    """

    def __init__(self, tokens: int, dim: int, classes: int, features: int = 16):
        super().__init__()
        self.project = nn.Linear(dim, features)
        self.classify = nn.Linear(tokens * features, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classify(self.project(tokens).flatten(1))

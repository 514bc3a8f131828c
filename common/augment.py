"""Augmentation and mixing of a whole batch on the training device.

Every function takes the random numbers it needs, uniform in 0..1, one row for each image. They
are drawn by the loader, so that a batch comes out the same on any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# How a row of a batch is made of its one or two images.
SINGLE, MIXUP, CUTMIX = 0, 1, 2

# Random numbers that `augment` and `mix_pairs` together use of each row.
RANDOMS = 9


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 [B, 3, H, W] into float32 in 0..1."""
    return images.float().div_(255)


def normalise(
    images: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """Subtract the mean and divide by the deviation, each a number a channel in units of 0..1.

    images: [B, 3, H, W], uint8 or float in 0..1. Returns float32.
    """
    if images.dtype == torch.uint8:
        images = to_float(images)
    mean = torch.tensor(mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(std, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std


def colour_jitter(images: torch.Tensor, uniform: torch.Tensor, strength: float) -> torch.Tensor:
    """Scale brightness, contrast and saturation, each by a factor in 1 ± strength.

    images: float [B, 3, H, W] in 0..1. uniform: [B, 3]. Returns float [B, 3, H, W] in 0..1.
    """
    if strength == 0:
        return images
    brightness, contrast, saturation = (1 + strength * (2 * uniform - 1)).unbind(1)  # [B] each
    images = images * brightness.view(-1, 1, 1, 1)
    grey = (images * images.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)
    level = grey.mean((2, 3), keepdim=True)
    images = level + (images - level) * contrast.view(-1, 1, 1, 1)
    grey = level + (grey - level) * contrast.view(-1, 1, 1, 1)
    return (grey + (images - grey) * saturation.view(-1, 1, 1, 1)).clamp(0, 1)


def _boxes(centre: torch.Tensor, area: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return bool [B, 1, H, W], true inside a box of the image's shape with the given area.

    centre: [B, 2] (x, y) in 0..1 of the places where the whole box fits. area: [B], fraction.
    """
    side = area.sqrt().view(-1, 1)  # of the image's side
    start = centre * (1 - side)  # [B, 2]
    x = (torch.arange(width, device=area.device) + 0.5) / width
    y = (torch.arange(height, device=area.device) + 0.5) / height
    across = (x >= start[:, :1]) & (x < start[:, :1] + side)  # [B, W]
    down = (y >= start[:, 1:]) & (y < start[:, 1:] + side)  # [B, H]
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


def cutout(
    images: torch.Tensor, uniform: torch.Tensor, probability: float, area: float = 0.1
) -> torch.Tensor:
    """Blank one square in some images (DeVries & Taylor 2017; paper §3.3).

    images: float [B, 3, H, W], already normalised, so that zero is the mean colour.
    uniform: [B, 3]. area: fraction of the image.
    """
    if probability == 0:
        return images
    inside = _boxes(uniform[:, 1:], torch.full_like(uniform[:, 0], area), *images.shape[-2:])
    chosen = (uniform[:, 0] < probability).view(-1, 1, 1, 1)
    return images.masked_fill(inside & chosen, 0.0)


def mix_pairs(
    images: torch.Tensor,
    partners: torch.Tensor,
    rows: torch.Tensor,
    mix: torch.Tensor,
    uniform: torch.Tensor,
    mixup_weight: float = 0.1,
    cutmix_area: tuple[float, float] = (0.3, 0.7),
) -> torch.Tensor:
    """Blend partners into a batch (paper §3.4): CutMix boxes and Mixup, no loop over images.

    images: float [B, 3, H, W]. partners: float [M, 3, H, W], for the rows int64 [M] of the batch.
    mix: uint8 [B], SINGLE, MIXUP or CUTMIX. uniform: [B, 3]. mixup_weight: share of the first
    image, 0.1·a + 0.9·b (table 1). cutmix_area: range of the partner's share of the image.
    """
    if not len(rows):
        return images
    kind, uniform = mix[rows], uniform[rows]
    area = cutmix_area[0] + (cutmix_area[1] - cutmix_area[0]) * uniform[:, 0]
    box = _boxes(uniform[:, 1:], area, *images.shape[-2:])  # [M, 1, H, W]
    share = torch.where(  # of the partner, for each pixel
        (kind == CUTMIX).view(-1, 1, 1, 1), box.to(images.dtype), 1 - mixup_weight
    )
    share = share * ((kind == CUTMIX) | (kind == MIXUP)).view(-1, 1, 1, 1)
    first = images[rows]
    return images.index_copy(0, rows, first + share * (partners - first))


def augment(
    batch: dict[str, torch.Tensor],
    *,
    jitter: float,
    cutout_probability: float,
    mean: Sequence[float],
    std: Sequence[float],
    mixup_weight: float = 0.1,
) -> torch.Tensor:
    """Turn a batch of `loading.training_passes` on the device into the network's input.

    Partners are jittered with their own image's numbers, so that a blend has one light. Returns
    float32 [B, 3, S, S], normalised.
    """
    uniform, rows = batch["uniform"], batch["partner_rows"]
    images = colour_jitter(to_float(batch["images"]), uniform[:, :3], jitter)
    if len(rows):
        partners = colour_jitter(to_float(batch["partners"]), uniform[rows, :3], jitter)
        images = mix_pairs(
            images, partners, rows, batch["mix"], uniform[:, 3:6], mixup_weight=mixup_weight
        )
    return cutout(normalise(images, mean, std), uniform[:, 6:9], cutout_probability)

"""Augmentation and mixing of a whole batch on the training device.

Every function takes the random numbers it needs, uniform in 0..1, a row an image. The loader draws
them, so that a batch is the same on any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch.nn.functional import affine_grid, grid_sample

from common.batches.batch import (
    AFFINE,
    BOX,
    BOX_PLACE,
    CUTOUT,
    FACS,
    JITTER,
    LEFT_RIGHT,
    MIXUP,
    TOP_BOTTOM,
    Batch,
)

# Half the height of the soft seam between two half faces, in image heights.
SEAM = 0.03

# From R, G, B to lightness (ITU-R BT.601), red minus lightness, blue minus lightness.
OPPONENT = ((0.299, 0.587, 0.114), (0.701, -0.587, -0.114), (-0.299, -0.587, 0.886))


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 [B, 3, H, W] into float32 in 0..1."""
    return images.float().div_(255)


def normalise(
    images: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """Subtract the mean and divide by the deviation of each channel, both in units of 0..1.

    images: [B, 3, H, W], uint8 or float in 0..1. Returns float32.
    """
    mean, std = (_channels(tuple(values), images.device) for values in (mean, std))
    # In place where the memory is ours, which takes a quarter less time on the CPU.
    centred = to_float(images).sub_(mean) if images.dtype == torch.uint8 else images - mean
    return centred.div_(std)


@lru_cache
def _channels(values: tuple[float, float, float], device: torch.device) -> torch.Tensor:
    """Return float32 [1, 3, 1, 1], made once: each copy to a GPU would wait for its queue."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def colour_jitter(images: torch.Tensor, uniform: torch.Tensor, strength: float) -> torch.Tensor:
    """Scale brightness, contrast and saturation, each by a factor in 1 ± strength.

    images: float [B, 3, H, W] in 0..1. uniform: [B, 3]. Returns float [B, 3, H, W] in 0..1.
    """
    if strength == 0:
        return images
    brightness, contrast, saturation = (1 + strength * (2 * uniform - 1)).unbind(1)  # [B] each
    images = images * brightness.view(-1, 1, 1, 1)
    luma = _channels(OPPONENT[0], images.device)
    grey = (images * luma).sum(1, keepdim=True)
    level = grey.mean((2, 3), keepdim=True)
    images = level + (images - level) * contrast.view(-1, 1, 1, 1)
    grey = level + (grey - level) * contrast.view(-1, 1, 1, 1)
    return (grey + (images - grey) * saturation.view(-1, 1, 1, 1)).clamp(0, 1)


def affine(
    images: torch.Tensor, uniform: torch.Tensor, rotation: float, scale: float, shift: float
) -> torch.Tensor:
    """Turn, scale and move each image, bilinearly; beyond its border the image is mirrored.

    images: float [B, C, H, W]. uniform: [B, 4]. rotation: largest angle, degrees. scale: the size
    changes by at most a factor of 1 + scale or its inverse. shift: largest shift, in image sides.
    """
    if not (rotation or scale or shift):
        return images
    angle, size, *way = (2 * uniform - 1).unbind(1)  # [B] each, in ±1
    angle = torch.deg2rad(angle * rotation)
    # The grid leads from the result back to the image, hence the inverse of the scale.
    inverse = (1 + scale) ** -size
    cos, sin = inverse * angle.cos(), inverse * angle.sin()
    x, y = (2 * shift * one for one in way)  # the grid's sides are 2 long
    matrix = torch.stack([cos, -sin, x, sin, cos, y], 1).view(-1, 2, 3)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def _boxes(place: torch.Tensor, area: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return bool [B, 1, H, W], true in a box of the image's proportions.

    place: [B, 2] (x, y), from 0, at the left or top border, to 1, at the other. area: [B], fraction
    of the image.
    """
    side = area.sqrt().view(-1, 1)  # of the image's side
    start = place * (1 - side)  # [B, 2]
    x = (torch.arange(width, device=area.device) + 0.5) / width
    y = (torch.arange(height, device=area.device) + 0.5) / height
    across = (x >= start[:, :1]) & (x < start[:, :1] + side)  # [B, W]
    down = (y >= start[:, 1:]) & (y < start[:, 1:] + side)  # [B, H]
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


def cutout(
    images: torch.Tensor, uniform: torch.Tensor, probability: float, area: float = 0.1
) -> torch.Tensor:
    """Blank one square in some images (DeVries & Taylor 2017; paper §3.3).

    images: float [B, 3, H, W], normalised, so that zero is the mean colour. uniform: [B, 3]. area:
    fraction of the image.
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
    form: torch.Tensor,
    extent: torch.Tensor,
    window: torch.Tensor,
    uniform: torch.Tensor,
    any_facs: bool,
) -> torch.Tensor:
    """Mix partners into a batch (paper §3.4), all forms at once, without a loop over images.

    images: float [B, 3, H, W]. partners: float [M, 3, H, W], for the rows int64 [M] of the batch.
    form: uint8 [B], of batch.py. extent: float [B], how much of the result is the first image: see
    loading.Plan. window: float [B, 2], where the crop begins in its image and how many of its rows
    it shows, in image heights. uniform: [B, 2], where a box lies. any_facs: whether a form is FACS.
    """
    if not len(rows):
        return images
    height, width = images.shape[-2:]
    form, extent = (values[rows].view(-1, 1, 1, 1) for values in (form, extent))  # [M, 1, 1, 1]
    x = ((torch.arange(width, device=images.device) + 0.5) / width).view(1, 1, 1, -1)
    y = ((torch.arange(height, device=images.device) + 0.5) / height).view(1, 1, -1, 1)
    top, shown = window[rows].view(-1, 2, 1, 1, 1).unbind(1)  # [M, 1, 1, 1]
    height_in_image = top + shown * y  # [M, 1, H, 1]
    first = images[rows]
    # How much of each pixel is the partner's, [M, 1, H, W].
    partner = (1 - extent) * (form == MIXUP)
    box = _boxes(uniform[rows], 1 - extent.flatten(), height, width)
    partner = partner + box * (form == BOX)
    partner = partner + (x >= extent) * (form == LEFT_RIGHT)
    partner = partner + (y >= extent) * (form == TOP_BOTTOM)
    below = ((height_in_image - extent) / (2 * SEAM) + 0.5).clamp(0, 1)
    partner = partner + below * (form == FACS)
    if any_facs:
        partners = torch.where(form == FACS, match_colours(partners, first), partners)
    return images.index_copy(0, rows, first + partner.to(first.dtype) * (partners - first))


@lru_cache
def _opponent(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return OPPONENT and its inverse, float32 [3, 3] each, made once like `_channels`."""
    matrix = torch.tensor(OPPONENT)
    return matrix.to(device), matrix.inverse().to(device)


def match_colours(images: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    """Give images the colour and light of others, both [M, 3, H, W] in 0..1 (Reinhard et al. 2001).

    Transfers the mean and deviation of lightness and of two colour differences, measured in the
    middle, where the face is. Contrast changes by at most a factor of 1.5, because expressions
    differ in contrast themselves. Colour may fade without limit, so that grey stays grey.
    """
    height, width = images.shape[-2:]
    middle = (..., slice(height // 4, -height // 4), slice(width // 4, -width // 4))
    opponent, back = _opponent(images.device)
    with torch.autocast(images.device.type, enabled=False):  # half precision costs two grey levels
        own, aim = (torch.einsum("cd,mdhw->mchw", opponent, one) for one in (images, to))
        deviation, mean = torch.std_mean(own[middle], (2, 3), keepdim=True)
        aim_deviation, aim_mean = torch.std_mean(aim[middle], (2, 3), keepdim=True)
        least = _channels((1 / 1.5, 0.0, 0.0), images.device)
        factor = (aim_deviation / deviation.clamp_min(1e-3)).clamp(min=least).clamp(max=1.5)
        matched = (own - mean) * factor + aim_mean
        return torch.einsum("cd,mdhw->mchw", back, matched).clamp(0, 1)


def augment(
    batch: Batch,
    *,
    jitter: float,
    cutout_probability: float,
    mean: Sequence[float],
    std: Sequence[float],
    rotation: float = 0.0,
    scale: float = 0.0,
    shift: float = 0.0,
) -> torch.Tensor:
    """Turn a batch on the device into the network's input.

    Partners share the random numbers of their image, so that a blend has one light and one angle.
    rotation, scale, shift: see `affine`; they need a batch with RANDOMS_WITH_AFFINE random numbers.
    Returns float32 [B, 3, S, S], normalised.
    """
    uniform, rows = batch.uniform, batch.partner_rows
    images = colour_jitter(to_float(batch.images), uniform[:, JITTER], jitter)
    if len(rows):
        partners = colour_jitter(to_float(batch.partners), uniform[rows, JITTER], jitter)
        mixed = (rows, batch.form, batch.extent, batch.window, uniform[:, BOX_PLACE])
        images = mix_pairs(images, partners, *mixed, batch.any_facs)
    images = affine(images, uniform[:, AFFINE], rotation, scale, shift)
    return cutout(normalise(images, mean, std), uniform[:, CUTOUT], cutout_probability)

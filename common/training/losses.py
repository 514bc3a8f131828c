"""The losses of 03 and 04 (--loss): from a batch and a network to the loss of each image.

A loss is a function of three arrays and a line in LOSSES; script/flags.py has the choices, and
which of them learn one distribution over eight expressions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import nn
from torch.nn import functional

from common.batches.augment import augment
from common.batches.batch import Batch
from common.batches.targets import prior_logits
from common.script.flags import EXCLUSIVE_LOSSES


def augmented_logits(
    settings: dict, network: nn.Module, batch: Batch, side: int | None = None
) -> torch.Tensor:
    """Return the logits of a batch, mixed and augmented (paper §3.3, §3.4): float32 [b, C].

    side: the images are scaled to it, in pixels.
    """
    images = augment(
        batch,
        jitter=settings["jitter"],
        cutout_probability=settings["cutout"],
        mean=settings["mean"],
        std=settings["std"],
        rotation=settings["rotation"],
        scale=settings["scale"],
        shift=settings["shift"],
    )
    if side:
        images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return network(images).float()


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, step_targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Return binary cross-entropy summed over the C emotions (eq. 1): [b, C], [b, C] → [b]."""
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)


def softmax_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, step_targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Return cross-entropy with a distribution over C exclusive classes: [b, C], [b, C] → [b]."""
    return functional.cross_entropy(logits, targets, reduction="none")


def balanced_mse(
    logits: torch.Tensor, targets: torch.Tensor, step_targets: torch.Tensor, noise: float = 1.0
) -> torch.Tensor:
    """Return the batch-based Monte Carlo balanced MSE of each image, [b] (Ren et al., CVPR 2022).

    -2σ² log(exp(-|z - t|² / 2σ²) / Σ_j exp(-|z - t_j|² / 2σ²)), j over the labels of the whole
    batch, so that frequent labels do not draw every prediction to them. logits, targets: [b, C];
    step_targets: [B, C], of all processes and passes of the step. noise: σ, the deviation that a
    label is assumed to have (1: released code).
    """
    scale = 2 * noise**2
    distances = (logits[:, None] - step_targets[None]).square().sum(2)  # [b, B]
    own = (logits - targets).square().sum(1)
    return own + scale * torch.logsumexp(-distances / scale, dim=1)


class Loss(NamedTuple):
    """A loss of --loss, and the probability from which an emotion then counts as shown."""

    of_images: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    threshold: float


# By the value of --loss. The logits of balanced MSE aim at 0 and 1, so 0.5 is in the middle. A
# share of 0.3 is the least with which 01 makes a compound of ten votes.
LOSSES = {
    "bce": Loss(cross_entropy, 0.5),
    "bmc": Loss(balanced_mse, float(expit(0.5))),
    "softmax": Loss(softmax_cross_entropy, 0.3),
}


def smooth(targets: torch.Tensor, share: float) -> torch.Tensor:
    """Spread a share of each label over all classes: [b, C] (Szegedy et al. 2016)."""
    return targets * (1 - share) + share / targets.shape[1] if share else targets


def expression_loss(
    settings: dict, prior: torch.Tensor | None = None, small_epochs: int = 0
) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """Return the loss that --loss names, as a function of network and batch: of each image, [b].

    prior: of prior_logits, added to the logits. small_epochs: the first epochs, whose images are of
    --small-size.
    """
    of_images = LOSSES[settings["loss"]].of_images

    def loss(network: nn.Module, batch: Batch) -> torch.Tensor:
        side = settings["small_size"] if batch.epoch < small_epochs else None
        logits = augmented_logits(settings, network, batch, side)
        if prior is not None:
            logits = logits + prior.to(logits.device)
        targets = smooth(batch.targets, settings["label_smoothing"])
        return of_images(logits, targets, batch.step_targets)

    return loss


def label_prior(settings: dict, targets: np.ndarray, exclusive: bool | None = None) -> torch.Tensor:
    """Return the prior_logits of a run's settings, zeros without logit adjustment: float32 [C].

    targets: [n, C], of the training images. exclusive: by the loss, if None.
    """
    exclusive = settings["loss"] in EXCLUSIVE_LOSSES if exclusive is None else exclusive
    adjusted = settings["balance"] == "logit-adjustment"
    return prior_logits(targets, exclusive, settings["balance_strength"] if adjusted else 0.0)

"""Schedules, optimiser and averaged weights of the training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine to zero: factor of the base rate at each step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def plateau(steps: int, warmup: int, end: float = 0.25) -> Callable[[int], float]:
    """Linear warm-up, the full rate, and a linear end to zero over the last quarter.

    A cosine over the whole curriculum leaves its last sub-stage, the one with most compounds,
    nearly no rate to learn with.
    """

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1, steps * end))

    return factor


def make_optimizer(
    network: nn.Module,
    rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW without decay of biases, norms, positions and tokens.

    layer_decay: a block's rate is this power of its distance from the head (1: all alike).
    """
    if layer_decay < 1.0:
        groups = param_groups_layer_decay(
            network, weight_decay, network.no_weight_decay(), layer_decay=layer_decay
        )
    else:
        decayed, free = [], []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                plain = parameter.ndim <= 1 or name.endswith(("pos_embed", "_token", "latent"))
                (free if plain else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
    for group in groups:
        group["lr"] = group["base_lr"] = rate * group.get("lr_scale", 1.0)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


class Average:
    """Exponential moving average of the weights a network learns (Polyak & Juditsky 1992).

    decay: share of the average that a step keeps, below 1. The first steps keep less, (1 + step) /
    (10 + step), so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.values = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self.values, self._weights, step)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights: what the network holds, and what is kept here."""
        for value, weight in zip(self.values, self._weights, strict=True):
            weight_before = weight.clone()
            weight.copy_(value)
            value.copy_(weight_before)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network hold the average within the block, to be validated and saved."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def load(self, values: list[torch.Tensor]) -> None:
        """Go on from the values of a saved state."""
        for value, saved in zip(self.values, values, strict=True):
            value.copy_(saved)

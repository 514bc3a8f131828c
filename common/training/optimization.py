"""Learning-rate schedules, the optimiser, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

# Parameters without weight decay, beside biases and norms: positions, tokens, pooling's query.
UNDECAYED = ("*pos_embed", "*_token", "*latent")


def cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine to zero: factor of the base rate at each step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def plateau(steps: int, warmup: int, end: float = 0.25) -> Callable[[int], float]:
    """Linear warm-up, the full rate, and a linear end to zero over the last quarter.

    A cosine over the whole curriculum would leave its last sub-stage, the one with most compounds,
    almost no rate to learn with.
    """

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1, steps * end))

    return factor


def staged_plateau(
    steps: Sequence[int], stages: Sequence[int], warmup_epochs: float, stage_warmup_epochs: float
) -> Callable[[int], float]:
    """A plateau over all epochs, with another warm-up at the start of every sub-stage.

    steps, stages: of each epoch, its steps and its sub-stage. An epoch of warm-up has the steps of
    the first epoch. stage_warmup_epochs: 0 for none.
    """
    whole = plateau(sum(steps), round(warmup_epochs * steps[0]))
    if not stage_warmup_epochs:
        return whole
    begins = [sum(steps[: stages.index(stage)]) for stage in set(stages)]
    rise = max(1, round(stage_warmup_epochs * steps[0]))

    def factor(step: int) -> float:
        since = step - max(begin for begin in begins if begin <= step)
        return whole(step) * min(1.0, (since + 1) / rise)

    return factor


def make_optimizer(
    network: nn.Module,
    rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """Return AdamW without weight decay of biases, norms, positions and tokens.

    layer_decay: a block's rate is this power of its distance from the head (1: all alike).
    """
    if layer_decay < 1.0:
        groups = param_groups_layer_decay(
            network, weight_decay, network.no_weight_decay(), layer_decay=layer_decay
        )
    else:
        groups = param_groups_weight_decay(network, weight_decay, no_weight_decay_list=UNDECAYED)
    for group in groups:
        group["lr"] = group["base_lr"] = rate * group.get("lr_scale", 1.0)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


class Average:
    """Exponential moving average of the weights a network learns (Polyak & Juditsky 1992).

    decay: how much of the average a step keeps, below 1. The first steps keep less, (1 + step) /
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

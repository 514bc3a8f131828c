"""Learning-rate schedules, the optimiser, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from common.script.files import UserError

# Parameters without weight decay, beside biases and norms: positions, tokens, pooling's query.
UNDECAYED = ("*pos_embed", "*_token", "*latent")


def cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine to zero: factor of the base rate at each step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def one_cycle(steps: int, warmup: int = 0) -> Callable[[int], float]:
    """One cycle (Smith & Topin 2018): up from 1/25 over the first 30 %, then down to zero.

    Both ways are half a cosine. The length of the way up is part of it: warmup is not used.
    """
    rise = 0.3 * steps

    def factor(step: int) -> float:
        if step < rise:
            return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * step / rise))
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return factor


def plateau(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear warm-up, the full rate, and a linear end to zero over the last quarter.

    A cosine over the whole curriculum would leave its last sub-stage, the one with most compounds,
    almost no rate to learn with.
    """

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1, steps * 0.25))

    return factor


# By the value of --schedule: (steps, steps of warm-up) → factor of the base rate at each step.
SCHEDULES = {"cosine": cosine, "one-cycle": one_cycle, "plateau": plateau}


def staged(settings: dict, steps: Sequence[int], stages: Sequence[int]) -> Callable[[int], float]:
    """A schedule over all epochs, with another warm-up at the start of every sub-stage.

    steps, stages: of each epoch, its steps and its sub-stage. Of the settings of 04, `schedule`,
    `warmup_epochs` and `stage_warmup_epochs` (0: none) are read here; an epoch of warm-up has the
    steps of the first epoch.
    """
    warmup = round(settings["warmup_epochs"] * steps[0])
    whole = SCHEDULES[settings["schedule"]](sum(steps), warmup)
    if not settings["stage_warmup_epochs"]:
        return whole
    begins = [sum(steps[: stages.index(stage)]) for stage in set(stages)]
    rise = max(1, round(settings["stage_warmup_epochs"] * steps[0]))

    def factor(step: int) -> float:
        since = step - max(begin for begin in begins if begin <= step)
        return whole(step) * min(1.0, (since + 1) / rise)

    return factor


def make_optimizer(
    network: nn.Module,
    rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    head: Collection[str] = (),
    betas: tuple[float, float] = (0.9, 0.999),
    kind: str = "adamw",
) -> torch.optim.Optimizer:
    """Return an optimiser without weight decay of biases, norms, positions and tokens.

    kind: `adamw`, or `sgd` with Nesterov momentum of 0.9.

    layer_decay: a block's rate is this power of its distance from the head (1: all alike). head:
    names of parameters that get groups of their own, marked `head`. Frozen weights get none.
    """
    if layer_decay < 1.0:
        groups = param_groups_layer_decay(
            network,
            weight_decay,
            getattr(network, "no_weight_decay", set)(),
            layer_decay=layer_decay,
        )
    else:
        groups = param_groups_weight_decay(network, weight_decay, no_weight_decay_list=UNDECAYED)
    groups = [part for group in groups for part in _head_apart(network, group, head)]
    for group in groups:
        group["lr"] = group["base_lr"] = rate * group.get("lr_scale", 1.0)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def _head_apart(network: nn.Module, group: dict, head: Collection[str]) -> list[dict]:
    """Split a parameter group into the encoder's part and the head's, as far as it has both."""
    if not head:
        return [group]
    own = {id(network.get_parameter(name)) for name in head}
    parts = [[], []]
    for weight in group["params"]:
        parts[id(weight) in own].append(weight)
    return [
        {**group, "params": weights, "head": bool(index)}
        for index, weights in enumerate(parts)
        if weights
    ]


def use_grad_checkpointing(network: nn.Module) -> None:
    """Let a network recompute each block in the backward pass. Raises UserError if it cannot."""
    try:
        network.set_grad_checkpointing()
    except (AssertionError, AttributeError, NotImplementedError, TypeError):
        raise UserError(
            f"--grad-checkpointing: timm has none for {type(network).__name__}; leave it out, and "
            "lower --batch-size instead."
        ) from None


def clip_gradient(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    largest: float | None,
) -> torch.Tensor:
    """Return the norm of the whole gradient, float32 []; scale it down to `largest` if above.

    None never scales.
    """
    accelerator.unscale_gradients(optimizer)
    weights = [weight for weight in network.parameters() if weight.grad is not None]
    norm = get_total_norm([weight.grad for weight in weights])
    if largest:
        clip_grads_with_norm_(weights, largest, norm)
    return norm


def take_step(accelerator: Accelerator, optimizer: torch.optim.Optimizer) -> bool:
    """Let the optimiser change the weights; return whether fp16 overflowed and it did not.

    The scale of fp16 falls then, and at no other time. (Accelerate's `step_was_skipped` does not
    see it with a fused optimiser, which decides on the GPU.)
    """
    scaler = accelerator.scaler
    before = scaler.get_scale() if scaler else 0.0
    optimizer.step()
    return bool(scaler) and scaler.get_scale() < before


def freeze(network: nn.Module, what: int | str, head: Collection[str]) -> int:
    """Keep the stem and the first `what` blocks from learning, or all but the head (`encoder`).

    head: names of its parameters. Blocks are those of timm's layer decay; normalisation over a
    batch keeps its statistics where it is frozen. Returns the number of frozen weights. Raises
    UserError where there are not so many blocks.
    """
    if not what:
        return 0
    layers = group_parameters(network, network.group_matcher(coarse=False))
    if what == "encoder":
        frozen = {name for name, _ in network.named_parameters()} - {*head}
    else:
        last = max(layers)  # the head's
        if what >= last:
            raise UserError(f"--freeze {what}: the model has {last - 1} blocks; or name `encoder`.")
        frozen = {name for layer, names in layers.items() if layer <= what for name in names}
    for name in frozen & dict(network.named_parameters()).keys():
        network.get_parameter(name).requires_grad_(False)
    for module in network.modules():
        weights = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and weights and not weights[0].requires_grad:
            module.eval()
            module.train = lambda mode=True, module=module: module  # whoever trains the whole
    return sum(weight.numel() for weight in network.parameters() if not weight.requires_grad)


class Average:
    """Exponential moving average of the weights a network learns (Polyak & Juditsky 1992).

    decay: how much of the average a step keeps, below 1; 0 for the weights themselves. The first
    steps keep less, (1 + step) / (10 + step), so that the random start is soon forgotten.
    start_share: how much of the weights that the network has now is in what is validated and kept
    (Wortsman et al. 2022, WiSE-FT).
    """

    def __init__(self, network: nn.Module, decay: float, start_share: float = 0.0):
        self.decay, self.start_share = decay, start_share
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        # The statistics of batch normalisation go with the weights they were read with.
        buffers = [value for name, value in network.named_buffers() if "running_" in name]
        self._weights += [value for value in buffers if value.is_floating_point()]
        self.values = [weight.detach().clone() for weight in self._weights if decay]
        # Not on the GPU: the batch is chosen without room for it.
        start = self._weights if start_share else []
        self._start = [weight.detach().to("cpu", copy=True) for weight in start]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self.values, self._weights, step)

    @torch.no_grad()
    def put(self) -> None:
        """Give the network the average, with its share of the start."""
        for weight, value in zip(self._weights, self.values, strict=bool(self.decay)):
            weight.copy_(value)
        for weight, start in zip(self._weights, self._start, strict=bool(self.start_share)):
            weight.lerp_(start.to(weight.device), self.start_share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network hold the average within the block, to be validated and saved."""
        before = [weight.detach().clone() for weight in self._weights]
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, own in zip(self._weights, before, strict=True):
                    weight.copy_(own)

    def load(self, values: list[torch.Tensor]) -> None:
        """Go on from the values of a saved state."""
        for value, saved in zip(self.values, values, strict=True):
            value.copy_(saved)

"""What 02, 03 and 04 each train, and how far a training is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from common.batches.batch import Batch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Loader, Plan
from common.training.optimization import Average
from common.training.runs import Run
from common.training.states import States


@dataclass(frozen=True)
class Experiment:
    """What 02, 03 and 04 each train, beside their settings.

    plan(epoch): what the epoch shows. loss(network, batch): of each image, [b]. randoms: random
    numbers that travel with each image. schedule(step): factor of the learning rates. head_steps:
    first steps in which only parameter groups marked `head` learn.
    validate(epoch): figures of the epoch, after it. best: the figure, where there is one, whose
    highest value makes `keep` store the network. stop_early(rows of the epochs so far): end here?
    """

    name: str
    epochs: int
    plan: Callable[[int], Plan]
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    geometry: Geometry
    randoms: int
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    head_steps: int = 0
    validate: Callable[[int], dict[str, float]] = lambda epoch: {}
    best: str | None = None
    keep: Callable[[], None] | None = None
    stop_early: Callable[[list[dict]], bool] = lambda rows: False


@dataclass
class Training:
    """An experiment under way. network, optimizer: as Accelerate wraps them."""

    run: Run
    experiment: Experiment
    store: ImageStore
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None
    states: States
    loader: Loader
    progress: dict  # how far it is: see States.load


@dataclass
class Epoch:
    """An epoch under way: what it shows, and what has come of it so far.

    targets: float32 [n, C], of `shown`, on the device. steps: this process's passes of each step,
    as positions of `shown`. compiled: lengths of passes to compile for. sums: float32 [3] on the
    device: the loss and the unreadable images of all processes, the norms of the gradient.
    diverged: the first step whose loss is not finite, -1 for none. unreadable: images of this
    process, since the last check.
    """

    number: int
    shown: Plan
    targets: torch.Tensor
    steps: list[list[np.ndarray]]
    compiled: set[int]
    sums: torch.Tensor
    diverged: torch.Tensor
    unreadable: list[int] = field(default_factory=list)
    waited_s: float = 0.0

"""From the plan of an epoch to uint8 batches, the same whatever the number of workers.

A plan lists the images of an epoch in order. Everything random about position p of an epoch comes
from one generator keyed by (seed, epoch, p). Workers crop and flip uint8 tensors; the random
numbers for colour, mixing and masking travel with the batch to the device. So the result depends
neither on the number of workers nor on the number of processes, and a run can resume at any batch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from common.batches.batch import ALIGNED, FACS, Batch
from common.batches.images import VIEW, Geometry, ImageStore, resize
from common.script import signals

# How many other rows are tried in place of one that cannot be read.
REPLACEMENTS = 5


@dataclass
class Plan:
    """What one epoch shows, in order: n rows, each of one or two images of a store.

    first, second: int64 [n], second is -1 where the row is one image. form: uint8 [n], of batch.py.
    extent: float32 [n], how much of the mixed image is the first one, by form: its weight in the
    blend (table 1: 0.1·a + 0.9·b), its area beside the box, the width or height of its half, or
    how far down its whole face the seam lies. targets: float32 [n, C].
    """

    first: np.ndarray
    targets: np.ndarray
    second: np.ndarray = field(default=None)
    form: np.ndarray = field(default=None)
    extent: np.ndarray = field(default=None)

    def __post_init__(self):
        if self.second is None:
            self.second = np.full(len(self.first), -1, dtype=np.int64)
        if self.form is None:
            self.form = np.zeros(len(self.first), dtype=np.uint8)
        if self.extent is None:
            self.extent = np.ones(len(self.first), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.first)


def in_turn(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of `rows`: each is drawn n times before any is drawn n + 1 times."""
    turns = [random.permutation(rows) for _ in range(-(-count // max(1, len(rows))))]
    return np.concatenate([rows[:0], *turns])[:count]


def in_even_turn(
    pools: Sequence[np.ndarray], count: int, random: np.random.Generator
) -> np.ndarray:
    """Draw `count` rows, as many of each pool, each pool's in turn, and shuffle them."""
    # What does not divide evenly is taken from pools drawn at random each time.
    quota = count // len(pools) + (random.permutation(len(pools)) < count % len(pools))
    drawn = [in_turn(pool, number, random) for pool, number in zip(pools, quota, strict=True)]
    return random.permutation(np.concatenate(drawn))


def split_batches(
    rows: int, global_batch: int, batch_size: int, rank: int, world: int
) -> list[list[np.ndarray]]:
    """Divide an epoch's rows into optimiser steps, and each step into this process's passes.

    Returns a list of steps; a step is a list of int64 arrays of positions, one a forward pass: as
    few as batch_size allows, of one length, or of two that differ by one. Over all ranks every
    position occurs once. A process with no row in the last step gets one pass of no rows, because
    all processes must take part in the gradient exchange.
    """
    steps = []
    for start in range(0, rows, global_batch):
        mine = np.arange(start, min(start + global_batch, rows))[rank::world]
        steps.append(np.array_split(mine, max(1, -(-len(mine) // batch_size))))
    return steps


class _Passes(Dataset):
    """The forward passes of an epoch; one worker makes a whole pass."""

    def __init__(self, store, plan, passes, geometry, randoms, seed, epoch):
        self.store, self.plan, self.passes, self.geometry = store, plan, passes, geometry
        self.randoms, self.seed, self.epoch = randoms, seed, epoch

    def __len__(self) -> int:
        return len(self.passes)

    def __getitem__(self, number: int) -> Batch:
        positions = self.passes[number]
        count, side = len(positions), self.geometry.image_size
        # A pass without rows still needs one image for the network, which is not valid.
        shape = (max(1, count), 3, side, side)
        images = (torch.empty if count else torch.zeros)(shape, dtype=torch.uint8)
        # Arrays, because setting one number of a tensor takes ten times as long.
        form, extent = np.zeros(shape[0], dtype=np.uint8), np.ones(shape[0], dtype=np.float32)
        uniform = np.zeros((shape[0], self.randoms), dtype=np.float32)
        valid = np.zeros(shape[0], dtype=bool)
        window = np.tile(np.float32([0.0, 1.0]), (shape[0], 1))
        partner_rows, partners, unreadable = [], [], []
        for row, position in enumerate(positions):
            random = np.random.Generator(
                np.random.Philox(key=[self.seed, self.epoch * 2**32 + position])
            )
            uniform[row] = random.random(self.randoms, dtype=np.float32)
            source, read = self._read(position, unreadable)
            if source is None:
                images[row] = 0
                continue
            view = random.random(VIEW)
            images[row], rows = self.geometry.apply(read[0], view)
            valid[row], window[row] = True, rows
            form[row], extent[row] = self.plan.form[source], self.plan.extent[source]
            if len(read) > 1:
                if form[row] not in ALIGNED:
                    view = random.random(VIEW)
                partner_rows.append(row)
                partners.append(self.geometry.apply(read[1], view)[0])
        chosen = positions if count else np.zeros(1, dtype=np.int64)
        return Batch(
            images=images,
            partners=torch.stack(partners) if partners else images[:0].clone(),
            partner_rows=torch.tensor(partner_rows, dtype=torch.int64),
            form=torch.from_numpy(form),
            extent=torch.from_numpy(extent),
            window=torch.from_numpy(window),
            targets=torch.from_numpy(self.plan.targets[chosen]),
            uniform=torch.from_numpy(uniform),
            valid=torch.from_numpy(valid),
            any_facs=bool((form == FACS).any()),
            unreadable=tuple(unreadable),
        )

    def _read(self, position: int, unreadable: list[int]):
        """Return (row, its one or two images) for a position of the plan.

        The row is the position's own. If one of its images cannot be read (01 has read every file,
        but disks fail), it is another row of the same target, with its own partner and form, so
        that the label stays right; the position alone decides which. (None, None) if a few others
        cannot be read either. Adds the indices of bad images to `unreadable`.
        """
        plan, row, random = self.plan, position, None
        for _ in range(REPLACEMENTS + 1):
            indices = [index for index in (plan.first[row], plan.second[row]) if index >= 0]
            images = [self.store.read(index) for index in indices]
            bad = [int(i) for i, image in zip(indices, images, strict=True) if image is None]
            if not bad:
                return row, images
            unreadable += bad
            if random is None:
                random = np.random.default_rng([self.seed, self.epoch, int(position)])
                same = (plan.targets == plan.targets[position]).all(1)
                same[position] = False
                same = np.flatnonzero(same)
            if not len(same):
                break
            row = random.choice(same)
        return None, None


def training_passes(
    store: ImageStore,
    plan: Plan,
    passes: Sequence[np.ndarray],
    geometry: Geometry,
    *,
    randoms: int,
    seed: int,
    epoch: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield the forward passes of an epoch in order.

    passes: int64 [b] each, positions in the plan. randoms: how many random numbers an image gets
    for the device.
    """
    data = _Passes(store, plan, passes, geometry, randoms, seed, epoch)
    return _loader(data, workers)


class _Views(Dataset):
    """Whole images resized to the network's input, in passes."""

    def __init__(self, store, passes, image_size):
        self.store, self.passes, self.image_size = store, passes, image_size

    def __len__(self) -> int:
        return len(self.passes)

    def __getitem__(self, number: int):
        positions = self.passes[number]
        images = torch.zeros((len(positions), 3, self.image_size, self.image_size)).byte()
        valid = torch.zeros(len(positions), dtype=torch.bool)
        for row, position in enumerate(positions):
            image = self.store.read(position)
            if image is not None:
                images[row] = resize(image, self.image_size)
                valid[row] = True
        return torch.from_numpy(positions), images, valid


def evaluation_batches(
    store: ImageStore,
    image_size: int,
    batch_size: int,
    workers: int,
    indices: np.ndarray | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield (positions int64 [b], images uint8 [b, 3, S, S], valid bool [b]) of a store, in order.

    An image that cannot be read is black and not valid; the caller decides what to do about it.
    """
    indices = np.arange(len(store)) if indices is None else np.asarray(indices, dtype=np.int64)
    passes = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    return _loader(_Views(store, passes, image_size), workers)


def _loader(data: Dataset, workers: int) -> Iterator:
    # A worker makes whole passes (batch_size=None): nothing is collated twice, and one tensor
    # passes between processes instead of one an image.
    workers = min(workers, len(data))
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers and hasattr(os, "fork") else None,
    )
    # Deferred as well: another thread may get a signal, and torch fails on a half-made iterator.
    with signals.deferred(), signals.blocked():
        return iter(loader)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # When the main process stops, the thread that sends tensors loses its connection and would
    # print a long traceback. Errors of the work itself travel with the batch.
    sys.excepthook = lambda *_: None

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

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.batches.batch import Batch
from common.batches.images import Geometry, ImageStore, resize
from common.batches.passes import Pass, Passes, Plan
from common.script import signals


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


class _Asked:
    """The passes of an epoch, each cut out of the plan when it is asked for; see Loader.passes."""

    def __init__(self, plan: Plan, passes: Sequence[np.ndarray], epoch: int):
        self.plan, self.passes, self.epoch = plan, passes, epoch

    def __len__(self) -> int:
        return len(self.passes)

    def __getitem__(self, number: int) -> Pass:
        positions, plan = self.passes[number], self.plan
        # A pass without rows still needs one image for the network, which is not valid.
        chosen = positions if len(positions) else np.zeros(1, dtype=np.int64)
        columns = plan.first, plan.targets, plan.second, plan.form, plan.extent
        return Pass(self.epoch, positions, Plan(*(column[chosen] for column in columns)))


class Loader:
    """Makes the passes of one epoch after the other, by workers that are kept between them.

    A worker forked from a process that holds 4 GiB takes 0.1 s of a core, which is much for an
    epoch of seconds. Workers are sent their rows of each plan. What needs the whole of it, to
    replace images that cannot be read, the main process does itself.

    randoms: how many random numbers an image gets for the device.
    """

    def __init__(
        self, store: ImageStore, geometry: Geometry, *, randoms: int, seed: int, workers: int
    ):
        self._data = Passes(store, geometry, randoms, seed)
        self._workers, self._asked, self._loader = workers, [], None

    def passes(self, plan: Plan, passes: Sequence[np.ndarray], epoch: int) -> Iterator[Batch]:
        """Return the forward passes of an epoch, in order, after all of the epoch before.

        passes: int64 [b] each, positions in the plan.
        """
        asked = _Asked(plan, passes, epoch)
        self._asked[:] = [asked]
        self._loader = self._loader or _make_loader(self._data, self._workers, _Last(self._asked))
        return _Made(_begin(self._loader), self._data, asked)


class _Last(Sampler):
    """Yields the passes of the epoch that a Loader was asked for last."""

    def __init__(self, asked: list[_Asked]):
        self.asked = asked

    def __iter__(self) -> Iterator[Pass]:
        return (self.asked[0][number] for number in range(len(self.asked[0])))

    def __len__(self) -> int:
        return len(self.asked[0])


class _Made:
    """The passes of an epoch, those made that workers could not. (A generator would end with the
    first exception that a signal raises in it.)"""

    def __init__(self, made: Iterator[Batch | None], data: Passes, asked: _Asked):
        self._made, self._data, self._asked, self._number = made, data, asked, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._made)
        if batch is None:
            batch = self._data.make(self._asked[self._number], self._asked.plan)
        self._number += 1
        return batch


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
    """Return the forward passes of one epoch in order; see Loader."""
    workers = min(workers, len(passes))
    return Loader(store, geometry, randoms=randoms, seed=seed, workers=workers).passes(
        plan, passes, epoch
    )


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
    return _begin(_make_loader(_Views(store, passes, image_size), min(workers, len(passes))))


def _make_loader(data: Dataset, workers: int, asked: Sampler | None = None) -> DataLoader:
    """Return torch's loader of what a sampler asks of data; its workers are kept."""
    # A worker makes whole passes (batch_size=None): nothing is collated twice, and one tensor
    # passes between processes instead of one an image.
    return DataLoader(
        data,
        batch_size=None,
        sampler=asked,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=bool(workers and asked),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers and hasattr(os, "fork") else None,
    )


def _begin(loader: DataLoader) -> Iterator:
    # Deferred as well: another thread may get a signal, and torch fails on a half-made iterator.
    with signals.deferred(), signals.blocked():
        return iter(loader)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # When the main process stops, the thread that sends tensors loses its connection and would
    # print a long traceback. Errors of the work itself travel with the batch.
    sys.excepthook = lambda *_: None

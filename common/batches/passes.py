"""From rows of a plan to one forward pass of uint8 images, the same wherever it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from common.batches.batch import ALIGNED, FACS, Batch
from common.batches.images import VIEW, Geometry, ImageStore

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


class Pass(NamedTuple):
    """What a worker is sent: the epoch, positions in its plan, and the plan's rows at these."""

    epoch: int
    positions: np.ndarray
    rows: Plan


class _CannotRead(Exception):
    """Another row must stand for one of this pass, and it is not at hand."""


class Passes(Dataset):
    """Forward passes; one worker makes a whole pass."""

    def __init__(self, store: ImageStore, geometry: Geometry, randoms: int, seed: int):
        self.store, self.geometry, self.randoms, self.seed = store, geometry, randoms, seed

    def __getitem__(self, asked: Pass) -> Batch | None:
        """Return a pass, or None where an image of it cannot be read: see `make`."""
        try:
            return self.make(asked)
        except _CannotRead:
            return None

    def make(self, asked: Pass, plan: Plan | None = None) -> Batch:
        """Return a pass. plan: the whole, from which rows that cannot be read are replaced.

        Raises _CannotRead where that is needed and plan is None.
        """
        rows, count, side = asked.rows, len(asked.positions), self.geometry.image_size
        shape = (max(1, count), 3, side, side)
        images = (torch.empty if count else torch.zeros)(shape, dtype=torch.uint8)
        # Arrays, because setting one number of a tensor takes ten times as long.
        form, extent = np.zeros(shape[0], dtype=np.uint8), np.ones(shape[0], dtype=np.float32)
        uniform = np.zeros((shape[0], self.randoms), dtype=np.float32)
        valid = np.zeros(shape[0], dtype=bool)
        window = np.tile(np.float32([0.0, 1.0]), (shape[0], 1))
        partner_rows, partners, unreadable = [], [], []
        for row, position in enumerate(asked.positions):
            random = np.random.Generator(
                np.random.Philox(key=[self.seed, asked.epoch * 2**32 + position])
            )
            uniform[row] = random.random(self.randoms, dtype=np.float32)
            source, index, read = self._read(asked, row, plan, unreadable)
            if source is None:
                images[row] = 0
                continue
            view = random.random(VIEW)
            images[row], shown = self.geometry.apply(read[0], view)
            valid[row], window[row] = True, shown
            form[row], extent[row] = source.form[index], source.extent[index]
            if len(read) > 1:
                if form[row] not in ALIGNED:
                    view = random.random(VIEW)
                partner_rows.append(row)
                partners.append(self.geometry.apply(read[1], view)[0])
        return Batch(
            images=images,
            partners=torch.stack(partners) if partners else images[:0].clone(),
            partner_rows=torch.tensor(partner_rows, dtype=torch.int64),
            form=torch.from_numpy(form),
            extent=torch.from_numpy(extent),
            window=torch.from_numpy(window),
            targets=torch.from_numpy(rows.targets),
            uniform=torch.from_numpy(uniform),
            valid=torch.from_numpy(valid),
            any_facs=bool((form == FACS).any()),
            unreadable=tuple(unreadable),
        )

    def _read(self, asked: Pass, number: int, plan: Plan | None, unreadable: list[int]):
        """Return (plan, row of it, its one or two images) for row `number` of a pass.

        It is that very row. If one of its images cannot be read (01 has read every file, but disks
        fail), it is another row of the same target, with its own partner and form, so that the
        label stays right; the position alone decides which. (None, None, None) if a few others
        cannot be read either. Adds the indices of bad images to `unreadable`.
        """
        rows, row, random = asked.rows, number, None
        for _ in range(REPLACEMENTS + 1):
            indices = [index for index in (rows.first[row], rows.second[row]) if index >= 0]
            images = [self.store.read(index) for index in indices]
            bad = [int(i) for i, image in zip(indices, images, strict=True) if image is None]
            if not bad:
                return rows, row, images
            if plan is None:
                raise _CannotRead
            unreadable += bad
            if random is None:
                position, rows = int(asked.positions[number]), plan
                random = np.random.default_rng([self.seed, asked.epoch, position])
                same = (plan.targets == plan.targets[position]).all(1)
                same[position] = False
                same = np.flatnonzero(same)
            if not len(same):
                break
            row = random.choice(same)
        return None, None, None

"""One batch as the loader hands it over: its tensors, and the names of its forms and columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

# How an image of a batch is made of its one or two images: blended (Mixup); a box, or one half, of
# the second over the first (CutMix); FACS is the upper face of the first over the lower of the
# second.
SINGLE, MIXUP, BOX, LEFT_RIGHT, TOP_BOTTOM, FACS = range(6)

# Forms whose two images must show the same part of the face: both get the same random crop.
ALIGNED = (FACS,)

# What `augment` takes of each image's random numbers: columns of Batch.uniform.
JITTER = slice(0, 3)  # brightness, contrast, saturation
BOX_PLACE = slice(3, 5)  # x, y
CUTOUT = slice(5, 8)  # whether, x, y
RANDOMS = 8
AFFINE = slice(8, 12)  # angle, scale, shift in x and y
RANDOMS_WITH_AFFINE = 12


@dataclass(frozen=True)
class Batch:
    """The images of one forward pass: b of them, m mixed with a partner."""

    images: torch.Tensor  # uint8 [b, 3, S, S]
    partners: torch.Tensor  # uint8 [m, 3, S, S]
    partner_rows: torch.Tensor  # int64 [m], the rows of `images` that the partners belong to
    form: torch.Tensor  # uint8 [b], one of the forms above
    extent: torch.Tensor  # float32 [b], of the first image: see loading.Plan
    window: torch.Tensor  # float32 [b, 2], rows of its image that a crop shows: Geometry.apply
    targets: torch.Tensor  # float32 [b, C]
    uniform: torch.Tensor  # float32 [b, randoms] in 0..1
    valid: torch.Tensor  # bool [b], False: unreadable and not replaced, so it must not count
    any_facs: bool  # whether an image has the form FACS: to ask a GPU would be to wait for it
    unreadable: tuple[int, ...] = ()  # indices of images that could not be read, replaced or not
    step_targets: torch.Tensor | None = None  # float32 [B, C], of the whole step; set by the loop
    epoch: int = 0  # of the phase, from 0; set by the loop

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory: torch's loader calls this where there is a GPU."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        tensors = {name: one for name, one in vars(self).items() if torch.is_tensor(one)}
        return replace(self, **{name: change(one) for name, one in tensors.items()})

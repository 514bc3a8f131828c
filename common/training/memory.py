"""The default batch size on a GPU, from the memory that the network needs for each image."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from common.batches.batch import Batch
from common.training.runs import Run

# Of the memory that is free; the rest is for what comes and goes within a step.
SHARE = 0.85
# Bytes a weight: itself, its gradient, two moments of AdamW, its copy in half precision, the
# exchange between processes and the average (--ema).
WEIGHT_BYTES = 4 + 4 + 8 + 2 + 4 + 4
# Of the float32 bytes that an image takes, what is left in half precision: a block of a ViT keeps
# its two sums and their norms' inputs in float32, so 38 of 68 bytes a token and feature.
HALF = 0.6
# Recomputed blocks (--grad-checkpointing) keep their inputs, and one block at a time the rest.
CHECKPOINTED = 0.25
# More images at once make no GPU faster, and a loader's worker holds whole passes.
MOST_PIXELS = 256 * 224**2
ON_CPU = 64


def choose_batch(run: Run, network: nn.Module, experiment) -> int:
    """Return how many images a process trains on at once; never more than its share of a step.

    experiment: an Experiment, of experiment.py.
    """
    device, settings, most = run.accelerator.device, run.settings, ON_CPU
    if device.type == "cuda":
        side, classes = experiment.geometry.image_size, experiment.plan(0).targets.shape[1]
        most = batch_for(
            # Free, or reserved by this process already.
            torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device),
            sum(weight.numel() for weight in network.parameters()),
            image_bytes(network, experiment.loss, side, experiment.randoms, classes),
            side,
            half=settings["mixed_precision"] != "no",
            recompute=settings["grad_checkpointing"],
        )
    return min(most, -(-settings["global_batch"] // run.accelerator.num_processes))


def image_bytes(
    network: nn.Module,
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    image_size: int,
    randoms: int,
    classes: int,
) -> int:
    """Return the bytes that a training step in float32 keeps of each image for its gradient.

    They are counted on torch's `meta` device, where tensors have shapes and no memory: any network
    and loss (see Experiment), in two forward passes of one and of two images.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    shapes = {
        name: torch.empty_like(one, device="meta").requires_grad_(one.requires_grad)
        for name, one in tensors
    }

    def of_shapes(*inputs: torch.Tensor):
        return functional_call(network, shapes, inputs)

    one, two = (
        _kept_bytes(
            lambda count=count: loss(of_shapes, _blank(count, image_size, randoms, classes))
        )
        for count in (1, 2)
    )
    return two - one  # without what is kept once: the weights


def _kept_bytes(forward: Callable[[], torch.Tensor]) -> int:
    kept = {}  # by storage, for several tensors may share one

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def _blank(count: int, image_size: int, randoms: int, classes: int) -> Batch:
    """Return a batch of unmixed images on the `meta` device."""
    with torch.device("meta"):
        return Batch(
            images=torch.empty((count, 3, image_size, image_size), dtype=torch.uint8),
            partners=torch.empty((0, 3, image_size, image_size), dtype=torch.uint8),
            partner_rows=torch.empty(0, dtype=torch.int64),
            form=torch.empty(count, dtype=torch.uint8),
            extent=torch.empty(count),
            window=torch.empty((count, 2)),
            targets=torch.empty((count, classes)),
            uniform=torch.empty((count, randoms)),
            valid=torch.empty(count, dtype=torch.bool),
            any_facs=False,
            step_targets=torch.empty((count, classes)),
            epoch=sys.maxsize,  # the last: earlier ones may show smaller images, which need less
        )


def batch_for(
    memory: float, weights: int, image: float, image_size: int, *, half: bool, recompute: bool
) -> int:
    """Return how many images a GPU trains on at once: a multiple of 8, or fewer than 8.

    memory: bytes that are free for training. weights: of the network, their number. image: of
    image_bytes. half: products in bf16 or fp16. recompute: --grad-checkpointing.
    """
    each = image * (HALF if half else 1) * (CHECKPOINTED if recompute else 1)
    room = (SHARE * memory - WEIGHT_BYTES * weights) / max(1, each)
    batch = int(min(room, MOST_PIXELS / image_size**2))
    return batch // 8 * 8 if batch >= 8 else max(1, batch)

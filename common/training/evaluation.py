"""A network's answers to a set of images, over all processes of a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.script import signals
from common.script.files import UserError
from common.training.runs import Run


@torch.no_grad()
def predict(
    run: Run,
    network: nn.Module,
    store: ImageStore,
    indices: np.ndarray,
    classes: int,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    what: str = "validation",
) -> np.ndarray:
    """Return the logits of some images, float32 [n, classes], the same in every process.

    prepare: uint8 [b, 3, S, S] on the device → the network's input. Each image is computed once,
    by one process. Raises UserError where a file cannot be read: a score over fewer images than
    are labelled would not be the score.
    """
    accelerator = run.accelerator
    accelerator.unwrap_model(network).eval()
    logits = torch.zeros((len(indices), classes), device=accelerator.device)
    mine = np.arange(len(indices))[accelerator.process_index :: accelerator.num_processes]
    batches = evaluation_batches(
        store, run.settings["image_size"], 4 * run.batch_size, run.workers, indices[mine]
    )
    done = 0
    for positions, images, valid in batches:
        if not valid.all():
            lost = store.path(int(positions[~valid][0]))
            raise UserError(
                f"The {what} image {lost} cannot be read; run 01_prepare_data.py again."
            )
        with accelerator.autocast(), run.uncompiled():
            output = accelerator.unwrap_model(network)(prepare(images.to(accelerator.device)))
        logits[torch.as_tensor(mine[done : done + len(images)], device=logits.device)] = (
            output.float()
        )
        done += len(images)
    with signals.deferred():  # raised where the loader is deleted, a signal would be lost
        del batches
    return accelerator.reduce(logits, "sum").cpu().numpy()

"""One optimiser step: its gradient, where it may stop, and whether the loss is still finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from common.batches.batch import Batch
from common.script import signals
from common.training import journal
from common.training.experiment import Epoch, Training
from common.training.optimization import clip_gradient, take_step


def train_step(training: Training, epoch: Epoch, step: int, passes: Iterator[Batch]) -> None:
    """Take one optimiser step on a global batch, and add its loss to the epoch's."""
    accelerator, optimizer = training.run.accelerator, training.optimizer
    steps_done = training.progress["steps_done"]
    learned = steps_done - training.progress["skipped"]  # steps that changed weights
    factor = training.experiment.schedule(learned)
    warming_head = learned < training.experiment.head_steps
    for group in optimizer.param_groups:
        still = warming_head and not group.get("head")
        group["lr"] = 0.0 if still else group["base_lr"] * factor
    # Dropout and its like depend on the step alone, so that a resumed run repeats them.
    key = (training.run.settings["seed"], steps_done, accelerator.process_index)
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    with training.states.step(len(epoch.steps[step])):
        loss, unreadable = _accumulate_gradient(training, epoch, step, passes)
    norm = clip_gradient(
        accelerator, training.network, optimizer, training.run.settings["clip_grad"]
    )
    skipped = take_step(accelerator, optimizer)
    optimizer.zero_grad(set_to_none=True)
    if training.average and not skipped:
        training.average.update(learned)
    training.progress["skipped"] += skipped
    training.progress["steps_done"] += 1
    epoch.unreadable += unreadable
    here = torch.stack([loss, loss.new_tensor(len(unreadable))])
    epoch.sums[:2] += accelerator.reduce(here, "sum")
    epoch.sums[2] += norm.nan_to_num(0.0, 0.0)  # of fp16, a step that overflowed is skipped
    failed = (epoch.diverged < 0) & ~epoch.sums[0].isfinite()
    epoch.diverged = torch.where(failed, step, epoch.diverged)


def _accumulate_gradient(
    training: Training, epoch: Epoch, step: int, passes: Iterator[Batch]
) -> tuple[torch.Tensor, list[int]]:
    """Add up the gradient of one step over this process's passes.

    Returns the sum of their losses, float32 [], and the indices of unreadable images. Raises
    `Stopped` before the last pass, with a state saved, where a process is to stop.
    """
    run, accelerator = training.run, training.run.accelerator
    size, last = run.settings["global_batch"], len(epoch.steps[step]) - 1
    targets = epoch.targets[step * size : (step + 1) * size]  # [B, C], of all processes
    total, unreadable = torch.zeros((), device=accelerator.device), []
    for index in range(last + 1):
        asked = time.monotonic()
        batch = _next_unless_stopped(passes)
        epoch.waited_s += time.monotonic() - asked
        if index == last:
            _save_where_due(training, epoch, step, stopped=batch is None)
        if batch is None:
            continue
        unreadable += batch.unreadable
        batch = replace(batch.to(accelerator.device), step_targets=targets, epoch=epoch.number)
        # Gradients are exchanged once a step, with its last pass.
        exchanged = nullcontext() if index == last else accelerator.no_sync(training.network)
        # The last step of an epoch has passes of other lengths, which run uncompiled.
        ragged = len(batch.images) not in epoch.compiled
        with exchanged, run.uncompiled() if ragged else nullcontext():
            with accelerator.autocast():
                losses = training.experiment.loss(training.network, batch)
            summed = (losses.float() * batch.valid).sum()
            # Exchanged gradients are averaged over the processes: scaled back to a sum.
            accelerator.backward(summed * (accelerator.num_processes / len(targets)))
        total += summed.detach()
    return total, unreadable


def _save_where_due(training: Training, epoch: Epoch, step: int, stopped: bool) -> None:
    """Save a state where the last one is old or a process is to stop; then leave if one is.

    All processes meet here before the last pass of each step. Weights change only after this point,
    so a saved state is always the start of a step.
    """
    run, states = training.run, training.states
    if not run.any_process(stopped or states.age_s > 60 * run.save_minutes):
        return
    check_loss(training, epoch, step)
    training.progress.update(epoch=epoch.number, step=step, sums=epoch.sums.tolist())
    states.save(training.progress)
    if run.any_process(stopped):
        signals.leave()


def check_loss(training: Training, epoch: Epoch, steps: int) -> float:
    """Return the mean loss of the first `steps` steps of an epoch, and note unreadable images.

    Raises UserError where the loss is not finite, fp16 overflows again and again, or too many
    images are unreadable.
    """
    run, name, progress = training.run, training.experiment.name, training.progress
    images = min(len(epoch.shown), steps * run.settings["global_batch"])
    mean = float(epoch.sums[0]) / max(1, images)
    shown = (run, name, training.store, epoch.shown)
    if not math.isfinite(mean):
        failed = int(epoch.diverged)
        factor = training.experiment.schedule(progress["steps_done"] - steps + failed)
        rate = factor * training.optimizer.param_groups[-1]["base_lr"]
        journal.refuse_divergence(*shown, epoch.number, failed, rate)
    scaler = run.accelerator.scaler
    if scaler and scaler.get_scale() < 1:
        journal.refuse_overflow(name, progress["skipped"], epoch.number)
    journal.note_unreadable(*shown, int(epoch.sums[1]), epoch.unreadable, progress)
    return mean


def _next_unless_stopped(passes: Iterator[Batch]) -> Batch | None:
    """Return the next pass, or None where a signal came: then nothing is awaited any more."""
    try:
        with signals.at_once():
            return next(passes)
    except signals.Stopped:
        return None

"""The training loop on Accelerate: epochs and steps that can be interrupted and resumed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.batches.batch import Batch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Loader, Plan, split_batches
from common.script import signals
from common.script.main import batch_is
from common.script.progress import progress_bar
from common.training import journal
from common.training.memory import choose_batch
from common.training.optimization import (
    Average,
    clip_gradient,
    take_step,
    use_grad_checkpointing,
)
from common.training.runs import Run
from common.training.states import States

# Steps between two checks of the loss: a check makes the processor wait for the GPU.
CHECK_EVERY = 10


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
class _Training:
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
class _Epoch:
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


@signals.deferred()
def fit(run: Run, network: nn.Module, store: ImageStore, experiment: Experiment) -> pd.DataFrame:
    """Train to the end, starting from the last saved state of the experiment's name.

    Returns one row an epoch, which is also written to `metrics.csv`. On SIGTERM, SIGHUP or Ctrl-C
    a state is written and `Stopped` raised.

    The gradient of a step is that of the mean loss over the global batch, whatever the number of
    processes and passes it is computed in. Only what the network itself draws (dropout,
    `--drop-path`) and what it normalises over a batch depend on those.

    Of the run's settings, `global_batch`, `seed`, `ema` and `start_share` (of Average: `validate`
    and `keep` see the average, and the network holds it in the end), `clip_grad`, `compile` and
    `grad_checkpointing` are read here. A `batch_size` that the run leaves open is chosen by the
    memory.

    Raises UserError where the loss is not finite, fp16 overflows in step after step, or more than
    0.1 % of an epoch's images cannot be read; the state before is kept.
    """
    training = _begin(run, network, store, experiment)
    progress, lately = training.progress, deque(maxlen=run.settings.get("validate_every", 1))
    for number in range(progress["epoch"], experiment.epochs):
        if experiment.stop_early(progress["rows"]):
            run.say(f"{experiment.name}: no better for a while, stopped after epoch {number}")
            break
        begun, first = time.monotonic(), progress["step"]
        row = _train_epoch(training, number)
        row.update(_validate(training, number))
        spent_s, trained = time.monotonic() - begun, 1 - first / progress["step"]
        progress.update(epoch=number + 1, step=0, sums=[0.0] * 3, rows=[*progress["rows"], row])
        journal.write_metrics(run, progress["rows"])
        training.states.save(progress)
        lately.append(spent_s / trained if trained else 0)
        left_s = np.mean(lately) * (experiment.epochs - number - 1)
        with signals.at_once():  # a full pipe may keep us waiting
            journal.report_epoch(run, row, experiment.epochs, left_s)
        if run.any_process(signals.caught()):
            signals.leave()
    if training.average:
        training.average.put()  # for good: the average is the result
    table = pd.DataFrame(progress["rows"])
    journal.report_phase(run, experiment.name, progress, table)
    return table


def _begin(run: Run, network: nn.Module, store: ImageStore, experiment: Experiment) -> _Training:
    """Prepare network and optimiser for the hardware, and load the last saved state."""
    run.batch_size = run.batch_size or choose_batch(run, network, experiment)
    batch_is(run.batch_size)
    if run.settings["grad_checkpointing"]:
        use_grad_checkpointing(network)
    if run.settings["compile"]:
        # In place: parameters keep their names. Passes have one or two lengths, each compiled for
        # itself: a length left open costs speed.
        network.compile(dynamic=False)
    network, optimizer = run.accelerator.prepare(network, experiment.optimizer)
    # After prepare, which has moved the weights to the device.
    kept = run.settings["ema"], run.settings.get("start_share", 0.0)
    average = Average(network, *kept) if any(kept) else None
    states = States(run, experiment.name, network, optimizer, average)
    numbers = dict(randoms=experiment.randoms, seed=run.settings["seed"], workers=run.workers)
    loader = Loader(store, experiment.geometry, **numbers)
    prepared = network, optimizer, average, states, loader, states.load()
    return _Training(run, experiment, store, *prepared)


def _train_epoch(training: _Training, number: int) -> dict:
    """Take the steps of an epoch that are left to do; return its row of metrics.csv."""
    run, experiment, progress = training.run, training.experiment, training.progress
    accelerator, size = run.accelerator, run.settings["global_batch"]
    shown, first = experiment.plan(number), progress["step"]
    rank, processes = accelerator.process_index, accelerator.num_processes
    steps = split_batches(len(shown), size, run.batch_size, rank, processes)
    left = [positions for step in steps[first:] for positions in step]
    passes = training.loader.passes(shown, left, number)
    begun = time.monotonic()
    device, compiled = accelerator.device, {max(1, len(positions)) for positions in steps[0]}
    targets = torch.from_numpy(shown.targets).to(device)  # at once: a copy waits for the GPU
    sums, diverged = torch.tensor(progress["sums"], device=device), torch.tensor(-1, device=device)
    epoch = _Epoch(number, shown, targets, steps, compiled, sums, diverged)
    training.network.train()
    title, done = f"{experiment.name} {number + 1}/{experiment.epochs}", first * size
    with progress_bar(title, "img", len(shown), run.main, initial=done, leave=False) as bar:
        for step in range(first, len(steps)):
            _train_step(training, epoch, step, passes)
            bar.update(min(size, len(shown) - step * size))
            if step + 1 == len(steps) or (step + 1) % CHECK_EVERY == 0:
                mean = _check_loss(training, epoch, step + 1)
                bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
    progress.update(epoch=number, step=len(steps), sums=epoch.sums.tolist())
    spent_s = time.monotonic() - begun
    skipped = {"skipped_steps": progress["skipped"]} if accelerator.scaler else {}
    return {
        "phase": experiment.name,
        "epoch": number + 1,
        "loss": float(epoch.sums[0]) / len(shown),
        "learning_rate": training.optimizer.param_groups[-1]["lr"],
        "gradient_norm": float(epoch.sums[2]) / len(steps),
        "images_per_s": max(0, len(shown) - done) / spent_s,
        "data_wait": epoch.waited_s / spent_s,
        "unreadable": int(epoch.sums[1]),
        **skipped,
    }


def _train_step(training: _Training, epoch: _Epoch, step: int, passes: Iterator[Batch]) -> None:
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
    training: _Training, epoch: _Epoch, step: int, passes: Iterator[Batch]
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


def _save_where_due(training: _Training, epoch: _Epoch, step: int, stopped: bool) -> None:
    """Save a state where the last one is old or a process is to stop; then leave if one is.

    All processes meet here before the last pass of each step. Weights change only after this point,
    so a saved state is always the start of a step.
    """
    run, states = training.run, training.states
    if not run.any_process(stopped or states.age_s > 60 * run.save_minutes):
        return
    _check_loss(training, epoch, step)
    training.progress.update(epoch=epoch.number, step=step, sums=epoch.sums.tolist())
    states.save(training.progress)
    if run.any_process(stopped):
        signals.leave()


def _check_loss(training: _Training, epoch: _Epoch, steps: int) -> float:
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


def _validate(training: _Training, number: int) -> dict:
    """Return the validation figures of an epoch; keep the network where it is the best so far.

    Where a signal stops it, a state is written from which only the validation is left to do.
    """
    run, experiment, progress = training.run, training.experiment, training.progress
    try:
        with training.average.applied() if training.average else nullcontext():
            with signals.at_once():
                figures = experiment.validate(number)
            score = figures.get(experiment.best)
            if score is not None and score >= (progress["best"] or 0.0):
                progress["best"] = score
                if run.main:
                    experiment.keep()
    except BaseException:
        if signals.caught() and run.main:
            training.states.write(progress)
        raise
    return figures


def _next_unless_stopped(passes: Iterator[Batch]) -> Batch | None:
    """Return the next pass, or None where a signal came: then nothing is awaited any more."""
    try:
        with signals.at_once():
            return next(passes)
    except signals.Stopped:
        return None

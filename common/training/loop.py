"""The training loop on Accelerate: epochs that can be interrupted and resumed."""

from __future__ import annotations

import time
from collections import deque
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.batches.images import ImageStore
from common.batches.loading import Loader, split_batches
from common.script import signals
from common.script.main import batch_is
from common.script.progress import progress_bar
from common.training import journal
from common.training.experiment import Epoch, Experiment, Training
from common.training.memory import choose_batch
from common.training.optimization import Average, use_grad_checkpointing
from common.training.runs import Run
from common.training.states import States
from common.training.steps import check_loss, train_step

# Steps between two checks of the loss: a check makes the processor wait for the GPU.
CHECK_EVERY = 10


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


def _begin(run: Run, network: nn.Module, store: ImageStore, experiment: Experiment) -> Training:
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
    return Training(run, experiment, store, *prepared)


def _train_epoch(training: Training, number: int) -> dict:
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
    epoch = Epoch(number, shown, targets, steps, compiled, sums, diverged)
    training.network.train()
    title, done = f"{experiment.name} {number + 1}/{experiment.epochs}", first * size
    with progress_bar(title, "img", len(shown), run.main, initial=done, leave=False) as bar:
        for step in range(first, len(steps)):
            train_step(training, epoch, step, passes)
            bar.update(min(size, len(shown) - step * size))
            if step + 1 == len(steps) or (step + 1) % CHECK_EVERY == 0:
                mean = check_loss(training, epoch, step + 1)
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


def _validate(training: Training, number: int) -> dict:
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

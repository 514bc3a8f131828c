"""The training loop on Accelerate: steps, states, and what is told of an epoch.

What a script adds is its experiment: the plan of each epoch, the loss, the validation. The run
folder is that of `common.training.runs`, the saved states those of `common.training.states`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.batches.batch import Batch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Plan, split_batches, training_passes
from common.script import signals
from common.script.progress import progress_bar
from common.training.journal import (
    note_unreadable,
    refuse_divergence,
    report_epoch,
    report_phase,
    write_metrics,
)
from common.training.optimization import Average
from common.training.runs import Run
from common.training.states import States

# Steps between two looks at the loss: a look makes the processor wait for the GPU.
LOOK_EVERY = 10


@signals.deferred()
def fit(
    run: Run,
    network: nn.Module,
    store: ImageStore,
    *,
    name: str,
    epochs: int,
    plan: Callable[[int], Plan],
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    geometry: Geometry,
    randoms: int,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    validate: Callable[[int], dict[str, float]] | None = None,
    best: str | None = None,
    keep: Callable[[], None] | None = None,
    stop_early: Callable[[list[dict]], bool] | None = None,
) -> pd.DataFrame:
    """Train for `epochs` epochs, going on from the last saved state of the phase `name`.

    plan(epoch): what the epoch shows. loss(network, batch): of each image, [b]. schedule(step):
    factor of the rates. validate(epoch): figures of the epoch, after it; with `best`, the figure
    whose highest value makes `keep` store the network. stop_early(rows of the epochs so far): end
    here? Beside the loader's tensors a batch holds step_targets, the labels [B, C] of the whole
    global batch, on all processes. Returns one row an epoch, which is also written to
    `metrics.csv`. On SIGTERM, SIGHUP or Ctrl-C a state is written and `Stopped` raised.

    The gradient of a step is that of the mean loss over the global batch, whatever the number of
    processes and passes it is computed in. Of the run's settings, `ema` (decay of an average of
    the weights, 0 for none: `validate` and `keep` see the average, and the network holds it in
    the end), `compile` and `grad_checkpointing` are read here.

    Raises UserError where the loss is not finite, or more than 0.1 % of an epoch's images cannot
    be read; the state before is kept.
    """
    accelerator, settings = run.accelerator, run.settings
    global_batch = settings["global_batch"]
    if settings.get("grad_checkpointing"):
        network.set_grad_checkpointing()
    if settings.get("compile"):
        network.compile()  # in place: parameters keep their names
    network, optimizer = accelerator.prepare(network, optimizer)
    # After prepare, which has moved the weights to the device.
    average = Average(network, settings["ema"]) if settings.get("ema") else None
    states = States(run, name, network, optimizer, average)
    progress = states.load()
    saved = time.monotonic()

    def look(steps_of_epoch: int) -> None:
        """Show the mean loss of the epoch so far; raise UserError for what must not go on."""
        mean = float(sums[0]) / max(1, min(len(shown), steps_of_epoch * global_batch))
        bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
        if not math.isfinite(mean):
            rate = schedule(progress["steps_done"] - steps_of_epoch + int(diverged))
            rate *= optimizer.param_groups[-1]["base_lr"]
            refuse_divergence(run, name, store, shown, epoch, int(diverged), rate)
        note_unreadable(run, name, store, shown, int(sums[1]), failed, progress)

    def meet(stopped: bool) -> None:
        """Write the state of a step's beginning where it is time; leave if a process must.

        All processes meet here before the last pass of each step. Weights change after it only, so
        that they are those of the step's beginning in whichever of its passes a signal came.
        """
        nonlocal saved
        overdue = time.monotonic() - saved > 60 * run.save_minutes
        if not _any_process(run, stopped or overdue):
            return
        look(number)
        progress.update(epoch=epoch, step=number, sums=sums.tolist())
        saved = states.save(progress, saved)
        if _any_process(run, stopped):
            signals.leave()

    for epoch in range(progress["epoch"], epochs):
        if stop_early and stop_early(progress["rows"]):
            run.say(f"{name}: no better for a while, stopped after epoch {epoch}")
            break
        shown = plan(epoch)
        first = progress["step"]
        steps = split_batches(
            len(shown),
            global_batch,
            run.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
        )
        passes = training_passes(
            store,
            shown,
            [one for step in steps[first:] for one in step],
            geometry,
            randoms=randoms,
            seed=settings["seed"],
            epoch=epoch,
            workers=run.workers,
        )
        network.train()
        begun, waited, failed = time.monotonic(), 0.0, []
        sums = torch.tensor(progress["sums"], device=accelerator.device)
        diverged = torch.tensor(-1, device=accelerator.device)  # the first step without a loss
        told = f"{name} {epoch + 1}/{epochs}"
        bar = progress_bar(
            told, "img", len(shown), run.main, initial=first * global_batch, leave=False
        )
        for number in range(first, len(steps)):
            size = min(global_batch, len(shown) - number * global_batch)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * schedule(progress["steps_done"])
            # Dropout and its like depend on the step alone, so that a resumed run repeats them.
            key = (settings["seed"], progress["steps_done"], accelerator.process_index)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
            targets = shown.targets[number * global_batch : number * global_batch + size]
            here, lost, wait = _accumulate(
                run, network, loss, passes, len(steps[number]), targets, meet
            )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average:
                average.update(progress["steps_done"])
            progress["steps_done"] += 1
            failed += lost
            waited += wait
            sums += accelerator.reduce(here, "sum")
            diverged = torch.where((diverged < 0) & ~sums[0].isfinite(), number, diverged)
            bar.update(size)
            if number + 1 == len(steps) or (number + 1) % LOOK_EVERY == 0:
                look(number + 1)
        bar.close()
        spent = time.monotonic() - begun
        row = {
            "phase": name,
            "epoch": epoch + 1,
            "loss": float(sums[0]) / len(shown),
            "learning_rate": optimizer.param_groups[-1]["lr"],
            "images_per_s": max(0, len(shown) - first * global_batch) / spent,
            "data_wait": waited / spent,
            "unreadable": int(sums[1]),
        }
        try:
            with average.applied() if average else nullcontext():
                with signals.at_once():
                    row.update(validate(epoch) if validate else {})
                rows = [*progress["rows"], row]
                if best and row[best] >= max(earlier[best] for earlier in rows):
                    progress["best"] = row[best]
                    if run.main:
                        keep()
        except BaseException:
            if signals.caught() and run.main:  # the next run has only the validation to do
                progress.update(epoch=epoch, step=len(steps), sums=sums.tolist())
                states.write(progress)
            raise
        progress.update(epoch=epoch + 1, step=0, sums=[0.0, 0.0], rows=rows)
        write_metrics(run, rows)
        saved = states.save(progress, saved)
        with signals.at_once():  # a full pipe may keep us waiting
            report_epoch(run, row, epochs)
        if _any_process(run, signals.caught()):
            signals.leave()
    if average:
        average.swap()  # for good: the average is the result
    table = pd.DataFrame(progress["rows"])
    report_phase(run, name, progress, table)
    return table


def _accumulate(
    run: Run,
    network: nn.Module,
    loss: Callable,
    passes: Iterator[Batch],
    count: int,
    targets: np.ndarray,
    meet: Callable[[bool], None],
) -> tuple[torch.Tensor, list[int], float]:
    """Add up the gradient of one step over `count` passes of this process.

    targets: labels of the step's images, over all processes. meet(stopped): is called before the
    last pass, and does not return where one of the processes is stopped. Returns float32 [2] on the
    device, the sum of the losses and the number of unreadable images; the indices of those; the
    seconds waited for data.
    """
    accelerator = run.accelerator
    sums, failed, waited = torch.zeros(2, device=accelerator.device), [], 0.0
    step_targets = torch.from_numpy(targets).to(accelerator.device)
    for index in range(count):
        asked = time.monotonic()
        batch = _next_unless_stopped(passes)
        waited += time.monotonic() - asked
        if index == count - 1:
            meet(batch is None)
        if batch is None:
            continue
        failed += batch.unreadable
        batch = replace(batch.to(accelerator.device), step_targets=step_targets)
        # Gradients are exchanged once a step, with its last pass.
        exchanged = nullcontext() if index == count - 1 else accelerator.no_sync(network)
        # A compiled network is made for whole passes; a smaller one runs uncompiled.
        ragged = len(batch.images) < run.batch_size
        with exchanged, run.uncompiled() if ragged else nullcontext():
            with accelerator.autocast():
                losses = loss(network, batch)
            summed = (losses.float() * batch.valid).sum()
            # Exchanged gradients are averaged over the processes: scaled back to a sum.
            accelerator.backward(summed * (accelerator.num_processes / len(targets)))
        sums[0] += summed.detach()
    sums[1] = len(failed)
    return sums, failed, waited


def _next_unless_stopped(passes: Iterator[Batch]) -> Batch | None:
    """Return the next pass, or None where a signal came: then nothing is awaited any more."""
    try:
        with signals.at_once():
            return next(passes)
    except signals.Stopped:
        return None


def _any_process(run: Run, here: bool) -> bool:
    """Tell whether any process asks for a state; all must write it at the same step."""
    if run.accelerator.num_processes == 1:
        return bool(here)
    asked = torch.tensor(float(bool(here)), device=run.accelerator.device)
    return bool(run.accelerator.reduce(asked, "sum") > 0)

"""The training loop on Accelerate: schedules, optimiser, steps, evaluation.

What a script adds is its experiment: the plan of each epoch, the loss, the validation. The run
folder is that of `common.runs`, the saved states those of `common.states`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from tqdm import tqdm

from common.files import UserError, whole_file
from common.loading import (
    Geometry,
    ImageStore,
    Plan,
    evaluation_batches,
    split_batches,
    training_passes,
)
from common.runs import Run
from common.states import States, StopSignal

# Steps between two looks at the loss: a look makes the processor wait for the GPU.
LOOK_EVERY = 10


def cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine to zero: factor of the base rate at each step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def plateau(steps: int, warmup: int, end: float = 0.25) -> Callable[[int], float]:
    """Linear warm-up, the full rate, and a linear end to zero over the last quarter.

    A cosine over the whole curriculum leaves its last sub-stage, the one with most compounds,
    nearly no rate to learn with.
    """

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1, steps * end))

    return factor


def make_optimizer(
    network: nn.Module,
    rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW without decay of biases, norms, positions and tokens.

    layer_decay: a block's rate is this power of its distance from the head (1: all alike).
    """
    if layer_decay < 1.0:
        groups = param_groups_layer_decay(
            network, weight_decay, network.no_weight_decay(), layer_decay=layer_decay
        )
    else:
        decayed, free = [], []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                plain = parameter.ndim <= 1 or name.endswith(("pos_embed", "_token", "latent"))
                (free if plain else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
    for group in groups:
        group["lr"] = group["base_lr"] = rate * group.get("lr_scale", 1.0)
    return torch.optim.AdamW(groups, lr=rate, betas=betas)


def fit(
    run: Run,
    network: nn.Module,
    store: ImageStore,
    *,
    name: str,
    epochs: int,
    plan: Callable[[int], Plan],
    loss: Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    geometry: Geometry,
    randoms: int,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    validate: Callable[[int], dict[str, float]] | None = None,
    best: str | None = None,
    keep: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """Train for `epochs` epochs, going on from the last saved state of the phase `name`.

    plan(epoch): what the epoch shows. loss(network, batch): of each image, [b]. schedule(step):
    factor of the rates. validate(epoch): figures of the epoch, after it; with `best`, the figure
    whose highest value makes `keep` store the network. Returns one row an epoch, which is also
    written to `metrics.csv`. On SIGTERM or Ctrl-C a state is written and the process exits.

    The gradient of a step is that of the mean loss over the global batch, whatever the number of
    processes and passes it is computed in.
    """
    accelerator, settings = run.accelerator, run.settings
    global_batch, world = settings["global_batch"], accelerator.num_processes
    network, optimizer = accelerator.prepare(network, optimizer)
    states = States(run, name, network, optimizer)
    progress = states.load()
    stop = StopSignal()
    saved = time.monotonic()
    for epoch in range(progress["epoch"], epochs):
        shown = plan(epoch)
        first, (loss_sum, unreadable) = progress["step"], progress["sums"]
        steps = split_batches(
            len(shown), global_batch, run.batch_size, accelerator.process_index, world
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
        begun, waited = time.monotonic(), 0.0
        sums = torch.tensor([loss_sum, unreadable], device=accelerator.device)
        bar = tqdm(
            total=len(shown),
            initial=first * global_batch,
            desc=f"{name} {epoch + 1}/{epochs}",
            unit="img",
            leave=False,
            disable=None if run.main else True,
        )
        for number in range(first, len(steps)):
            size = min(global_batch, len(shown) - number * global_batch)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * schedule(progress["steps_done"])
            # Dropout and its like depend on the step alone, so that a resumed run repeats them.
            key = (settings["seed"], progress["steps_done"], accelerator.process_index)
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
            here = torch.zeros(2, device=accelerator.device)
            for index, positions in enumerate(steps[number]):
                asked = time.monotonic()
                batch = next(passes)
                waited += time.monotonic() - asked
                batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in batch.items()}
                # Gradients are exchanged once a step, with its last pass.
                last = index == len(steps[number]) - 1
                with nullcontext() if last else accelerator.no_sync(network):
                    with accelerator.autocast():
                        losses = loss(network, batch)
                    summed = (losses.float() * batch["weight"]).sum()
                    # Exchanged gradients are averaged over the processes: scaled back to a sum.
                    accelerator.backward(summed * (world / size))
                here[0] += summed.detach()
                here[1] += len(positions) - batch["weight"].sum()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress["steps_done"] += 1
            sums += accelerator.reduce(here, "sum")
            bar.update(size)
            ended = number + 1 == len(steps)
            if ended or (number + 1) % LOOK_EVERY == 0:
                mean = float(sums[0]) / min(len(shown), (number + 1) * global_batch)
                bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
                if not math.isfinite(mean):
                    raise UserError(
                        f"The loss of {name} became {mean} in epoch {epoch + 1}; lower the "
                        "learning rate or choose --mixed-precision no."
                    )
            overdue = time.monotonic() - saved > 60 * run.save_minutes
            if not ended and _any_process(run, stop.caught or overdue):
                progress.update(epoch=epoch, step=number + 1, sums=sums.tolist())
                saved = states.save(progress, saved)
                if _any_process(run, stop.caught):
                    stop.leave()
        bar.close()
        spent = time.monotonic() - begun
        row = {
            "phase": name,
            "epoch": epoch + 1,
            "loss": float(sums[0]) / len(shown),
            "learning_rate": optimizer.param_groups[-1]["lr"],
            "images_per_s": (len(shown) - first * global_batch) / spent,
            "data_wait": waited / spent,
            "unreadable": int(sums[1]),
        }
        row.update(validate(epoch) if validate else {})
        rows = [*progress["rows"], row]
        if best and row[best] >= max(earlier[best] for earlier in rows):
            progress["best"] = row[best]
            if run.main:
                keep()
        progress.update(epoch=epoch + 1, step=0, sums=[0.0, 0.0], rows=rows)
        _report_epoch(run, rows, epochs)
        saved = states.save(progress, saved)
        if _any_process(run, stop.caught):
            stop.leave()
    stop.restore()
    table = pd.DataFrame(progress["rows"])
    run.notes.setdefault("phases", {})[name] = {
        "epochs": epochs,
        "best": progress["best"],
        "seconds": round(progress["seconds"], 1),  # over all the processes that had a part in it
        "images_per_s": round(float(table["images_per_s"].mean()), 1),
        "data_wait": round(float(table["data_wait"].mean()), 4),
    }
    return table


def _any_process(run: Run, here: bool) -> bool:
    """Tell whether any process asks for a state; all must write it at the same step."""
    if run.accelerator.num_processes == 1:
        return bool(here)
    asked = torch.tensor(float(bool(here)), device=run.accelerator.device)
    return bool(run.accelerator.reduce(asked, "sum") > 0)


def _report_epoch(run: Run, rows: list[dict], epochs: int) -> None:
    row = rows[-1]
    figures = {
        key: value
        for key, value in row.items()
        if key not in ("phase", "epoch", "learning_rate", "images_per_s", "data_wait", "unreadable")
    }
    text = "  ".join(
        f"{key} {value}" if isinstance(value, int) else f"{key} {value:.4f}"
        for key, value in figures.items()
    )
    speed = row["images_per_s"]
    if run.accelerator.trackers:
        named = {f"{row['phase']}/{key}": value for key, value in figures.items()}
        run.accelerator.log(named)
    lost = f"  {row['unreadable']} unreadable" if row["unreadable"] else ""
    run.say(f"{row['phase']} {row['epoch']}/{epochs}  {text}  {speed:.0f} img/s{lost}")
    if run.main:
        path = run.folder / "metrics.csv"
        table = pd.DataFrame(rows)
        if path.exists():  # the phases of a stage share one table
            earlier = pd.read_csv(path)
            table = pd.concat([earlier[earlier.phase != row["phase"]], table])
        with whole_file(path, "w") as file:
            table.to_csv(file, index=False, float_format="%.6g")


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
        with accelerator.autocast():
            output = accelerator.unwrap_model(network)(prepare(images.to(accelerator.device)))
        logits[torch.as_tensor(mine[done : done + len(images)], device=logits.device)] = (
            output.float()
        )
        done += len(images)
    return accelerator.reduce(logits, "sum").cpu().numpy()

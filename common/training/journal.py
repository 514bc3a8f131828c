"""What a training stage tells: its epochs, its cost, the images it lost, a loss that is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
from accelerate.utils import gather_object

from common.batches.images import ImageStore
from common.batches.loading import Plan
from common.script.files import UserError, whole_file
from common.training.runs import Run

# Share of an epoch's images that may be unreadable before a run stops; a few always may.
UNREADABLE_SHARE, UNREADABLE_FEW = 0.001, 10


def refuse_divergence(
    run: Run, name: str, store: ImageStore, shown: Plan, epoch: int, step: int, rate: float
) -> None:
    """Raise UserError naming the step, its learning rate and its images."""
    size = run.settings["global_batch"]
    rows = slice(step * size, (step + 1) * size)
    indices = np.stack([shown.first[rows], shown.second[rows]], 1).flatten()
    images = [store.name(index) for index in indices if index >= 0]
    path = run.folder / "not_finite.txt"
    if run.main:
        with whole_file(path, "w") as file:
            file.write("\n".join(images) + "\n")
    raise UserError(
        f"The loss of {name} is not finite in epoch {epoch + 1}, step {step + 1}, at learning rate "
        f"{rate:.3g}, on {', '.join(images[:3])}… (all {len(images)} images of the step: {path}); "
        "the last state before it is kept. Lower the learning rate or choose --mixed-precision "
        "no, in another --run-dir."
    )


def note_unreadable(
    run: Run, name: str, store: ImageStore, shown: Plan, count: int, failed: list, progress: dict
) -> None:
    """Note the names of `failed` in the progress; raise UserError where `count` is too many.

    count: over all processes. Empties the list.
    """
    if not count:
        return
    here = [store.name(index) for index in failed]
    failed.clear()
    names = sorted({*progress["unreadable"], *gather_object(here)})
    progress["unreadable"] = names
    # Of a small set, more than a tenth; of a larger one, more than a few.
    if count > max(UNREADABLE_SHARE * len(shown), min(UNREADABLE_FEW, len(shown) / 10)):
        raise UserError(
            f"{count} of the {len(shown):,} images of an epoch of {name} cannot be read, such as "
            f"{', '.join(names[:3])} in {store.root}; that is more than one in a thousand. Look "
            "whether the disk is there, or run 01_prepare_data.py again."
        )


def report_epoch(run: Run, row: dict, epochs: int) -> None:
    """Print an epoch's figures, and send them to the trackers."""
    figures = {
        key: value
        for key, value in row.items()
        if ":" not in key  # a detail (`natural:Sadly_Angry`), for the table alone
        and key
        not in ("phase", "epoch", "learning_rate", "images_per_s", "data_wait", "unreadable")
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


def write_metrics(run: Run, rows: list[dict]) -> None:
    """Write a phase's epochs into metrics.csv, which the phases of a stage share."""
    if not run.main:
        return
    path = run.folder / "metrics.csv"
    table = pd.DataFrame(rows)
    if path.exists():
        earlier = pd.read_csv(path)
        table = pd.concat([earlier[earlier.phase != rows[0]["phase"]], table])
    with whole_file(path, "w") as file:
        table.to_csv(file, index=False, float_format="%.6g")


def report_phase(run: Run, name: str, progress: dict, table: pd.DataFrame) -> None:
    """Say what the phase cost, and note it for run.json."""
    figures = {
        "epochs": len(table),
        "best": progress["best"],
        "seconds": round(progress["seconds"], 1),  # over all the processes that had a part in it
        "images_per_s": round(float(table["images_per_s"].mean()), 1),
        "data_wait": round(float(table["data_wait"].mean()), 4),
        "unreadable": progress["unreadable"],
    }
    run.notes.setdefault("phases", {})[name] = figures
    run.say(
        f"{name}: {figures['seconds']:,.0f} s, {figures['images_per_s']:,.0f} img/s, "
        f"{figures['data_wait']:.1%} of the time waiting for data"
    )
    if lost := figures["unreadable"]:
        more = f" and {len(lost) - 5} more, in run.json" if len(lost) > 5 else ""
        run.say(
            f"{name}: {len(lost)} images could not be read and were replaced: "
            f"{', '.join(lost[:5])}{more}"
        )

"""What a training stage reports: epochs, cost, unreadable images, a loss that is not finite."""

from __future__ import annotations

import numpy as np
import pandas as pd
from accelerate.utils import gather_object

from common.batches.images import ImageStore
from common.batches.loading import Plan
from common.script.files import UserError, whole_file, write_csv
from common.training.runs import Run

# A run stops where more than this share of an epoch's images is unreadable; a few always may be.
UNREADABLE_SHARE, UNREADABLE_FEW = 0.001, 10

# Figures of an epoch that are not printed with the validation's, or for the table alone.
_APART = (
    *("phase", "epoch", "learning_rate", "gradient_norm", "images_per_s", "data_wait"),
    "unreadable",
)


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
        "the last state before it is kept. Lower the learning rate, or use --mixed-precision "
        "no, in another --run-dir."
    )


def refuse_overflow(name: str, skipped: int, epoch: int) -> None:
    """Raise UserError where the scale of fp16 has fallen below 1: gradients stay out of range."""
    raise UserError(
        f"The gradient of {name} is not finite in float16, however small its scale: {skipped} "
        f"steps were skipped by epoch {epoch + 1}. The last saved state is kept. Lower the "
        "learning rate or choose --mixed-precision bf16 or no, in another --run-dir."
    )


def note_unreadable(
    run: Run,
    name: str,
    store: ImageStore,
    shown: Plan,
    count: int,
    unreadable: list,
    progress: dict,
) -> None:
    """Add the names of this process's `unreadable` images to the progress, and empty the list.

    count: unreadable images of the epoch so far, over all processes. Raises UserError where they
    are too many.
    """
    if not count:
        return
    here = [store.name(index) for index in unreadable]
    unreadable.clear()
    names = sorted({*progress["unreadable"], *gather_object(here)})
    progress["unreadable"] = names
    # Too many are more than a tenth of a small set, more than a few of a larger one.
    if count > max(UNREADABLE_SHARE * len(shown), min(UNREADABLE_FEW, len(shown) / 10)):
        raise UserError(
            f"{count} of the {len(shown):,} images of an epoch of {name} cannot be read, such as "
            f"{', '.join(names[:3])} in {store.root}; that is more than one in a thousand. Check "
            "that the disk is there, or run 01_prepare_data.py again."
        )


def report_epoch(run: Run, row: dict, epochs: int, left_s: float) -> None:
    """Print an epoch's figures and the time left, and send the figures to the trackers.

    left_s: seconds that the remaining epochs will take; under ten seconds it is not printed. The
    step of a tracker is the epoch, counted on over the phases of a stage, because some trackers
    drop what comes with a smaller step.
    """
    # A key with a colon (`natural:Sadly_Angry`) is a detail, for the table alone.
    figures = {key: row[key] for key in row if key not in _APART and ":" not in key}
    if run.accelerator.trackers:
        tracked = {key: row[key] for key in row if key not in ("phase", "epoch")}
        before = sum(phase["epochs"] for phase in run.notes.get("phases", {}).values())
        run.accelerator.log(
            {f"{row['phase']}/{key}": value for key, value in tracked.items()},
            step=before + row["epoch"],
        )
    shown = [
        f"{key} {value}" if isinstance(value, int) else f"{key} {value:.4f}"
        for key, value in figures.items()
    ]
    shown.append(f"{row['images_per_s']:.0f} img/s")
    if row["unreadable"]:
        shown.append(f"{row['unreadable']} unreadable")
    if left_s >= 10:
        shown.append(f"about {_duration(left_s)} left")
    run.say(f"{row['phase']} {row['epoch']}/{epochs}  {'  '.join(shown)}")


def _duration(seconds: float) -> str:
    """Round a time to what a reader needs: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def write_metrics(run: Run, rows: list[dict]) -> None:
    """Write a phase's epochs into metrics.csv, which the phases of a stage share."""
    if not run.main:
        return
    path = run.folder / "metrics.csv"
    table = pd.DataFrame(rows)
    if path.exists():
        earlier = pd.read_csv(path)
        table = pd.concat([earlier[earlier.phase != rows[0]["phase"]], table])
    write_csv(path, table)


def report_phase(run: Run, name: str, progress: dict, table: pd.DataFrame) -> None:
    """Print what a phase cost, and note it for run.json."""
    figures = {
        "epochs": len(table),
        "best": progress["best"],
        "seconds": round(progress["seconds"], 1),  # of all the runs that had a part in it
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

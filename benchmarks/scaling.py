"""How cost grows: one and two processes; 10³ to 10⁶ images; 10² to 10⁵ frames.

Beside the lines, `runs/speed/scaling.png`: time and memory on log axes, with the exponents of time.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.start_speed import ROOT, prepare_noise
from benchmarks.timing import Line

# Small enough to take part in the memory of an idle interpreter, large enough to compute.
MODEL = ("--model", "vit_tiny_patch16_224", "--image-size", "64", "--model-options")
OPTIONS = ("patch_size=8", "embed_dim=128", "depth=6", "num_heads=4")


def measure(quick: bool) -> list[Line]:
    """Return the lines, and draw the plot."""
    lines = [_processes(quick)]
    curves = {}
    for what, function, sizes in (
        ("manifest to plan of an epoch, images", _manifest_cost, _powers(3, 5 if quick else 6)),
        ("list to submission and its check, frames", _frames_cost, _powers(2, 4 if quick else 5)),
    ):
        points = [_in_own_process(function, size) for size in sizes]
        seconds, memory = zip(*points, strict=True)
        curves[what] = (sizes, seconds, memory)
        lines.append(
            Line(
                f"{what}: {sizes[-1]:,}",
                "s",
                [seconds[-1]],
                facts={
                    "exponent of time": _exponent(sizes, seconds),
                    f"peak MiB at {sizes[0]:,}": memory[0],
                    f"peak MiB at {sizes[-1]:,}": memory[-1],
                },
            )
        )
    _plot(Path("runs/speed/scaling.png"), curves)
    return lines


def _powers(low: int, high: int) -> list[int]:
    return [10**power for power in range(low, high + 1)]


def _exponent(sizes: list[int], costs: tuple[float, ...]) -> float:
    """Fit cost = a · size^e to the two largest sizes; below them, constants rule."""
    return float(np.polyfit(np.log(sizes[-2:]), np.log(np.maximum(costs[-2:], 1e-6)), 1)[0])


def _in_own_process(function, size: int) -> tuple[float, float]:
    """Return seconds, and the process's peak memory in MiB, imports included."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (size,))


def _cost_of(work) -> tuple[float, float]:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _manifest_cost(rows: int) -> tuple[float, float]:
    """What a training script does before its first batch: read, hold out, choose, plan."""
    from common.loading import ImageStore, Plan
    from common.manifest import COLUMNS, hold_out, read_manifest, training_rows

    def work() -> None:
        frame = read_manifest(path)
        seen = frame[training_rows(frame, hold_out(frame))]
        store = ImageStore(path.parent, seen["image"])
        Plan(np.random.default_rng(0).permutation(len(store)), np.zeros((len(store), 0)))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in range(rows):
                name = f"images/Faces/{row // 1000:05d}/{row:08d}.jpg"
                person = str(row // 20)
                writer.writerow(
                    (name, "Faces", "", "unlabelled", "", person, 112, 112, f"{row:016x}")
                )
        return _cost_of(work)


def _frames_cost(frames: int) -> tuple[float, float]:
    """What 05 does around its network: read the list, fill, decide, write, check."""
    import pandas as pd

    from common import submission
    from common.checking import check_submission, is_valid
    from common.decision import Decision, Timelines, decide

    def work() -> None:
        header, locations = submission.read_frame_list(listed)
        table = decide(Timelines(locations, seen), probabilities, Decision())
        written = Path(folder) / "predictions.txt"
        submission.write_submission(written, header, locations, table["decision"])
        if not is_valid(check_submission(written, listed)):
            raise RuntimeError("the submission is not valid")

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list.txt"
        pairs = [(f"{n // 500:03d}", n % 500 + 1) for n in range(frames)]
        rows = [submission.locate(*pair) + "," for pair in pairs]
        listed.write_text("\n".join([submission.HEADER, *rows]) + "\n")
        chosen = [pair for pair in pairs if pair[1] % 7]  # every seventh frame has no face
        seen = pd.DataFrame(chosen, columns=["video", "frame"])
        probabilities = random.random((len(seen), 6))
        return _cost_of(work)


def _processes(quick: bool) -> Line:
    """Train the same steps on one and on two processes of one thread each."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        prepare_noise(Path(folder) / "data" / "prepared", 512)
        for repetition in range(1 if quick else 3):
            for count in rates:
                run = Path(folder) / f"run-{repetition}-{count}"
                command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
                command = [sys.executable, *command, str(count), "02_pretrain_mae.py"]
                command += ["--data-dir", f"{folder}/data", "--run-dir", str(run), *MODEL, *OPTIONS]
                command += ["--epochs", "3", "--global-batch", "128", "--batch-size", "64"]
                command += ["--workers", "0", "--decoder-dim", "64", "--decoder-depth", "2"]
                command += ["--decoder-heads", "4"]
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
                subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
                record = json.loads((run / "mae" / "run.json").read_text())
                rates[count].append(record["phases"]["mae"]["images_per_s"])
    what = "02 on two processes, a thread each"
    return Line(what, "images/s", rates[2], "one process", rates[1])


def _plot(path: Path, curves: dict) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (what, (sizes, seconds, memory)), colour in zip(
        curves.items(), ("#0072B2", "#D55E00"), strict=True
    ):
        label = f"{what} (n^{_exponent(sizes, seconds):.2f})"
        axes[0].loglog(sizes, seconds, "o-", color=colour, label=label)
        axes[1].loglog(sizes, memory, "o-", color=colour, label=what)
    for axis, name in zip(axes, ("seconds", "peak MiB, imports included"), strict=True):
        axis.set_xlabel("images or frames")
        axis.set_ylabel(name)
        axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

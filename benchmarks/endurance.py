"""Ten thousand steps of a tiny model: memory, open files and threads must not grow.

python benchmarks/endurance.py --steps 10000 --picture docs/endurance.png
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[1]
STEPS_AN_EPOCH = 100
TINY = [
    *("--model", "vit_tiny_patch16_224", "--image-size", "16", "--mixed-precision", "no"),
    *("--model-options", "patch_size=4", "embed_dim=16", "depth=1", "num_heads=2"),
    *("--decoder-dim", "16", "--decoder-depth", "1", "--decoder-heads", "2", "--workers", "1"),
    *("--warmup-epochs", "1", "--batch-size", "2", "--global-batch", "2", "--picture-every", "10"),
    *("--save-minutes", "0.05", "--ema", "0.9"),
]


def sample(pid: int) -> tuple[float, int, int]:
    """Return a process's memory in MiB, its open files and its threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    threads = int(status.split("Threads:")[1].split()[0])
    return resident, len(os.listdir(f"/proc/{pid}/fd")), threads


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from helpers.toy_world import make_prepared

    with tempfile.TemporaryDirectory() as folder:
        world = make_prepared(Path(folder) / "world", singles=120, compounds=0)
        command = [sys.executable, str(ROOT / "02_pretrain_mae.py"), *TINY, "--data-dir", world]
        command += ["--run-dir", folder, "--limit", 2 * STEPS_AN_EPOCH]
        command += ["--epochs", -(-arguments.steps // STEPS_AN_EPOCH)]
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        rows = []
        for line in process.stdout:
            if line.startswith("mae ") and "/" in line:
                steps = STEPS_AN_EPOCH * int(line.split()[1].split("/")[0])
                time.sleep(0.02)
                if process.poll() is None:
                    rows.append((steps, *sample(process.pid)))
        if process.wait():
            return 1
    steps, memory, files, threads = map(list, zip(*rows, strict=True))
    early = len(rows) // 10  # by then everything has been loaded
    growth = max(memory[-early:]) - max(memory[early : 2 * early])
    print(
        f"{steps[-1]:,} steps; memory {memory[early]:.0f} MiB at a tenth, {memory[-1]:.0f} MiB at "
        f"the end (its peak grew by {growth:+.1f} MiB); open files {min(files[early:])} to "
        f"{max(files[early:])}; threads {min(threads[early:])} to {max(threads[early:])}"
    )
    if arguments.picture:
        pyplot.rcParams["font.size"] = 13
        figure, axes = pyplot.subplots(1, 3, figsize=(8, 2.8), layout="constrained")
        titles = ("memory, MiB", "open files", "threads")
        for axis, title, values in zip(axes, titles, (memory, files, threads), strict=True):
            axis.plot(steps, values, linewidth=2)
            axis.set(title=title, ylim=(0, 1.2 * max(values)), xticks=(0, steps[-1]))
        axes[1].set_xlabel("optimiser steps of 02 on a tiny model")
        figure.savefig(arguments.picture, dpi=100)
    return 0


if __name__ == "__main__":
    sys.exit(main())

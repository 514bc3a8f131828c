"""How cost grows: one and two processes; 10³ to 10⁶ images; 10² to 10⁵ frames."""

from __future__ import annotations

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

from benchmarks.prepare_speed import manifest_parts
from benchmarks.start_speed import ROOT, prepare_noise
from benchmarks.timing import Line
from common.manifest import write_manifest

# Small enough to take part in the memory of an idle interpreter, large enough to compute.
MODEL = ("--model", "vit_tiny_patch16_224", "--image-size", "64", "--model-options")
OPTIONS = ("patch_size=8", "embed_dim=128", "depth=6", "num_heads=4")


def measure(quick: bool) -> list[Line]:
    """Return a line each."""
    return [
        _processes(quick),
        _growth("manifest to plan, images", _write_rows, _manifest_cost, 3, 5 if quick else 6),
        _growth("list to submission, frames", _write_list, _frames_cost, 2, 4 if quick else 5),
    ]


def _growth(what: str, write, function, low: int, high: int) -> Line:
    """Measure a cost at the powers of ten from low to high, each the median of three processes."""
    sizes, costs = [10**power for power in range(low, high + 1)], {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), size)
            each = [_in_own_process(function, Path(folder), size) for _ in range(3)]
        costs[size] = np.median(each, axis=0)
    seconds, memory = np.array([costs[size] for size in sizes]).T
    facts = {"exponent of seconds, last decade": float(np.log10(seconds[-1] / seconds[-2]))}
    facts |= {"exponent of peak MiB, last decade": float(np.log10(memory[-1] / memory[-2]))}
    facts |= {f"peak MiB at {sizes[0]:,}": memory[0], f"peak MiB at {sizes[-1]:,}": memory[-1]}
    curves = {"of": what, "sizes": sizes, "seconds": list(seconds), "peak MiB": list(memory)}
    return Line(f"{what}: {sizes[-1]:,}", "s", [seconds[-1]], facts=facts, curves=curves)


def _in_own_process(function, *arguments) -> tuple[float, float]:
    """Return seconds, and the process's peak memory in MiB, imports included."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _cost_of(work) -> tuple[float, float]:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _write_rows(folder: Path, rows: int) -> None:
    write_manifest(folder / "manifest.csv", manifest_parts(rows))


def _manifest_cost(folder: Path, rows: int) -> tuple[float, float]:
    """What a training script does before its first batch: read, hold out, choose, plan."""
    from common.batches.images import ImageStore
    from common.batches.loading import Plan
    from common.manifest import hold_out, read_manifest, training_rows

    def work() -> None:
        frame = read_manifest(folder / "manifest.csv")
        seen = frame[training_rows(frame, hold_out(frame))]
        store = ImageStore(folder, seen["image"])
        Plan(np.random.default_rng(0).permutation(len(store)), np.zeros((len(store), 0)))

    return _cost_of(work)


def _write_list(folder: Path, frames: int) -> None:
    from common.submission import files as submission

    rows = [submission.locate(f"{n // 500:03d}", n % 500 + 1) + "," for n in range(frames)]
    (folder / "list.txt").write_text("\n".join([submission.HEADER, *rows]) + "\n")


def _frames_cost(folder: Path, frames: int) -> tuple[float, float]:
    """What 05 does around its network: read the list, fill, decide, write, check."""
    import pandas as pd

    from common.submission import files as submission
    from common.submission.checking import check_submission, is_valid
    from common.submission.decision import Decision, Timelines, decide

    listed, written = folder / "list.txt", folder / "predictions.txt"
    number = np.arange(frames)
    seen = pd.DataFrame({"video": [f"{n // 500:03d}" for n in number], "frame": number % 500 + 1})
    seen = seen[seen.frame % 7 > 0].reset_index(drop=True)  # every seventh frame has no face
    probabilities = np.random.default_rng(0).random((len(seen), 6))

    def work() -> None:
        header, locations = submission.read_frame_list(listed)
        table = decide(Timelines(locations, seen), probabilities, Decision())
        submission.write_submission(written, header, locations, table["decision"])
        if not is_valid(check_submission(written, listed)):
            raise RuntimeError("the submission is not valid")

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

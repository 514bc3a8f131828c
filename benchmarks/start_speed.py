"""How long a user waits for `--help`, and for the first step of a run that goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.timing import Line
from common.manifest import COLUMNS
from common.script.files import UserError

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("0?_*.py"))
IMPORTS = "import torch, timm, accelerate, pandas"
SMALL = (
    *("--image-size", "32", "--global-batch", "64", "--batch-size", "64", "--epochs", "100000"),
    *("--model-options", "patch_size=8", "embed_dim=64", "depth=2", "num_heads=2"),
)


def measure(quick: bool) -> list[Line]:
    """Time each script's `--help` beside the import of what training needs; then a resumption."""
    repetitions = 3 if quick else 7
    lines = []
    for script in SCRIPTS:
        seconds = [_seconds([script, "--help"]) for _ in range(repetitions)]
        lines.append(Line(f"{script} --help", "s", seconds))
    imports = [_seconds(["-c", IMPORTS]) for _ in range(repetitions)]
    lines.append(Line(f"python -c '{IMPORTS}', to compare", "s", imports))
    with tempfile.TemporaryDirectory() as folder:
        resumed = _resumed(Path(folder), 2 if quick else 4)
    lines.append(Line("02 resumed: from the command to the end of the first epoch", "s", resumed))
    return lines


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def _resumed(folder: Path, times: int) -> list[float]:
    """Start 02 with epochs of one step, stop it after its first epoch, and again."""
    prepare_noise(folder / "data" / "prepared", 64)
    command = [sys.executable, "02_pretrain_mae.py", *SMALL, "--workers", "0"]
    command += ["--data-dir", str(folder / "data"), "--run-dir", str(folder / "run")]
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for line in run.stdout:
            if line.startswith("mae ") and "loss" in line:
                break
        else:
            raise UserError(f"02_pretrain_mae.py ended with status {run.wait()} before its epoch.")
        seconds.append(time.perf_counter() - start)
        run.send_signal(signal.SIGTERM)
        run.stdout.read()
        run.wait()
    return seconds[1:]  # the first had nothing to go on from


def prepare_noise(prepared: Path, count: int) -> None:
    """Write a prepared folder of noise."""
    random = np.random.default_rng(0)
    (prepared / "images").mkdir(parents=True)
    rows = [",".join(COLUMNS)]
    for number in range(count):
        pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(prepared / "images" / f"{number}.jpg")
        rows.append(f"images/{number}.jpg,Noise,,unlabelled,,,48,48,{number:016x}")
    (prepared / "manifest.csv").write_text("\n".join(rows) + "\n")

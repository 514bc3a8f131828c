"""The hardware: its device, the defaults that suit it, and its description in run.json."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import timm.layers
import torch


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU, set up for networks made from now on."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    # Faster in a forward pass. Training on CPUs does without it (common.training.runs).
    timm.layers.set_fused_attn(True)
    return torch.device("cpu")


def default_precision() -> str:
    """Return the number format of matrix products: bf16 where the hardware has it, else no.

    A CPU without AVX512-BF16 or AMX only emulates bf16: hundreds of times slower than float32.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in native) else "no"


def default_batch_size() -> int:
    """Return how many images 05 predicts at once: three a GiB of the GPU's memory, or 32.

    Prediction keeps nothing for a gradient, so any network has room for them. On a CPU, more would
    not fit its caches.
    """
    if not torch.cuda.is_available():
        return 32
    memory_gib = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**30
    return max(8, int(3 * memory_gib) // 8 * 8)


def default_workers(processes: int = 1) -> int:
    """Return the number of loader processes for each of this machine's training processes.

    With a GPU, the cores that are left. Without one, the cores compute, and one worker keeps up
    with them. On up to four cores even one takes more than it gives: on two, it slows the demo's
    training to 0.85 of its rate.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not torch.cuda.is_available():
        return 1 if cores > 4 * processes else 0
    return max(1, min(16, cores // processes - 1))


def describe(device: torch.device, processes: int, precision: str) -> str:
    """Name what computes as users do: `cpu, float32` or `8 × NVIDIA H100, bfloat16`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    number_format = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]
    return f"{f'{processes} × ' if processes > 1 else ''}{name}, {number_format}"


def provenance(device: torch.device) -> dict:
    """Return what made a result: command, git commit, device and versions, for run.json."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    return {
        "command": " ".join(sys.argv),
        "git_commit": commit or None,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm", "accelerate", "numpy")},
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"

"""What the benchmarks share: interleaved repetitions, ratios with their spread, the machine."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    *("torch", "torchvision", "timm", "accelerate", "transformers", "numpy", "pandas", "pillow"),
    *("onnxruntime", "av"),
)


@dataclass
class Line:
    """One comparison: rates of ours and of a peer, in turns within one run.

    ours, theirs: one rate a repetition, in `unit`; theirs is empty where there is no peer.
    goal: the ratio asked for. facts: what else was read, by name.
    """

    what: str
    unit: str
    ours: list[float]
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    goal: float | None = None
    facts: dict[str, float | str] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Ours over the peer's in each repetition: what slows the machine slows both."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)] if self.theirs else []


def in_turns(
    calls: dict[str, Callable[[], float]],
    repetitions: int,
) -> dict[str, list[float]]:
    """Time each call `repetitions` times, one after the other, and return its rates.

    A call does its work and returns how much that was (images, frames); its rate is that over the
    seconds it took. The order turns round in every second repetition, so that neither side always
    runs in the other's warm cache. On a GPU a call must end in a synchronisation.
    """
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(-1, repetitions):
        order = list(calls) if repetition % 2 else list(reversed(calls))
        for name in order:
            start = time.perf_counter()
            amount = calls[name]()
            if repetition >= 0:
                rates[name].append(amount / (time.perf_counter() - start))
    return rates


def processor_seconds() -> float:
    """Return the seconds of processor that the ended children of this process have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spread(values: list[float]) -> str:
    """Return `median (least–most)` to three digits, or the value alone where there is but one."""
    if not values:
        return "–"
    if len(values) == 1:
        return short(values[0])
    return f"{short(statistics.median(values))} ({short(min(values))}–{short(max(values))})"


def short(value: float) -> str:
    """Return a number to three significant digits, in full from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def machine() -> dict[str, str]:
    """Return the machine and the versions that figures stand with."""
    import torch

    told = dict(line.split(":", 1) for line in _lines("/proc/cpuinfo") if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    # A virtual machine's name may hide the generation, which family and model tell.
    name = told.get("model name", platform.machine())
    name += "".join(f", {key} {told[key]}" for key in ("cpu family", "model") if key in told)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    found = {
        "processor": f"{name}, {cores} cores",
        "threads": str(torch.get_num_threads()),
        "load before": f"{load:.1f}",
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def matmul_peak(dtype, device: str = "cpu", sides: Sequence[int] = ()) -> float:
    """Measure the machine's best FLOP/s in square matrix products of a type, on all its cores.

    2·n³ floating-point operations each; the best of several sides n (`sides`, else ones that suit
    the device) and of many repetitions of a tenth of a second, because a peak is what the machine
    can do, not what it does on average.
    """
    import torch

    best = 0.0
    for side in sides or ((1024, 2048, 4096) if device == "cpu" else (4096, 8192)):
        a = torch.randn(side, side, device=device).to(dtype)
        b = torch.randn(side, side, device=device).to(dtype)

        def products(count: int, a=a, b=b) -> float:
            start = time.perf_counter()
            for _ in range(count):
                a @ b
            if device != "cpu":
                torch.cuda.synchronize()
            return time.perf_counter() - start

        products(1)
        count = max(1, round(0.1 * 3 / products(3)))
        end = time.perf_counter() + 1
        while time.perf_counter() < end:
            best = max(best, count * 2 * side**3 / products(count))
    return best


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []

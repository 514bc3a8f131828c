#!/usr/bin/env python3
"""Batch, memory, hours, loading and exchange of 02 and 04 on 1 to 64 GPUs, computed; no GPU needed.

Batch and memory come from the formula by which the scripts choose their batch
(common/training/memory.py), with images, weights and operations counted on each network. Only the
loader's line is measured, on one core of this machine, in seconds of the core.

Prints the tables of docs/scaling.md.

Examples:
    python benchmarks/scaling.py
    python benchmarks/scaling.py --card A100 --share 0.35 --memory 40
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks import vits
from benchmarks.encoder_speed import MAE_CROP, write_photographs
from benchmarks.timing import machine
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Plan, split_batches, training_passes
from common.script.flags import fraction, positive, positive_float
from common.script.main import run_script
from common.training import memory

SIDE = 224
GPUS = (1, 2, 4, 8, 16, 32, 64)
A_NODE = 8  # GPUs
# The recipe's global batches (paper §4.3), which are kept for any number of GPUs.
GLOBAL_BATCH = {"02": 4096, "04": 256}
MODELS = ("vit_base", "vit_large", "vit_huge")
# What carries gradients from one node to the next, Gbit/s a node; and within a node, by data sheet.
NETWORKS_GBIT = (100, 400, 3200)
NVLINK_GB = 450  # GB/s and direction of a GPU, H100 and H200


class Size(NamedTuple):
    """What a network takes: weights, bytes an image keeps (float32), operations an image."""

    stage: str
    model: str
    weights: int
    image: float
    flops: float


def size_of(stage: str, model: str) -> Size:
    """Count a network, without memory for it."""
    with torch.device("meta"):
        network = vits.make(stage, model, SIDE)
    shape = SIDE, vits.randoms_of(stage, network), vits.classes_of(stage)
    image = memory.image_bytes(network, vits.loss_of(stage), *shape)
    weights = sum(weight.numel() for weight in network.parameters())
    return Size(stage, model, weights, image, vits.step_flops(network))


def batch_row(size: Size, gib: float, gpus: Iterable[int] = GPUS) -> str:
    """Return a row: images at once × passes a step, for each number of GPUs; the memory of one."""
    free = gib * 2**30
    most = memory.batch_for(free, size.weights, size.image, SIDE, half=True, recompute=False)
    cells, largest = [], 0
    for count in gpus:
        whole = GLOBAL_BATCH[size.stage]
        (passes,) = split_batches(whole, whole, min(most, -(-whole // count)), 0, count)
        largest = max(largest, len(passes[0]))
        cells.append(f"{len(passes[0])} × {len(passes)}")
    taken = memory.WEIGHT_BYTES * size.weights + memory.HALF * size.image * largest
    memory_gib = f"{taken / 2**30:.0f}" if taken < free else f"{taken / 2**30:.0f}, too much"
    return row(f"{size.stage}, {size.model}", *cells, memory_gib)


def hours_row(size: Size, flops: float, images: int) -> str:
    """Return a row: images/s of a GPU, then hours for `images` on each number of GPUs.

    flops: a second, that a GPU reaches.
    """
    rate = flops / size.flops
    hours = (short_hours(images / rate / count / 3600) for count in GPUS)
    return row(f"{size.stage}, {size.model}", f"{size.flops / 1e9:.0f}", f"{rate:,.0f}", *hours)


def short_hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"


def loading_row(size: Size, flops: float, core_rate: float, file_bytes: float) -> str:
    """Return a row: the rate of a GPU, cores that load for it, and what the storage gives it."""
    rate = flops / size.flops
    disk = rate * file_bytes / 1e6
    cells = f"{rate:,.0f}", f"{rate / core_rate:.1f}", f"{disk:,.0f}", f"{disk * A_NODE:,.0f}"
    return row(f"{size.stage}, {size.model}", *cells)


def exchange_row(size: Size, flops: float, gpus: int) -> str:
    """Return a row: seconds of a step's products, and of the exchange of its gradient, by network.

    A ring: each GPU sends and receives 2 (n − 1) / n of the gradient, float32. It crosses each
    node's border once, so it is as fast as the slower of network and NVLink.
    """
    step = GLOBAL_BATCH[size.stage] * size.flops / (gpus * flops)
    sent = 4 * size.weights * 2 * (gpus - 1) / gpus
    links = [NVLINK_GB] if gpus <= A_NODE else [min(NVLINK_GB, bit / 8) for bit in NETWORKS_GBIT]
    cells = [f"{sent / link / 1e6:,.1f} ({sent / link / 1e9 / step:.0%})" for link in links]
    cells = [*cells, *["–"] * 3] if gpus <= A_NODE else ["–", *cells]
    return row(f"{size.stage}, {size.model}", gpus, f"{1000 * step:,.0f}", *cells)


def measure_loader(count: int = 512) -> tuple[float, float]:
    """Return images that a core loads in a second of its time, and the bytes of an image file."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        names = write_photographs(Path(folder), count)
        size = float(np.mean([(Path(folder) / name).stat().st_size for name in names]))
        store, rates = ImageStore(folder, names), []
        for epoch in range(4):
            plan = Plan(np.arange(count), np.zeros((count, 0), dtype=np.float32))
            passes = np.split(np.arange(count), count // 64)
            options = dict(randoms=196, seed=0, epoch=epoch, workers=0)
            begun = time.process_time()
            deque(training_passes(store, plan, passes, Geometry(SIDE, **MAE_CROP), **options), 0)
            rates.append(count / (time.process_time() - begun))
    return float(np.median(rates[1:])), size


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*cells: object) -> str:
    return "\n" + row(*cells) + "\n" + "|---" * len(cells) + "|"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--memory", type=positive_float, nargs="+", default=[80, 24], help="of a GPU, free, GiB")
    add("--card", choices=vits.PEAKS_TFLOPS, default="H100", help="whose peak is taken")
    add("--share", type=fraction, default=0.3, help="of the card's bfloat16 peak that is reached")
    add("--images", type=positive, default=4_500_000)
    add("--epochs", type=positive, default=20)
    arguments = parser.parse_args()
    flops = arguments.share * vits.PEAKS_TFLOPS[arguments.card] * 1e12
    sizes = [size_of(stage, model) for stage in GLOBAL_BATCH for model in MODELS]
    for gib in arguments.memory:
        print(
            head(
                f"{gib:g} GiB free, bf16", *(f"{n} GPU{'s' * (n > 1)}" for n in GPUS), "GiB at most"
            )
        )
        print("\n".join(batch_row(size, gib) for size in sizes), flush=True)
    reached = f"{arguments.share:.0%} of {arguments.card}"
    print(
        head(
            f"hours at {reached}",
            "GFLOP an image",
            "images/s a GPU",
            *(f"{n} GPU{'s' * (n > 1)}" for n in GPUS),
        )
    )
    shown = arguments.images * arguments.epochs
    print("\n".join(hours_row(size, flops, shown) for size in sizes))
    units = "images/s a GPU", "cores a GPU", "MB/s a GPU", f"MB/s a node of {A_NODE}"
    print(head(reached, *units), flush=True)
    core_rate, file_bytes = measure_loader()
    print("\n".join(loading_row(size, flops, core_rate, file_bytes) for size in sizes))
    print(
        f"\nIn a second of its time a core loads {core_rate:,.0f} images of 256 px, "
        f"{file_bytes / 1000:.0f} kB each, as crops of {SIDE} px ({machine()['processor']}). "
        f"{arguments.images:,} such files take {arguments.images * file_bytes / 1e9:,.0f} GB."
    )
    links = f"NVLink {NVLINK_GB} GB/s", *(f"{bit} Gbit/s a node" for bit in NETWORKS_GBIT)
    print(head(reached, "GPUs", "products of a step, ms", *(f"{link}, ms" for link in links)))
    print("\n".join(exchange_row(size, flops, n) for size in sizes for n in (8, 16, 64)))


if __name__ == "__main__":
    run_script(main)

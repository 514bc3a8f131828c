"""The parts of gpu.py: each yields rows of `what`, and `rate`, `unit`, `share`, `note` if any."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import timm.layers
import torch

from benchmarks import vits
from benchmarks.encoder_speed import MAE_CROP, write_photographs
from benchmarks.timing import machine, matmul_peak
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Plan, training_passes
from common.emotions import BASIC
from common.hardware import default_precision, default_workers
from common.script.files import write_csv
from common.script.flags import FACE_MEAN, FACE_STD
from common.training import memory
from common.training.optimization import make_optimizer

ROOT = Path(__file__).resolve().parents[1]
TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Stage, model, images at once, compiled; first what is asked for first, last what takes longest.
STEPS = [
    *[(stage, "vit_base", 256, compiled) for compiled in (True, False) for stage in ("02", "04")],
    *[(stage, "vit_base", batch, False) for batch in (64, 512) for stage in ("02", "04")],
    *[(stage, "vit_large", 128, False) for stage in ("02", "04")],
    *[(stage, "vit_small", 256, False) for stage in ("02", "04")],
    *[("02", "vit_large", 256, True), ("04", "vit_large", 128, True)],
    *[(stage, "vit_small", 256, True) for stage in ("02", "04")],
]
TOY = ("vit_tiny_patch16_224", 32, {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2})
TOY_DECODER = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}
TOY_STEPS = [(stage, TOY[0], 4, compiled) for stage in ("02", "04") for compiled in (True, False)]


class Bench(NamedTuple):
    """toy: a dry run on the CPU. peak: FLOP/s. folder: to work in. until: end by time.monotonic."""

    toy: bool
    peak: float
    folder: Path
    until: float

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.toy else "cuda")

    @property
    def left_s(self) -> float:
        return max(1.0, self.until - time.monotonic())

    def wait(self) -> None:
        """Wait until the GPU has done what it was given."""
        if not self.toy:
            torch.cuda.synchronize()


def _network(bench: Bench, stage: str, model: str = "vit_base") -> torch.nn.Module:
    if not bench.toy:
        return vits.make(stage, model)
    return vits.make(stage, *TOY, **(TOY_DECODER if stage == "02" else {}))


def peak_of(toy: bool) -> tuple[float, dict[str, str]]:
    """Return the peak that shares are taken of, FLOP/s, and the machine with where that is from."""
    facts, card = machine(), "" if toy else torch.cuda.get_device_name()
    kind, device = (torch.float32, "cpu") if toy else (torch.bfloat16, "cuda")
    measured = matmul_peak(kind, device, (256,) if toy else (8192,))
    known = vits.peak_flops(card)
    facts["products, measured"] = f"{measured / 1e12:,.1f} TFLOP/s"
    facts["peak"] = f"{(known or measured) / 1e12:,.1f} TFLOP/s, " + (
        "dense bfloat16 by the data sheet" if known else "the measured one: no such card is listed"
    )
    if not toy:
        facts["memory of the GPU"] = f"{torch.cuda.mem_get_info()[1] / 2**30:.1f} GiB"
    return known or measured, facts


def steps(bench: Bench) -> Iterator[dict]:
    """Measure training steps on images that lie on the device."""
    timm.layers.set_fused_attn(not bench.toy)  # as start_run does
    for stage, model, batch, compiled in TOY_STEPS if bench.toy else STEPS:
        what = f"{stage}, {model}, batch {batch}{', compiled' * compiled}"
        if time.monotonic() > bench.until:
            yield {"what": what, "note": "no time was left"}
            continue
        try:
            yield {"what": what, **_step(bench, stage, model, batch, compiled)}
        except torch.OutOfMemoryError:
            yield {"what": what, "note": "out of memory"}
        torch.compiler.reset()
        if not bench.toy:
            torch.cuda.empty_cache()


def _step(bench: Bench, stage: str, model: str, batch: int, compiled: bool) -> dict:
    torch.manual_seed(0)
    network = _network(bench, stage, model).to(bench.device).train()
    shape = TOY[1] if bench.toy else 224, vits.randoms_of(stage, network), vits.classes_of(stage)
    loss, weights = vits.loss_of(stage), sum(one.numel() for one in network.parameters())
    image = memory.image_bytes(network, loss, *shape)
    formula = memory.WEIGHT_BYTES * weights + memory.HALF * image * batch
    optimizer = make_optimizer(network, 1e-4, 0.05)
    if compiled:
        network.compile(dynamic=False, **({"backend": "eager"} if bench.toy else {}))
    shown = vits.mixed_batch(batch, *shape).to(bench.device)
    form = torch.bfloat16 if bench.toy else TYPES[default_precision()]

    def step() -> None:
        with torch.autocast(bench.device.type, form):
            losses = loss(network, shown)
        (losses.float() * shown.valid).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if not bench.toy:
        torch.cuda.reset_peak_memory_stats()
    first_s = _seconds(bench, step, 1)
    _seconds(bench, step, 2)
    seconds = median(_seconds(bench, step, 1 if bench.toy else 10) for _ in range(3))
    rate = batch / seconds
    taken = 0 if bench.toy else torch.cuda.max_memory_allocated()
    note = f"{taken / 2**30:.1f} GiB, by the formula {formula / 2**30:.1f}"
    return {
        "rate": rate,
        "unit": "images/s",
        "share": rate * vits.step_flops(network) / bench.peak,
        "note": note + f"; the first step took {first_s:.0f} s" * compiled,
    }


def _seconds(bench: Bench, step: Callable[[], None], count: int) -> float:
    """Return the seconds of a step, the mean of `count`."""
    bench.wait()
    begun = time.perf_counter()
    for _ in range(count):
        step()
    bench.wait()
    return (time.perf_counter() - begun) / count


def _photographs(bench: Bench) -> list[str]:
    """Write JPEG files of 256 px, and many more names for them; return all names."""
    prepared = bench.folder / "prepared"
    count, times = (12, 4) if bench.toy else (512, 64)
    names = [f"{number // count}-{number % count:04d}.jpg" for number in range(count * times)]
    if not prepared.exists():
        prepared.mkdir()
        for number, name in enumerate(write_photographs(prepared, count)):
            for link in names[number::count]:
                os.link(prepared / name, prepared / link)
    return names


def runs(bench: Bench) -> Iterator[dict]:
    """Run 02 and 04 as a user does, on files; their second epoch is after any compiling."""
    names = _photographs(bench)
    rows = pd.DataFrame({"image": names, "dataset": "Photographs", "split": "train"})
    rows["kind"], rows["labels"] = "single", [BASIC[n % 6] for n in range(len(names))]
    rows["subject"], rows["width"], rows["height"] = rows.image, 256, 256
    rows["hash"] = [f"{number:016x}" for number in range(len(names))]
    write_csv(bench.folder / "prepared" / "manifest.csv", rows)
    shared = ["--data-dir", bench.folder, "--run-dir", bench.folder / "run", "--init", "none"]
    shared += ["--model", TOY[0] if bench.toy else "vit_base"]
    shared += ["--image-size", TOY[1] if bench.toy else 224]
    if bench.toy:
        shared += ["--model-options", *(f"{key}={value}" for key, value in TOY[2].items())]
    of_02 = ["--global-batch", 16 if bench.toy else 1024, "--epochs", 2, "--warmup-epochs", 1]
    for key, value in TOY_DECODER.items() if bench.toy else ():
        of_02 += ["--" + key.replace("_", "-"), value]
    of_04 = ["--stage-epochs", 2, "--compound-shares", 1, "--natural-share", 0]
    commands = {
        "02": (["02_pretrain_mae.py", *shared, *of_02], "mae"),
        "04": (["04_curriculum.py", *shared, *of_04], "curriculum"),
    }
    for stage, (words, results) in commands.items():
        _run(bench, [sys.executable, *words])
        second = pd.read_csv(bench.folder / "run" / results / "metrics.csv").iloc[1]
        with torch.device("meta"):
            flops = vits.step_flops(_network(bench, stage))
        rate = float(second.images_per_s)
        yield {
            "what": f"{words[0]} from files",
            "rate": rate,
            "unit": "images/s",
            "share": rate * flops / bench.peak,
            "note": f"waited for data {second.data_wait:.1%} of the time",
        }


def _run(bench: Bench, words: list) -> None:
    """Run a command in the time that is left. Raises RuntimeError with its last words."""
    ended = subprocess.run([*map(str, words)], **_surroundings(bench), check=False)
    if ended.returncode:
        raise RuntimeError(f"{words[1]} ended with {ended.returncode}: {ended.stdout[-800:]}")


def _surroundings(bench: Bench) -> dict:
    environment = {**os.environ, "ACCELERATE_USE_CPU": str(bench.toy).lower()}
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return dict(cwd=ROOT, env=environment, timeout=bench.left_s, **output)


def tests(bench: Bench) -> Iterator[dict]:
    """Run the tests marked `cuda`; where time runs out, say what came of those before."""
    for name in ("test_cuda.py",) if bench.toy else ("test_devices.py", "test_cuda.py"):
        words = [sys.executable, "-m", "pytest", "-m", "cuda", "-o", "addopts=", "-v"]
        words += ["--tb=line", str(ROOT / "tests" / "training" / name)]
        try:
            output, note = subprocess.run(words, **_surroundings(bench), check=False).stdout, ""
        except subprocess.TimeoutExpired as late:
            output, note = (late.stdout or b"").decode(), "; then the time was over"
        ended = re.findall(r"::(\S+) (PASSED|FAILED|ERROR|SKIPPED)", output)
        counts = Counter(outcome for _, outcome in ended)
        said = ", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items())
        bad = [name for name, outcome in ended if outcome in ("FAILED", "ERROR")]
        said += f" ({', '.join(bad)})" * bool(bad)
        yield {"what": f"tests, {name}", "note": (said or output[-300:]) + note}


def loader(bench: Bench) -> Iterator[dict]:
    """Measure the loader, and what decodes and resizes on the GPU in its place."""
    names = _photographs(bench)
    store, count = ImageStore(bench.folder / "prepared", names), len(names)
    side, batch = (TOY[1], 8) if bench.toy else (224, 256)
    plan = Plan(np.arange(count), np.zeros((count, 0), dtype=np.float32))
    passes = [np.arange(start, start + batch) for start in range(0, count, batch)]
    workers = default_workers()
    options = dict(randoms=196, seed=0, epoch=0, workers=workers)
    begun = time.perf_counter()
    made = training_passes(store, plan, passes, Geometry(side, **MAE_CROP), **options)
    deque((one.to(bench.device) for one in made), maxlen=0)
    bench.wait()
    rate = count / (time.perf_counter() - begun)
    yield {"what": f"loader, {workers} workers", "rate": rate, "unit": "images/s"}
    from torchvision.io import decode_jpeg, read_file

    def decoded() -> None:
        files = [read_file(store.path(int(row))) for row in passes[0]]
        images = torch.stack(decode_jpeg(files, device=bench.device)).float()
        torch.nn.functional.interpolate(images, (side, side), mode="bicubic", antialias=True)

    _seconds(bench, decoded, 1)
    rate = batch / _seconds(bench, decoded, 1 if bench.toy else 10)
    what = "read by one thread, decoded and resized on the GPU"
    yield {"what": what, "rate": rate, "unit": "images/s", "note": "no part of the scripts"}


def predict(bench: Bench) -> Iterator[dict]:
    """Measure 05 on drawn clips, mp4 to submission, and its network alone."""
    from benchmarks import submission_speed
    from common.submission.ensemble import Ensemble, face_probabilities

    videos = submission_speed.clips(bench.folder, 1 if bench.toy else 7)
    model, side = TOY[:2] if bench.toy else ("vit_base", 224)
    network = _network(bench, "04").to(bench.device).eval()
    settings = {"image_size": side, "mean": FACE_MEAN, "std": FACE_STD}
    precision = "no" if bench.toy else default_precision()
    ensemble = Ensemble([(network, settings)], bench.device, precision, flip=True, shift=0.0)
    faces = torch.zeros((4 if bench.toy else 256, 3, side, side), dtype=torch.uint8)
    _seconds(bench, lambda: face_probabilities(ensemble, side, faces), 1)
    once = _seconds(bench, lambda: face_probabilities(ensemble, side, faces), 3)
    yield {
        "what": f"05, {model}, the network alone, mirrored too",
        "rate": len(faces) / once,
        "unit": "faces/s",
    }
    begun = time.perf_counter()
    frames = submission_speed.ours(videos, ensemble, bench.folder)
    yield {
        "what": f"05, {model}, mp4 to submission",
        "rate": frames / (time.perf_counter() - begun),
        "unit": "frames/s",
        "note": f"{frames} frames of {len(videos)} clips",
    }

"""The masked autoencoder's step beside Hugging Face's, its share of the peak; and the loader.

ViT-B/16 at 224 px, 75 % masked: forward, backward and AdamW, both on the same images and noise.
By hand: `python benchmarks/speed.py --only encoder loader [--quick]`.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import timm.layers
import torch
from PIL import Image

from benchmarks.timing import Line, in_turns, matmul_peak
from benchmarks.vits import forward_flops
from common.batches.augment import normalise
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Plan, training_passes
from common.hardware import default_precision
from common.networks.classifier import create_encoder
from common.networks.mae import MaskedAutoencoder
from common.script.files import UserError
from common.script.flags import FACE_MEAN, FACE_STD
from common.training.optimization import make_optimizer

TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RATE, DECAY, BETAS = 1e-4, 0.05, (0.9, 0.95)
MAE_CROP = {"crop_area": (0.2, 1.0), "crop_ratio": (3 / 4, 4 / 3)}


def measure(quick: bool) -> list[Line]:
    """Compare training steps of ViT-B/16: first in float32, then as our scripts run by default."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = 64 if device == "cuda" else 4 if quick else 16
    images = torch.randn(batch, 3, 224, 224, device=device)
    noise = torch.rand(batch, 196, device=device)
    default = default_precision()
    # Of each comparison, our precision; and of each peer in it, its precision, whether it is
    # compiled, and the ratio asked for.
    compared = {"no": [("no", False, 1.1)]}
    if default != "no":
        compared[default] = [("no", False, 3.0), (default, False, 1.1)]
    if not quick:  # to compile takes a minute
        compared[default].append((default, True, None))
    lines = []
    for precision, peers in compared.items():
        model, ours = _our_step(images, noise, precision)
        theirs = {}
        for form, compiled, goal in peers:
            name = f"transformers' ViTMAE, {_name(form)}{', compiled' if compiled else ''}"
            theirs[name] = _their_step(images, noise, form, compiled), goal
        calls = {"ours": ours, **{name: step for name, (step, _) in theirs.items()}}
        rates = in_turns(calls, 3 if quick else 5)
        terms = forward_flops(model)
        total = 3 * sum(terms.values())  # the backward pass computes two products for each one
        peak = matmul_peak(TYPES[precision], device)
        facts: dict[str, float | str] = {f"{name}, GFLOP": n / 1e9 for name, n in terms.items()}
        facts |= {"step, GFLOP an image (3 × their sum)": total / 1e9}
        facts |= {"product peak, GFLOP/s": peak / 1e9}
        facts |= {"share of the peak": median(rates["ours"]) * total / peak}
        for name, (_, goal) in theirs.items():
            lines.append(
                Line(
                    f"MAE step, ViT-B/16, 224 px, batch {batch}, {_name(precision)}",
                    "images/s",
                    rates["ours"],
                    name,
                    rates[name],
                    goal=goal,
                    facts=facts,
                )
            )
            facts = {}  # reported once
    return lines


def _name(precision: str) -> str:
    return str(TYPES[precision]).removeprefix("torch.")


def _our_step(images: torch.Tensor, noise: torch.Tensor, precision: str) -> tuple:
    device = images.device.type
    timm.layers.set_fused_attn(device == "cuda")  # as start_run does
    model = MaskedAutoencoder(create_encoder("vit_base", 224)).to(device)
    if device == "cuda":
        model.compile()
    optimizer = make_optimizer(model, RATE, DECAY, betas=BETAS)

    def step() -> float:
        with torch.autocast(device, TYPES[precision], enabled=precision != "no"):
            loss = model(images, noise)[0].mean()
        return _learn(loss, optimizer, len(images))

    return model, step


def _their_step(
    images: torch.Tensor, noise: torch.Tensor, precision: str, compiled: bool
) -> Callable[[], float]:
    try:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining
    except ImportError:
        raise UserError("the peer of the step, transformers, is not installed") from None
    model = ViTMAEForPreTraining(ViTMAEConfig()).to(images.device)
    if compiled:
        model.compile()
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE, BETAS, weight_decay=DECAY, fused=True
    )  # fused: the default of their Trainer

    def step() -> float:
        with torch.autocast(images.device.type, TYPES[precision], enabled=precision != "no"):
            loss = model(pixel_values=images, noise=noise).loss
        return _learn(loss, optimizer, len(images))

    return step


def _learn(loss: torch.Tensor, optimizer: torch.optim.Optimizer, amount: int) -> float:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if loss.device.type == "cuda":
        torch.cuda.synchronize()
    return amount


def loader(quick: bool) -> list[Line]:
    """Compare the loader on one core with torchvision's usual pipelines, 256 px JPEG to 224 px.

    The usual pipelines normalise each image, one after PIL, one on tensors from the decoder on, as
    torchvision advises; ours hands out bytes, which are normalised batch by batch on the device:
    where that is a GPU, its cores are spared it. Here all do the whole, on the processor.
    """
    from torchvision.io import decode_image, read_file
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(
        224, MAE_CROP["crop_area"], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    scaled = v2.ToDtype(torch.float32, scale=True)
    ended = v2.Compose([v2.RandomHorizontalFlip(), scaled, v2.Normalize(FACE_MEAN, FACE_STD)])
    usual = v2.Compose([crop, v2.ToImage(), ended])
    on_tensors = v2.Compose([crop, ended])
    count, batch = 128 if quick else 512, 64
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a loader's worker has
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore(folder, write_photographs(Path(folder), count))
        geometry = Geometry(224, **MAE_CROP)
        plan = Plan(np.arange(count), np.zeros((count, 0), dtype=np.float32))
        passes = [np.arange(start, start + batch) for start in range(0, count, batch)]

        def made():
            return training_passes(
                store, plan, passes, geometry, randoms=196, seed=0, epoch=0, workers=0
            )

        def ours() -> float:
            whole = (normalise(one.images, FACE_MEAN, FACE_STD) for one in made())
            deque(whole, maxlen=0)  # let go one by one, as training does
            return count

        def bytes_alone() -> float:
            deque(made(), maxlen=0)
            return count

        def through_pil() -> float:
            for rows in passes:
                torch.stack([usual(Image.open(store.path(row)).convert("RGB")) for row in rows])
            return count

        def through_tensors() -> float:
            for rows in passes:
                images = (decode_image(read_file(store.path(row)), mode="RGB") for row in rows)
                torch.stack([on_tensors(image) for image in images])
            return count

        peers = {
            "torchvision's PIL pipeline": through_pil,
            "torchvision's tensor pipeline": through_tensors,
        }
        calls = {"ours": ours, "bytes": bytes_alone, **peers}
        rates = in_turns(calls, 3 if quick else 7)
    torch.set_num_threads(threads)
    extra = {"ours, bytes for a GPU to normalise, images/s": median(rates["bytes"])}
    return [
        Line(
            "loader on one core, photographs 256 px to 224 px, normalised",
            "images/s",
            rates["ours"],
            name,
            rates[name],
            goal=goal,
            facts=facts,
        )
        for name, goal, facts in zip(peers, (2.4, None), (extra, {}), strict=True)
    ]


def write_photographs(folder: Path, count: int) -> list[str]:
    """Write squares of scikit-learn's two colour photographs, as 01 writes crops of videos."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.default_rng(0)
    names = [f"{number:04d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        photograph = photographs[number % 2]
        side = int(random.integers(200, min(photograph.size) + 1))
        left, top = (int(random.integers(0, length - side + 1)) for length in photograph.size)
        box = (left, top, left + side, top + side)
        square = photograph.resize((256, 256), Image.Resampling.BICUBIC, box=box)
        square.save(folder / name, quality=95)
    return names

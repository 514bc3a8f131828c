"""A training step of 04, ViT-B/16 at 224 px, beside a plain loop that mixes image by image.

The plain loop is PIL, torchvision's transforms on each image, and mixing one pair after the other
with a partner drawn until the pair is valid. (The released code permutes the whole batch until
every pair is, which at its batch of 96 would hardly ever end.)
By hand: `python benchmarks/speed.py --only curriculum [--quick]`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import Line, in_turns
from common.batches.augment import augment
from common.batches.batch import RANDOMS
from common.batches.curriculum import Mixing, Stock, draw_epoch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import training_passes
from common.emotions import BASIC, CHALLENGE_PAIRS
from common.hardware import default_precision, default_workers
from common.networks.classifier import create_classifier
from common.script.flags import FACE_MEAN, FACE_STD
from common.training.optimization import make_optimizer

SIDE, RATE, DECAY = 224, 1e-5, 0.05
TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PLAIN = {"mean": FACE_MEAN, "std": FACE_STD}


def measure(quick: bool) -> list[Line]:
    """Measure images/s of whole steps, loading included, and the share that augmenting takes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, steps = (64, 8) if device.type == "cuda" else (4, 1) if quick else (16, 2)
    with tempfile.TemporaryDirectory() as folder:
        store, targets = _write_faces(Path(folder), 240)
        ours, share = _our_steps(store, targets, device, batch, steps)
        own = TYPES[default_precision()]
        forms = [own] if device.type == "cuda" else list(dict.fromkeys([torch.float32, own]))
        peers = {
            f"plain loop, {_name(form)}": _plain_steps(store, targets, device, batch, steps, form)
            for form in forms
        }
        rates = in_turns({"ours": ours, **peers}, 3 if quick else 5)
        facts = {
            "augmentation and mixing, share of a step": median(share() for _ in range(9)),
            "the same with --cutmix facs": median(share("facs") for _ in range(9)),
        }
    goals = [2.0] if device.type == "cuda" else [3.0, None]
    return [
        Line(
            f"04, all compounds generated, ViT-B/16, {SIDE} px, batch {batch}, {_name(own)}",
            "images/s",
            rates["ours"],
            peer,
            rates[peer],
            goal=goal,
            facts=facts if goal else {},  # reported once
        )
        for peer, goal in zip(peers, goals, strict=False)
    ]


def _name(form: torch.dtype) -> str:
    return str(form).removeprefix("torch.")


def _our_steps(store, targets, device, batch, steps):
    timm.layers.set_fused_attn(device.type == "cuda")  # as start_run does
    network = create_classifier("vit_base_patch16_224", SIDE).to(device)
    if device.type == "cuda":
        network.compile()
    optimizer = make_optimizer(network, RATE, DECAY)
    stock = Stock(targets, np.arange(len(targets)), np.zeros(0, dtype=np.int64))
    form = TYPES[default_precision()]

    def learn(one) -> None:
        with torch.autocast(device.type, form, enabled=form != torch.float32):
            logits = network(augment(one, jitter=0.3, cutout_probability=0.5, **PLAIN))
            losses = functional.binary_cross_entropy_with_logits(
                logits, one.targets, reduction="none"
            )
        _step(losses.sum(1).mean(), optimizer)

    def passes(seed: int, cutmix: str = "box"):
        count = batch * steps
        mixing = Mixing(natural_share=0.0, cutmix=cutmix)
        plan, _ = draw_epoch(stock, count, count, mixing, np.random.default_rng(seed))
        made = training_passes(
            store,
            plan,
            np.split(np.arange(count), steps),
            Geometry(SIDE, (0.6, 1.0)),
            randoms=RANDOMS,
            seed=0,
            epoch=seed,
            workers=default_workers(),
        )
        for one in made:
            yield one.to(device)

    calls = iter(range(10**6))

    def run() -> float:
        for one in passes(next(calls)):
            learn(one)
        return batch * steps

    def share(cutmix: str = "box") -> float:
        one = next(passes(0, cutmix))
        learn(one)
        start = _now(device)
        augment(one, jitter=0.3, cutout_probability=0.5, **PLAIN)
        between = _now(device)
        learn(one)
        return (between - start) / (_now(device) - between)

    return run, share


def _plain_steps(store, targets, device, batch, steps, form):
    timm.layers.set_fused_attn(True)  # as timm comes
    network = timm.create_model("vit_base_patch16_224", num_classes=len(BASIC)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY, fused=True)
    valid = {frozenset(pair) for pair in CHALLENGE_PAIRS}

    def run() -> float:
        rows = np.random.default_rng(0).permutation(len(targets))[: batch * steps]
        shown = DataLoader(_Faces(store, targets, rows), batch, num_workers=default_workers())
        for images, labels in shown:
            mixed, both, emotions = images.clone(), labels.clone(), labels.argmax(1).tolist()
            for row in range(len(images)):
                partners = [
                    other
                    for other in range(len(images))
                    if frozenset((emotions[row], emotions[other])) in valid
                ]
                if partners:
                    other = partners[np.random.randint(len(partners))]
                    if np.random.rand() < 0.5:
                        mixed[row] = 0.1 * images[row] + 0.9 * images[other]
                    else:
                        mixed[row, :, :, SIDE // 2 :] = images[other, :, :, SIDE // 2 :]
                    both[row] = torch.maximum(labels[row], labels[other])
            with torch.autocast(device.type, form, enabled=form != torch.float32):
                logits = network(mixed.to(device))
                loss = functional.binary_cross_entropy_with_logits(logits, both.to(device))
            _step(loss, optimizer)
        return batch * steps

    return run


class _Faces(Dataset):
    """One image at a time, as most training code reads them."""

    def __init__(self, store: ImageStore, targets: np.ndarray, rows: np.ndarray):
        from torchvision import transforms

        self.store, self.targets, self.rows = store, torch.from_numpy(targets), rows
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIDE, (0.6, 1.0), (0.9, 1.1)),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.3, 0.3, 0.3),
                transforms.ToTensor(),
                transforms.Normalize(FACE_MEAN, FACE_STD),
                transforms.RandomErasing(0.5, (0.1, 0.1), (1, 1)),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int):
        row = self.rows[number]
        image = Image.open(self.store.path(row)).convert("RGB")
        return self.transform(image), self.targets[row]


def _step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if loss.device.type == "cuda":
        torch.cuda.synchronize()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _write_faces(folder: Path, count: int) -> tuple[ImageStore, np.ndarray]:
    """Write squares of a photograph at the size of RAF-DB's aligned faces, an emotion in turn."""
    from sklearn.datasets import load_sample_images

    photograph = Image.fromarray(load_sample_images().images[0])
    random = np.random.default_rng(0)
    names = [f"{number:03d}.jpg" for number in range(count)]
    for name in names:
        left, top = (int(random.integers(0, length - 100)) for length in photograph.size)
        photograph.crop((left, top, left + 100, top + 100)).save(folder / name, quality=95)
    return ImageStore(folder, names), np.eye(6, dtype=np.float32)[np.arange(count) % 6]

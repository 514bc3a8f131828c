"""Training steps of convolutional networks on a CPU, beside timm's own, both in bfloat16.

By hand: `python benchmarks/speed.py --only convolutions [--quick]`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import timm
import torch
from torch import nn

from benchmarks.timing import Line, in_turns
from common.networks.convolutions import make_fast

MODELS = ("efficientnet_lite0", "mobilenetv3_large_100", "convnext_atto", "resnet18")
SIDE_PX = 96


def measure(quick: bool) -> list[Line]:
    """Compare forward and backward passes at 96 px with the same network as timm makes it."""
    images = torch.randn(8 if quick else 64, 3, SIDE_PX, SIDE_PX)
    lines = []
    for model in MODELS:
        plain = timm.create_model(model, num_classes=6)
        calls = {
            "ours": _step(make_fast(copy.deepcopy(plain)), images),
            "theirs": _step(plain, images),
        }
        rates = in_turns(calls, 3)
        what = f"training step, {model}, {SIDE_PX} px, batch {len(images)}, bfloat16, CPU"
        peer = "the same network as timm makes it, bfloat16"
        lines.append(Line(what, "images/s", rates["ours"], peer, rates["theirs"]))
    return lines


def _step(network: nn.Module, images: torch.Tensor) -> Callable[[], float]:
    def step() -> float:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(images)
        answer.float().square().mean().backward()
        return float(len(images))

    return step

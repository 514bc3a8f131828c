"""The arithmetic of sizes: operations as torch counts them, a page that says what is computed."""

from __future__ import annotations

import pytest
import torch
from helpers.running import ROOT
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import scaling, vits


@pytest.mark.parametrize("stage", ["02", "04"])
def test_operations_are_those_that_torch_counts(stage):
    with torch.device("meta"):
        network = vits.make(stage, "vit_small", 224)
    shape = 224, vits.randoms_of(stage, network), vits.classes_of(stage)
    with FlopCounterMode(display=False) as counter:
        shown = vits.mixed_batch(2, *shape).to(torch.device("meta"))
        vits.loss_of(stage)(network, shown).sum().backward()
    # Nothing flows back into the pixels, so the first layer's backward pass has one product.
    assert counter.get_total_flops() == pytest.approx(2 * vits.step_flops(network), rel=0.01)
    assert counter.get_total_flops() < 2 * vits.step_flops(network)


def test_the_page_says_what_is_computed():
    page = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    size = scaling.size_of("02", "vit_base")
    reached = 0.3 * vits.PEAKS_TFLOPS["H100"] * 1e12
    assert scaling.batch_row(size, 80) in page and scaling.batch_row(size, 24) in page
    assert scaling.hours_row(size, reached, 20 * 4_500_000) in page
    assert scaling.exchange_row(size, reached, 16) in page


@pytest.mark.parametrize(
    ("card", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
    ],
)
def test_a_card_is_known_by_its_name(card, tflops):
    assert vits.peak_flops(card) == tflops * 1e12


@pytest.mark.parametrize("card", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A10G", "a card"])
def test_the_peak_of_other_cards_is_not_guessed(card):
    assert vits.peak_flops(card) is None

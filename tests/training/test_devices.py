"""What GPUs and half precision ask of a training step, checked without a GPU."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.running import run_here
from helpers.toy_world import command

from common.batches.augment import normalise
from common.networks.classifier import create_classifier
from common.script.files import UserError
from common.script.signals import Stopped
from common.training import loop, memory, optimization, runs, steps
from common.training.losses import expression_loss


@pytest.fixture
def float16(monkeypatch):
    """Return a function that lets runs compute in fp16 on this CPU, with a first scale.

    Accelerate does so on GPUs alone; the scaler, the autocast and the optimiser are those of a GPU.
    Where there is a GPU, it is used (`pytest -m cuda`).
    """
    scale, start = [2.0**16], runs._start_accelerate

    def start_half(*arguments):
        accelerator = start(*arguments)
        accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
        accelerator.scaler = torch.amp.GradScaler(accelerator.device.type, init_scale=scale[0])
        return accelerator

    monkeypatch.setattr(runs, "_start_accelerate", start_half)
    yield lambda first: scale.__setitem__(0, first)
    AcceleratorState._reset_state(reset_partial_state=True)


def watch(monkeypatch) -> list[tuple[bool, float, int]]:
    """Return a list that fills with each step: skipped, learning rate, updates of the average."""
    taken, updates = [], []
    take, update = steps.take_step, optimization.Average.update

    def watched(accelerator, optimizer):
        skipped = take(accelerator, optimizer)
        taken.append((skipped, optimizer.param_groups[-1]["lr"], len(updates)))
        return skipped

    monkeypatch.setattr(steps, "take_step", watched)
    monkeypatch.setattr(
        optimization.Average,
        "update",
        lambda self, step: (updates.append(step), update(self, step)),
    )
    return taken


@pytest.mark.cuda
def test_a_step_that_overflows_is_skipped_and_counted(squares, tmp_path, float16, monkeypatch):
    float16(2.0**20)  # more than float16 holds: halved with each overflow
    steps = watch(monkeypatch)
    run_here(*command("mae", squares, tmp_path), "--no-compile")
    skipped = [skip for skip, *_ in steps]
    assert skipped[:2] == [True, True] and skipped[-1] is False
    # The average takes in the steps that were taken, and the schedule counts no others.
    taken = [sum(not skip for skip in skipped[:number]) for number in range(len(steps))]
    assert [updates for *_, updates in steps] == taken
    assert len({(updates, rate) for _, rate, updates in steps}) == len(set(taken))
    table = pd.read_csv(tmp_path / "mae" / "metrics.csv")
    assert table.skipped_steps.iloc[-1] == sum(skipped)
    assert table.loss.notna().all() and table.gradient_norm.iloc[-1] > 0


@pytest.mark.cuda
def test_a_run_in_float16_goes_on_with_its_scale(squares, tmp_path, float16, monkeypatch):
    float16(2.0**20)
    steps = watch(monkeypatch)
    leave = loop.journal.report_epoch

    def leave_after_one(*arguments):
        raise Stopped(15)

    monkeypatch.setattr(loop.journal, "report_epoch", leave_after_one)
    with pytest.raises(Stopped):
        run_here(*command("mae", squares, tmp_path), "--no-compile")
    monkeypatch.setattr(loop.journal, "report_epoch", leave)
    seen = len(steps)
    AcceleratorState._reset_state(reset_partial_state=True)
    run_here(*command("mae", squares, tmp_path), "--no-compile")
    before, after = steps[:seen], steps[seen:]
    assert before[0][0] and not after[0][0]  # with the first scale it would overflow again
    table = pd.read_csv(tmp_path / "mae" / "metrics.csv")
    assert table.skipped_steps.iloc[-1] == sum(skip for skip, *_ in steps)


@pytest.mark.cuda
def test_a_scale_that_falls_for_ever_is_named(squares, tmp_path, float16):
    float16(2.0**-20)
    with pytest.raises(UserError, match="not finite in float16"):
        run_here(*command("mae", squares, tmp_path), "--no-compile")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_224"])
def test_the_memory_of_an_image_is_what_a_transformer_keeps(name):
    network = create_classifier(name, 224, {"depth": 2})

    def loss(network, batch):
        return network(normalise(batch.images, (0.5,) * 3, (0.2,) * 3)).sum(1)

    found = memory.image_bytes(network, loss, 224, randoms=8, classes=6)
    # Of each block, in float32: the sum and its norm twice, query, key and value, attention twice,
    # and four times as wide before and after the nonlinearity.
    features = 2 + 3 + 2 + 2 + 4 + 4
    expected = 4 * features * 197 * network.embed_dim * 2
    assert expected < found < 1.3 * expected  # more: the patches, the head


def test_the_batch_has_room_for_whole_images_after_small_ones():
    network = create_classifier("cnn_small", 48)
    settings = dict(loss="bce", small_size=24, label_smoothing=0.0, jitter=0.0, cutout=0.0)
    settings |= dict(mean=(0.5,) * 3, std=(0.2,) * 3, rotation=0.0, scale=0.0, shift=0.0)
    whole, small = (
        memory.image_bytes(network, expression_loss(settings, None, epochs), 48, 8, 6)
        for epochs in (0, 5)
    )
    assert small == whole


def test_the_batch_fits_the_memory_and_grows_with_it():
    fits = dict(weights=86_000_000, image=126e6, image_size=224, half=True, recompute=False)
    batches = [memory.batch_for(gib * 2**30, **fits) for gib in (4, 8, 16, 24, 80)]
    assert batches == sorted(batches) and batches[-1] == 256
    for gib, batch in zip((8, 16, 24), batches[1:], strict=False):
        assert batch % 8 == 0 and 26 * 86e6 + 0.6 * batch * 126e6 < 0.85 * gib * 2**30
    assert memory.batch_for(2**30, **fits) == 1
    assert memory.batch_for(16 * 2**30, **{**fits, "recompute": True}) > batches[2]
    assert memory.batch_for(16 * 2**30, **{**fits, "half": False}) < batches[2]

"""Every tensor of a step is on the device of the network, shown on a device without memory.

Under torch's FakeTensorMode tensors have a device and a shape, but no values, and an operation on
tensors of two devices raises, as on a GPU. Training takes torch's `meta` device for the GPU, since
a backward pass on a fake CUDA device needs a real one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.running import run_here
from helpers.toy_world import command, inherit
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)

from common.batches import augment
from common.batches.batch import Batch
from common.networks.classifier import create_classifier
from common.submission.ensemble import Ensemble, face_probabilities
from common.training import evaluation, loop, optimization
from common.training.experiment import Training
from common.training.states import States


class Done(Exception):
    """The step was taken."""


def onto(device: str, network: torch.nn.Module) -> torch.nn.Module:
    """Replace parameters and buffers by fake ones on a device."""
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            fake = torch.empty(weight.shape, dtype=weight.dtype, device=device)
            module._parameters[name] = torch.nn.Parameter(fake, weight.requires_grad)
        for name, value in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=device)
    return network


@pytest.fixture
def without_values(monkeypatch):
    """Let fake tensors answer with zeros where they are asked for values; leave none behind."""
    answers = {
        "numpy": lambda self: np.zeros(self.shape, dtype=np.float32),
        "tolist": lambda self: np.zeros(self.shape).tolist(),
        "__float__": lambda self: 0.0,
        "__int__": lambda self: 0,
        "__bool__": lambda self: True,  # readable
    }
    for name, answer in answers.items():
        monkeypatch.setattr(FakeTensor, name, answer, raising=False)
    yield
    for cached in (augment._channels, augment._opponent):
        cached.cache_clear()


@pytest.fixture
def fake_gpu(monkeypatch, without_values):
    """Let runs find a fake GPU, on which `fit` trains one epoch, validates it and raises Done."""
    there = property(lambda _: torch.device("meta"))
    monkeypatch.setattr("accelerate.Accelerator.device", there)

    def fit(run, network, store, experiment):
        with FakeTensorMode(allow_non_fake_inputs=True):
            onto("meta", network)
            # Fused AdamW knows no `meta` device; what it reads is what SGD reads.
            optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
            optimizer.param_groups[0]["base_lr"] = 1.0
            experiment = replace(experiment, best=None, optimizer=optimizer)
            average = optimization.Average(network, 0.9)
            states = States(run, experiment.name, network, optimizer, average)
            progress = {"step": 0, "steps_done": 0, "skipped": 0, "sums": [0.0] * 3, "rows": []}
            numbers = dict(randoms=experiment.randoms, seed=0, workers=0)
            loader = loop.Loader(store, experiment.geometry, **numbers)
            training = Training(
                run, experiment, store, network, optimizer, average, states, loader, progress
            )
            loop._train_epoch(training, 0)
            assert progress["steps_done"] > 1
            loop._validate(training, 0)
        raise Done

    def read(make):
        def outside(*arguments, **options):
            with unset_fake_temporarily():  # images are read as ever
                return iter(list(make(*arguments, **options)))

        return outside

    monkeypatch.setattr(loop.Loader, "passes", read(loop.Loader.passes))
    monkeypatch.setattr(evaluation, "evaluation_batches", read(evaluation.evaluation_batches))
    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr("common.training.finetuning.fit", fit)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


MIXES = {
    "mae": [("mae", [])],
    "single": [
        ("single", ["--adapt-epochs", "0", "--clip-grad", "1", "--label-smoothing", "0.1"]),
        ("single", ["--adapt-epochs", "1", "--balance", "logit-adjustment"]),
        ("single", ["--adapt-epochs", "0", "--balance", "logit-adjustment", "--rotation", "5"]),
    ],
    "curriculum": [
        ("curriculum", ["--compound-shares", "1", "--stage-epochs", "1", *more])
        for more in (
            ["--mixes", "mixup"],
            ["--mixes", "cutmix", "--cutmix", "box"],
            ["--mixes", "cutmix", "--cutmix", "halves-lr"],
            ["--mixes", "cutmix", "mixup", "--loss", "bmc"],
        )
    ],
}


@pytest.mark.parametrize(
    ("stage", "more"),
    [case for cases in MIXES.values() for case in cases],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_step_and_a_validation_stay_on_the_device(
    stage, more, squares, finetuned, tmp_path, fake_gpu
):
    inherit(finetuned, tmp_path, stage)
    with pytest.raises(Done):
        run_here(*command(stage, squares, tmp_path), *more)


def test_a_tensor_left_on_the_cpu_is_found(squares, finetuned, tmp_path, fake_gpu, monkeypatch):
    inherit(finetuned, tmp_path, "single")
    monkeypatch.setattr(Batch, "to", lambda self, device: self)  # nothing is moved
    with pytest.raises(RuntimeError, match="device"):
        run_here(*command("single", squares, tmp_path), "--adapt-epochs", "0")


def test_faces_joined_after_action_units_stay_on_the_device(without_values):
    # Apart, for there is no autocast to switch off on the `meta` device.
    with FakeTensorMode(allow_non_fake_inputs=True):
        faces = torch.zeros((6, 3, 32, 32), dtype=torch.uint8)
        forms, ones = torch.arange(6, dtype=torch.uint8), torch.ones(6)
        shares = dict(form=forms, extent=ones, window=torch.ones(6, 2), uniform=torch.ones(6, 12))
        known = dict(targets=torch.ones(6, 6), valid=ones.bool(), any_facs=True)
        batch = Batch(faces, faces[1:], torch.arange(1, 6), **shares, **known)
        options = dict(jitter=0.3, cutout_probability=0.5, mean=(0.5,) * 3, std=(0.2,) * 3)
        options |= dict(rotation=5, scale=0.1, shift=0.1)
        shown = augment.augment(batch.to(torch.device("cuda")), **options)
        assert shown.device.type == "cuda" and shown.shape == faces.shape


def test_prediction_stays_on_the_device(without_values):
    network = create_classifier("vit_tiny_patch16_224", 32, {"depth": 1}).eval()
    settings = dict(image_size=32, mean=[0.5] * 3, std=[0.2] * 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        networks = [(onto("cuda", network), settings)] * 2
        ensemble = Ensemble(networks, torch.device("cuda"), "no", flip=True, shift=0.05)
        faces = torch.zeros((3, 3, 32, 32), dtype=torch.uint8)
        assert face_probabilities(ensemble, 32, faces).shape == (3, 2, 2, 5, 6)
        onto("cpu", network)
        with pytest.raises(RuntimeError, match="device"):
            face_probabilities(ensemble, 32, faces)

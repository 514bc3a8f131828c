"""Schedules, weight decay, averaged weights: against their formulas."""

import pytest
import torch

from common.networks.classifier import create_classifier
from common.script.flags import COMMON
from common.training.optimization import (
    SCHEDULES,
    Average,
    cosine,
    make_optimizer,
    one_cycle,
    plateau,
    staged,
)


@pytest.mark.parametrize("layer_decay", [1.0, 0.75])
def test_positions_tokens_and_biases_are_not_decayed(layer_decay):
    network = create_classifier("vit_tiny_patch16_224", 32, {"depth": 2})
    optimizer = make_optimizer(network, 1e-3, 0.05, layer_decay)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decay = {
        names[id(p)]: group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert set(decay) == set(names.values())
    for name, value in decay.items():
        free = name in ("pos_embed", "cls_token") or name.endswith("bias") or "norm" in name
        assert value == (0.0 if free else 0.05), name
    rates = {group["base_lr"] for group in optimizer.param_groups}
    assert len(rates) == (1 if layer_decay == 1 else 4)


def test_schedules_warm_up_and_end_at_zero():
    factor = cosine(100, 10)
    assert factor(0) == pytest.approx(0.1) and factor(10) == 1.0
    assert factor(55) == pytest.approx(0.5) and factor(99) < 0.001
    factor = plateau(100, 10)
    assert factor(0) == pytest.approx(0.1)
    assert factor(20) == factor(74) == 1.0
    assert factor(87) == pytest.approx(13 / 25) and 0 < factor(99) < 0.05


def test_one_cycle_is_torchs_schedule_of_that_name():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    steps = 1000
    peer = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, steps, div_factor=25, final_div_factor=1e9, cycle_momentum=False
    )
    factor = one_cycle(steps)
    for step in range(steps):
        # torch reaches the peak a step earlier and has its last step at zero.
        assert factor(step) == pytest.approx(peer.get_last_lr()[0], abs=0.01)
        optimizer.step()
        peer.step()
    assert max(map(factor, range(steps))) == 1 and list(SCHEDULES) == COMMON["schedule"]["choices"]


def test_sgd_takes_the_steps_of_nesterov_momentum():
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(2.0)
    optimizer = make_optimizer(network, 0.1, 0.01, kind="sgd")
    weight, velocity = 2.0, 0.0
    for _ in range(4):
        network.weight.grad = network.weight.detach().clone()  # of weight² / 2
        optimizer.step()
        gradient = weight + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity)
        assert network.weight.item() == pytest.approx(weight, rel=1e-5)


def test_the_rate_rises_anew_in_each_sub_stage():
    steps, stages = [10] * 10, [0] * 3 + [1] * 3 + [2] * 4
    settings = {"schedule": "plateau", "warmup_epochs": 0, "stage_warmup_epochs": 0}
    whole = staged(settings, steps, stages)
    factor = staged({**settings, "stage_warmup_epochs": 0.4}, steps, stages)
    assert [factor(step) for step in (0, 1, 3)] == [0.25, 0.5, 1.0]
    assert [factor(step) for step in (29, 30, 32, 33)] == [1.0, 0.25, 0.75, 1.0]
    assert factor(61) == 0.5 and factor(90) == whole(90) == 0.4


def test_the_average_is_the_weighted_sum_of_what_the_weights_were():
    network = torch.nn.Linear(1, 1, bias=False)
    history = [2.0, 5.0, -1.0]
    network.weight.data.fill_(1.0)
    average, expected = Average(network, 0.15), 1.0
    for step, value in enumerate(history):
        network.weight.data.fill_(value)
        average.update(step)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == -1.0


@pytest.mark.parametrize("decay", [0.0, 0.15])
def test_a_share_of_the_first_weights_is_in_what_is_kept(decay):
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    start = [value.clone() for value in network.state_dict().values()]
    plain, mixed = Average(network, decay), Average(network, decay, 0.25)
    for step in range(3):
        for value in (*network.parameters(), network[1].running_mean, network[1].running_var):
            value.data += step + 1
        plain.update(step)
        mixed.update(step)
    trained = [value.clone() for value in network.state_dict().values()]
    with plain.applied():
        alone = [value.clone() for value in network.state_dict().values()]
    with mixed.applied():
        for found, own, first in zip(network.state_dict().values(), alone, start, strict=True):
            assert torch.allclose(found.double(), 0.75 * own.double() + 0.25 * first.double())
    for found, own in zip(network.state_dict().values(), trained, strict=True):
        assert torch.equal(found, own)
    mixed.put()
    assert torch.allclose(network[0].weight, 0.75 * alone[0] + 0.25 * start[0])

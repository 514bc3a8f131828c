"""Convolutional networks as they are computed on a CPU: as torch alone does, but faster."""

import copy

import pytest
import timm
import torch

from common.networks.convolutions import make_fast


def gradients(network, images):
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(images)
    answer.float().square().mean().backward()
    return answer, {name: weight.grad.clone() for name, weight in network.named_parameters()}


# Strides, filters above 3×3, fixed padding and TensorFlow's, a bias, squeeze and excitation.
@pytest.mark.parametrize("model", ["efficientnet_lite0", "tf_efficientnet_b0", "convnext_atto"])
def test_gradients_in_bfloat16_are_those_of_torch_to_its_rounding(model):
    torch.manual_seed(0)
    network = timm.create_model(model, num_classes=6).eval()
    ours = make_fast(copy.deepcopy(network))
    assert list(ours.state_dict()) == list(network.state_dict())
    changed = [module for module in ours.modules() if type(module).__name__.startswith("_Fast")]
    assert len(changed) == sum(
        isinstance(module, torch.nn.Conv2d) and module.groups > 1 for module in network.modules()
    )
    images = torch.randn(2, 3, 64, 64)
    (answer, theirs), (same, mine) = gradients(network, images), gradients(ours, images)
    assert torch.allclose(answer, same, atol=0.02 * float(answer.abs().max()))
    for name, gradient in theirs.items():
        difference = (gradient - mine[name]).norm() / gradient.norm().clamp(1e-6)
        assert difference < 0.1, name
    with torch.no_grad():
        assert torch.allclose(network(images), ours(images), atol=1e-4)


@pytest.mark.parametrize(
    "setting",
    [
        {"out_channels": 8},  # two filters a channel
        {"padding": "valid"},
        {"padding": "same"},
        {"dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"groups": 2},
        {"groups": 1},
    ],
)
def test_other_convolutions_stay_as_they_are(setting):
    arguments = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "groups": 4, **setting}
    network = torch.nn.Sequential(torch.nn.Conv2d(**arguments))
    assert type(make_fast(network)[0]) is torch.nn.Conv2d
    gradients(network, torch.randn(2, 4, 8, 8))

"""Convolutional networks as they are computed on a CPU: as torch alone does, but faster."""

import copy

import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d, StdConv2d

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
    images = torch.randn(2, 4, 8, 8)
    answer, theirs = gradients(copy.deepcopy(network), images)
    same, mine = gradients(make_fast(network), images)
    assert not type(network[0]).__name__.startswith("_Fast")
    assert torch.equal(answer, same) and all(torch.equal(theirs[n], mine[n]) for n in theirs)


def not_a_number_in_free_memory():
    """Fill what torch is given next with what no computation may use."""
    kept = [torch.full((4**n,), torch.nan) for n in range(3, 11) for _ in range(8)]
    del kept


# In bfloat16 a CPU leaves some gradients unwritten, where a weight meets no pixel.
@pytest.mark.parametrize(
    ("kind", "groups"),
    [(torch.nn.Conv2d, 1), (torch.nn.Conv2d, 64), (StdConv2d, 1), (ScaledStdConv2d, 1)],
)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3, 5, 7])
def test_filters_larger_than_the_image_have_their_true_gradients(
    kernel, stride, size, kind, groups
):
    torch.manual_seed(0)
    settings = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
    plain = kind(64, 64, kernel, **settings)
    images = torch.randn(8, 64, size, size, requires_grad=True)
    plain(images).square().mean().backward()
    truth, seen = plain.weight.grad, images.grad.clone()
    network = make_fast(torch.nn.Sequential(plain))
    for _ in range(3):
        not_a_number_in_free_memory()
        images.grad = None
        found = gradients(network, images)[1]["0.weight"]
        assert torch.allclose(found, truth, atol=0.03 * float(truth.abs().max()))
        assert torch.allclose(images.grad, seen, atol=0.03 * float(seen.abs().max()))

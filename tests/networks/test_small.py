"""The small network of our own, used as timm's are."""

import pytest
import timm
import torch

from common.networks.classifier import create_classifier, start_classifier
from common.networks.weights import save_model
from common.training.optimization import freeze, make_optimizer


def test_the_small_network_is_a_model_of_timm_with_fewer_than_six_million_parameters():
    network = timm.create_model("cnn_small", num_classes=8)
    assert network(torch.zeros(2, 3, 48, 48)).shape == (2, 8)
    assert sum(weight.numel() for weight in network.parameters()) < 6e6


def test_light_and_contrast_of_an_image_do_not_count():
    network = create_classifier("cnn_small", 48, {"drop_path_rate": 0.1, "drop_rate": 0.2}, 8)
    torch.nn.init.normal_(network.head.weight)
    network.eval()
    images = torch.randn(3, 3, 48, 48) * 10
    assert torch.allclose(network(images), network(images * 2 + 5), atol=0.02)
    assert not torch.allclose(network(images), network(images.flip(0)), atol=0.02)
    assert network(torch.full((1, 3, 48, 48), 4.0)).isfinite().all()  # one grey


def test_stem_blocks_and_head_are_found_by_decay_and_freezing():
    network = create_classifier("cnn_small", 48, {}, 8)
    rates = {group["lr_scale"] for group in make_optimizer(network, 1, 0, 0.5).param_groups}
    assert rates == {1, 0.5, 0.25, 0.125, 0.0625, 0.03125}
    head = ["head.weight", "head.bias"]
    frozen = freeze(network, 2, head)
    stays = [*network.conv.parameters(), *network.bn.parameters(), *network.blocks[:2].parameters()]
    assert frozen == sum(weight.numel() for weight in stays) > 0
    assert not any(weight.requires_grad for weight in stays)
    assert network.blocks[2].conv1.weight.requires_grad


def test_its_weights_are_saved_and_loaded_with_another_head(tmp_path):
    network = create_classifier("cnn_small", 48, {}, 8)
    save_model(tmp_path, network)
    file = str(tmp_path / "model.safetensors")
    other, _ = start_classifier("cnn_small", 48, {}, file)
    assert torch.equal(other.conv.weight, network.conv.weight) and other.head.out_features == 6
    same, _ = start_classifier("cnn_small", 48, {}, file, 8, keep_head=True)
    assert torch.equal(same.head.weight, network.head.weight)


@pytest.mark.parametrize(("model", "side"), [("cnn_small", 16), ("face_resnet", 96)])
def test_recomputed_blocks_give_the_same_gradient(model, side):
    network = create_classifier(model, side, {}, 8)
    images = torch.randn(2, 3, side, side)
    gradients = []
    for again in (False, True):
        network.set_grad_checkpointing(again)
        network.zero_grad()
        network(images).square().sum().backward()
        gradients.append(network.blocks[0].conv2.weight.grad.clone())
    assert torch.allclose(*gradients)


@pytest.mark.parametrize("side", [32, 47, 64])
def test_it_takes_images_of_other_sizes(side):
    assert create_classifier("cnn_small", side)(torch.zeros(2, 3, side, side)).shape == (2, 6)

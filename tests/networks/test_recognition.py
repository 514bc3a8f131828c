"""dlib's network for the recognition of people, and its file of weights."""

import numpy as np
import pytest
import torch
from helpers.running import call
from helpers.toy_world import TINY, make_prepared
from torch.nn import functional

from common.networks.classifier import create_classifier, load_classifier, start_classifier
from common.networks.recognition import FaceResNet, has_fixed_scales, settle
from common.script.files import UserError
from common.training.optimization import freeze, make_optimizer

# Each block of dlib's file: channels before, channels, whether it halves the image.
BLOCKS = [
    *[(32, 32, False)] * 3,
    *[(32, 64, True), *[(64, 64, False)] * 3],
    *[(64, 128, True), *[(128, 128, False)] * 2],
    *[(128, 256, True), *[(256, 256, False)] * 2],
    (256, 256, True),
]


def written(*shape):
    """A tensor's shape as dlib writes it: 2, and each size behind its number of bytes."""
    out = b"\x01\x02"
    for size in (*shape, 1, 1, 1)[:4]:
        digits = size.to_bytes(4, "little").rstrip(b"\0")
        out += bytes([len(digits)]) + digits
    return out


def dlib_file(path, seed=0):
    """Random weights in dlib's form; return the layers as (filters, bias, scale, shift)."""
    random = np.random.default_rng(seed)
    layers, content = [], b"\x01\x01\x01\x0dloss_metric_2" + bytes(100)
    pairs = [(i, o) for before, o, _ in BLOCKS for i in (before, o)]
    for number, (before, width) in enumerate([(3, 32), *pairs]):
        side = 3 if number else 7
        filters = random.normal(size=(width, before, side, side)).astype("<f4")
        filters *= np.float32((before * side**2) ** -0.5)
        bias, scale, shift = random.normal(size=(3, width)).astype("<f4") * np.float32(0.3)
        layers.append([torch.from_numpy(a.copy()) for a in (filters, bias, scale, shift)])
        content += b"\x01\x05con_4" + written(filters.size + width)
        content += filters.tobytes() + bias.tobytes() + b"\x01\x07affine_"
        content += written(2 * width) + scale.tobytes() + shift.tobytes() + bytes(30)
    path.write_bytes(content + written(256, 128) + bytes(4 * 256 * 128) + b"\x01\x0b110")
    return layers


def as_dlib_computes(layers, images):
    """The features of dlib's network before its last halving, layer by layer."""
    layers = iter(layers)

    def scaled(x, stride, padding):
        filters, bias, scale, shift = next(layers)
        x = functional.conv2d(x, filters, bias, stride, padding)
        return x * scale[:, None, None] + shift[:, None, None]

    x = functional.max_pool2d(scaled(images, 2, 0).relu(), 3, 2)
    for before, width, halves in BLOCKS[:-1]:
        y = scaled(x, 2 if halves else 1, 0 if halves else 1).relu()
        y = scaled(y, 1, 1)
        x = functional.avg_pool2d(x, 2) if halves else x
        both = torch.zeros(len(x), width, *x.shape[2:])
        both[:, :before] += x
        both[:, :, : y.shape[2], : y.shape[3]] += y
        x = both.relu()
    return x.mean((2, 3))


def test_dlibs_file_gives_dlibs_features(tmp_path):
    layers = dlib_file(tmp_path / "net.dat")
    network, report = start_classifier("face_resnet", 112, {}, str(tmp_path / "net.dat"))
    assert sorted(report.new) == ["head.bias", "head.weight"] and report.taken == 162
    assert {name.partition(".")[0] for name in report.left_out} == {"dlib_last", "dlib_embedding"}
    network.head = torch.nn.Identity()
    images = torch.randn(2, 3, 112, 112)
    deviation, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
    expected = as_dlib_computes(layers, (images - mean) / (deviation + 0.1) * 0.22)
    near = {"atol": 1e-4 * float(expected.abs().max())}
    assert torch.allclose(network.eval()(images), expected, **near)
    # With the statistics of images the answer is the same, also of these images as a batch.
    images = torch.randn(4, 3, 112, 112)
    before = network(images)
    assert has_fixed_scales(network)
    settle(network, images)
    near = {"atol": 1e-3 * float(before.abs().max())}
    assert torch.allclose(network(images), before, **near)
    assert torch.allclose(network.train()(images), before, **near)
    assert not has_fixed_scales(network)


@pytest.mark.parametrize("model", ["face_resnet", "cnn_small", "vit_tiny_patch16_224"])
def test_other_networks_have_statistics_or_no_batch_normalisation(model):
    assert not has_fixed_scales(create_classifier(model, 112 if model == "face_resnet" else 48))


def test_a_part_of_dlibs_file_is_refused(tmp_path):
    dlib_file(tmp_path / "net.dat")
    content = (tmp_path / "net.dat").read_bytes()
    for length in (100, len(content) // 2, len(content) - 9000):
        (tmp_path / "net.dat").write_bytes(content[:length])
        with pytest.raises(UserError, match="not the whole dlib_face"):
            start_classifier("face_resnet", 112, {}, str(tmp_path / "net.dat"))
    with pytest.raises(UserError, match="another model"):
        dlib_file(tmp_path / "net.dat")
        start_classifier("resnet18", 112, {}, str(tmp_path / "net.dat"))


def test_the_network_has_layers_and_takes_images_of_some_size():
    network = create_classifier("face_resnet", 96, {"drop_rate": 0.2, "drop_path_rate": 0.1}, 8)
    assert isinstance(network, FaceResNet)
    assert 4e6 < sum(weight.numel() for weight in network.parameters()) < 6e6
    rates = {group["lr_scale"] for group in make_optimizer(network, 1, 0, 0.5).param_groups}
    assert len(rates) == 15  # the stem, 13 blocks, the head
    assert freeze(network, 2, ["head.weight", "head.bias"]) > 0
    assert not network.blocks[1].conv1.weight.requires_grad
    assert network.blocks[2].conv1.weight.requires_grad
    with pytest.raises(UserError, match="does not take images of 40 px"):
        create_classifier("face_resnet", 40)
    network.eval()
    assert network(torch.full((1, 3, 96, 96), 0.3)).isfinite().all()  # one grey


def test_03_starts_from_dlibs_file_with_the_statistics_of_its_images(tmp_path, capsys):
    dlib_file(tmp_path / "net.dat")
    world = make_prepared(tmp_path, singles=24, compounds=3)
    arguments = ["03_finetune_single.py", *TINY, "--data-dir", world, "--run-dir", tmp_path / "run"]
    arguments += ["--adapt-epochs", 0, "--epochs", 1, "--model", "face_resnet", "--model-options"]
    arguments += ["drop_rate=0", "--image-size", 80, "--init", tmp_path / "net.dat"]
    status, output, complaints = call(capsys)(*arguments)
    assert status == 0, complaints
    assert "batch normalisation starts with the statistics of" in output
    network, _ = load_classifier(tmp_path / "run" / "single" / "model.safetensors")
    assert not has_fixed_scales(network) and network.bn.running_mean.any()

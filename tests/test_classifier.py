"""Weights in and out: a file that belongs elsewhere is refused, a right one changes nothing."""

import json
import pickle

import pytest
import safetensors.torch
import timm
import torch

from common.classifier import (
    create_classifier,
    create_encoder,
    load_classifier,
    read_weights,
    save_model,
    start_from,
)
from common.files import UserError

OPTIONS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
MODEL = ("vit_tiny_patch16_224", 32, OPTIONS)


def save_run(folder, network, **changes):
    save_model(folder, network)
    settings = {"model": MODEL[0], "image_size": 32, "model_options": OPTIONS}
    settings |= {"mean": [0.5] * 3, "std": [0.2] * 3, **changes}
    (folder / "run.json").write_text(json.dumps({"settings": settings}))


def test_a_saved_classifier_gives_the_same_logits(tmp_path):
    torch.manual_seed(0)
    network = create_classifier(*MODEL).eval()
    torch.nn.init.normal_(network.head.weight)
    save_run(tmp_path, network)
    images = torch.randn(2, 3, 32, 32)
    loaded, settings = load_classifier(tmp_path / "model.safetensors")
    assert settings["image_size"] == 32
    assert torch.equal(loaded(images), network(images))


def test_a_head_that_keeps_positions_is_saved_and_loaded(tmp_path):
    options = {**OPTIONS, "stem": "conv", "global_pool": "concat"}
    network = create_classifier(MODEL[0], 32, options).eval()
    torch.nn.init.normal_(network.head.classify.weight)
    save_run(tmp_path, network, model_options=options)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_classifier(tmp_path / "model.safetensors")[0](images), network(images))


def test_timm_alone_can_load_a_saved_classifier(tmp_path):
    network = create_classifier(*MODEL).eval()
    save_model(tmp_path, network)
    other = timm.create_model(
        MODEL[0], num_classes=6, img_size=32, global_pool="avg", **OPTIONS,
        checkpoint_path=str(tmp_path / "model.safetensors"),
    ).eval()  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(images), network(images))


def test_an_encoder_starts_a_classifier_and_leaves_only_the_head_random(tmp_path):
    encoder = create_encoder(*MODEL)
    save_model(tmp_path, encoder)
    network = create_classifier(*MODEL)
    left = start_from(network, str(tmp_path / "model.safetensors"))
    assert set(left) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    assert torch.equal(network.blocks[1].mlp.fc1.weight, encoder.blocks[1].mlp.fc1.weight)


def test_positions_are_resized_to_another_image_size(tmp_path):
    save_model(tmp_path, create_encoder(*MODEL))
    network = create_classifier(MODEL[0], 48, OPTIONS)
    start_from(network, str(tmp_path / "model.safetensors"))
    assert network.pos_embed.shape == (1, 37, 32)


@pytest.mark.parametrize(
    "change", [{"depth": 3}, {"depth": 1}, {"embed_dim": 64}, {"stem": "conv"}]
)
def test_weights_of_another_model_are_refused(tmp_path, change):
    save_model(tmp_path, create_encoder(*MODEL))
    network = create_classifier(MODEL[0], 32, {**OPTIONS, **change})
    with pytest.raises(UserError, match="another model"):
        start_from(network, str(tmp_path / "model.safetensors"))


def test_an_encoder_is_no_classifier(tmp_path):
    save_run(tmp_path, create_encoder(*MODEL))
    with pytest.raises(UserError, match="0 logits"):
        load_classifier(tmp_path / "model.safetensors")


def test_a_record_without_the_face_colours_is_refused(tmp_path):
    save_run(tmp_path, create_classifier(*MODEL), mean=None)
    with pytest.raises(UserError, match="colours"):
        load_classifier(tmp_path / "model.safetensors")


def test_a_checkpoint_without_its_record_is_refused(tmp_path):
    save_model(tmp_path, create_classifier(*MODEL))
    with pytest.raises(UserError, match=r"run\.json"):
        load_classifier(tmp_path / "model.safetensors")


class _Trap:
    def __reduce__(self):
        return (print, ("run by unpickling",))


def test_files_that_hold_more_than_tensors_are_refused(tmp_path, capsys):
    torch.save({"model": _Trap()}, tmp_path / "trap.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Trap()))
    (tmp_path / "short.safetensors").write_bytes(b"\xff" * 20)
    torch.save({"model": [1, 2]}, tmp_path / "list.pth")
    for name in ("trap.pth", "plain.pth", "short.safetensors", "list.pth", "absent.pth"):
        with pytest.raises(UserError, match=name.split(".")[0]):
            read_weights(tmp_path / name)
    assert "unpickling" not in capsys.readouterr().out


def test_the_entry_called_model_is_read(tmp_path):
    tensors = {"a": torch.ones(2)}
    torch.save({"model": tensors, "epoch": 3}, tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_bytes(safetensors.torch.save(tensors))
    assert torch.equal(read_weights(tmp_path / "w.pth")["a"], torch.ones(2))
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_model", {}, "no_such_model"),
        ("resnet18", {}, "resnet18"),
        ("vit_tiny_patch16_224", {"depht": 2}, "depht"),
        ("vit_tiny_patch16_224", {"stem": "fold"}, "fold"),
    ],
)
def test_a_model_that_timm_cannot_make_is_a_users_error(name, options, message):
    with pytest.raises(UserError, match=message):
        create_classifier(name, 32, options)

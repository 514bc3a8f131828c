"""Weights in and out: every format of the field gives the same network, a wrong file is refused."""

import argparse
import pickle

import pytest
import safetensors.torch
import torch
from helpers.weights import start_from

from common.networks.classifier import create_classifier, create_encoder
from common.networks.formats import read_tensors
from common.networks.mae import MaskedAutoencoder
from common.networks.weights import (
    resize_positions,
    save_model,
    save_weights,
    start_autoencoder,
)
from common.script.files import UserError

OPTIONS = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
MODEL = ("vit_tiny_patch16_224", 32, OPTIONS)
DECODER = {"decoder_dim": 16, "decoder_depth": 2, "decoder_heads": 2}


def autoencoder(seed=0, image_size=32, options=OPTIONS, **decoder):
    torch.manual_seed(seed)
    model = MaskedAutoencoder(
        create_encoder(MODEL[0], image_size, options), **{**DECODER, **decoder}
    )
    for name, parameter in model.named_parameters():  # no value that a wrong mapping would share
        if not name.endswith("pos_embed"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def outputs(model):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((2, 3, 32, 32), generator=generator)
    return model(images, torch.rand((2, model.patches), generator=generator))


def as_reference_checkpoint(model, path):
    """Save as the reference code does: unprefixed, beside optimiser and arguments."""
    names = {key.removeprefix("encoder."): value for key, value in model.state_dict().items()}
    content = {"model": names, "optimizer": {}, "epoch": 19, "args": argparse.Namespace(lr=1e-3)}
    torch.save(content, path)


def as_hugging_face(model, folder):
    """Save through transformers itself, from a ViTMAE that was given the same weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    encoder = model.encoder
    config = transformers.ViTMAEConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        image_size=32,
        patch_size=8,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        layer_norm_eps=1e-6,
        norm_pix_loss=model.norm_pix_loss,
    )
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    pairs = [
        (theirs.vit.embeddings.cls_token, encoder.cls_token),
        (theirs.vit.embeddings.position_embeddings, encoder.pos_embed),
        (theirs.decoder.mask_token, model.mask_token),
        (theirs.decoder.decoder_pos_embed, model.decoder_pos_embed),
    ]
    modules = [
        (theirs.vit.embeddings.patch_embeddings.projection, encoder.patch_embed.proj),
        (theirs.vit.layernorm, encoder.norm),
        (theirs.decoder.decoder_embed, model.decoder_embed),
        (theirs.decoder.decoder_norm, model.decoder_norm),
        (theirs.decoder.decoder_pred, model.decoder_pred),
    ]
    blocks = [*zip(theirs.vit.layers, encoder.blocks, strict=True)]
    blocks += zip(theirs.decoder.decoder_layers, model.decoder_blocks, strict=True)
    for layer, block in blocks:
        modules += [
            (layer.attention.o_proj, block.attn.proj),
            (layer.layernorm_before, block.norm1),
            (layer.layernorm_after, block.norm2),
            (layer.mlp.fc1, block.mlp.fc1),
            (layer.mlp.fc2, block.mlp.fc2),
        ]
        parts = zip(
            "qkv", block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True
        )
        for part, weight, bias in parts:
            projection = getattr(layer.attention, f"{part}_proj")
            pairs += [(projection.weight, weight), (projection.bias, bias)]
    for one, other in modules:
        pairs += [(one.weight, other.weight), (one.bias, other.bias)]
    with torch.no_grad():
        for one, other in pairs:
            one.copy_(other)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())
    theirs.save_pretrained(folder)
    return theirs


@pytest.mark.parametrize(
    "form", ["ours", "reference", "wrapped", "safetensors", "bin", "new names"]
)
def test_an_autoencoder_comes_back_from_every_format(tmp_path, form):
    model = autoencoder()
    path = tmp_path / "model.safetensors"
    if form == "ours":
        save_weights(path, model)
    elif form == "reference":
        as_reference_checkpoint(model, path := tmp_path / "checkpoint-19.pth")
    elif form == "wrapped":  # by torch.compile within DataParallel
        names = {f"module._orig_mod.{key}": value for key, value in model.state_dict().items()}
        torch.save({"state_dict": names}, path := tmp_path / "wrapped.pt")
    else:
        theirs = as_hugging_face(model, tmp_path)
        if form == "bin":
            torch.save(read_tensors(path)[0], path := tmp_path / "pytorch_model.bin")
        elif form == "new names":
            torch.save(theirs.state_dict(), path := tmp_path / "state.bin")
    other = autoencoder(seed=1)
    assert not torch.allclose(outputs(other)[0], outputs(model)[0])
    assert start_autoencoder(other, str(path))[1]
    for found, expected in zip(outputs(other), outputs(model), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("normalised", [False, True])
def test_loss_and_reconstruction_are_those_of_transformers(tmp_path, normalised):
    model = autoencoder(norm_pix_loss=normalised)
    theirs = as_hugging_face(model, tmp_path)
    images, noise = torch.randn(3, 3, 32, 32), torch.rand(3, model.patches)
    losses, predicted, mask = model(images, noise)
    expected = theirs(pixel_values=images, noise=noise)
    assert torch.equal(mask, expected.mask)
    assert torch.allclose(predicted, expected.logits, rtol=1e-4, atol=1e-5)
    assert losses.mean().item() == pytest.approx(expected.loss.item(), rel=1e-5)


def test_an_encoder_file_leaves_the_decoder_and_another_decoder_is_not_forced_in(tmp_path):
    model = autoencoder()
    save_model(tmp_path, model.encoder)
    save_weights(tmp_path / "autoencoder.safetensors", model)
    other = autoencoder(seed=1)
    assert not start_autoencoder(other, str(tmp_path / "model.safetensors"))[1]
    assert torch.equal(
        other.encoder.blocks[1].mlp.fc1.weight, model.encoder.blocks[1].mlp.fc1.weight
    )
    shallow = autoencoder(seed=1, decoder_depth=1)
    before = shallow.decoder_pred.weight.clone()
    assert not start_autoencoder(shallow, str(tmp_path / "autoencoder.safetensors"))[1]
    assert torch.equal(shallow.decoder_pred.weight, before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decoder_embed.weight", torch.full((16, 32), torch.nan), "not finite .in decoder_embed"),
        ("decoder_embed.weight", torch.ones((16, 32), dtype=torch.int32), "is quantised"),
        ("decoder_pos_embed", torch.ones(1, 14, 16), "decoder_pos_embed: .* 13 patches"),
    ],
)
def test_a_decoder_is_checked_as_its_encoder_is(tmp_path, name, value, message):
    path = tmp_path / "mae.pth"
    torch.save({**autoencoder().state_dict(), name: value}, path)
    with pytest.raises(UserError, match=rf"mae\.pth.*{message}"):
        start_autoencoder(autoencoder(), str(path))
    torch.save({**autoencoder().state_dict(), "decoder_pos_embed": torch.ones(17)}, path)
    assert not start_autoencoder(autoencoder(), str(path))[1]


def test_a_classifier_starts_from_any_autoencoder(tmp_path):
    model = autoencoder()
    as_reference_checkpoint(model, tmp_path / "mae.pth")
    network = create_classifier(*MODEL)
    report = start_from(network, str(tmp_path / "mae.pth"))
    assert set(report.new) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    images = torch.randn(2, 3, 32, 32)
    features = network.eval().forward_features(images)
    kept = torch.arange(16).expand(2, -1)
    model.encoder.norm = torch.nn.Identity()  # the classifier's norm stands after its pooling
    assert torch.allclose(features, model.encode(images, kept), atol=1e-5)


def test_positions_follow_the_image_size_and_the_class_token():
    grid = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 8)
    token = torch.full((1, 1, 8), 7.0)
    with_token = torch.cat([token, grid], 1)
    assert torch.equal(resize_positions(with_token, (4, 4), 1, found=1), with_token)
    assert torch.equal(resize_positions(with_token, (4, 4), 0, found=1), grid)
    assert torch.equal(resize_positions(grid, (4, 4), 1, found=0)[:, 1:], grid)
    larger = resize_positions(with_token, (8, 8), 1, found=1)
    assert larger.shape == (1, 65, 8) and torch.equal(larger[:, :1], token)
    assert larger[0, 1:, 0].mean() == pytest.approx(7.5, abs=0.05)
    rows = larger[0, 1:, 0].view(8, 8)
    assert (rows.diff(dim=0) > 0).all() and (rows.diff(dim=1) > 0).all()


def test_an_encoder_with_a_class_token_starts_one_without(tmp_path):
    model = autoencoder(image_size=48)
    save_model(tmp_path, model.encoder)
    network = create_classifier(MODEL[0], 32, {**OPTIONS, "global_pool": "concat"})
    assert network.cls_token is None
    start_from(network, str(tmp_path / "model.safetensors"))
    assert torch.equal(network.blocks[0].attn.qkv.weight, model.encoder.blocks[0].attn.qkv.weight)
    assert network.pos_embed.shape == (1, 16, 32)


@pytest.mark.parametrize(
    "change", [{"depth": 3}, {"depth": 1}, {"embed_dim": 64}, {"stem": "conv"}]
)
def test_weights_of_another_model_are_refused(tmp_path, change):
    save_model(tmp_path, create_encoder(*MODEL))
    network = create_classifier(MODEL[0], 32, {**OPTIONS, **change})
    with pytest.raises(UserError, match="another model"):
        start_from(network, str(tmp_path / "model.safetensors"))


def test_a_file_of_another_kind_of_network_is_refused_with_what_was_expected(tmp_path):
    save_weights(tmp_path / "resnet.safetensors", torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)))
    with pytest.raises(UserError, match=r"0\.weight.*expected.*blocks\.\d\.attn\.qkv\.weight"):
        start_from(create_classifier(*MODEL), str(tmp_path / "resnet.safetensors"))


def test_a_published_name_that_timm_does_not_know_is_refused():
    with pytest.raises(UserError, match="no_such"):
        start_from(create_classifier(*MODEL), "timm:no_such_model.mae")


class _Trap:
    def __reduce__(self):
        return (print, ("run by unpickling",))


def test_files_that_hold_more_than_tensors_are_refused(tmp_path, capsys):
    torch.save({"model": _Trap()}, tmp_path / "trap.pth")
    torch.save({"model": {}, "args": argparse.Namespace(a=_Trap())}, tmp_path / "args.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Trap()))
    (tmp_path / "short.safetensors").write_bytes(b"\xff" * 20)
    torch.save({"model": [1, 2]}, tmp_path / "list.pth")
    for name in (
        "trap.pth",
        "args.pth",
        "plain.pth",
        "short.safetensors",
        "list.pth",
        "absent.pth",
    ):
        with pytest.raises(UserError, match=name.split(".")[0]):
            read_tensors(tmp_path / name)
    assert "unpickling" not in capsys.readouterr().out


def test_the_entry_called_model_is_read(tmp_path):
    tensors = {"a": torch.ones(2)}
    torch.save({"model": tensors, "epoch": 3}, tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_bytes(safetensors.torch.save(tensors))
    assert torch.equal(read_tensors(tmp_path / "w.pth")[0]["a"], torch.ones(2))
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")[0]["a"], torch.ones(2))

"""The networks, and saved classifiers: a right file changes nothing, a wrong one is told."""

import json

import pytest
import timm
import torch
from helpers.weights import start_from

from common.networks.classifier import create_classifier, create_encoder, load_classifier
from common.networks.mae import MaskedAutoencoder
from common.networks.weights import colours_of, labelled_videos, save_model
from common.script.files import UserError

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
        MODEL[0],
        num_classes=6,
        img_size=32,
        global_pool="avg",
        **OPTIONS,
        checkpoint_path=str(tmp_path / "model.safetensors"),
    ).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(images), network(images))


def test_an_encoder_starts_a_classifier_and_leaves_only_the_head_random(tmp_path):
    encoder = create_encoder(*MODEL)
    save_model(tmp_path, encoder)
    network = create_classifier(*MODEL)
    report = start_from(network, str(tmp_path / "model.safetensors"))
    assert set(report.new) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    assert torch.equal(network.blocks[1].mlp.fc1.weight, encoder.blocks[1].mlp.fc1.weight)


def test_an_encoder_is_no_classifier(tmp_path):
    save_run(tmp_path, create_encoder(*MODEL))
    with pytest.raises(UserError, match="0 logits"):
        load_classifier(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("mean", value) for value in ("abc", ["a", "b", "c"], [None] * 3, [[1], [2], [3]])],
        *[("mean", value) for value in ([float("nan")] * 3, [1e300, 0, 0], [0.5, 0.5])],
        *[("std", value) for value in ([0, 0, 0], [-1, 1, 1], [float("inf")] * 3)],
        *[("image_size", value) for value in ("32", None, 32.0, 0, True)],
        *[("model", value) for value in (None, 5)],
        *[("model_options", value) for value in (None, [])],
        *[("challenge_videos", value) for value in (5, "abc", [["x"]])],
    ],
)
def test_a_record_edited_by_hand_is_one_sentence(tmp_path, name, value):
    save_run(tmp_path, create_classifier(*MODEL), **{name: value})
    path = tmp_path / "model.safetensors"
    for read in (
        load_classifier,
        lambda path: colours_of(str(path)),
        lambda path: labelled_videos(str(path)),
    ):
        with pytest.raises(UserError, match=rf"run\.json is damaged: its {name} is not "):
            read(path)


def test_a_head_of_another_shape_is_refused(tmp_path):
    network = create_classifier(*MODEL)
    network.head.bias.data = torch.tensor(0.0)
    save_run(tmp_path, network)
    with pytest.raises(UserError, match="has 1 logits"):
        load_classifier(tmp_path / "model.safetensors")


def test_a_record_without_the_face_colours_is_refused(tmp_path):
    save_run(tmp_path, create_classifier(*MODEL), mean=None)
    with pytest.raises(UserError, match="colours"):
        load_classifier(tmp_path / "model.safetensors")


def test_a_checkpoint_without_its_record_is_refused(tmp_path):
    save_model(tmp_path, create_classifier(*MODEL))
    with pytest.raises(UserError, match=r"run\.json"):
        load_classifier(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_model", {}, "no_such_model"),
        ("resnet18", {"stem": "conv"}, "resnet18"),
        ("vit_tiny_patch16_224", {"depht": 2}, "depht"),
        ("vit_tiny_patch16_224", {"stem": "fold"}, "fold"),
        ("vit_tiny_patch16_224", {"act_layer": "nosuch"}, "act_layer=nosuch: there is no 'nosuch'"),
        ("vit_tiny_patch16_224", {"pos_embed": "nosuch"}, "nosuch: it only says AssertionError"),
        ("vit_tiny_patch16_224", {"init_values": "inf"}, r"got \(str\)$"),
        ("vit_tiny_patch16_224", {"init_values": float("inf")}, "=inf: its logits are not finite"),
        ("vit_tiny_patch16_224", {"global_pool": ""}, "global_pool=: it gives no logits"),
        ("vit_tiny_patch16_224", {"device": "meta"}, "cannot set device"),
        ("vit_tiny_patch16_224", {"dtype": "float64"}, "cannot set dtype"),
        ("vit_tiny_patch16_224", {"weight_init": "skip"}, "weight_init=skip"),
        ("vit_tiny_patch16_224", {"patch_size": [8, 5]}, "not a multiple of patch_size 5"),
        ("sequencer2d_s", {}, "not a multiple of patch_size 7"),  # whose patches are its `stem`
        ("cait_xxs24_224", {"patch_size": 24}, "not a multiple of patch_size 24"),
        ("eva02_tiny_patch14_224", {}, "not a multiple of patch_size 14"),
    ],
)
def test_a_model_that_timm_cannot_make_is_a_users_error(name, options, message):
    with pytest.raises(UserError, match=message):
        create_classifier(name, 32, options)


@pytest.mark.parametrize(
    ("model", "image_size"),
    [("swin_tiny_patch4_window7_224", 60), ("pvt_v2_b0", 40), ("vit_tiny_r_s16_p8_224", 32)],
)
def test_sizes_that_lose_no_pixel_are_taken(model, image_size):
    assert create_classifier(model, image_size).num_classes == 6


@pytest.mark.parametrize(
    ("preset", "width", "depth", "patches"),
    [
        ("vit_small", 384, 12, 196),
        ("vit_base", 768, 12, 196),
        ("vit_large", 1024, 24, 196),
        ("vit_huge", 1280, 32, 256),
    ],
)
def test_the_published_sizes_have_short_names(preset, width, depth, patches):
    with torch.device("meta"):  # shapes alone: the largest takes 2.5 GB
        model = MaskedAutoencoder(create_encoder(preset, 224))
        losses, predicted, _ = model(torch.randn(2, 3, 224, 224), torch.rand(2, patches))
    encoder = model.encoder
    assert (encoder.embed_dim, len(encoder.blocks), model.patches) == (width, depth, patches)
    side = model.patch_size
    # He et al. 2022: blocks of 12·D² + 13·D, patches and positions, class token, norm
    expected = depth * (12 * width**2 + 13 * width) + (3 * side**2 + 1) * width
    expected += (patches + 1) * width + width + 2 * width
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected
    assert losses.shape == (2,) and predicted.shape == (2, patches, 3 * side**2)


def test_patches_that_are_not_square_are_not_pretrained():
    with pytest.raises(UserError, match="patches that are not square"):
        create_encoder(MODEL[0], 32, {**OPTIONS, "patch_size": [8, 4]})


def test_an_encoder_has_the_tokens_of_the_classifier_that_starts_from_it():
    for pooling in ({}, {"global_pool": "concat"}, {"global_pool": "token"}):
        shape = MODEL[0], MODEL[1], {**MODEL[2], **pooling}
        encoder, classifier = create_encoder(*shape), create_classifier(*shape)
        shapes = [
            {
                name: value.shape
                for name, value in network.state_dict().items()
                if not name.startswith(("head.", "norm.", "fc_norm."))
            }
            for network in (encoder, classifier)
        ]
        assert shapes[0] == shapes[1]

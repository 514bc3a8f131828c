"""Files of weights in the forms that the field passes on: the same network, or a sentence."""

import argparse
import pathlib
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from helpers.weights import start_from

from common.networks.classifier import create_classifier, start_classifier
from common.networks.formats import read_tensors
from common.networks.weights import colours_of, save_weights
from common.script.files import UserError

SMALL = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
VIT = ("vit_tiny_patch16_224", 32, SMALL)


def random_network(model, image_size, options=None, seed=0):
    """A network whose every tensor is its own, so that no wrong mapping goes unseen."""
    network = create_classifier(model, image_size, options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.2 * torch.rand(value.shape, generator=generator) + 0.1)
    return network.eval()


def write(path, content):
    torch.save(content, path)
    return str(path)


def same_encoder(network, other):
    """Whether two networks have the same tensors everywhere but in their heads."""
    own, found = network.state_dict(), other.state_dict()
    names = [name for name in own if not name.startswith("head")]
    return [name for name in names if not torch.equal(own[name], found[name])]


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        (("model",), "model"),
        (("state_dict",), "state_dict"),
        (("model_state_dict",), "model_state_dict"),
        (("net",), "net"),
        (("teacher",), "teacher"),
        (("model", "state_dict"), "model.state_dict"),
        ((), ""),
    ],
)
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.module.", "backbone.", "module.encoder.", "base_model."]
)
def test_weights_are_found_in_every_nesting_and_behind_every_prefix(tmp_path, keys, taken, prefix):
    network = random_network(*VIT)
    content = {prefix + name: value for name, value in network.state_dict().items()}
    for key in reversed(keys):
        content = {"epoch": 3, key: content}
    if keys:
        content["args"] = argparse.Namespace(output_dir=pathlib.PosixPath("/x"), lr=1e-3)
        content["best"] = np.float64(0.5)
    path = write(tmp_path / "weights.pth", content)
    other = create_classifier(*VIT)
    report = start_from(other, path)
    assert not same_encoder(network, other)
    assert (report.entry, report.taken) == (taken, len(network.state_dict()) - 2)
    assert sorted(report.left_out) == sorted(report.new) == ["head.bias", "head.weight"]
    assert f"{report.taken} tensors taken" in str(report)


def test_an_average_is_read_where_it_is_named(tmp_path):
    network, average = random_network(*VIT), random_network(*VIT, seed=1)
    content = {"model": network.state_dict(), "model_ema": average.state_dict()}
    path = write(tmp_path / "both.pth", content)
    other = create_classifier(*VIT)
    assert start_from(other, path).entry == "model"
    assert not same_encoder(network, other)
    assert start_from(other, path + "::model_ema").entry == "model_ema"
    assert not same_encoder(average, other)
    with pytest.raises(UserError, match=r"no entry 'swa'; it has model, model_ema"):
        start_from(other, path + "::swa")


def test_half_precision_becomes_the_networks_own(tmp_path):
    network = random_network(*VIT)
    halves = {name: value.half() for name, value in network.state_dict().items()}
    other = create_classifier(*VIT)
    start_from(other, write(tmp_path / "half.pth", halves))
    assert other.pos_embed.dtype == torch.float32
    assert torch.equal(other.pos_embed, network.pos_embed.half().float())


def test_a_file_is_read_by_what_it_holds_not_by_its_ending(tmp_path):
    network = random_network(*VIT)
    save_weights(tmp_path / "pytorch_model.bin", network)
    other = create_classifier(*VIT)
    start_from(other, str(tmp_path / "pytorch_model.bin"))
    assert not same_encoder(network, other)


def as_clip(network):
    """Rename a CLIP tower of timm as OpenAI and FaRL write it."""
    swaps = (
        ("patch_embed.proj", "conv1"),
        ("norm_pre", "ln_pre"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("norm1", "ln_1"),
        ("norm2", "ln_2"),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"),
    )
    renamed = {}
    for name, value in network.state_dict().items():
        if name.startswith("head."):
            continue
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = name.replace("norm.", "ln_post.")
        if name == "cls_token":
            name, value = "class_embedding", value[0, 0]
        if name == "pos_embed":
            name, value = "positional_embedding", value[0]
        name = name.replace("blocks.", "transformer.resblocks.")
        renamed[f"visual.{name}"] = value
    return {**renamed, "visual.proj": torch.ones(32, 16), "logit_scale": torch.ones(())}


CLIP = ("vit_base_patch16_clip_quickgelu_224", 32, SMALL)


def test_farl_and_clip_come_in_their_own_names(tmp_path):
    network = random_network(*CLIP[:2], {**SMALL, "fc_norm": False})
    path = write(tmp_path / "FaRL.pth", {"state_dict": as_clip(network)})
    other, report = start_classifier(*CLIP, path)
    assert not same_encoder(network, other)
    assert report.form == "CLIP" and "logit_scale" in report.left_out
    images = torch.rand(2, 3, 32, 32)
    features = other.eval().forward_features(images)
    assert torch.equal(features, network.forward_features(images))
    assert colours_of(path)[0][0][0] == pytest.approx(0.4815, abs=1e-3)


DINO = ("vit_small_patch14_reg4_dinov2", 56, {"embed_dim": 32, "depth": 2, "num_heads": 2})


def as_dinov2(network):
    """Write DINOv2 with registers as its owners do: positions of the class and of the patches."""
    tensors = {k: v for k, v in network.state_dict().items() if not k.startswith("head.")}
    position = torch.full((1, 1, 32), 0.5)
    tensors["register_tokens"] = tensors.pop("reg_token")
    tensors["pos_embed"] = torch.cat([position, tensors["pos_embed"]], 1)
    tensors["cls_token"] = tensors["cls_token"] - position
    return {**tensors, "mask_token": torch.zeros(1, 32)}


def as_hugging_face_dinov2(network):
    """The same as Hugging Face writes it."""
    swaps = (
        ("pos_embed", "embeddings.position_embeddings"),
        ("cls_token", "embeddings.cls_token"),
        ("register_tokens", "embeddings.register_tokens"),
        ("norm.", "layernorm."),
        ("mask_token", "embeddings.mask_token"),
        ("blocks.", "encoder.layer."),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    )
    renamed = {}
    for name, value in as_dinov2(network).items():
        for ours, theirs in swaps:
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        name = name.replace("ls1.gamma", "layer_scale1.lambda1")
        name = name.replace("ls2.gamma", "layer_scale2.lambda1")
        name = name.replace("attn.proj", "attention.output.dense")
        if "attn.qkv" in name:
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{part}")] = tensor
        else:
            renamed[name] = value
    return renamed


@pytest.mark.parametrize("form", [as_dinov2, as_hugging_face_dinov2])
def test_dinov2_with_registers_gives_the_features_of_timm(tmp_path, form):
    network = random_network(*DINO[:2], {**DINO[2], "fc_norm": False})
    path = write(tmp_path / "dinov2.pth", form(network))
    other, report = start_classifier(*DINO, path)
    images = torch.rand(2, 3, 56, 56)
    expected = network.forward_features(images)
    assert torch.allclose(other.eval().forward_features(images), expected, atol=1e-5)
    assert not [name for name in report.new if not name.startswith("head.")]
    assert colours_of(path)[0][0][0] == pytest.approx(0.485)


def test_registers_that_a_model_lacks_or_a_file_lacks_are_said(tmp_path):
    network = random_network(*DINO[:2], {**DINO[2], "fc_norm": False})
    path = write(tmp_path / "dinov2.pth", network.state_dict())
    bare, report = start_classifier("vit_small_patch14_dinov2", *DINO[1:], path)
    assert "reg_token" in report.left_out
    bare_path = write(tmp_path / "bare.pth", {**bare.state_dict()})
    _, report = start_classifier(*DINO, bare_path)
    assert "registers start with random values" in str(report)


def test_dinov3_is_timms_eva_and_starts_from_its_owners_names(tmp_path):
    model = ("vit_small_patch16_dinov3", 32, {"embed_dim": 48, "depth": 2, "num_heads": 2})
    network = random_network(*model)
    theirs = {}
    for name, value in network.state_dict().items():
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        theirs[name.replace("reg_token", "storage_tokens")] = value
    theirs["rope_embed.periods"] = torch.ones(6)
    other, _ = start_classifier(*model, write(tmp_path / "dinov3.pth", theirs))
    images = torch.rand(2, 3, 32, 32)
    expected = network.forward_features(images)
    assert torch.equal(other.eval().forward_features(images), expected)


@pytest.mark.parametrize(
    "model", ["resnet18", "efficientnet_b0", "convnext_atto", "mobilenetv3_small_100"]
)
def test_a_convolutional_network_starts_from_its_own_weights(tmp_path, model):
    network = random_network(model, 64)
    save_weights(tmp_path / "w.safetensors", network)
    other, report = start_classifier(model, 64, {}, str(tmp_path / "w.safetensors"))
    heads = sorted(report.new)
    assert len(heads) == 2 and sorted(report.left_out) == heads
    own, found = network.state_dict(), other.state_dict()
    assert not [n for n in own if n not in heads and not torch.equal(own[n], found[n])]
    images = torch.rand(2, 3, 64, 64)
    expected = network.forward_features(images)
    assert torch.equal(other.eval().forward_features(images), expected)


def as_efficientnet_pytorch(network):
    """The names of the package EfficientNet-PyTorch: blocks counted through, each with its own."""
    tensors, stage_starts, count = {}, [], 0
    for stage in network.blocks:
        stage_starts.append(count)
        count += len(stage)
    shared = {"conv_dw": "_depthwise_conv"}
    shared |= {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    first = {**shared, "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    expanding = {**shared, "conv_pw": "_expand_conv", "bn1": "_bn0", "bn2": "_bn1"}
    expanding |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    outside = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("blocks."):
            _, stage, block, inner = layer.split(".", 3)
            names = expanding if hasattr(network.blocks[int(stage)][int(block)], "bn3") else first
            layer = f"_blocks.{stage_starts[int(stage)] + int(block)}.{names[inner]}"
        else:
            layer = outside[layer]
        tensors[f"{layer}.{kind}"] = value
    return tensors


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0", "tf_efficientnet_b0"])
def test_efficientnets_come_in_the_names_of_their_package(tmp_path, model):
    network = random_network(model, 64)
    path = write(tmp_path / "efficientnet.pth", as_efficientnet_pytorch(network))
    other, report = start_classifier(model, 64, {}, path)
    own, found = network.state_dict(), other.state_dict()
    differing = {name for name in own if not torch.equal(own[name], found[name])}
    assert differing <= {"classifier.weight", "classifier.bias"}
    assert report.form == "EfficientNet-PyTorch" and report.taken == len(own) - 2
    assert sorted(report.left_out) == ["classifier.bias", "classifier.weight"]
    with pytest.raises(UserError, match="another model"):
        start_classifier("tf_efficientnet_lite1", 64, {}, path)


def test_a_trained_norm_is_kept_unless_the_file_is_a_masked_autoencoders(tmp_path):
    network = random_network(*VIT[:2], {**SMALL, "fc_norm": False})
    plain = write(tmp_path / "plain.pth", network.state_dict())
    other, report = start_classifier(*VIT, plain)
    assert torch.equal(other.norm.weight, network.norm.weight) and "norm" not in str(report.new)
    masked = {**network.state_dict(), "mask_token": torch.ones(1, 1, 8)}
    masked["decoder_embed.weight"] = torch.ones(8, 32)
    other, report = start_classifier(*VIT, write(tmp_path / "mae.pth", masked))
    assert {"fc_norm.weight", "fc_norm.bias"} < {*report.new}
    assert "trained norm is replaced" in str(report)


def test_positions_of_a_rectangle_are_not_read_as_a_square(tmp_path):
    network = random_network(*VIT)
    tensors = network.state_dict()
    tensors["pos_embed"] = torch.rand(1, 1 + 14 * 12, 32)  # 169, which is 13 × 13
    path = write(tmp_path / "rectangle.pth", tensors)
    with pytest.raises(UserError, match="168 patches, which do not form a square"):
        start_from(create_classifier(*VIT), path)


def test_patches_and_positions_are_resized_as_timm_does(tmp_path):
    network = random_network(*VIT)
    path = write(tmp_path / "patch8.pth", network.state_dict())
    other, report = start_classifier("vit_tiny_patch16_224", 64, {**SMALL, "patch_size": 16}, path)
    expected = timm.layers.resample_patch_embed(network.patch_embed.proj.weight, [16, 16])
    assert torch.equal(other.patch_embed.proj.weight, expected)
    assert torch.equal(other.pos_embed, network.pos_embed)
    assert "patch_embed.proj.weight [32, 3, 8, 8] to [32, 3, 16, 16]" in report.resized
    other, report = start_classifier(*VIT[:1], 48, SMALL, path)
    assert report.resized == ["pos_embed [1, 17, 32] to [1, 37, 32]"]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("deit_tiny_distilled_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}),
        ("cait_xxs24_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}),
        ("pit_ti_224", {"depth": [1, 1, 1]}),
    ],
)
def test_positions_of_other_families_follow_the_image_size(tmp_path, model, options):
    network = random_network(model, 128, options)
    network.pos_embed.data += torch.arange(network.pos_embed.shape[1]).view(
        1, -1, *[1] * (network.pos_embed.ndim - 2)
    )
    path = write(tmp_path / "large.pth", network.state_dict())
    other, report = start_classifier(model, 64, options, path)
    assert len(report.resized) == 1 and report.resized[0].startswith("pos_embed")
    old, new = network.pos_embed.data, other.pos_embed.data
    if model == "pit_ti_224":  # [1, D, 15, 15] to [1, D, 7, 7], without positions of tokens
        grids = old, new
    else:  # the class and the distillation token of DeiT have a position; none of CaiT's has
        tokens = 2 if "distilled" in model else 0
        assert torch.equal(old[:, :tokens], new[:, :tokens])
        grids = [p[:, tokens:].mT.unflatten(2, (s, s)) for p, s in ((old, 8), (new, 4))]
    expected = torch.nn.functional.interpolate(
        grids[0], grids[1].shape[2:], mode="bicubic", antialias=True, align_corners=False
    )
    assert torch.allclose(grids[1], expected, atol=1e-4)


def test_positions_that_cannot_be_resized_are_said_to_be_so(tmp_path):
    network = random_network(*VIT)
    for shape in ((17,), (), (1, 4, 4, 32), (1, 0, 32), (1, 1, 32)):
        tensors = {**network.state_dict(), "pos_embed": torch.ones(shape)}
        with pytest.raises(UserError, match="its positions are"):
            start_from(network, write(tmp_path / "odd.pth", tensors))


def test_a_batch_norm_that_counts_no_batches_is_taken(tmp_path):
    network = random_network("resnet18", 32)
    tensors = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" not in k}
    other = create_classifier("resnet18", 32)
    report = start_from(other, write(tmp_path / "resnet18.pth", tensors))
    assert report.new == ["fc.weight", "fc.bias"] and report.taken == len(tensors) - 2
    assert torch.equal(other.bn1.running_var, network.bn1.running_var)


class Whole(torch.nn.Module):
    """Saved whole, as HSEmotion's PyTorch files are."""


def bad_files(folder):
    """Write what users name by mistake; return what each is to be told."""
    network = random_network(*VIT)
    folder.mkdir()
    write(folder / "whole.pth", Whole())
    write(folder / "cut.pth", network.state_dict())
    content = (folder / "cut.pth").read_bytes()
    (folder / "cut.pth").write_bytes(content[: len(content) // 2])
    save_weights(folder / "cut.safetensors", network)
    content = (folder / "cut.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(content[:-100])
    (folder / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (folder / "page.pth").write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "folder" / "model.safetensors").write_bytes(b"")
    (folder / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "onnx.pth").write_bytes(b"\x08\x07\x12\x07pytorch")
    np.save(folder / "array.npy", np.zeros(3))
    (folder / "plain.pkl").write_bytes(pickle.dumps({"a": [1.0]}, protocol=4))
    with zipfile.ZipFile(folder / "arrays.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    video = {**network.state_dict(), "patch_embed.proj.weight": torch.ones(32, 3, 2, 8, 8)}
    write(folder / "video.pth", video)
    nan = network.state_dict()
    nan["blocks.1.mlp.fc1.bias"] = torch.full_like(nan["blocks.1.mlp.fc1.bias"], float("nan"))
    write(folder / "nan.pth", nan)
    write(folder / "list.pth", [torch.ones(2)])
    write(folder / "only_args.pth", {"args": argparse.Namespace(a=1), "epoch": 2})
    script = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    script.save(str(folder / "script.pt"))
    safetensors.torch.save_file({"other": torch.ones(2)}, folder / "other.safetensors")
    write(folder / "sparse.pth", {"norm.weight": torch.ones(32).to_sparse()})
    write(folder / "meta.pth", {"norm.weight": torch.ones(32, device="meta")})
    write(folder / "twice.pth", {1: torch.ones(2), "1": torch.ones(2)})
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[true,null]}}'
    (folder / "offsets.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(4)
    )
    return {
        "whole.pth": "holds more than tensors.*never unpickled.*state_dict",
        "cut.pth": "cut off or damaged",
        "cut.safetensors": r"cut off: [\d,]+ of [\d,]+ bytes",
        "lfs.pth": "git lfs pull",
        "page.pth": "web page",
        "empty.pth": "is empty",
        "folder": "is a folder; name the file in it, such as .*model.safetensors",
        "keras.h5": "Keras",
        "arrays.npz": "NumPy",
        "array.npy": "NumPy",
        "plain.pkl": "not a file of weights",
        "onnx.pth": "ONNX",
        "sparse.pth": r"not dense \(norm\.weight\)",
        "meta.pth": r"without values \(norm\.weight\)",
        "twice.pth": "both 1 and '1'",
        "offsets.safetensors": "not a readable safetensors file",
        "video.pth": "network for video.*2×8×8",
        "nan.pth": "not finite.*fc1.bias",
        "list.pth": "tensors by name",
        "only_args.pth": "no tensors",
        "script.pt": "TorchScript",
        "other.safetensors": "another model",
        "absent.pth": r"no file.*docs/weights\.md says where to download",
        "absent/model.safetensors": "no file.*run the stage that makes it",
    }


def test_of_two_tensors_of_one_name_the_networks_own_is_taken_and_the_other_said(tmp_path):
    network = create_classifier(*VIT)
    own = {f"backbone.{name}": value + 1 for name, value in network.state_dict().items()}
    beside = {"blocks.0.norm1.weight": torch.full((32,), 7.0), "head.weight": torch.ones(6, 32)}
    for order in ({**own, **beside}, {**beside, **own}):
        path = write(tmp_path / "both.pth", order)
        other = create_classifier(*VIT)
        report = start_from(other, str(path))
        assert torch.equal(
            other.state_dict()["blocks.0.norm1.weight"], own["backbone.blocks.0.norm1.weight"]
        )
        assert "those in backbone, not " in str(report) and "blocks.0.norm1.weight" in str(report)


def test_what_is_no_file_of_weights_is_refused_with_the_way_out(tmp_path):
    messages = bad_files(tmp_path / "files")
    for name, message in messages.items():
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            with pytest.raises(UserError, match=message) as caught:
                start_from(create_classifier(*VIT), str(tmp_path / "files" / name))
        assert "\n" not in str(caught.value), name
        assert not heard, name  # torch's own words before ours would confuse


def test_nothing_is_run_by_reading(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (print, ("run by unpickling",))

    torch.save({"model": {"a": torch.ones(1)}, "extra": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="never unpickled"):
        read_tensors(tmp_path / "trap.pth")
    assert "unpickling" not in capsys.readouterr().out

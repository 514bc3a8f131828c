"""ONNX files as networks: read as their cards say, refused with a card to write, and exported."""

import json

import numpy as np
import pytest
import torch
from helpers.onnx_files import CARD, mean_colour_classifier, numbers, write_model
from helpers.predicting import make_checkpoint

from common.emotions import ADAPTATION, BASIC
from common.networks import exchange
from common.networks.classifier import expression_probabilities, load_classifier
from common.script.files import UserError


def images(count=5, side=16):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def probabilities(path, inputs):
    network, settings = exchange.load_onnx(path)
    assert settings["mean"] == CARD["mean"] and settings["std"] == CARD["std"]
    return expression_probabilities(network(inputs)).numpy()


def sums(weight, bias, inputs):
    return inputs.numpy().mean(axis=(2, 3)) @ weight + bias


@pytest.mark.parametrize("outputs", [10, 8, 7])
def test_files_in_hsemotions_form_give_the_softmax_of_their_expressions(tmp_path, outputs):
    weight, bias = numbers(outputs)
    classes = CARD["classes"][:outputs]
    if outputs == 7:  # HSEmotion's files of seven classes lack Contempt
        classes = [name for name in CARD["classes"][:8] if name != "Contempt"]
    card = CARD | {"classes": classes}
    path = write_model(tmp_path / "b0.onnx", mean_colour_classifier(weight, bias), card)
    expressions = [i for i, name in enumerate(classes) if name not in ("valence", "arousal")]
    shares = np.exp(sums(weight, bias, images())[:, expressions])
    shares /= shares.sum(axis=1, keepdims=True)
    expected = shares[:, [classes.index(name) for name in BASIC]]
    np.testing.assert_allclose(probabilities(path, images()), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["sigmoid", "none"])
def test_sigmoids_and_finished_probabilities_come_in_the_order_of_the_names(tmp_path, form):
    weight, bias = numbers(6)
    classes = ["joy", "ANGRY", "sad", "Surprised", "fearful", "disgust"]
    card = CARD | {"classes": classes, "activation": form}
    content = mean_colour_classifier(weight, bias, end="Sigmoid" if form == "none" else None)
    path = write_model(tmp_path / "six.onnx", content, card)
    expected = 1 / (1 + np.exp(-sums(weight, bias, images())))
    order = [3, 4, 5, 0, 2, 1]  # of BASIC in these classes
    np.testing.assert_allclose(probabilities(path, images()), expected[:, order], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_files_for_a_fixed_number_of_images_take_any_number(tmp_path, batch):
    content = mean_colour_classifier(*numbers(10), shape=(batch, 3, 16, 16))
    fixed = write_model(tmp_path / "fixed.onnx", content, CARD)
    free = write_model(tmp_path / "free.onnx", mean_colour_classifier(*numbers(10)), CARD)
    found, expected = probabilities(fixed, images()), probabilities(free, images())
    np.testing.assert_allclose(found, expected, atol=1e-6)


GOOD = mean_colour_classifier(*numbers(10))
REFUSED = {
    "no card": (GOOD, None, "has no m.onnx.json beside it"),
    "no JSON": (GOOD, "size: 224", "cannot be used"),
    "a list": (GOOD, "[]", "it must hold image_size"),
    "nested without end": (GOOD, "[" * 60_000, "cannot be used"),
    "too long": (GOOD, json.dumps(CARD) + " " * 70_000, "longer than any card"),
    "a key too many": (GOOD, CARD | {"extra": 1}, "it must hold image_size"),
    "a key too few": (GOOD, {k: CARD[k] for k in list(CARD)[1:]}, "it must hold image_size"),
    "no number": (GOOD, CARD | {"image_size": "16"}, "image_size is no whole number"),
    "a huge size": (GOOD, CARD | {"image_size": 10**9}, "image_size is no whole number"),
    "colours in 0..255": (GOOD, CARD | {"mean": [123, 117, 104]}, "mean is not three numbers"),
    "NaN": (GOOD, json.dumps(CARD).replace("0.229", "NaN"), "std is not three numbers"),
    "no spread": (GOOD, CARD | {"std": [0, 1, 1]}, "std holds a 0"),
    "unknown activation": (GOOD, CARD | {"activation": "relu"}, "activation is none of"),
    "unknown class": (GOOD, CARD | {"classes": [*CARD["classes"][:9], "bored"]}, "bored"),
    "no names": (GOOD, CARD | {"classes": 10}, "classes is not a list of names"),
    "a compound": (GOOD, CARD | {"classes": ["Sadly Angry"]}, "no single expression"),
    "a class twice": (GOOD, CARD | {"classes": ["sad", "sadness"]}, "names Sadness twice"),
    "a class too few": (GOOD, CARD | {"classes": CARD["classes"][1:]}, "lacks Anger"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_card_that_is_missing_or_does_not_fit_is_refused_with_one_to_write(tmp_path, case):
    content, card, words = REFUSED[case]
    path = write_model(tmp_path / "m.onnx", content, card)
    with pytest.raises(UserError) as refusal:
        exchange.load_onnx(path)
    message = str(refusal.value)
    assert words in message and message.count("\n") == 0
    shown = json.loads(message[message.index("such as {") + 8 :])
    assert set(shown) == set(CARD)  # a card that would do, for such a file
    write_model(path, content, CARD)
    assert exchange.load_onnx(path)


MISMATCHED = {
    "other outputs": (mean_colour_classifier(*numbers(9)), CARD, r"gives float32 \[2, 9\]"),
    "other size": (GOOD, CARD | {"image_size": 32}, r"not images float \[N, 3, 32, 32\]"),
    "grey": (
        mean_colour_classifier(numbers(10)[0][:1], numbers(10)[1], shape=("n", 1, 16, 16)),
        CARD,
        "not images",
    ),
    "flat": (mean_colour_classifier(*numbers(10), shape=("n", 3)), CARD, "not images|not a usable"),
    "no ONNX": (b"<html>", CARD, "not a usable ONNX file"),
    "empty": (b"", CARD, "not a usable ONNX file"),
    "cut off": (GOOD[:-40], CARD, "not a usable ONNX file"),
    "softmax twice": (
        mean_colour_classifier(*numbers(8), end="Softmax"),
        CARD | {"classes": CARD["classes"][:8]},
        'write "activation": "none"',
    ),
    "no probabilities": (GOOD, CARD | {"activation": "none"}, "write softmax or sigmoid"),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_a_file_that_is_not_what_its_card_says_is_refused(tmp_path, case):
    content, card, words = MISMATCHED[case]
    path = write_model(tmp_path / "m.onnx", content, card)
    with pytest.raises(UserError, match=words):
        exchange.load_onnx(path)


def test_an_export_without_its_packages_names_them(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    network, settings = load_classifier(make_checkpoint(tmp_path / "run", 0))
    with pytest.raises(UserError, match="pip install onnx onnxscript"):
        exchange.export_onnx(tmp_path / "m.onnx", network, settings)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("classes", [6, 8])
def test_an_exported_network_comes_back_the_same(tmp_path, classes):
    pytest.importorskip("onnx", reason="the optional package onnx is not installed")
    pytest.importorskip("onnxscript", reason="the optional package onnxscript is not installed")
    network, settings = load_classifier(make_checkpoint(tmp_path / "run", 0))
    if classes == len(ADAPTATION):
        network.reset_classifier(classes)
        torch.nn.init.normal_(network.head.weight)
    path = tmp_path / "out" / "m.onnx"
    apart = exchange.export_onnx(path, network, settings)
    assert sorted(file.name for file in path.parent.iterdir()) == ["m.onnx", "m.onnx.json"]
    again, read = exchange.load_onnx(path)
    assert read == {"image_size": 16, "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3]}
    with torch.no_grad():
        own = expression_probabilities(network(images(7)))
    found = expression_probabilities(again(images(7)))
    np.testing.assert_allclose(found.numpy(), own.numpy(), atol=1e-5)
    assert 0 <= apart < 1e-5 and len(own.unique()) > 30

"""Tiny ONNX classifiers, written byte by byte: the package onnx is not needed to test with them."""

import json
from pathlib import Path

import numpy as np

FLOAT = 1  # onnx.TensorProto.FLOAT
CARD = {
    "image_size": 16,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "classes": ["Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness"]
    + ["Surprise", "valence", "arousal"],
    "activation": "softmax",
}


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field of a protobuf message: a varint, or a string or message with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(field(1, size) for size in values.shape)
    return dims + field(2, FLOAT) + field(8, name) + field(9, values.astype("<f4").tobytes())


def port(name: str, shape: tuple) -> bytes:
    """Describe an input or output; a shape's names are free sizes."""
    dims = [field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape]
    kind = field(1, FLOAT) + field(2, b"".join(dims))
    return field(1, name) + field(2, field(1, kind))


def node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)


def mean_colour_classifier(
    weight: np.ndarray, bias: np.ndarray, shape=("n", 3, 16, 16), end: str | None = None
) -> bytes:
    """Return an ONNX file: images → weight.T · their mean colour + bias → `end`, an operator.

    weight: [3, C]. bias: [C].
    """
    nodes = [
        node("GlobalAveragePool", ["images"], "pooled"),
        node("Flatten", ["pooled"], "flat"),
        node("Gemm", ["flat", "weight", "bias"], "sums" if end else "out"),
        *([node(end, ["sums"], "out")] if end else []),
    ]
    graph = b"".join(field(1, one) for one in nodes) + field(2, "mean colour")
    graph += field(5, tensor("weight", weight)) + field(5, tensor("bias", bias))
    graph += field(11, port("images", shape)) + field(12, port("out", (shape[0], len(bias))))
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)


def numbers(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of a classifier that tells colours apart."""
    random = np.random.default_rng(seed)
    return random.normal(0, 3, (3, classes)), random.normal(0, 1, classes)


def write_model(path: Path, content: bytes, card: dict | str | None) -> Path:
    """Write a file, and its card."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if card is not None:
        text = card if isinstance(card, str) else json.dumps(card)
        path.with_name(path.name + ".json").write_text(text)
    return path

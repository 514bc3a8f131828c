"""The expression network of face-api.js, read from the files of TensorFlow.js."""

import json

import numpy as np
import pytest
import torch

from benchmarks import face_api_network
from common.emotions import ADAPTATION
from common.script.files import UserError


def write_package(folder):
    """Random numbers in the form of the package: kernels as bytes with a scale, biases as is."""
    random, entries, content, width = np.random.default_rng(0), [], b"", 3
    shapes = {}
    for block, out in enumerate((32, 64, 128, 256)):
        for layer in range(4):
            name, before = f"dense{block}/conv{layer}", width if layer == 0 else out
            if block == layer == 0:
                shapes[f"{name}/filters"] = [3, 3, 3, out]
            else:
                shapes[f"{name}/depthwise_filter"] = [3, 3, before, 1]
                shapes[f"{name}/pointwise_filter"] = [1, 1, before, out]
            shapes[f"{name}/bias"] = [out]
        width = out
    for name, shape in {**shapes, "fc/weights": [256, 7], "fc/bias": [7]}.items():
        entries.append({"name": name, "shape": shape, "dtype": "float32"})
        if name.endswith("bias"):
            content += random.normal(size=shape).astype("<f4").tobytes()
        else:
            entries[-1]["quantization"] = {"dtype": "uint8", "scale": 0.002, "min": -0.25}
            content += random.integers(0, 256, shape, dtype=np.uint8).tobytes()
    (folder / "face_expression_model.bin").write_bytes(content)
    manifest = [{"weights": entries, "paths": ["face_expression_model.bin"]}]
    (folder / "face_expression_model-weights_manifest.json").write_text(json.dumps(manifest))


def test_faces_get_probabilities_of_the_eight_in_our_order(tmp_path):
    write_package(tmp_path)
    weights = face_api_network.read_weights(tmp_path)
    assert weights["dense1/conv0/depthwise_filter"].shape == (32, 1, 3, 3)
    assert weights["dense1/conv0/pointwise_filter"].shape == (64, 32, 1, 1)
    weights["fc/weights"] *= 0
    weights["fc/bias"] = torch.arange(7.0)  # neutral, …, surprise
    faces = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    found = face_api_network.probabilities(weights, faces)
    assert found.shape == (2, 8) and found.sum(1) == pytest.approx([1, 1])
    ranked = [ADAPTATION[place] for place in np.argsort(-found[0])]
    assert ranked == [
        *("Surprise", "Disgust", "Fear", "Anger", "Sadness", "Happiness", "Neutral", "Contempt")
    ]


def test_files_that_are_missing_or_cut_off_are_named(tmp_path):
    with pytest.raises(UserError, match="does not hold face-api's"):
        face_api_network.read_weights(tmp_path)
    write_package(tmp_path)
    path = tmp_path / "face_expression_model.bin"
    for content in (path.read_bytes()[:-8], path.read_bytes() + b"more"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"face-api's|belong to its manifest"):
            face_api_network.read_weights(tmp_path)

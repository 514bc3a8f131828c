"""The expression network of face-api.js (MIT), a peer that many web pages use, without a browser.

Separable convolutions with dense blocks, 0.3 million parameters, seven expressions. Its files lie
in the npm package @vladmandic/face-api and its repository, in the folder `model`:

    npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz      # → package/model
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from common.emotions import ADAPTATION, parse_labels
from common.script.files import UserError

# Order of its seven outputs. There is no Contempt.
CLASSES = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
SIDE_PX = 112
MEAN = (122.782, 117.001, 104.298)  # of R, G, B; everything is divided by 255 after it

_NAME = "face_expression_model"


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the arrays of TensorFlow.js's files by name, float32; kernels as torch wants them.

    They are stored as whole numbers of 8 bits with a scale and a least value. Raises UserError
    where the files are missing or do not fit each other.
    """
    try:
        groups = json.loads((folder / f"{_NAME}-weights_manifest.json").read_text("utf-8"))
        content = (folder / f"{_NAME}.bin").read_bytes()
        weights, place = {}, 0
        for entry in [entry for group in groups for entry in group["weights"]]:
            shape, packing = entry["shape"], entry.get("quantization")
            kind = np.dtype("u1" if packing else "<f4")
            value = np.frombuffer(content, kind, math.prod(shape), place).astype(np.float32)
            place += kind.itemsize * math.prod(shape)
            if packing:
                value = value * np.float32(packing["scale"]) + np.float32(packing["min"])
            value = torch.from_numpy(value.reshape(shape))
            if entry["name"].endswith("depthwise_filter"):
                value = value.permute(2, 3, 0, 1)  # [h, w, C, 1] → [C, 1, h, w]
            elif value.ndim == 4:
                value = value.permute(3, 2, 0, 1)  # [h, w, in, out] → [out, in, h, w]
            weights[entry["name"]] = value.contiguous()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} does not hold face-api's {_NAME} ({error}).") from None
    if place != len(content):
        raise UserError(f"{folder / _NAME}.bin does not belong to its manifest.")
    return weights


@torch.inference_mode()
def probabilities(weights: dict[str, torch.Tensor], faces: torch.Tensor) -> np.ndarray:
    """Return probabilities over ADAPTATION, float32 [n, 8], 0 for Contempt.

    weights: of read_weights. faces: uint8 [n, 3, H, W]; they are scaled as face-api does.
    """

    def padded(x: torch.Tensor, stride: int) -> torch.Tensor:
        total = (-(-x.shape[-1] // stride) - 1) * stride + 3 - x.shape[-1]  # TensorFlow's `same`
        return functional.pad(x, (total // 2, total - total // 2) * 2)

    def convolved(x: torch.Tensor, layer: str, stride: int = 1) -> torch.Tensor:
        x, bias = padded(x, stride), weights[f"{layer}/bias"]
        if f"{layer}/filters" in weights:
            return functional.conv2d(x, weights[f"{layer}/filters"], bias, stride)
        kernel = weights[f"{layer}/depthwise_filter"]
        x = functional.conv2d(x, kernel, None, stride, groups=x.shape[1])
        return functional.conv2d(x, weights[f"{layer}/pointwise_filter"], bias)

    x = functional.interpolate(faces.float(), (SIDE_PX, SIDE_PX), mode="bilinear")
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / 255
    for block in range(4):
        total = convolved(x, f"dense{block}/conv0", 2).relu()
        for layer in (1, 2, 3):  # each sees the sum of all before it
            total = total + convolved(total.relu(), f"dense{block}/conv{layer}")
        x = total.relu()
    x = functional.avg_pool2d(x, 7, 2).flatten(1)
    shares = (x @ weights["fc/weights"] + weights["fc/bias"]).softmax(1).numpy()  # [n, 7]
    found = np.zeros((len(shares), len(ADAPTATION)), dtype=np.float32)
    found[:, [ADAPTATION.index(parse_labels(name)[0]) for name in CLASSES]] = shares
    return found

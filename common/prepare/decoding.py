"""A picture of a raw data set: read it whole, check it, measure it."""

from __future__ import annotations

import io
import os
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from common.faces.alignment import CROP_PX
from common.raw.layout import Item

# A JPEG up to this size is kept as it is; anything else is written anew, its shorter side at most
# CROP_PX: no network here sees more than 224 pixels, and a copy loses quality.
_KEEP_SIDE_PX = 2 * CROP_PX
_FILE_BYTES = 256 << 20  # far more than any photograph
_MEASURED_PX = 64

UNREADABLE = "cannot be read"  # the reason where the disk refuses, and not the picture


class Refused(Exception):
    """A picture that is not used: (reason, detail), and whether that is a fault of the input."""

    def __init__(self, reason: str, detail: str = "", *, fault: bool = True):
        super().__init__(reason, detail)
        self.reason, self.detail, self.fault = reason, detail, fault


def open_image(item: Item, min_side_px: int) -> tuple[Image.Image, bytes | None]:
    """Read an item's picture: upright, RGB. Also return its file's bytes if they may be kept as is.

    Whatever its name says, any format that Pillow reads will do. Raises Refused for a file that is
    no image, is cut off, is smaller than min_side_px or so large that it must be an attack.
    """
    try:
        content = item.opener(item.path, item.part) if item.opener else _read(item.path)
    except OSError as error:
        raise Refused(UNREADABLE, error.strerror or "") from None
    except ValueError as error:
        raise Refused("damaged image", str(error)[:200]) from None
    if isinstance(content, np.ndarray):
        picture, plain = as_rgb(Image.fromarray(content)), False
    else:
        picture, plain = decode(content)
    if item.box:
        (x0, y0, x1, y1), (width, height) = item.box, picture.size
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 <= x0 or y1 <= y0:
            raise Refused("face box lies outside the picture", "{},{},{},{}".format(*item.box))
        picture, plain = picture.crop((x0, y0, x1, y1)), False
    if min(picture.size) < min_side_px:
        raise Refused("smaller than --min-side", "{} x {} px".format(*picture.size), fault=False)
    return picture, content if plain else None


def _read(path: str) -> bytes:
    if not os.path.isfile(path):  # to open a pipe would wait for ever
        raise OSError(0, "no such file" if not os.path.exists(path) else "is not a file")
    with open(path, "rb") as file:
        content = file.read(_FILE_BYTES + 1)
    if len(content) > _FILE_BYTES:
        raise ValueError(f"a file of more than {_FILE_BYTES >> 20} MiB")
    return content


def decode(content: bytes) -> tuple[Image.Image, bool]:
    """Decode an image file wholly: upright, RGB. Also say whether the file may be kept as it is.

    It may if it is a small upright JPEG that the decoder of training reads, which refuses some
    that Pillow reads: what is to be kept is decoded by that one, and only once.
    """
    if not content:
        raise Refused("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of Pillow, on odd metadata
            warnings.simplefilter("ignore", DeprecationWarning)  # of torchvision's decoders
            with Image.open(io.BytesIO(content)) as image:
                plain = image.format == "JPEG" and image.mode in ("RGB", "L")
                upright = _orientation(image) == 1
                if plain and upright and max(image.size) <= _KEEP_SIDE_PX:
                    pixels = _decode_as_training(content)
                    if pixels is not None:
                        return Image.fromarray(pixels), True
                image.load()
                return as_rgb(image if upright else ImageOps.exif_transpose(image)), False
    except UnidentifiedImageError:
        raise Refused("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("too many pixels", f"more than {Image.MAX_IMAGE_PIXELS}") from None
    except MemoryError:
        raise Refused("too many pixels") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise Refused("damaged image", str(error)[:200]) from None


def _decode_as_training(content: bytes) -> np.ndarray | None:
    """Decode a JPEG as training does: uint8 [H, W, 3], or None where its decoder refuses."""
    # Here, because a run that finds nothing new would import torch for nothing.
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        data = torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8))
        return decode_jpeg(data, mode=ImageReadMode.RGB).permute(1, 2, 0).contiguous().numpy()
    except (RuntimeError, ValueError):
        return None


def _orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, that EXIF notes; 1 (upright) where EXIF cannot be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata raise nearly anything, and the picture is still good
        return 1
    return orientation if orientation in range(1, 9) else 1


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; 16-bit gray is scaled, not clipped."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image.convert("I")) >> 8).astype(np.uint8))
    return image.convert("RGB")


def shrink(picture: Image.Image) -> Image.Image:
    """Return a picture whose shorter side is at most CROP_PX."""
    scale = CROP_PX / min(picture.size)
    if scale >= 1:
        return picture
    size = tuple(round(side * scale) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def small_gray(picture: Image.Image) -> np.ndarray:
    """Return a picture in gray at the one size at which pictures are measured: uint8 [64, 64]."""
    size = (_MEASURED_PX, _MEASURED_PX)
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX))


def sharpness(gray: np.ndarray) -> np.ndarray:
    """Measure how sharp pictures are: uint8 [n, 64, 64] -> float64 [n], 0 for a flat one.

    The variance of the Laplacian (Pech-Pacheco et al. 2000) over that of the picture itself, so
    that a dark photograph is not taken for a blurred one. At 64 pixels, because detail that is
    lost below does not tell an expression. A picture of fewer pixels measures as sharp.
    """
    gray = gray.astype(np.float32)
    around = gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] + gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1]
    laplacian = around - 4 * gray[:, 1:-1, 1:-1]
    # Below a variance of one gray level there is nothing but noise.
    return laplacian.var(axis=(1, 2)) / np.maximum(gray.var(axis=(1, 2)), 1.0)

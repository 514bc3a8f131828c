"""A picture of a raw data set: read it whole, check it, measure it."""

from __future__ import annotations

import io
import os
import warnings
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from common.faces.alignment import CROP_PX
from common.raw.layout import Item

# A JPEG up to this size is kept as it is, because a copy loses quality. Anything else is written
# as a new JPEG, its shorter side at most CROP_PX: no network here sees more than 224 pixels.
_KEEP_SIDE_PX = 2 * CROP_PX
_FILE_BYTES = 256 << 20  # far more than any photograph
_MEASURED_PX = 64

# Reasons of the machine, not of the picture: a rerun tries again.
UNREADABLE = "cannot be read"
NEEDS_HEIF = "HEIC needs pillow-heif"
TRY_AGAIN = (UNREADABLE, NEEDS_HEIF)

# JPEG modes, and what their decoder calls them.
JPEG_COLOURS = {"RGB": "RGB", "L": "RGB", "CMYK": "CMYK"}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Refused(Exception):
    """A picture that is not used: (reason, detail), and whether that is a fault of the input."""

    def __init__(self, reason: str, detail: str = "", *, fault: bool = True):
        super().__init__(reason, detail)
        self.reason, self.detail, self.fault = reason, detail, fault


class Opened(NamedTuple):
    """A picture, upright RGB; the bytes of its file where they can be kept as they are.

    damage: what the decoder complained of, where the picture is used all the same.
    """

    picture: Image.Image
    content: bytes | None
    damage: str = ""


def open_image(item: Item, min_side_px: int) -> Opened:
    """Read an item's picture, in any format that Pillow reads, whatever its name says.

    Raises Refused for a file that is no image, is cut off or damaged, is smaller than min_side_px
    or so large that it must be an attack. A JPEG whose data are damaged, but which still shows a
    picture, is refused too, except in the splits val and test, whose images are all measured on.
    """
    try:
        content = item.opener(item.path, item.part) if item.opener else _read(item.path)
    except OSError as error:
        raise Refused(UNREADABLE, error.strerror or "") from None
    except ValueError as error:
        raise Refused("damaged image", str(error)[:200]) from None
    if isinstance(content, np.ndarray):
        opened = Opened(as_rgb(Image.fromarray(content)), None)
    else:
        opened = decode(content)
    if opened.damage and item.split not in ("val", "test"):
        raise Refused("damaged image", opened.damage)
    if item.box:
        (x0, y0, x1, y1), (width, height) = item.box, opened.picture.size
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 <= x0 or y1 <= y0:
            raise Refused("face box lies outside the picture", "{},{},{},{}".format(*item.box))
        opened = Opened(opened.picture.crop((x0, y0, x1, y1)), None, opened.damage)
    if min(opened.picture.size) < min_side_px:
        size = "{} x {} px".format(*opened.picture.size)
        raise Refused("smaller than --min-side", size, fault=False)
    return opened


def _read(path: str) -> bytes:
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        raise OSError(0, "no such file" if not os.path.exists(path) else "is not a file")
    with open(path, "rb") as file:
        content = file.read(_FILE_BYTES + 1)
    if len(content) > _FILE_BYTES:
        raise ValueError(f"a file of more than {_FILE_BYTES >> 20} MiB")
    return content


def decode(content: bytes) -> Opened:
    """Decode an image file wholly; a small upright JPEG that training can decode is kept as it is.

    Raises Refused for a file that is no image, is cut off, or has too many pixels.
    """
    if not content:
        raise Refused("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of Pillow, about odd metadata
            with Image.open(io.BytesIO(content)) as image:
                turn, damage = _TURNS.get(_orientation(image)), ""
                if image.format == "JPEG" and image.mode in JPEG_COLOURS:
                    pixels, damage = _decode_jpeg(content, JPEG_COLOURS[image.mode])
                    if pixels is not None and image.mode != "CMYK":
                        image = Image.fromarray(pixels)
                        if turn is None and max(image.size) <= _KEEP_SIDE_PX:
                            return Opened(image, content)
                image.load()
                picture = as_rgb(image)
                return Opened(picture if turn is None else picture.transpose(turn), None, damage)
    except UnidentifiedImageError:
        if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
            raise Refused(NEEDS_HEIF, "pip install pillow-heif, then rerun 01") from None
        raise Refused("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("too many pixels", f"more than {Image.MAX_IMAGE_PIXELS}") from None
    except MemoryError:
        raise Refused("too many pixels") from None
    except Refused:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise Refused("damaged image", str(error)[:200]) from None


def _decode_jpeg(content: bytes, colours: str) -> tuple[np.ndarray | None, str]:
    """Decode a JPEG, uint8 [H, W, 3 or 4]; else return None, and what is damaged in its data.

    None and no damage: a kind of JPEG that Pillow may read. Other decoders keep libjpeg's warnings
    about damaged data to themselves, and return false colours.
    """
    try:
        return simplejpeg.decode_jpeg(content, colours), ""
    except ValueError as error:
        try:
            simplejpeg.decode_jpeg(content, colours, strict=False)
        except ValueError:
            return None, ""
        return None, str(error)


def _orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, that EXIF notes; 1 (upright) where EXIF cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata raise nearly anything, and the picture is still good
        return 1


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, 16 bits scaled to 8, not clipped.

    Raises Refused for pixels of 32 bits: whether white is 1, 255 or 65535 is not known.
    """
    # Pillow scales the pixels of a PGM to 16 bits, and calls them `I`.
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        detail = f"pixels of 32 bits (mode {image.mode}); save it with 8 or 16"
        raise Refused("brightness has no known range", detail)
    elif image.mode == "La":  # which Pillow converts to LA alone
        image = image.convert("LA")
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

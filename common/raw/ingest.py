"""One raw input into the prepared folder: decode, check, align, hash, write.

These functions run in worker processes.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from common.centerface import Detector
from common.faces import CROP_PX, TEMPLATE, align_photograph, crop_video, write_jpeg
from common.files import UserError
from common.manifest import perceptual_hash
from common.raw.layout import Item, Skip

# A JPEG up to this size is kept as it is; anything else is written anew, its shorter side at most
# CROP_PX: no network here sees more than 224 pixels, and a copy loses quality.
_KEEP_SIDE_PX = 2 * CROP_PX


@dataclass(frozen=True)
class Options:
    """Settings of a run that a worker needs."""

    raw: str
    prepared: str
    min_side_px: int
    detector_file: str
    min_score: float
    detect_sides_px: tuple[int, ...]


class Record(NamedTuple):
    """What became of one input: a line of the ledger, and a row of the manifest or of skipped.csv.

    path: below raw/, with `#part` where the file holds several pictures. stamp: size and time of
    the raw file. reason, detail: empty where the image is used. face: `aligned`, `none found`, or
    empty where no detector looked. size: of the prepared file, bytes. The others: as in the
    manifest.
    """

    path: str
    stamp: str
    reason: str = ""
    detail: str = ""
    face: str = ""
    size: str = ""
    image: str = ""
    dataset: str = ""
    split: str = ""
    kind: str = ""
    labels: str = ""
    subject: str = ""
    width: str = ""
    height: str = ""
    hash: str = ""


class Refused(Exception):
    """An image that is not used: (reason, detail)."""


@functools.lru_cache(maxsize=1)
def detector_for(options: Options) -> Detector:
    """Return this process's detector, loaded at its first use."""
    return Detector(
        options.detector_file or None,
        threshold=options.min_score,
        sides_px=options.detect_sides_px,
    )


def place_of(source: str, options: Options) -> str:
    """Return a raw input's path below raw/, which holds wherever the data folder is moved."""
    return source.removeprefix(options.raw + os.sep)


def stamp_of(path: str) -> str:
    """Return size and modification time of a file, to notice that it has changed, or ``."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def is_written(path: str, size: str) -> bool:
    """Say whether a prepared file is there, whole: after a power cut it may be there, but empty."""
    try:
        return str(os.path.getsize(path)) == size
    except OSError:
        return False


def prepared_image(item: Item) -> str:
    """Return the path of an item's image relative to the prepared folder."""
    return f"images/{item.dataset}/{item.name}".replace(os.sep, "/")


def ingest(batch: Sequence[Item | Skip], align: bool, options: Options) -> list[Record]:
    """Prepare a batch of inputs, each by itself: a bad one becomes a record with a reason."""
    records = []
    for item in batch:
        if isinstance(item, Skip):
            place = place_of(item.source, options)
            records.append(Record(place, "", item.reason, item.detail, dataset=item.dataset))
            continue
        stamp = stamp_of(item.path)
        try:
            records.append(_ingest_one(item, stamp, align, options))
        except Refused as refused:
            place = place_of(item.source, options)
            records.append(Record(place, stamp, *refused.args, dataset=item.dataset))
    return records


def _ingest_one(item: Item, stamp: str, align: bool, options: Options) -> Record:
    if not item.name.isprintable():  # a line feed, or bytes that are not UTF-8
        raise Refused("unusable file name", "")
    picture, kept = open_image(item, options.min_side_px)
    face = ""
    if align:
        crop = align_photograph(np.asarray(picture), detector_for(options))
        face = "none found" if crop is None else "aligned"
        if crop is not None:
            picture, kept = Image.fromarray(crop), None
        elif item.scene:
            raise Refused("no face found", "")
    target = Path(options.prepared, prepared_image(item))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if kept and training_reads(kept):
            _link_or_write(None if item.opener else item.path, kept, target)
        else:
            picture = shrink(picture)
            write_jpeg(picture, target)
    except OSError as error:
        raise UserError(f"Cannot write {target}: {error.strerror}.") from None
    width, height = picture.size
    gray = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX))
    return Record(
        place_of(item.source, options), stamp, "", "", face, str(os.path.getsize(target)),
        prepared_image(item), item.dataset, item.split, item.kind, item.labels, item.subject,
        str(width), str(height), f"{int(perceptual_hash(gray)):016x}",
    )  # fmt: skip


def open_image(item: Item, min_side_px: int) -> tuple[Image.Image, bytes | None]:
    """Read an item's picture: upright, RGB. Also return its file's bytes if they may be kept as is.

    Whatever its name says, any format that Pillow reads will do. Raises Refused for a file that is
    no image, is cut off, is smaller than min_side_px or so large that it must be an attack.
    """
    try:
        if item.opener:
            content = item.opener(item.path, item.part)
        else:
            with open(item.path, "rb") as file:
                content = file.read()
    except OSError as error:
        raise Refused("cannot be read", error.strerror or "") from None
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
        raise Refused("smaller than --min-side", "{} x {} px".format(*picture.size))
    return picture, content if plain and max(picture.size) <= _KEEP_SIDE_PX else None


def decode(content: bytes) -> tuple[Image.Image, bool]:
    """Decode an image file wholly: upright, RGB. Also say whether it is an upright plain JPEG."""
    if not content:
        raise Refused("empty file", "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of Pillow, on odd metadata
            with Image.open(io.BytesIO(content)) as image:
                plain = image.format == "JPEG" and image.mode in ("RGB", "L")
                image.load()
                if _orientation(image) != 1:
                    image, plain = ImageOps.exif_transpose(image), False
                return as_rgb(image), plain
    except UnidentifiedImageError:
        raise Refused("not an image", "") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("too many pixels", f"more than {Image.MAX_IMAGE_PIXELS}") from None
    except MemoryError:
        raise Refused("too many pixels", "") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise Refused("damaged image", str(error)[:200]) from None


def training_reads(content: bytes) -> bool:
    """Say whether the decoder of training reads an image; it refuses some JPEGs that Pillow reads.

    What Pillow has written needs no such check, which takes a quarter of the time of a copy.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # Here, because a run that finds nothing new would import torch for nothing.
        import torch
        from torchvision.io import ImageReadMode, decode_image

        try:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            decode_image(data, mode=ImageReadMode.RGB)
        except (RuntimeError, OSError, ValueError):
            return False
    return True


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


def _link_or_write(source: str | None, content: bytes, target: Path) -> None:
    """Make `target` the same file as `source`; write it where no link is allowed or possible."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)
    try:
        if source is None:
            raise OSError
        os.link(os.path.realpath(source), aside)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        aside.write_bytes(content)
    os.replace(aside, target)
    aside.unlink(missing_ok=True)  # renaming a link over another link to its file leaves both


def template_distances(items: Sequence[Item], options: Options) -> list[float]:
    """Return the landmarks' mean distance from TEMPLATE, in sides of the image, for each face."""
    distances = []
    for item in items:
        try:
            picture = open_image(item, options.min_side_px)[0]
        except Refused:
            continue
        faces = detector_for(options).detect(np.asarray(picture))
        if len(faces.scores):
            offsets = faces.landmarks[0] / np.array(picture.size) - TEMPLATE
            distances.append(float(np.abs(offsets).mean()))
    return distances


def ingest_video(path: str, video: str, options: Options) -> dict:
    """Crop one video: its frames' rows, its counts, and a complaint where it cannot be read."""
    counts: Counter = Counter()
    complaint, rows = "", []
    try:
        rows = crop_video(path, video, Path(options.prepared), detector_for(options), counts=counts)
    except UserError as error:
        complaint = str(error)
    images = [os.path.join(options.prepared, row.image) for row in rows if row.image]
    sizes = [str(os.path.getsize(image)) for image in images]
    return {"rows": rows, "sizes": sizes, "counts": counts, "complaint": complaint}

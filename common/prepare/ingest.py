"""One raw input into the prepared folder: read, check, align, measure, write.

These functions run in worker processes.
"""

from __future__ import annotations

import argparse
import errno
import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.faces.alignment import TEMPLATE, align
from common.faces.detector import Detector
from common.faces.follow import crop_video, main_face, write_jpeg
from common.prepare.decoding import Refused, open_image, sharpness, shrink, small_gray
from common.prepare.likeness import perceptual_hashes
from common.raw.layout import Item, Skip
from common.script.files import UserError

# Raise this number when the same input is prepared differently: earlier results are then redone.
VERSION = 3

_OF_ITEM = ("dataset", "split", "kind", "labels", "subject")  # fields of a Record as in its Item
_NOT_A_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL)


@dataclass(frozen=True)
class Options:
    """Settings of a run that a worker needs."""

    raw: str
    prepared: str
    min_side_px: int
    detector_file: str
    min_score: float
    detect_sides_px: tuple[int, ...]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Options:
        """Return the settings that the arguments of 01 ask for."""
        return cls(
            raw=str(arguments.data_dir / "raw"),
            prepared=str(arguments.data_dir / "prepared"),
            min_side_px=arguments.min_side,
            detector_file=str(arguments.detector_file or ""),
            min_score=arguments.min_score,
            detect_sides_px=tuple(arguments.detect_sides),
        )


class Record(NamedTuple):
    """What became of one input: a line of the ledger, and a row of the manifest or of skipped.csv.

    path: below raw/, with `#part` where the file holds several pictures. stamp: size and time of
    the raw file. reason: empty where the image is prepared; detail is then damage that it has all
    the same. fault: `1` where the input is missing, damaged, or in a wrong row, empty where it is
    sound and a rule leaves it out. face: `aligned`, `none found`, or empty where no detector
    looked; face_px: shorter side of its box. size: of the prepared file, bytes. finer, content:
    hashes of finer structure and of every bit, 16 hex digits; sharpness: see
    common.prepare.decoding. votes: those of the Item with blanks between. The others: as in the
    manifest.
    """

    path: str
    stamp: str
    reason: str = ""
    detail: str = ""
    fault: str = ""
    face: str = ""
    face_px: str = ""
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
    finer: str = ""
    content: str = ""
    sharpness: str = ""
    votes: str = ""


def detection_settings(options: Options) -> dict:
    """Return the settings on which crops depend, as JSON gives them back."""
    return {
        "min_score": options.min_score,
        "detect_sides": list(options.detect_sides_px),
        "detector": options.detector_file,
    }


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
    """Return size and modification time of a file, to notice that it has changed, or ``.

    Of a folder of frames, a digest of those of its files.
    """
    try:
        if os.path.isdir(path):
            files = sorted((entry.name, entry.stat()) for entry in os.scandir(path))
            text = repr([(name, one.st_size, one.st_mtime_ns) for name, one in files])
            return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def is_written(path: str, size: str) -> bool:
    """Say whether a prepared file is there and whole; a power cut can leave an empty one."""
    try:
        return str(os.path.getsize(path)) == size
    except OSError:
        return False


def prepared_image(item: Item) -> str:
    """Return the path of an item's image relative to the prepared folder."""
    return f"images/{item.dataset}/{item.name}".replace(os.sep, "/")


def votes_text(item: Item) -> str:
    """Return an item's votes as a record holds them."""
    return " ".join(map(str, item.votes)) if any(item.votes) else ""


def ingest(batch: Sequence[Item | Skip], align: bool, options: Options) -> list[Record]:
    """Prepare a batch of inputs, each by itself: a bad one becomes a record with a reason."""
    records, measured, grays = [], [], []
    for item in batch:
        place = place_of(item.source, options)
        if isinstance(item, Skip):
            fault = "1" if item.fault else ""
            records.append(Record(place, "", item.reason, item.detail, fault, dataset=item.dataset))
            continue
        stamp = stamp_of(item.path)
        try:
            record, picture = _ingest_one(item, stamp, align, options)
        except Refused as refused:
            fault = "1" if refused.fault else ""
            record = Record(
                place, stamp, refused.reason, refused.detail, fault, dataset=item.dataset
            )
        else:
            measured.append(len(records))
            grays.append(small_gray(picture))
        records.append(record)
    if grays:  # several times as fast together as one by one
        gray = np.stack(grays)
        halves = gray.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4))
        values = zip(*perceptual_hashes(halves), sharpness(gray), strict=True)
        for row, (coarse, finer, sharp) in zip(measured, values, strict=True):
            records[row] = records[row]._replace(
                hash=f"{int(coarse):016x}", finer=f"{int(finer):016x}", sharpness=f"{sharp:.4g}"
            )
    return records


def _ingest_one(
    item: Item, stamp: str, to_align: bool, options: Options
) -> tuple[Record, Image.Image]:
    name = Path(item.name)
    # Line feeds, bytes that are not UTF-8, and ways out of the prepared folder are refused.
    if not item.name.isprintable() or name.is_absolute() or ".." in name.parts:
        raise Refused("unusable file name")
    picture, kept, damage = open_image(item, options.min_side_px)
    face = face_px = ""
    if to_align:
        pixels = np.asarray(picture)
        faces = detector_for(options).detect(pixels)
        best = main_face(faces)
        if best is not None:
            x0, y0, x1, y1 = faces.boxes[best]
            face, face_px = "aligned", f"{min(x1 - x0, y1 - y0):.0f}"
            picture, kept = Image.fromarray(align(pixels, faces.landmarks[best])), None
        elif item.scene:
            raise Refused("no face found", fault=False)
        else:
            face = "none found"
    target = Path(options.prepared, prepared_image(item))
    if kept is None:
        picture = shrink(picture)
    source = None if item.opener else item.path
    try:
        try:
            size = _write(picture, kept, source, target)
        except FileNotFoundError:  # most images go to a folder that is there
            target.parent.mkdir(parents=True, exist_ok=True)
            size = _write(picture, kept, source, target)
    except OSError as error:
        if error.errno in _NOT_A_NAME:
            raise Refused("unusable file name", error.strerror or "") from None
        raise UserError(f"Cannot write {target}: {error.strerror}.") from None
    content = hashlib.blake2b(kept or picture.tobytes(), digest_size=8).hexdigest()
    record = Record(
        path=place_of(item.source, options),
        stamp=stamp,
        detail=damage,
        face=face,
        face_px=face_px,
        size=str(size),
        image=prepared_image(item),
        content=content,
        votes=votes_text(item),
        **dict(zip(("width", "height"), map(str, picture.size), strict=True)),
        **{name: getattr(item, name) for name in _OF_ITEM},
    )
    return record, picture


def _write(picture: Image.Image, kept: bytes | None, source: str | None, target: Path) -> int:
    """Write a picture, or the bytes that are kept of it; return the size of the file in bytes."""
    return write_jpeg(picture, target) if kept is None else _link_or_write(source, kept, target)


def _link_or_write(source: str | None, content: bytes, target: Path) -> int:
    """Make `target` the same file as `source`; write it where no link is allowed or possible.

    Returns its size in bytes.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if source is None:
            raise OSError
        file = os.path.realpath(source) if os.path.islink(source) else source
        try:
            os.link(file, aside)
        except FileExistsError:  # left by a killed process of the same number
            aside.unlink()
            os.link(file, aside)
        if aside.stat().st_size != len(content):  # the file has changed since it was read
            aside.unlink()
            raise OSError
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        aside.write_bytes(content)
    os.replace(aside, target)
    if source is not None:
        aside.unlink(missing_ok=True)  # renaming a link over another link to its file leaves both
    return len(content)


def template_distances(items: Sequence[Item], options: Options) -> list[float]:
    """Return the landmarks' mean distance from TEMPLATE, in sides of the image, for each face."""
    distances = []
    for item in items:
        try:
            picture = open_image(item, options.min_side_px).picture
        except Refused:
            continue
        faces = detector_for(options).detect(np.asarray(picture))
        if len(faces.scores):
            offsets = faces.landmarks[0] / np.array(picture.size) - TEMPLATE
            distances.append(float(np.abs(offsets).mean()))
    return distances


def ingest_video(path: str, video: str, options: Options) -> dict:
    """Crop one video: its frames' rows, remarks, and a complaint where it cannot be read."""
    complaint, rows, remarks = "", [], []
    stamp = stamp_of(path)  # before it is read: what is written to it meanwhile must show
    try:
        rows, footage = crop_video(path, video, Path(options.prepared), detector_for(options))
        remarks = footage.remarks
    except UserError as error:
        complaint = str(error)
    images = [os.path.join(options.prepared, row.image) for row in rows if row.image]
    sizes = [str(os.path.getsize(image)) for image in images]
    found = {"rows": rows, "sizes": sizes, "remarks": remarks}
    return {**found, "complaint": complaint, "stamp": stamp}

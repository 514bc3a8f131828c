"""Single photographs, and folders of frames that were extracted from videos."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.script.files import UserError

# What teams write frames as; a folder that holds others is none of frames.
FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def read_still(path: str | os.PathLike) -> np.ndarray:
    """Return a picture as uint8 [H, W, 3], RGB, upright as its EXIF data say.

    Raises ValueError with the reason where it cannot be read, wholly and in eight bits a colour.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its colours have more than eight bits (mode {image.mode})")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(reason) from None


def frame_files(folder: str | os.PathLike) -> dict[int, Path]:
    """Return number -> file of the frames in a folder, {} where it is none of numbered pictures.

    Names are numbers, or one word with a number (`00001.jpg`, `frame_00001.png`), and count from 1.
    Raises UserError where two files have one number, or one has the number 0.
    """
    files: dict[int, Path] = {}
    words = set()
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        stem, suffix = os.path.splitext(entry.name)
        if entry.name.startswith(".") or suffix.lower() not in FRAME_SUFFIXES:
            continue
        match = re.fullmatch(r"(.*?)([0-9]{1,9})", stem)
        if not match:
            return {}
        words.add(match[1])
        number, path = int(match[2]), Path(entry.path)
        if number in files and len(words) == 1:
            raise UserError(f"{path} and {files[number].name} have one number; remove one of them.")
        files[number] = path
    if len(words) != 1:
        return {}
    if 0 in files:
        raise UserError(
            f"The frames in {folder} count from 0 ({files[0].name}), those of frame lists from 1; "
            "rename them."
        )
    return dict(sorted(files.items()))


def frame_folders(folder: str | os.PathLike) -> dict[str, Path]:
    """Return video -> folder of its frames: of this folder itself, or of those right below it.

    Raises UserError as `frame_files` does.
    """
    if frame_files(folder):
        return {Path(folder).resolve().name: Path(folder)}
    places = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    return {place.name: place for place in places if frame_files(place)}


def stills(files: Mapping[int, Path]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, image) of each frame that can be read; see `read_still`."""
    for number, path in files.items():
        try:
            image = read_still(path)
        except ValueError:
            continue
        yield number, image

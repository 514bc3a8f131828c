"""Single photographs, and folders of frames that were extracted from videos."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.script.files import UserError

# What frames are written as.
FRAME_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".jp2"}
)
# What nobody would take for a frame or a video.
NOTES = frozenset({".txt", ".csv", ".json", ".md", ".pdf", ".db", ".ini"})

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
    More than half of the pictures must be named so; the rest are `others`. Raises UserError where
    two files have one number, or one has the number 0.
    """
    by_word: dict[str, list[tuple[int, Path]]] = {}
    pictures = 0
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        stem, suffix = os.path.splitext(entry.name)
        if entry.name.startswith(".") or suffix.lower() not in FRAME_SUFFIXES:
            continue
        pictures += 1
        if match := re.fullmatch(r"(.*?)([0-9]{1,9})", stem):
            by_word.setdefault(match[1], []).append((int(match[2]), Path(entry.path)))
    named = max(by_word.values(), key=len, default=[])
    if 2 * len(named) <= pictures:
        return {}
    files: dict[int, Path] = {}
    for number, path in named:
        if number in files:
            raise UserError(f"{path} and {files[number].name} have one number; remove one of them.")
        files[number] = path
    if 0 in files:
        raise UserError(
            f"The frames in {folder} count from 0 ({files[0].name}), those of frame lists from 1; "
            "rename them."
        )
    return dict(sorted(files.items()))


def others(folder: str | os.PathLike, files: Mapping[int, Path]) -> list[str]:
    """Return the names in a folder of frames that are neither frames, of `frame_files`, nor notes.

    Folders and hidden files are left out.
    """
    frames = {path.name for path in files.values()}
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return [
        name
        for name in names
        if name not in frames
        and not name.startswith(".")
        and os.path.splitext(name)[1].lower() not in NOTES
    ]


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

"""What the readers of raw data sets share: their rows, and ways to look into folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.files import UserError

Image.preinit()  # first the common formats, then all: the order in which they are tried
Image.init()
# A WebP named .jpg is still an image; a .txt is not worth a try.
IMAGE_SUFFIXES = frozenset(
    suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
) - {".pdf", ".mpg", ".mpeg"}
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})


class Item(NamedTuple):
    """One image of a data set, before it is looked at.

    path: of the raw file. name: inside images/<dataset>/ of the prepared folder. dataset to
    subject: as in the manifest.
    part: which picture of the file it is, where the file holds several: a row, a frame, a face.
    opener: returns that picture for (path, part), as the bytes of an image file or as uint8
    [H, W] or [H, W, 3] in RGB; None: the file is the picture. It is a function of a module, for it
    is called in worker processes, and raises OSError, or ValueError with what is wrong.
    box: the pixels x0, y0, x1, y1 of the picture that are to be used; what lies outside the picture
    is cut away. scene: a picture that is of no use where no face is found in it, as most frames of
    a film; of other pictures their owners say that they show a face.
    """

    path: str
    name: str
    dataset: str
    split: str = ""
    kind: str = "unlabelled"
    labels: str = ""
    subject: str = ""
    part: str = ""
    opener: Callable[[str, str], bytes | np.ndarray] | None = None
    box: tuple[int, int, int, int] | None = None
    scene: bool = False

    @property
    def source(self) -> str:
        """The raw file, and what of it is used: `file`, `file#part`, `file#x0,y0,x1,y1`."""
        part = self.part or ",".join(map(str, self.box or ()))
        return f"{self.path}#{part}" if part else self.path


class Skip(NamedTuple):
    """One input that is not used, and why.

    path: a file, `file:line` or `file#part`. reason: a fixed phrase, by which skips are counted.
    detail: what is particular to this one. fault: False where nothing is wrong with the input and
    its owners' own rules leave it out (label -1, no face): such skips are no loss.
    """

    path: str
    dataset: str
    reason: str
    detail: str = ""
    fault: bool = True

    @property
    def source(self) -> str:
        """Where the input is: as of an Item."""
        return self.path


def labelled(labels: tuple[str, ...]) -> dict[str, str]:
    """Return the fields kind and labels of an Item for canonical label names."""
    kind = ("unlabelled", "single", "compound")[len(labels)]
    return {"kind": kind, "labels": " ".join(labels)}


def prepared_name(relative: str) -> str:
    """Return the name of a prepared image: the raw one, ending in .jpg or .jpeg.

    Another ending is kept before the new one, so that a.png and a.jpg stay two images; so is the
    .jpg of a.png.jpg, for its name would be that of a.png.
    """
    rest, ending = os.path.splitext(relative.lower())
    kept = ending in (".jpg", ".jpeg") and os.path.splitext(rest)[1] not in IMAGE_SUFFIXES
    return relative if kept else relative + ".jpg"


def entries(folder: Path) -> list[os.DirEntry]:
    """Return the entries of a folder by name, without hidden ones and macOS leftovers."""
    try:
        with os.scandir(folder) as found:
            kept = [e for e in found if not e.name.startswith(".") and e.name != "__MACOSX"]
    except OSError as error:
        raise UserError(f"Cannot list {folder}: {error.strerror}.") from None
    return sorted(kept, key=lambda entry: entry.name)


def walk_files(folder: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Yield the files below a folder that have one of the suffixes, in order, as paths.

    Links to folders are followed, unless they lead back to a folder above.
    """
    folders = []
    for entry in entries(folder):
        if entry.is_dir():
            folders.append(entry)
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            yield entry.path
    for entry in folders:
        if entry.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(
            os.path.realpath(entry.path)
        ):
            continue
        yield from walk_files(Path(entry.path), suffixes)


def subfolder(folder: Path, *names: str, depth: int = 1) -> Path | None:
    """Return the first folder of one of these names, whatever its case, down to `depth` levels."""
    wanted = {name.lower() for name in names}
    if not folder.is_dir():
        return None
    found = [Path(entry.path) for entry in entries(folder) if entry.is_dir()]
    for path in found:
        if path.name.lower() in wanted:
            return path
    if depth > 1:
        for path in found:
            if below := subfolder(path, *names, depth=depth - 1):
                return below
    return None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) of a text file's lines that are not blank.

    Accepts CRLF, a byte order mark and a missing last newline. Raises UserError if it cannot be
    read as UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8; is this the right file?") from None

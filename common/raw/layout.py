"""What the readers of raw data sets share: their rows, and ways to look into folders."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.emotions import parse_labels
from common.script.files import UserError

with contextlib.suppress(ImportError):
    from pillow_heif import register_heif_opener  # of an optional library

    register_heif_opener()
Image.preinit()  # first the common formats, then all: the order in which they are tried
Image.init()
# A WebP named .jpg is still an image; a .txt is not worth a try.
IMAGE_SUFFIXES = frozenset(
    suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
) - {".pdf", ".mpg", ".mpeg"} | {".heic", ".heif", ".hif"}  # refused where nothing reads them
# What FFmpeg reads; an animated .gif too, see common.raw.challenge.
_VIDEOS = (
    "3g2 3gp asf avi divx dv f4v flv m1v m2t m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpe mpeg mpg mpg4 "
    "mts mxf nut ogm ogv qt rm rmvb ts vob webm wmv y4m"
)
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEOS.split())
# What operating systems leave in folders, in lower case.
_LITTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"})


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
    votes: how many people saw each expression of emotions.ADAPTATION in it, or how strongly it was
    acted, in tenths; empty where the owners ship no such numbers.
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
    votes: tuple[int, ...] = ()

    @property
    def source(self) -> str:
        """The raw file, and what of it is used: `file`, `file#part`, `file#x0,y0,x1,y1`."""
        part = self.part or ",".join(map(str, self.box or ()))
        return f"{self.path}#{part}" if part else self.path


class Skip(NamedTuple):
    """One input that is not used, and why.

    path: a file, `file:line` or `file#part`. reason: a fixed phrase, by which skips are counted.
    detail: what is particular to this one. fault: False where nothing is wrong with the input and
    its owners' own rules leave it out (label -1, no face): such skips are no loss. file: the file
    that a row of a list is about, if it is there.
    """

    path: str
    dataset: str
    reason: str
    detail: str = ""
    fault: bool = True
    file: str = ""

    @property
    def source(self) -> str:
        """Where the input is: as of an Item."""
        return self.path


def is_expression(name: str) -> bool:
    """Say whether a name, of a folder or a file, is that of an expression."""
    try:
        return bool(parse_labels(name))
    except ValueError:
        return False


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


def with_margin(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Widen a face box x0, y0, x1, y1 by a quarter of its sides all around.

    Face boxes end at the brows and the chin; the detector that aligns faces wants some hair. On
    real photographs, a quarter moves its landmarks by 0.0003 of the face's width, none by 0.014.
    """
    x0, y0, x1, y1 = box
    right, down = (x1 - x0) // 4, (y1 - y0) // 4
    return x0 - right, y0 - down, x1 + right, y1 + down


def entries(folder: Path) -> list[os.DirEntry]:
    """Return the entries of a folder by name, but those that is_shown leaves out."""
    try:
        with os.scandir(folder) as found:
            return sorted(filter(is_shown, found), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"Cannot list {folder}: {error.strerror}.") from None


def is_shown(entry: os.DirEntry) -> bool:
    """Say whether an entry is neither hidden nor left there by an operating system."""
    return not entry.name.startswith(".") and entry.name.lower() not in _LITTER


def walk_files(folder: str | Path, suffixes: frozenset[str] | None) -> Iterator[str]:
    """Yield the files below a folder that have one of the suffixes (None: any), in order, as paths.

    Links to folders are followed, unless they lead back to a folder above. Only names are held,
    and of one folder a level: a folder of millions costs about 90 bytes a name.
    """
    names, folders, links = [], [], set()
    try:
        with os.scandir(folder) as found:
            for entry in filter(is_shown, found):
                if entry.is_dir():
                    folders.append(entry.name)
                    if entry.is_symlink():
                        links.add(entry.name)
                elif suffixes is None or os.path.splitext(entry.name)[1].lower() in suffixes:
                    names.append(entry.name)
    except OSError as error:
        raise UserError(f"Cannot list {folder}: {error.strerror}.") from None
    for name in sorted(names):
        yield os.path.join(folder, name)
    del names
    for name in sorted(folders):
        path = os.path.join(folder, name)
        if name in links and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):
            continue
        yield from walk_files(path, suffixes)


# A folder with more entries holds images, persons or videos, and is no root of a data set.
LOOK = 200


def look(folder: Path) -> list[os.DirEntry]:
    """Return some 200 entries of a folder, by name: enough to tell what it is, however large."""
    try:
        with os.scandir(folder) as found:
            some = list(itertools.islice(filter(is_shown, found), LOOK + 1))
    except OSError:
        return []
    return sorted(some, key=lambda entry: entry.name)


def unwrapped(folder: Path) -> Path:
    """Return the only folder in a folder, as an archive's of its own name; else the folder."""
    inner = [entry for entry in look(folder) if entry.is_dir()]
    return Path(inner[0].path) if len(inner) == 1 else folder


def subfolder(folder: Path, *names: str, depth: int = 1) -> Path | None:
    """Return the first folder of one of these names, whatever its case, down to `depth` levels.

    The nearest counts. At most 200 folders are looked into, and in one of more than 200 entries
    only these very spellings are tried, so that looking into trees of millions costs nothing.
    """
    return _find(folder, names, depth, folders=True)


def file_in(folder: Path, *names: str, depth: int = 1) -> Path | None:
    """Return the first file of one of these names, found as subfolder finds folders."""
    return _find(folder, names, depth, folders=False)


def _find(folder: Path, names: Sequence[str], depth: int, folders: bool) -> Path | None:
    wanted = {name.lower() for name in names}
    level, looks = [folder], 0
    for _ in range(depth):
        below: list[Path] = []
        for place in level:
            if (looks := looks + 1) > LOOK:
                return None
            some = look(place)
            if len(some) > LOOK:
                paths = [place / name for name in names]
                if found := [p for p in paths if (p.is_dir() if folders else p.is_file())]:
                    return found[0]
                continue
            for entry in some:
                if entry.name.lower() in wanted and entry.is_dir() == folders:
                    return Path(entry.path)
            below += [Path(entry.path) for entry in some if entry.is_dir()]
        level = below
    return None


def file_names(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[str]:
    """Return the names of the images, or other files, among some 200 entries of a folder."""
    names = (entry.name for entry in look(folder))
    return [name for name in names if os.path.splitext(name)[1].lower() in suffixes]


def are_mostly(names: Sequence[str], like: Callable[[str], object]) -> bool:
    """Say whether at least half of some names, and one at all, are such as a data set has.

    One name alone says nothing: a stray file may come first in a folder.
    """
    return bool(names) and 2 * sum(map(bool, map(like, names))) >= len(names)

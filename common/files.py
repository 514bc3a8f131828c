"""Files that appear whole or not at all, and the error that is the user's to mend."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class UserError(Exception):
    """A mistake the user can mend: one sentence saying what, where, and what to do.

    Scripts print it without a traceback and exit with status 2.
    """


@contextmanager
def whole_file(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open `path` for writing so that readers see the old file or the whole new one.

    Writes to a neighbour in the same folder (a rename is atomic only within one file system),
    syncs it to disk, then renames. On an exception the neighbour is removed and `path` is left
    as it was. Text modes write UTF-8 with LF line ends.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(aside, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def inside(folder: str | Path, relative: str) -> Path:
    """Return `folder/relative`, refusing a name from a data file that would leave the folder.

    Raises UserError for absolute names and names that climb out with `..`.
    """
    if os.path.isabs(relative) or ".." in Path(relative).parts or "\0" in relative:
        raise UserError(
            f"The file name {relative!r} points outside {folder}; names in lists must be relative "
            "to their folder, without '..'."
        )
    return Path(folder) / relative


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Files that appear whole or not at all, and the error that a user can fix."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LEFT_BEHIND = 10  # seconds that a killed process's children have to let go of its folder


class UserError(Exception):
    """A mistake the user can fix: one sentence saying what, where, and what to do.

    Scripts print it without a traceback and exit with status 2.
    """


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first of some names for a sentence: `a.png, b.png and 3 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an OSError tell which file it was: that of a full disk does not say.

    torch.save makes a RuntimeError of it, while it handles it: the OSError is raised instead.
    """
    before = sys.exception()  # what is being handled here anyway
    try:
        yield
    except (OSError, RuntimeError) as error:
        fault = error if isinstance(error, OSError) else error.__context__
        if isinstance(fault, OSError) and fault is not before:
            fault.filename = fault.filename or str(path)
            raise fault from None
        raise


@contextmanager
def whole_file(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open `path` for writing so that readers see the old file or the whole new one.

    Writes to a neighbour in the same folder (a rename is atomic only within one file system),
    syncs it to disk, renames, and syncs the folder, so that a power cut keeps it. On an exception
    the neighbour is removed and `path` is left as it was. Text modes write UTF-8 with LF line ends.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with naming(path):
            with open(aside, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            _sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: str | Path, value: dict | list, indent: int | None = 2) -> None:
    """Write a value as JSON, whole or not at all."""
    with whole_file(path, "w") as file:
        json.dump(value, file, indent=indent)


def write_csv(path: str | Path, table: pd.DataFrame, float_format: str | None = "%.6g") -> None:
    """Write a table without its index as CSV, whole or not at all."""
    with whole_file(path, "w") as file:
        table.to_csv(file, index=False, float_format=float_format)


@contextmanager
def csv_rows(path: str | Path, columns: Sequence[str]) -> Iterator:
    """Open a CSV file, whole or not at all, for a table too long to hold: yields a csv.writer."""
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems sync no folders
    finally:
        os.close(descriptor)


def _is_locked(file) -> bool:
    """Lock an open file for this process alone; return False where another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some network file systems have no locks; to refuse to work there is no help
    return True


def _is_alive(pid: str) -> bool:
    """Tell whether a process of this machine runs under this id; True where that is unknown."""
    with suppress(ValueError, OSError, OverflowError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        # Ended, but not yet fetched by its parent: a zombie.
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextmanager
def only_process(folder: str | Path) -> Iterator[None]:
    """Keep other processes that ask for the same out of `folder` until this one has left or died.

    The lock is on `folder/.lock`, which stays behind and holds the process's id and script; both
    the folder and the file are made. Of a distributed run, only the first process may ask. Raises
    UserError where another process is inside: at once, or after LEFT_BEHIND seconds where the
    process named in the file is dead: a child forked just before a kill may hold the lock so long.
    """
    path = Path(folder) / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - "a": not yet ours to empty
    except OSError as error:
        raise UserError(f"Cannot write in {folder}: {error.strerror}.") from None
    with file:
        until = time.monotonic() + LEFT_BEHIND
        while not _is_locked(file):
            file.seek(0)
            pid, _, script = file.read().strip().partition(" ")
            if _is_alive(pid):
                raise UserError(
                    f"Another {script or 'process'} (process {pid or 'unknown'}) works in "
                    f"{folder}; wait until it ends, or choose another folder."
                )
            if time.monotonic() > until:
                raise UserError(
                    f"{script} (process {pid}) has ended on this machine, but what it started, or "
                    f"a run on another machine, holds {folder}; end that, or choose another folder."
                )
            time.sleep(0.05)
        file.truncate(0)
        module = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m common.demo`
        name = module.name.removesuffix(".__main__") if module else Path(sys.argv[0]).name
        file.write(f"{os.getpid()} {name}\n")
        file.flush()
        # A loader process forked later would hold the lock on after our death.
        os.register_at_fork(after_in_child=file.close)
        for left in path.parent.glob(".*.part"):
            left.unlink()  # by a process that was killed while it wrote
        yield


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

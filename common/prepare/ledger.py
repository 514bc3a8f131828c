"""The record of a data set's preparation, by which an interrupted run goes on where it stopped.

One folder a data set, and in it CSV files, one line an input:
    current-<rank>.csv   what a process of this run has done
    earlier-<n>.csv      the same, of runs that did not reach their end
    done.csv             all inputs in their order, of the last run that reached its end
    limited.csv          the first inputs, of the last run with --limit that reached its end
A run looks every input up in the files of earlier runs, by a key, in whatever order and from
however many processes they come, and writes its own file anew. Each line ends in a checksum: a
damaged one is as if it were not there.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from common.script.files import naming, whole_file

BLOCK = 64  # inputs that go to one process, and to one worker, together
_SYNC_S = 2.0
_KEY_DIGITS = 16
_OFFSET_BITS = 48


class Ledger:
    """What earlier runs noted of a folder's inputs, and what this process notes.

    settings: on which the records depend; files of other settings are not looked at. limit: how
    many inputs are asked for, so that no more than the beginnings of earlier files are read.
    Memory: 24 bytes an input that earlier runs noted.
    """

    def __init__(
        self, folder: Path, settings: dict, columns: Sequence[str], rank: int, limit: int | None
    ):
        head = _head(settings, columns)
        self._files = [
            open(path, "rb")  # noqa: SIM115 - closed by close()
            for path in sorted(folder.glob("*.csv"))
            if not path.name.startswith("current-")
        ]
        keys, places = array("Q"), array("Q")
        for number, file in enumerate(self._files):
            if file.read(len(head)) == head:
                _index(itertools.islice(file, limit), len(head), number, keys, places)
        # The newest file comes last in each run of equal keys only by chance: all are tried.
        order = np.argsort(np.frombuffer(keys, dtype=np.uint64), kind="stable")
        self._keys = np.frombuffer(keys, dtype=np.uint64)[order]
        self._places = np.frombuffer(places, dtype=np.uint64)[order]
        self._file = open(folder / f"current-{rank}.csv", "wb")  # noqa: SIM115
        self._file.write(head)
        self._synced = time.monotonic()

    def find(self, path: str, image: str) -> Iterator[list[str]]:
        """Yield the records of earlier runs for an input, as lists of their columns."""
        key = np.uint64(int(_key(path, image), 16))
        at = int(np.searchsorted(self._keys, key))
        while at < len(self._keys) and self._keys[at] == key:
            place = int(self._places[at])
            file = self._files[place >> _OFFSET_BITS]
            file.seek(place & ((1 << _OFFSET_BITS) - 1))
            # A damaged line is as if it were not there.
            with contextlib.suppress(UnicodeDecodeError, csv.Error, StopIteration):
                row = next(csv.reader([file.readline().decode("utf-8")]))
                if _is_whole(row):
                    yield row[1:-1]
            at += 1

    def append(self, rows: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        """Add records, each with its input's path and image; a few seconds later they are on disk.

        All rows of a call are written at once, so that a killed process loses whole blocks only.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            _with_checksum([_key(path, image), *map(plain_text, row)]) for path, image, row in rows
        )
        with naming(self._file.name):
            self._file.write(text.getvalue().encode())
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close all files."""
        self._file.flush()
        os.fsync(self._file.fileno())
        for file in (self._file, *self._files):
            file.close()


def _head(settings: dict, columns: Sequence[str]) -> bytes:
    columns = ",".join(("key", *columns, "checksum"))
    return f"# {json.dumps(settings, sort_keys=True)}\n{columns}\n".encode()


def _key(path: str, image: str) -> str:
    name = f"{path}\0{image}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=_KEY_DIGITS // 2).hexdigest()


def _with_checksum(fields: list[str]) -> list[str]:
    return [*fields, f"{zlib.crc32(chr(0).join(fields).encode()):08x}"]


def _is_whole(row: list[str]) -> bool:
    return row == _with_checksum(row[:-1])


def _index(lines: Iterable[bytes], at: int, number: int, keys: array, places: array) -> None:
    """Add the lines of file `number`, which start at byte `at`, to keys and places."""
    for line in lines:
        # A line that was cut off is the last one, or is followed by one of another length.
        if line.endswith(b"\n") and line[_KEY_DIGITS : _KEY_DIGITS + 1] == b",":
            try:
                keys.append(int(line[:_KEY_DIGITS], 16))
                places.append(number << _OFFSET_BITS | at)
            except ValueError:
                pass
        at += len(line)


def plain_text(value: object) -> str:
    """Return a value as one line of text, bytes of a file name that are not UTF-8 as escapes."""
    # A line of the file must be a row of the table, or a cut-off end could not be recognised.
    text = str(value)
    if not text.isprintable():
        text = text.encode("utf-8", "backslashreplace").decode()
        text = text.replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return text


def set_aside(folder: Path) -> None:
    """Keep what an interrupted run has left in a folder from being overwritten by this one."""
    folder.mkdir(parents=True, exist_ok=True)
    free = (path for n in itertools.count() if not (path := folder / f"earlier-{n}.csv").exists())
    for path in sorted(folder.glob("current-*.csv")):
        os.replace(path, next(free))


def finish(folder: Path, processes: int, limited: bool) -> Path:
    """Join the files of this run's processes in the order of the inputs; return the whole file.

    Afterwards nothing remains of what the new file makes superfluous: of all earlier runs, or,
    where it is limited, of earlier limited ones.
    """
    parts = [folder / f"current-{rank}.csv" for rank in range(processes)]
    path = folder / ("limited.csv" if limited else "done.csv")
    if processes == 1:
        os.replace(parts[0], path)
    else:
        with whole_file(path) as file:
            _interleave(parts, file)
        for part in parts:
            part.unlink()
    if not limited:
        for old in (folder / "limited.csv", *folder.glob("earlier-*.csv")):
            old.unlink(missing_ok=True)
    return path


def _interleave(parts: list[Path], out: io.BufferedIOBase) -> None:
    files = [open(path, "rb") for path in parts]  # noqa: SIM115 - closed below
    try:
        heads = [file.readline() + file.readline() for file in files]
        out.write(heads[0])
        for file in itertools.cycle(files):
            lines = list(itertools.islice(file, BLOCK))
            out.writelines(lines)
            if len(lines) < BLOCK:  # the last block of all, or none where it should be
                break
    finally:
        for file in files:
            file.close()


def newest(folder: Path) -> Path | None:
    """Return the file of the last run that reached its end in a folder, or None."""
    paths = [path for name in ("done.csv", "limited.csv") if (path := folder / name).is_file()]
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def settings_of(path: Path) -> dict:
    """Return the settings under which a ledger's file was written, empty if it is not one."""
    try:
        with open(path, "rb") as file:
            settings = json.loads(file.readline().removeprefix(b"# "))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def rows_of(path: Path, size: int = 1 << 16) -> Iterator[list[list[str]]]:
    """Yield the records of a whole file in lists of `size` rows, without their keys."""
    with open(path, encoding="utf-8", newline="") as file:
        file.readline()
        reader = csv.reader(file)
        columns = len(next(reader))
        while rows := list(itertools.islice(reader, size)):
            yield [row[1:-1] for row in rows if len(row) == columns and _is_whole(row)]

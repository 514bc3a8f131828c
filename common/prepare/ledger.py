"""The record of a data set's preparation, from which an interrupted run continues.

One folder a data set, and in it CSV files, one line an input:
    current-<rank>.csv   what a process of this run has done
    earlier-<n>.csv      the same, of runs that were interrupted
    done.csv             all inputs in their order, of the last complete run
    limited.csv          the first inputs, of the last complete run with --limit
A run looks up every input in the files of earlier runs, by a key, whatever their order and number,
and writes a new file of its own. Each line ends in a checksum, and a damaged line is ignored.
"""

from __future__ import annotations

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
_ROWS = 1 << 16  # records of a block that `load` returns


class Ledger:
    """What earlier runs recorded of a folder's inputs, and what this process records.

    settings: what the records depend on; files written under other settings are ignored. limit: how
    many inputs are wanted, so that only the beginning of earlier files is read.
    Memory: 24 bytes for each input that earlier runs recorded.
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
        # Equal keys come in no particular order: find tries them all.
        order = np.argsort(np.frombuffer(keys, dtype=np.uint64), kind="stable")
        self._keys = np.frombuffer(keys, dtype=np.uint64)[order]
        self._places = np.frombuffer(places, dtype=np.uint64)[order]
        self._file = open(folder / f"current-{rank}.csv", "wb")  # noqa: SIM115
        self._file.write(head)
        self._synced = time.monotonic()

    def find(self, path: str, image: str) -> Iterator[list[str]]:
        """Yield the records of earlier runs for an input, as lists of their columns."""
        key = np.uint64(int(_key(path, image), 16))
        start, end = (self._keys.searchsorted(key, side) for side in ("left", "right"))
        for place in self._places[start:end].tolist():
            file = self._files[place >> _OFFSET_BITS]
            file.seek(place & ((1 << _OFFSET_BITS) - 1))
            if record := _parse(file.readline()):
                yield record

    def append(self, rows: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        """Add records, each with its input's path and image; they are synced every few seconds.

        The rows of a call are written together, so that a killed process loses whole blocks only.
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


def _parse(line: bytes) -> list[str] | None:
    """Return the columns of a line without key and checksum, or None where it is damaged."""
    try:
        row = next(csv.reader([line.decode("utf-8")]))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None
    return row[1:-1] if row and row == _with_checksum(row[:-1]) else None


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
    # A record must be one line, or a cut-off end could not be recognised.
    text = str(value)
    if not text.isprintable():
        text = text.encode("utf-8", "backslashreplace").decode()
        text = text.replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return text


def set_aside(folder: Path) -> None:
    """Rename what an interrupted run left in a folder, so that this run does not overwrite it."""
    folder.mkdir(parents=True, exist_ok=True)
    free = (path for n in itertools.count() if not (path := folder / f"earlier-{n}.csv").exists())
    for path in sorted(folder.glob("current-*.csv")):
        os.replace(path, next(free))


def finish(folder: Path, processes: int, limited: bool) -> Path:
    """Join the files of this run's processes in the order of the inputs; return the joined file.

    Removes what it replaces: the files of all earlier runs, or of earlier limited runs where this
    run is limited.
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
            if len(lines) < BLOCK:  # the last block
                break
    finally:
        for file in files:
            file.close()


def newest(folder: Path) -> Path | None:
    """Return the file of the last complete run in a folder, or None."""
    paths = [path for name in ("done.csv", "limited.csv") if (path := folder / name).is_file()]
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def settings_of(path: Path) -> dict:
    """Return the settings under which a file was written, or none where it is no ledger's."""
    try:
        with open(path, "rb") as file:
            settings = json.loads(file.readline().removeprefix(b"# "))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def load(path: Path) -> list[dict[str, str]]:
    """Read a whole file: blocks of up to 65,536 records, each column a text of one line a record.

    As one text, a column takes a third of the memory of as many strings. No block is empty.
    """
    blocks = []
    with open(path, "rb") as file:
        file.readline()
        names = file.readline().decode().strip().split(",")[1:-1]
        while lines := list(itertools.islice(file, _ROWS)):
            records = [r for r in map(_parse, lines) if r and len(r) == len(names)]
            columns = zip(*records, strict=True)
            if records:
                blocks.append({n: "\n".join(c) for n, c in zip(names, columns, strict=True)})
    return blocks

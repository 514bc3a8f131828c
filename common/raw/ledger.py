"""The record of a data set's preparation, by which an interrupted run goes on where it stopped."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

_SYNC_S = 2.0
_T = TypeVar("_T")


class Ledger:
    """An append-only CSV file: its settings in the first line, then one line for each input.

    Inputs come in the same order in every run, so that what is done is a beginning of the file.
    A run with other settings, or whose inputs have changed, starts over from the first difference.
    """

    def __init__(self, path: Path, settings: dict, columns: tuple[str, ...]):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._head = "# " + json.dumps(settings, sort_keys=True) + "\n" + ",".join(columns) + "\n"
        self._file = open(path, "a+b")  # noqa: SIM115 - closed by close()
        self._synced = time.monotonic()
        self.kept = 0  # lines of earlier runs that still hold

    def resume(
        self, inputs: Iterable[_T], holds: Callable[[list[str], _T], bool], limited: bool
    ) -> Iterator[_T]:
        """Return the inputs that are still to be done, having cut the file before the first.

        limited: the inputs are the first of more, so that the lines beyond them are left alone.
        """
        self._file.seek(0)
        end, inputs = 0, iter(inputs)
        head = self._head.encode()
        beyond = limited
        if self._file.read(len(head)) == head:
            end = len(head)
            for line, item in _zip_first(self._file, inputs):
                row = _parse(line)
                if row is None or not holds(row, item):
                    inputs, beyond = itertools.chain([item], inputs), False
                    break
                end += len(line)
                self.kept += 1
        if not beyond or not end:
            self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        if not end:
            self._file.write(head)
        return inputs

    def append(self, rows: Iterable[tuple]) -> None:
        """Add lines; they are on disk a few seconds later at most."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [plain_text(value) for value in row] for row in rows
        )
        self._file.write(text.getvalue().encode())
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def whole_lines(path: Path, version: int, columns: tuple[str, ...]) -> int:
    """Return how many inputs a ledger records, 0 where there is none of this version."""
    try:
        with open(path, "rb") as file:
            settings = json.loads(file.readline().removeprefix(b"# "))
            if settings["version"] != version or _parse(file.readline()) != list(columns):
                return 0
            return sum(line.endswith(b"\n") for line in file)
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def plain_text(value: object) -> str:
    """Return a value as one line of text, bytes of a file name that are not UTF-8 as escapes."""
    # A line of the file must be a row of the table, or a cut-off end could not be recognised.
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text.replace("\r", " ").replace("\n", " ")


def _parse(line: bytes) -> list[str] | None:
    """Return the fields of a whole line, or None for one that was cut off."""
    if not line.endswith(b"\n"):
        return None
    try:
        return next(csv.reader([line.decode("utf-8")]))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None


def _zip_first(lines: Iterable[bytes], items: Iterator[_T]) -> Iterator[tuple[bytes, _T]]:
    """Pair lines with items, taking no item for which there is no line."""
    for line in lines:
        for item in items:
            yield line, item
            break
        else:
            return

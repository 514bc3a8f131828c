"""Lists and tables of raw data sets: text in which any row may be wrong."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.script.files import UserError

_LINE_BYTES = 1 << 20


def placed_lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """Yield (line number from 1, byte offset, text) of the lines that are not blank.

    Accepts CRLF, a byte order mark and a missing last newline. Bytes that are not UTF-8 are decoded
    as Python decodes file names, so a name in another encoding is still found. Raises UserError for
    a file that cannot be read, or whose first line is not text.
    """
    offset = 0
    try:
        with open(path, "rb") as file:
            for number in itertools.count(1):
                line = file.readline(_LINE_BYTES)
                if not line:
                    return
                if (number == 1 and b"\0" in line) or len(line) == _LINE_BYTES:
                    raise UserError(
                        f"{path}, line {number} is not text in UTF-8; is this the right file?"
                    )
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                text = text.decode("utf-8", "surrogateescape").rstrip("\r\n")
                if text.strip():
                    yield number, offset, text
                offset += len(line)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) of a text file; see placed_lines."""
    for number, _, text in placed_lines(path):
        yield number, text.strip()


def check_text(*paths: Path | None) -> None:
    """Raise UserError for the first of these lists that cannot be read or is no text."""
    for path in filter(None, paths):
        next(placed_lines(path), None)


def split_row(line: str, delimiter: str = ",") -> list[str]:
    """Return the stripped fields of one row of a table; a quote that is never closed ends it."""
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error:
        return []


def table_rows(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Return (line number, field by column) for the rows of a table with a header.

    Columns are found by name, in any case and order, with or without spaces around them. Missing
    fields are empty. In a row with more fields than columns, the last needed column holds the rest
    of the row, separators and all, so that its reader refuses what it does not know:
    `a.jpg,happy,sad` is no image of happiness alone. The separator is a comma, semicolon or tab. A
    row is a line, so a damaged row cannot swallow the next. Raises UserError at once if a column is
    missing.
    """
    lines = placed_lines(path)  # not stripped: a first field may be empty before its tab
    header = next(lines, (1, 0, ""))[2]
    delimiter = max(",;\t", key=header.count)
    names = [name.lower() for name in split_row(header, delimiter)]
    if missing := [name for name in needed if name.lower() not in names]:
        raise UserError(
            f"{path}, line 1: no column {missing[0]!r}; its first line must name the columns "
            f"{', '.join(needed)}."
        )
    places = {n: names.index(n.lower()) for n in (*needed, *optional) if n.lower() in names}
    empty = dict.fromkeys((*needed, *optional), "")

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        for number, _, line in lines:
            fields = split_row(line, delimiter)
            if any(fields[len(names) :]):
                place = places[needed[-1]]
                fields[place] = delimiter.join(fields[place:]).rstrip(delimiter)
            if any(fields):
                yield number, empty | {n: fields[i] for n, i in places.items() if i < len(fields)}

    return rows()


def whole_number(text: object) -> int | None:
    """Read a label as 5, ` 5`, 5.0 or 3.0000000e+00; None for what is no whole number."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return int(value) if value.is_integer() else None

"""Lists and tables of raw data sets: text in which any row may be wrong."""

from __future__ import annotations

import csv
import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.emotions import LABEL_JOINTS, parse_labels
from common.script.files import UserError, some

_LINE_BYTES = 1 << 20
_SEPARATORS = ",;\t|"


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


def header_of(lines: Iterator[tuple[int, int, str]]) -> tuple[str, list[str], str]:
    """Take a table's first line from its placed_lines: its text, columns in lower case, separator.

    The separator is the one of comma, semicolon, tab and bar that it has most of, or that a line
    `sep=;` above it says, as spreadsheets write it.
    """
    header = next(lines, (1, 0, ""))[2]
    said = re.fullmatch(f"sep=([{_SEPARATORS}])", header.strip(' "'), re.I)
    if said:
        header = next(lines, (1, 0, ""))[2]
    separator = said[1] if said else max(_SEPARATORS, key=header.count)
    return header, [name.lower() for name in split_row(header, separator)], separator


def unread_columns(path: Path, read: Sequence[str], counts: Counter) -> None:
    """Add to counts the columns of a user's table that are not among those that are read."""
    others = [name for name in header_of(placed_lines(path))[1] if name and name not in read]
    texts = []
    for name in others[:9]:
        near = difflib.get_close_matches(name, read, n=1, cutoff=0.7)
        texts.append(f"{name[:40]!r}" + (f" (like {near[0]!r}?)" if near else ""))
    if others:
        shown = some([*texts, *others[9:]], 9)
        counts[f"columns of {path.name} that are not read, {shown}"] = len(others)


def written_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a field that a user wrote; see parse_labels.

    Raises ValueError for a number too, and for an expression that is named twice.
    """
    if whole_number(text) is not None:
        raise ValueError(
            f"{text!r} is a number, and which expression that is differs from data set to data "
            "set; write names"
        )
    labels = parse_labels(text)
    if len(labels) < len(list(filter(None, LABEL_JOINTS.split(text)))):
        raise ValueError(f"{text!r} names {labels[0]} twice")
    return labels


def table_rows(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Return (line number, field by column) for the rows of a table with a header.

    Columns are found by name, in any case and order, with or without spaces around them. Missing
    fields are empty. In a row with more fields than columns, the last needed column holds the rest
    of the row, separators and all, so that its reader refuses what it does not know:
    `a.jpg,happy,sad` is no image of happiness alone. For the separator see header_of. A row is a
    line, so a damaged row cannot swallow the next. Raises UserError at once if a column is missing,
    or one that is read stands twice.
    """
    lines = placed_lines(path)  # not stripped: a first field may be empty before its tab
    header, names, delimiter = header_of(lines)
    if missing := [name for name in needed if name.lower() not in names]:
        ends = "; its lines end in CR alone, save it with LF" if "\r" in header else ""
        raise UserError(
            f"{path}, line 1: no column {missing[0]!r} in {header[:60]!r}; its first line must "
            f"name the columns {', '.join(needed)}, with commas, semicolons, tabs or bars between "
            f"them{ends}."
        )
    if twice := [name for name in (*needed, *optional) if names.count(name.lower()) > 1]:
        raise UserError(f"{path}, line 1: the column {twice[0]!r} stands twice; keep one of them.")
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

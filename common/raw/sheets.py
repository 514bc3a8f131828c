"""Tables in .xlsx, which several data sets ship in place of text."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.script.files import UserError

_UNPACKED_BYTES = 512 << 20  # the largest table of these data sets has less than a tenth
_ROWS_MAX = 1 << 20  # as Excel itself
_COLUMNS_MAX = 256


def sheet_rows(path: Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[int, dict]]]:
    """Return the columns' names and (row number, text by column) of a workbook's first sheet.

    Names are in lower case, stripped; the first row that is not empty has them. Cells are text, and
    empty where they are. Formulas and macros are never run. Raises UserError for a file that is
    damaged, unpacks to more than 512 MiB, has more than a million rows, or lacks a needed column.
    """
    names: list[str] = []
    rows: list[tuple[int, dict]] = []
    try:
        for number, cells in enumerate(_cells(path), 1):
            values = ["" if cell is None else str(cell).strip() for cell in cells[:_COLUMNS_MAX]]
            if not any(values):
                continue
            if not names:
                names = [value.lower() for value in values]
                continue
            rows.append((number, dict(zip(names, values, strict=False))))
            if number > _ROWS_MAX:
                raise ValueError(f"more than {_ROWS_MAX} rows")
    except MemoryError:
        raise UserError(f"{path} is too large for a table; export it again.") from None
    except Exception as error:  # openpyxl raises nearly anything on damaged files
        raise UserError(
            f"{path} cannot be read as a table ({str(error)[:80]}); unpack the owners' archive "
            "again."
        ) from None
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"{path} has no column {missing[0]!r} in its first row.")
    return names, rows


def _cells(path: Path) -> Iterable[tuple]:
    """Yield the rows of the first sheet."""
    from openpyxl import load_workbook  # here, because few data sets have it

    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > _UNPACKED_BYTES:
        raise ValueError(f"it unpacks to {unpacked >> 20} MiB")
    book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # what a file says of its size may be wrong
        yield from sheet.iter_rows(values_only=True)
    finally:
        book.close()

"""EmotioNet, faces of the web with single and compound expressions (Fabian Benitez-Quiroz,
Srinivasan & Martinez 2016, Ohio State University).

    URLsWithEmotionCat_aws.xlsx       url_orig, url_server, one 0/1 column a category
    <any>/<last part of the URL>      the images, as each user downloads them

Traps: many images are no longer on the web, which is counted and no fault; a row may have several
categories, or 999 for what is not known; appalled, awed and the like are none of our expressions,
and their images are kept without a label. Persons are unknown, and there is no split.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from common.emotions import parse_labels
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    labelled,
    look,
    prepared_name,
    unwrapped,
    walk_files,
)
from common.raw.lists import whole_number
from common.raw.sheets import sheet_rows

ALIGNED = False

_DATASET = "EmotioNet"
_TABLE = "urlswithemotioncat"
_URLS = ("url_orig", "url_server")


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "table of URLs"


def _table(folder: Path) -> Path | None:
    for place in (folder, unwrapped(folder)):
        for entry in look(place):
            if entry.name.lower().startswith(_TABLE) and entry.name.lower().endswith(".xlsx"):
                return Path(entry.path)
    return None


def recognises(folder: Path) -> bool:
    """A folder with the table of URLs."""
    return _table(folder) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images that are there; see common.raw."""
    table = _table(folder)
    names, rows = sheet_rows(table, _URLS[:1])
    categories = [name for name in names if name and name not in _URLS]
    return _read(folder, table, categories, rows, counts)


def _read(folder: Path, table: Path, categories: list, rows: list, counts: Counter) -> Iterator:
    images: dict[str, str] = {}
    for path in walk_files(folder, IMAGE_SUFFIXES):
        name = os.path.basename(path)
        if name in images:
            yield Skip(path, _DATASET, "same name as another image", images[name])
        images.setdefault(name, path)
    for number, row in rows:
        urls = (os.path.basename(unquote(urlsplit(row.get(url, "")).path)) for url in _URLS)
        path = next((images.pop(name) for name in urls if name in images), None)
        if path is None:
            counts["listed images that are not there"] += 1
            continue
        shown = [name for name in categories if whole_number(row.get(name, "")) == 1]
        if len(shown) > 1:
            detail = f"{table.name}, row {number}: {', '.join(shown)}"
            yield Skip(path, _DATASET, "of several categories", detail, fault=False)
            continue
        fields = labelled(_labels(shown[0]) if shown else ())
        name = prepared_name(os.path.relpath(path, folder))
        yield Item(path, name, _DATASET, **fields)
    for path in images.values():
        yield Skip(path, _DATASET, f"not in {table.name}")


def _labels(category: str) -> tuple[str, ...]:
    try:
        return parse_labels(category)
    except ValueError:
        return ()

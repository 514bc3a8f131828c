"""IMDB-WIKI, faces of film people and of Wikipedia (Rothe, Timofte & Van Gool 2018, ETH Zurich).

    imdb_crop/imdb.mat, imdb_crop/<00..99>/nm0000001_rm124825600_1899-5-10_1968.jpg
    wiki_crop/wiki.mat, wiki_crop/<00..99>/10000217_1981-05-05_2009.jpg

The cropped archives; each is a data set of its own, without labels. An
image is used if its face was found with a score of 1 or more and no second face was (the usual
filter): 460,723 and 62,328 images are there before it. The subject is the name up to its first `_`.
Traps: face_score is -Inf where no face was found, and second_face_score NaN where no second was.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.layout import Item, Skip, file_in, prepared_name
from common.script.files import UserError, inside
from common.script.workers import apart

ALIGNED = False

_SETS = {"imdb": "IMDB", "wiki": "WIKI"}
_OFFICIAL_ROWS = {"imdb": 460_723, "wiki": 62_328}  # of the tables; the filter leaves fewer images
_FIELDS = ("full_path", "face_score", "second_face_score")
_SCORE_MIN = 1.0


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return ", ".join(f"{name}.mat" for name in _tables(folder))


def _tables(folder: Path) -> dict[str, Path]:
    found = {name: file_in(folder, f"{name}.mat", depth=3) for name in _SETS}
    return {name: path for name, path in found.items() if path}


def recognises(folder: Path) -> bool:
    """A folder with one of the tables, or a folder of images that belongs to one."""
    return bool(_tables(folder)) or any((folder / f"{name}_crop").is_dir() for name in _SETS)


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images that pass the filter; see common.raw."""
    tables = _tables(folder)
    for name in _SETS:
        if name not in tables and (folder / f"{name}_crop").is_dir():
            raise UserError(
                f"{folder / f'{name}_crop'} lacks {name}.mat, which tells where faces are; unpack "
                "the owners' archive again."
            )
    columns = {name: _columns(path, name) for name, path in tables.items()}
    for name, (paths, *_) in columns.items():
        official = f"{_OFFICIAL_ROWS[name]:,}"
        counts[f"rows of {name}.mat, before the filter (official {official})"] = len(paths)
    return itertools.chain.from_iterable(
        _read(path, _SETS[name], columns[name]) for name, path in tables.items()
    )


def _columns(path: Path, name: str) -> list:
    """Return the columns of a table: names, scores and second scores of n images each."""
    try:
        columns = apart(_load, path, name)
        if len({len(column) for column in columns}) != 1:
            raise ValueError("its columns differ in length")
    except Exception as error:  # scipy raises nearly anything on damaged files
        raise UserError(
            f"{path} cannot be read as the table of {_SETS[name]} ({str(error)[:80]}); unpack the "
            "owners' archive again."
        ) from None
    return columns


def _load(path: Path, name: str) -> list:
    from scipy.io import loadmat  # here, because the import takes long and is rarely needed

    table = loadmat(path, variable_names=[name])[name][0, 0]
    return [table[field][0] for field in _FIELDS]


def _read(path: Path, dataset: str, columns: list) -> Iterator[Item | Skip]:
    place, seen = path.parent, set()
    for row, (name, score, second) in enumerate(zip(*columns, strict=True)):
        where = f"{path}#{row}"
        try:
            image = str(name[0])
            source = str(inside(place, image))
            score, second = float(score), float(second)
        except (IndexError, TypeError, ValueError, UserError):
            yield Skip(where, dataset, "not a row of the table", str(name)[:80])
            continue
        if not score >= _SCORE_MIN:
            detail = f"{score:.2f}" if math.isfinite(score) else "no face"
            yield Skip(source, dataset, "face_score below 1", detail, fault=False)
        elif not math.isnan(second):
            yield Skip(source, dataset, "a second face", f"{second:.1f}", fault=False)
        elif not os.path.isfile(source):
            yield Skip(where, dataset, "listed image is missing", image)
        elif image in seen:
            yield Skip(where, dataset, "image is in an earlier row", image)
        else:
            subject = os.path.basename(image).partition("_")[0]
            yield Item(source, prepared_name(image), dataset, subject=subject)
        seen.add(image)

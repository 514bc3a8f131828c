"""RAF-CE, compound expressions with action units (http://whdeng.cn/RAF/model4.html).

    RAFCE_emolabel.txt           `0001.jpg 5`
    RAFCE_partition.txt          `0001.jpg 0`      0 train, 1 test, 2 validation
    aligned/0001_aligned.jpg     also RAF-AU/aligned/aligned/

in the folder or one below it. Traps: labels count from 0 and in another order than RAF-DB's;
validation is 2, not 1; `original/` and the action units in RAFCE_AUlabel.txt (with dirty entries)
are not read. Photographs are shared with RAF-DB: near-duplicates lie across their splits. Persons
are unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import RAFCE14, parse_labels
from common.raw.layout import Item, Skip, entries, file_in, labelled, prepared_name, subfolder
from common.raw.lists import check_text, text_lines, whole_number
from common.script.files import UserError

ALIGNED = True

_DATASET = "RAF-CE"
_LABELS, _PARTITION = "RAFCE_emolabel.txt", "RAFCE_partition.txt"
_SPLITS = {0: "train", 1: "test", 2: "val"}

OFFICIAL = {_DATASET: {"train": 2709, "test": 909, "val": 931}}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "owners' lists"


def recognises(folder: Path) -> bool:
    """A folder with one of the two lists, or one named RAF-CE."""
    named = folder.name.lower().replace("-", "") == "rafce"
    return named or file_in(folder, _LABELS, _PARTITION, depth=2) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the listed images; see common.raw."""
    lists = [file_in(folder, name, depth=2) for name in (_LABELS, _PARTITION)]
    images = subfolder(folder, "aligned", depth=3)
    images = images and (subfolder(images, "aligned") or images)
    for found, name in zip((*lists, images), (_LABELS, _PARTITION, "aligned/"), strict=True):
        if found is None:
            raise UserError(
                f"{_DATASET} in {folder} lacks {name}; unpack it as its owners ship it."
            )
    check_text(*lists)
    return _read(*lists, images)


def _pairs(listing: Path) -> Iterator[tuple[int, str, int | None]]:
    """Yield (line number, image without ending, number) of a list; None for a bad line."""
    for number, line in text_lines(listing):
        fields = line.split()
        value = whole_number(fields[1]) if len(fields) == 2 else None
        yield number, Path(fields[0]).stem if value is not None else line[:80], value


def _read(listing: Path, partition: Path, images: Path) -> Iterator[Item | Skip]:
    parts: dict[str, int] = {}
    for number, stem, part in _pairs(partition):
        if part not in _SPLITS:
            yield Skip(f"{partition}:{number}", _DATASET, "not a line `name 0|1|2`", stem)
        else:
            parts[stem] = part
    found = {Path(e.name).stem.removesuffix("_aligned"): e for e in entries(images) if e.is_file()}
    listed = set()
    for number, stem, label in _pairs(listing):
        where = f"{listing}:{number}"
        if label is None or not 0 <= label < len(RAFCE14):
            yield Skip(where, _DATASET, "not a line `name 0..13`", f"{stem} {label}")
        elif stem not in found:
            yield Skip(where, _DATASET, "listed image is missing", stem)
        elif stem in listed:
            yield Skip(where, _DATASET, "image is in an earlier line", stem)
        elif stem not in parts:
            yield Skip(found[stem].path, _DATASET, f"not in {_PARTITION}")
        else:
            entry, split = found[stem], _SPLITS[parts[stem]]
            names = parse_labels(RAFCE14[label])
            name = prepared_name(entry.name)
            yield Item(entry.path, name, _DATASET, split, **labelled(names))
        listed.add(stem)
    for stem, entry in found.items():
        if stem not in listed:
            yield Skip(entry.path, _DATASET, "not in the list of labels")

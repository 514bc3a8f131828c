"""RAF-DB, basic and compound (Li, Deng & Du 2017, http://www.whdeng.cn/RAF/model1.html).

As its owners ship it:
    basic/EmoLabel/list_patition_label.txt        `train_00001.jpg 5` (the owners' spelling)
    basic/Image/aligned/train_00001_aligned.jpg   100 x 100 pixels; also aligned/aligned/
    compound/...                                  the same tree with labels 1..11
Also either part alone without its level (`EmoLabel/`, `Image/`), and the folders, one a class, that
common.raw.rafdb_folders reads.

Traps: labels count from 1; file names of the two parts collide (each is a data set of its own
here); without its level, a part is the compound one if a label is above 7 or the folder is named
so; only the aligned images are read, `Image/original` is not; the split is the name's prefix.
Persons are unknown.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import RAF11, parse_labels
from common.raw import rafdb_folders
from common.raw.layout import (
    Item,
    Skip,
    entries,
    file_in,
    labelled,
    look,
    prepared_name,
    subfolder,
    unwrapped,
)
from common.raw.lists import check_text, text_lines, whole_number
from common.raw.trees import is_named
from common.script.files import UserError

ALIGNED = True

_BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
_PARTS = {"basic": ("RAF-DB-basic", _BASIC), "compound": ("RAF-DB-compound", RAF11)}
_FOLDERS_TRIED = 10
_LIST = "list_patition_label.txt"

OFFICIAL = {
    "RAF-DB-basic": {
        "train": dict(zip(_BASIC, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
        "test": dict(zip(_BASIC, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
    },
    "RAF-DB-compound": {"train": 3162, "test": 792},
}


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return ", ".join(sorted({layout for layout, *_ in _places(folder)}))


def recognises(folder: Path) -> bool:
    """A folder with RAF-DB in one of its layouts, or one named RAF-DB."""
    return folder.name.lower().replace("-", "") == "rafdb" or bool(_places(folder))


def _places(folder: Path) -> list[tuple[str, list[Path], str, tuple[str, ...]]]:
    """Return (layout, folders, data set, names of classes) for each part that is there."""
    named, inner = is_named(folder, "rafdb"), unwrapped(folder)
    below = [Path(entry.path) for entry in look(folder)[:_FOLDERS_TRIED] if entry.is_dir()]
    tries = (_places_in(place, named) for place in (folder, *below, unwrapped(inner)))
    return next(filter(None, tries), [])


def _places_in(folder: Path, named: bool) -> list[tuple[str, list[Path], str, tuple[str, ...]]]:
    places = []
    for part, names in _PARTS.items():
        place = subfolder(folder, part)
        if place and _has_owners_lists(place):
            places.append(("owners' lists", [place], *names))
        elif place and (found := rafdb_folders.class_places(place, names[1])):
            places.append(("class folders", found, *names))
    if _has_owners_lists(folder):
        places.append(("owners' lists", [folder], *_PARTS[_part_of(folder)]))
    # Mirrors have the basic part alone; the owners' compound part may lie beside it.
    for place in filter(None, (folder, subfolder(folder, "basic"))):
        mirror = subfolder(place, "DATASET") or place
        basic = any(dataset == _PARTS["basic"][0] for _, _, dataset, _ in places)
        found = [] if basic else rafdb_folders.number_places(mirror, _BASIC, by_name=not named)
        if found:
            places.append(("numbered folders", found, *_PARTS["basic"]))
    for names in _PARTS.values():
        if not places and (found := rafdb_folders.class_places(folder, names[1])):
            places.append(("class folders", found, *names))
    return places


def _has_owners_lists(place: Path) -> bool:
    labels = subfolder(place, "EmoLabel")
    return bool(labels) and bool(file_in(labels, _LIST) or subfolder(place, "Image"))


def _part_of(place: Path) -> str:
    """Say which part lies in a folder that does not say it."""
    listing = place / "EmoLabel" / _LIST
    if "compound" in place.name.lower() or not listing.is_file():
        return "compound" if "compound" in place.name.lower() else "basic"
    labels = (whole_number(line.split()[-1]) or 0 for _, line in text_lines(listing))
    return "compound" if max(labels, default=0) > len(_BASIC) else "basic"


def _stem(name: str) -> str:
    return Path(name).stem.removesuffix("_aligned")


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images of both parts; see common.raw."""
    places = _places(folder)
    if not places:
        raise UserError(
            f"RAF-DB in {folder} has neither basic/ nor compound/ with EmoLabel and Image, nor "
            "class folders; unpack it as its owners ship it."
        )
    streams = []
    for layout, found, dataset, classes in places:
        if layout == "class folders":
            streams.append(rafdb_folders.read_classes(found, dataset, classes))
            continue
        if layout == "numbered folders":
            lists = {place: rafdb_folders.labels_list(place) for place in found}
            streams.append(rafdb_folders.read_numbers(lists, dataset, classes))
            continue
        listing, images = found[0] / "EmoLabel" / _LIST, found[0] / "Image" / "aligned"
        if not listing.is_file():
            raise UserError(
                f"{dataset} lacks its labels {listing}; unpack the owners' EmoLabel folder there."
            )
        if not images.is_dir():
            raise UserError(
                f"{dataset} lacks its images {images}; unpack the owners' aligned.zip there."
            )
        check_text(listing)
        streams.append(
            _read_lists(listing, subfolder(images, "aligned") or images, dataset, classes)
        )
    return itertools.chain.from_iterable(streams)


def _read_lists(
    listing: Path, images: Path, dataset: str, classes: tuple[str, ...]
) -> Iterator[Item | Skip]:
    # `train_00001` -> the file, whether it is called train_00001_aligned.jpg or train_00001.jpg
    found = {_stem(e.name): e for e in entries(images) if e.is_file()}
    listed = set()
    for number, line in text_lines(listing):
        fields = line.split()
        label = whole_number(fields[1]) if len(fields) == 2 else None
        if label is None:
            yield Skip(f"{listing}:{number}", dataset, "not a line `name label`", line[:80])
            continue
        stem = _stem(fields[0])
        entry = found.get(stem)
        if entry is None:
            yield Skip(f"{listing}:{number}", dataset, "listed image is missing", fields[0])
        elif stem in listed:
            yield Skip(f"{listing}:{number}", dataset, "image is in an earlier line", fields[0])
        elif not 1 <= label <= len(classes):
            detail = f"{label} (known: 1 to {len(classes)})"
            yield Skip(entry.path, dataset, "unknown label", detail)
        elif not (split := rafdb_folders.owners_split(stem)):
            yield Skip(entry.path, dataset, "its name starts neither with train_ nor test_")
        else:
            name, labels = prepared_name(entry.name), parse_labels(classes[label - 1])
            yield Item(entry.path, name, dataset, split, **labelled(labels))
        listed.add(stem)
    for stem, entry in found.items():
        if stem not in listed:
            yield Skip(entry.path, dataset, "not in the list of labels")

"""RAF-DB in folders, one a class: for common.raw.rafdb, which says what the data set is.

In class folders, of either part (the compound part is passed on like this), also below splits:
    compound/Angrily Surprised/train_0001.jpg
    {train,test}/happy/train_00001_aligned.jpg
Numbered, as mirrors of the basic part at Kaggle have it:
    DATASET/{train,test}/{1..7}/train_00001_aligned.jpg, {train,test}_labels.csv   image,label
    {train,valid}/{1..7}/...      {train_set,val_set}/{1..7}/...

Traps: the name of an image starts with its owners' split; a folder `valid` may hold images of
either, none of which are trained on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from common.emotions import parse_labels
from common.raw import trees
from common.raw.layout import (
    Item,
    Skip,
    are_mostly,
    entries,
    file_in,
    file_names,
    labelled,
    look,
    prepared_name,
)
from common.raw.lists import table_rows, whole_number

_CLASSES_MAX = 20


def owners_split(name: str) -> str:
    """Return the split that the name of an image starts with, or ``."""
    split = name.partition("_")[0].lower()
    return split if split in ("train", "test") else ""


def _split_places(place: Path) -> list[Path]:
    """Return the folders of splits in a folder."""
    return [Path(e.path) for e in look(place) if e.is_dir() and trees.split_of(e.name)]


def _labels_of(name: str) -> tuple[str, ...]:
    try:
        return parse_labels(name)
    except ValueError:
        return ()


def class_places(place: Path, classes: tuple[str, ...]) -> list[Path]:
    """Return where folders named after these classes hold images named after owners' splits."""
    known = {parse_labels(name) for name in classes}
    found = []
    for path in (place, *_split_places(place)):
        some = look(path)
        if len(some) <= _CLASSES_MAX and any(
            _labels_of(entry.name) in known
            and are_mostly(file_names(Path(entry.path)), owners_split)
            for entry in some
            if entry.is_dir()
        ):
            found.append(path)
    return found


def number_places(place: Path, classes: tuple[str, ...], by_name: bool) -> list[Path]:
    """Return the folders of splits whose folders are numbered as these classes.

    by_name: only where images are named after owners' splits.
    """
    found = []
    for path in _split_places(place):
        if (path / "0").is_dir():  # which RAF-DB has not
            continue
        like = owners_split if by_name else bool
        inner = (path / str(number) for number in range(1, len(classes) + 1))
        if any(are_mostly(file_names(one), like) for one in inner):
            found.append(path)
    return found


def read_classes(
    places: list[Path], dataset: str, classes: tuple[str, ...]
) -> Iterator[Item | Skip]:
    """Yield the images of class folders by name."""
    known = {parse_labels(name) for name in classes}
    seen: dict[str, str] = {}
    for place in places:
        for folder in entries(place):
            if not folder.is_dir() or Path(folder.path) in places:
                continue
            labels = _labels_of(folder.name)
            if labels not in known:
                yield Skip(folder.path, dataset, "folder is not named after a class", folder.name)
                continue
            for entry in entries(Path(folder.path)):
                split = _split(entry.name, place)
                if not split:
                    reason = "its name starts neither with train_ nor test_"
                    yield Skip(entry.path, dataset, reason)
                elif entry.name in seen:
                    other = seen[entry.name]
                    yield Skip(entry.path, dataset, "image lies in two class folders", other)
                else:
                    seen[entry.name] = folder.name
                    yield _item(entry.path, dataset, split, labels)


def _split(name: str, place: Path) -> str:
    """Return the split of an image in a class folder of a place, "" if it cannot be known."""
    by_name, by_folder = owners_split(name), trees.split_of(place.name)
    if by_folder == "train" and by_name == "test":
        return ""
    return by_folder if by_folder == "val" and by_name != "test" else by_name


def labels_list(place: Path) -> tuple[Path | None, Iterator]:
    """Return the mirror's list of a split, and its rows; None and no rows where there is none."""
    name = f"{place.name}_labels.csv"
    above = place.parent.parent if place.parent.name.lower() == "dataset" else place.parent
    listing = file_in(place.parent, name) or file_in(above, name)
    return listing, table_rows(listing, ("image", "label")) if listing else iter(())


def read_numbers(lists: dict, dataset: str, classes: tuple[str, ...]) -> Iterator[Item | Skip]:
    """Yield the images of numbered folders. lists: labels_list of the folder of each split."""
    for place, (listing, rows) in lists.items():
        listed = {row["image"]: (number, whole_number(row["label"])) for number, row in rows}
        for number, name in enumerate(classes, 1):
            folder = place / str(number)
            for entry in entries(folder) if folder.is_dir() else ():
                line, label = listed.pop(entry.name, (0, None))
                split = _split(entry.name, place)
                if not owners_split(entry.name):  # renamed: the folder alone tells
                    split = trees.split_of(place.name)
                if listing and (not line or label != number):
                    detail = f"folder {number}, {listing.name}: {label if line else 'absent'}"
                    yield Skip(entry.path, dataset, "folder and list give other labels", detail)
                elif not split or (split == "train" and trees.split_of(place.name) != "train"):
                    yield Skip(entry.path, dataset, "its name does not start with its split")
                else:
                    yield _item(entry.path, dataset, split, parse_labels(name), place)
        for image, (line, _) in listed.items():
            yield Skip(f"{listing}:{line}", dataset, "listed image is missing", image[:200])


def _item(
    path: str, dataset: str, split: str, labels: tuple[str, ...], place: Path | None = None
) -> Item:
    name = os.path.basename(path)
    if place and not owners_split(name):  # 1.jpg may lie in each class of each split
        name = os.path.relpath(path, place.parent)
    return Item(path, prepared_name(name), dataset, split, **labelled(labels))

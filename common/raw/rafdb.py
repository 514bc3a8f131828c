"""RAF-DB, basic and compound (Li, Deng & Du 2017, http://www.whdeng.cn/RAF/model1.html).

As its owners ship it:
    basic/EmoLabel/list_patition_label.txt        `train_00001.jpg 5` (the owners' spelling)
    basic/Image/aligned/train_00001_aligned.jpg   100 x 100 pixels
    compound/...                                  the same tree with labels 1..11
In class folders, of either part (the compound part is passed on like this):
    compound/Angrily Surprised/train_0001.jpg
The mirror at Kaggle, of the basic part:
    DATASET/{train,test}/{1..7}/*_aligned.jpg, {train,test}_labels.csv   columns image,label

Traps: labels count from 1; file names of the two parts collide (each is a data set of its own
here); only the aligned images are read, `Image/original` is not; the split is the name's prefix.
Persons are unknown.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import RAF11, parse_labels
from common.raw.layout import (
    Item,
    Skip,
    entries,
    file_in,
    first_image,
    labelled,
    look,
    prepared_name,
    subfolder,
    unwrapped,
)
from common.raw.lists import check_text, table_rows, text_lines, whole_number
from common.script.files import UserError

ALIGNED = True

_BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
_PARTS = {"basic": ("RAF-DB-basic", _BASIC), "compound": ("RAF-DB-compound", RAF11)}
_LIST = "list_patition_label.txt"
_SPLITS = ("train", "test")

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


def _places(folder: Path) -> list[tuple[str, Path, str, tuple[str, ...]]]:
    """Return (layout, folder, data set, names of classes) for each part that is there."""
    return _places_in(folder) or _places_in(unwrapped(folder))


def _places_in(folder: Path) -> list[tuple[str, Path, str, tuple[str, ...]]]:
    places = []
    for part, names in _PARTS.items():
        place = subfolder(folder, part)
        if place and (subfolder(place, "EmoLabel") or subfolder(place, "Image")):
            places.append(("owners' lists", place, *names))
        elif place and _class_folders(place, names[1]):
            places.append(("class folders", place, *names))
    # The mirror has the basic part alone; the owners' compound part may lie beside it.
    for place in filter(None, (folder, subfolder(folder, "basic"))):
        mirror = subfolder(place, "DATASET") or place
        basic = any(dataset == _PARTS["basic"][0] for _, _, dataset, _ in places)
        if not basic and any(_numbered(mirror, split) for split in _SPLITS):
            places.append(("Kaggle mirror", mirror, *_PARTS["basic"]))
    for names in _PARTS.values():
        if not places and _class_folders(folder, names[1]):
            places.append(("class folders", folder, *names))
    return places


def _class_folders(place: Path, classes: tuple[str, ...]) -> bool:
    """Say whether folders named after classes hold images named after splits."""
    known = {parse_labels(name) for name in classes}
    found = look(place)
    return len(found) <= 20 and any(
        _labels_of(entry.name) in known and _split_of(first_image(Path(entry.path)) or "")
        for entry in found
        if entry.is_dir()
    )


def _numbered(mirror: Path, split: str) -> dict[Path, str]:
    """Return the mirror's folders 1 to 7 of a split, with the names of their classes."""
    place = subfolder(mirror, split)
    folders = {place / str(n): name for n, name in enumerate(_BASIC, 1)} if place else {}
    found = {path: name for path, name in folders.items() if path.is_dir()}
    images = (first_image(path) for path in found)
    return found if any(image and _split_of(image) for image in images) else {}


def _labels_of(name: str) -> tuple[str, ...]:
    try:
        return parse_labels(name)
    except ValueError:
        return ()


def _split_of(name: str) -> str:
    """Return the split that the name of an image starts with, or ``."""
    split = name.partition("_")[0].lower()
    return split if split in _SPLITS else ""


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
    for layout, place, dataset, classes in places:
        if layout == "class folders":
            streams.append(_read_class_folders(place, dataset, classes))
        elif layout == "Kaggle mirror":
            lists = {split: _mirror_list(place, split) for split in _SPLITS}
            streams.append(_read_mirror(place, lists, dataset))
        else:
            listing, images = place / "EmoLabel" / _LIST, place / "Image" / "aligned"
            if not listing.is_file():
                raise UserError(
                    f"{dataset} lacks its labels {listing}; unpack the owners' EmoLabel folder "
                    "there."
                )
            if not images.is_dir():
                raise UserError(
                    f"{dataset} lacks its images {images}; unpack the owners' aligned.zip there."
                )
            check_text(listing)
            streams.append(_read_lists(listing, images, dataset, classes))
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
            yield Skip(f"{listing}:{number}", dataset, "image stands in an earlier line", fields[0])
        elif not 1 <= label <= len(classes):
            detail = f"{label} (known: 1 to {len(classes)})"
            yield Skip(entry.path, dataset, "unknown label", detail)
        elif not (split := _split_of(stem)):
            yield Skip(entry.path, dataset, "its name starts neither with train_ nor test_")
        else:
            yield _item(entry.path, dataset, split, parse_labels(classes[label - 1]))
        listed.add(stem)
    for stem, entry in found.items():
        if stem not in listed:
            yield Skip(entry.path, dataset, "not in the list of labels")


def _read_class_folders(
    place: Path, dataset: str, classes: tuple[str, ...]
) -> Iterator[Item | Skip]:
    known = {parse_labels(name) for name in classes}
    seen: dict[str, str] = {}
    for folder in entries(place):
        if not folder.is_dir():
            continue
        labels = _labels_of(folder.name)
        if labels not in known:
            yield Skip(folder.path, dataset, "folder is not named after a class", folder.name)
            continue
        for entry in entries(Path(folder.path)):
            split = _split_of(entry.name)
            if not split:
                yield Skip(entry.path, dataset, "its name starts neither with train_ nor test_")
            elif entry.name in seen:
                yield Skip(entry.path, dataset, "image lies in two class folders", seen[entry.name])
            else:
                seen[entry.name] = folder.name
                yield _item(entry.path, dataset, split, labels)


def _mirror_list(mirror: Path, split: str) -> tuple[Path | None, Iterator]:
    """Return the mirror's list of a split, and its rows; None and no rows where there is none."""
    places = (mirror, mirror.parent) if mirror.name.lower() == "dataset" else (mirror,)
    found = (file_in(place, f"{split}_labels.csv") for place in places)
    listing = next(filter(None, found), None)
    return listing, table_rows(listing, ("image", "label")) if listing else iter(())


def _read_mirror(mirror: Path, lists: dict, dataset: str) -> Iterator[Item | Skip]:
    for split, (listing, rows) in lists.items():
        listed = {row["image"]: (number, whole_number(row["label"])) for number, row in rows}
        for path, name in _numbered(mirror, split).items():
            for entry in entries(path):
                line, label = listed.pop(entry.name, (0, None))
                if listing and (not line or label != int(path.name)):
                    detail = f"folder {path.name}, {listing.name}: {label if line else 'absent'}"
                    yield Skip(entry.path, dataset, "folder and list give other labels", detail)
                elif _split_of(entry.name) != split:
                    yield Skip(entry.path, dataset, "its name does not start with its split")
                else:
                    yield _item(entry.path, dataset, split, parse_labels(name))
        for image, (line, _) in listed.items():
            yield Skip(f"{listing}:{line}", dataset, "listed image is missing", image[:200])


def _item(path: str, dataset: str, split: str, labels: tuple[str, ...]) -> Item:
    return Item(path, prepared_name(Path(path).name), dataset, split, **labelled(labels))

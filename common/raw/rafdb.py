"""RAF-DB, basic and compound (Li, Deng & Du 2017, http://www.whdeld.com/RAF/model1.html).

    basic/EmoLabel/list_patition_label.txt      `train_00001.jpg 5` (the owners' spelling)
    basic/Image/aligned/train_00001_aligned.jpg 100 x 100 pixels
    compound/...                                the same tree with labels 1..11

Traps: labels count from 1; file names of the two parts collide (each is a data set of its own
here); only the aligned images are read, `Image/original` is not; the split is the name's prefix.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import RAF11, parse_labels
from common.files import UserError
from common.raw.layout import Item, Skip, entries, labelled, prepared_name, subfolder, text_lines

ALIGNED = True

_BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
_PARTS = {"basic": ("RAF-DB-basic", _BASIC), "compound": ("RAF-DB-compound", RAF11)}
_LIST = "list_patition_label.txt"

OFFICIAL = {
    "RAF-DB-basic": {
        "train": dict(zip(_BASIC, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
        "test": dict(zip(_BASIC, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
    },
    "RAF-DB-compound": {"train": 3162, "test": 792},
}


def recognises(folder: Path) -> bool:
    """A folder with basic/ or compound/ that hold EmoLabel or Image, or one named RAF-DB."""
    parts = [subfolder(folder, part) for part in _PARTS]
    return folder.name.lower().replace("-", "") == "rafdb" or any(
        part and (subfolder(part, "EmoLabel") or subfolder(part, "Image")) for part in parts
    )


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images of both parts; see common.raw."""
    parts = {part: subfolder(folder, part) for part in _PARTS}
    if not any(parts.values()):
        raise UserError(
            f"RAF-DB in {folder} has neither basic/ nor compound/; unpack it as its owners ship it."
        )
    places = [
        (place / "EmoLabel" / _LIST, place / "Image" / "aligned", *_PARTS[part])
        for part, place in parts.items()
        if place
    ]
    for listing, images, dataset, _ in places:
        if not listing.is_file():
            raise UserError(
                f"{dataset} lacks its labels {listing}; unpack the owners' EmoLabel folder there."
            )
        if not images.is_dir():
            raise UserError(
                f"{dataset} lacks its images {images}; unpack the owners' aligned.zip there."
            )
    return itertools.chain.from_iterable(_read_part(*place) for place in places)


def _read_part(
    listing: Path, images: Path, dataset: str, classes: tuple[str, ...]
) -> Iterator[Item | Skip]:
    # `train_00001` -> the file, whether it is called train_00001_aligned.jpg or train_00001.jpg
    found = {Path(e.name).stem.removesuffix("_aligned"): e for e in entries(images) if e.is_file()}
    for number, line in text_lines(listing):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdigit():
            yield Skip(f"{listing}:{number}", dataset, "not a line `name label`", line[:80])
            continue
        stem = Path(fields[0]).stem.removesuffix("_aligned")
        split = stem.partition("_")[0].lower()
        entry = found.pop(stem, None)
        if entry is None:
            yield Skip(f"{listing}:{number}", dataset, "listed image is missing", fields[0])
        elif not 1 <= int(fields[1]) <= len(classes):
            detail = f"{fields[1]} (known: 1 to {len(classes)})"
            yield Skip(entry.path, dataset, "unknown label", detail)
        elif split not in ("train", "test"):
            yield Skip(entry.path, dataset, "its name starts neither with train_ nor test_")
        else:
            names = parse_labels(classes[int(fields[1]) - 1])
            name = prepared_name(entry.name)
            yield Item(entry.path, name, dataset, split, **labelled(names))
    for entry in found.values():
        yield Skip(entry.path, dataset, "not in the list of labels")

"""CelebA, faces of celebrities (Liu, Luo, Wang & Tang 2015, Chinese University of Hong Kong).

    img_align_celeba/000001.jpg      178 x 218 pixels, up to two levels down
    list_eval_partition.txt          `000001.jpg 0`       0 train, 1 validation, 2 test
    identity_CelebA.txt              `000001.jpg 2880`    given on request; the subject

The mirror at Kaggle has img_align_celeba/img_align_celeba/, and list_eval_partition.csv with the
header image_id,partition. Read without labels: the 40 attributes are no expressions. Traps: without
identities the splits still share no person, but folds of the rest may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    file_in,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import check_text, text_lines, whole_number
from common.script.files import UserError

ALIGNED = False

_DATASET = "CelebA"
_SPLITS = {0: "train", 1: "val", 2: "test"}
_PARTITION = "list_eval_partition"
_IMAGES = "img_align_celeba"

OFFICIAL = {_DATASET: {"train": 162_770, "val": 19_867, "test": 19_962}}  # 202,599 in all


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    found = _partition(folder)
    return "Kaggle mirror" if found and found.suffix == ".csv" else "owners' lists"


def _partition(folder: Path) -> Path | None:
    return file_in(folder, f"{_PARTITION}.txt", f"{_PARTITION}.csv", depth=2)


def recognises(folder: Path) -> bool:
    """A folder with the partition or the aligned images."""
    return _partition(folder) is not None or subfolder(folder, _IMAGES, depth=2) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the listed images; see common.raw."""
    partition, images = _partition(folder), subfolder(folder, _IMAGES, depth=2)
    if partition is None:
        raise UserError(
            f"{_DATASET} in {folder} lacks {_PARTITION}.txt; add it, or its test images would be "
            "trained on."
        )
    if images is None:
        raise UserError(f"{_DATASET} in {folder} lacks {_IMAGES}/; unpack the owners' archive.")
    identities = file_in(folder, "identity_CelebA.txt", depth=2)
    if identities is None:
        counts["identity_CelebA.txt is missing: persons are unknown"] = 1
    check_text(partition, identities)
    return _read(partition, identities, images)


def _pairs(listing: Path | None) -> Iterator[tuple[int, str, int | None]]:
    """Yield (line number, image, number) of a list; None for a bad line."""
    for number, line in text_lines(listing) if listing else ():
        fields = line.replace(",", " ").split()
        value = whole_number(fields[1]) if len(fields) == 2 else None
        if number > 1 or value is not None:  # line 1 may be a header
            yield number, fields[0] if value is not None else line[:80], value


def _read(partition: Path, identities: Path | None, images: Path) -> Iterator[Item | Skip]:
    persons: dict[str, int] = {}
    for number, image, person in _pairs(identities):
        if person is None:
            yield Skip(f"{identities}:{number}", _DATASET, "not a line `name identity`", image)
        else:
            persons[image] = person
    splits: dict[str, tuple[int, int]] = {}
    for number, image, split in _pairs(partition):
        if split not in _SPLITS:
            yield Skip(f"{partition}:{number}", _DATASET, "not a line `name 0|1|2`", image)
        else:
            splits[image] = split, number
    for path in walk_files(images, IMAGE_SUFFIXES):
        image = Path(path).name
        split, _ = splits.pop(image, (None, 0))
        if split is None:
            yield Skip(path, _DATASET, f"not in {partition.name}")
            continue
        subject = str(persons[image]) if image in persons else ""
        yield Item(path, prepared_name(image), _DATASET, _SPLITS[split], subject=subject)
    for image, (_, number) in splits.items():
        yield Skip(f"{partition}:{number}", _DATASET, "listed image is missing", image)

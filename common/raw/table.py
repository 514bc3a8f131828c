"""Any labelled folder: `labels.csv` with the columns image and label beside its images.

Optional columns: split (train, val, test), subject, kind (unlabelled, single, compound). Labels
are names in any case and many spellings (`happy`, `SADNESS`, `Sadly Angry`, `fear+surprise`).
Other columns are not read, and counted.
Images are looked up beside labels.csv and in images/; see common.raw.matching for names that are
not quite theirs. Where a row has no split, the folders above the image give it (`val/a.jpg`); a row
that puts an image of a folder `val` or `test` into train is left out. Where no row has a subject,
persons are guessed from names as in Labeled Faces in the Wild, Aaron_Guiel_0001.jpg, if the names
look so: a person must never be on both sides of a split. Tables that name videos are read by
common.raw.table_clips.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw import affectnet_folders, trees
from common.raw.clips import frames_of
from common.raw.layout import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Item,
    Skip,
    file_in,
    is_expression,
    labelled,
    prepared_name,
    unwrapped,
)
from common.raw.lists import table_rows, unread_columns, written_labels
from common.raw.matching import Files
from common.script.files import UserError, inside

ALIGNED = False

_NEEDED = ("image", "label")
_OPTIONAL = ("split", "subject", "kind", "begin", "end")
_OTHERS = ("other", "others")  # a class of Fuxi-EXPR's; the image is kept without a label
_ROWS_TRIED = 1000
_PERSONS_MIN = 20  # fewer names are rather those of cameras, parts or expressions
_PERSON_SHARE_MAX = 0.1  # of all images; img_0001.jpg, img_0002.jpg, ... are not one person's


def table_of(folder: Path) -> Path | None:
    """Return the table in a folder or in the only folder in it, or None."""
    return file_in(folder, "labels.csv") or file_in(unwrapped(folder), "labels.csv")


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "labels.csv"


def recognises(folder: Path) -> bool:
    """A folder with a file labels.csv of images, unless it is AffectNet's."""
    table = table_of(folder)
    return table is not None and not affectnet_folders.recognises(folder) and not has_clips(table)


def has_clips(table: Path) -> bool:
    """Say whether the first rows of a table name a video."""
    try:
        return any(is_clip(row["image"]) for _, row in itertools.islice(_rows(table), _ROWS_TRIED))
    except UserError:  # read() complains
        return False


def is_clip(name: str) -> bool:
    """Say whether a name is that of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the rows of the table; see common.raw. Raises UserError if no label is known."""
    path = table_of(folder)
    rows = _rows(path)
    _check_labels(path)
    unread_columns(path, (*_NEEDED, *_OPTIONAL), counts)
    persons = _persons(path)
    if persons:
        counts["different persons guessed from file names"] = len(persons)
    return _read_rows(folder.name, path, rows, persons, counts)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    return table_rows(path, _NEEDED, _OPTIONAL)


def _check_labels(path: Path) -> None:
    """Raise UserError where none of the first labels is known."""
    first = None
    for number, row in itertools.islice(_rows(path), _ROWS_TRIED):
        try:
            written_labels(row["label"])
            return
        except ValueError as error:
            if not row["label"] and row["kind"].lower() == "unlabelled":
                return
            if row["label"].lower() in _OTHERS:
                return
            first = first or (number, str(error))
    if first is None:
        raise UserError(f"{path} has no rows; add a row for each image, such as a.jpg,happiness.")
    number, error = first
    raise UserError(
        f"No label is known in {path}, line {number}: {error}; labels are names, such as "
        "happiness, Sadly Angry or fear+surprise."
    )


def _persons(path: Path) -> frozenset[str]:
    """Return the persons that the file names of a table tell, none where they tell no persons."""
    images: Counter = Counter()
    for _, row in _rows(path):
        if row["subject"]:
            return frozenset()
        images[_person_of(row["image"])] += 1
    total = images.total()
    if len(images) < _PERSONS_MIN or len(images) == total:
        return frozenset()
    if max(images.values()) > _PERSON_SHARE_MAX * total or any(map(is_expression, images)):
        return frozenset()
    return frozenset(images)


def _person_of(image: str) -> str:
    return re.sub(r"_\d+$", "", Path(image).stem)


def _read_rows(
    dataset: str,
    path: Path,
    rows: Iterator[tuple[int, dict[str, str]]],
    persons: frozenset[str],
    counts: Counter,
) -> Iterator[Item | Skip]:
    folder = path.parent
    images, clips = Files(folder, IMAGE_SUFFIXES), Files(folder, VIDEO_SUFFIXES)
    sources: dict[str, str] = {}  # by prepared name
    for number, row in rows:
        where = f"{path}:{number}"
        files = clips if is_clip(row["image"]) else images
        source = _find(folder, row["image"]) or files.find(row["image"], counts)
        if source is None:
            yield Skip(where, dataset, "image is not in the folder", row["image"][:200])
            continue
        other = row["label"].lower() in _OTHERS
        try:
            if other or (row["kind"].lower() == "unlabelled" and not row["label"]):
                fields = labelled(())
            else:
                fields = labelled(written_labels(row["label"]))
        except ValueError as error:
            yield Skip(where, dataset, "unknown label", str(error), file=source)
            continue
        if row["kind"] and row["kind"].lower() != fields["kind"] and not other:
            detail = f"{row['kind']!r} and {row['label']!r}"
            yield Skip(where, dataset, "kind does not fit the label", detail, file=source)
            continue
        split = trees.SPLITS.get(row["split"].lower(), "")
        if row["split"] and not split:
            yield Skip(
                where, dataset, "unknown split (train, val, test)", row["split"], file=source
            )
            continue
        relative = os.path.relpath(source, folder).removeprefix("images" + os.sep)
        below = trees.split_of_path(tuple(relative.split(os.sep)[:-1]))
        if split == "train" and below not in ("", "train"):
            reason = f"split train, but its folder says {below}"
            yield Skip(where, dataset, reason, row["image"], file=source)
            continue
        name = prepared_name(relative)
        if is_clip(source):
            clip = Item(source, name, dataset, split or below, subject=row["subject"], **fields)
            yield from _frames(clip, row, where, sources)
            continue
        if row["begin"] or row["end"]:
            counts["begin or end of an image, which only a video has: not read"] += 1
        if name in sources:
            twin = sources[name] != source  # as are a.jpg and images/a.jpg
            reason = "same prepared name as another" if twin else "image is in an earlier line"
            yield Skip(where, dataset, reason, row["image"], file=source)
            continue
        sources[name] = source
        guessed = _person_of(source)
        subject = row["subject"] or (guessed if guessed in persons else "")
        yield Item(source, name, dataset, split or below, subject=subject, **fields)


def _frames(
    clip: Item, row: dict[str, str], where: str, sources: dict[str, str]
) -> Iterator[Item | Skip]:
    """Yield the frames of a clip, or of its part from begin to end."""
    begin_s, end_s = _seconds(row["begin"] or "0"), _seconds(row["end"] or "inf")
    if begin_s is None or end_s is None or not begin_s < end_s:
        detail = f"begin {row['begin']!r}, end {row['end']!r}"[:80]
        yield Skip(where, clip.dataset, "no time in seconds or as 00:00:08.5", detail)
        return
    stem = clip.name.removesuffix(".jpg")
    whole = not row["begin"] and not row["end"]
    name = stem if whole else f"{stem}/{begin_s:.3f}-{end_s:.3f}"
    if name in sources:
        yield Skip(where, clip.dataset, "clip is in an earlier line", row["image"])
        return
    sources[name] = clip.path
    yield from frames_of(clip._replace(name=name, subject=clip.subject or stem), begin_s, end_s)


def _seconds(text: str) -> float | None:
    """Read a time in seconds, or in hours, minutes and seconds with colons; None for another."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        return None
    seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    return seconds if min(parts) >= 0 and len(parts) <= 3 else None


def _find(folder: Path, image: str) -> str | None:
    try:
        places = [inside(folder, image), inside(folder / "images", image)]
    except UserError:
        return None
    return next((str(place) for place in places if os.path.isfile(place)), None)

"""Signs that a folder is labelled although no reader knows how.

Labels must not be lost without a word, and persons must not be taken for classes. A sign is
- folders named after expressions that common.raw.classes does not read: all after one (`happy`
  alone), or among others (`happy`, `sleepy`, `bored`); but one among persons may be called Joy;
- folders numbered from 0 or 1 on without a gap (`0` to `6`), at most 26, with images right in
  them, or in folders of splits there;
- folders of the same names, at most 26, with images right in them, in two splits (`train/triste`
  and `test/triste`);
- at most 26 folders with 50 images or more right in each: classes are few and large, persons many
  and small;
- a table beside the images with a column such as `label` or `emotion`, or a list whose name says
  so; a folder `labels` beside `images`;
- images, or videos below folders, with three or more expressions in their names.
Folders named like persons or parts are no classes: with three digits or more (`0000045`,
`n000002`), with two names (`Ann_Lee`), or numbered parts of one thing (`part_1`, `part_2`), nor are
folders that hold further folders (`0/0000045/`). Numbers with zeros before them are ids.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.emotions import parse_labels
from common.raw import trees
from common.raw.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, look, subfolder
from common.raw.lists import header_of, placed_lines
from common.raw.sheets import sheet_rows
from common.script.files import UserError, some

_MANY = 50  # images of a class, at the least
_LOOK = 10_000  # entries of a folder: a folder among many images may be listed late
_COLUMNS = frozenset(
    ("label", "labels", "emotion", "emotions", "expression", "expressions", "class", "category")
)
_LIST_NAME = re.compile(r"(^|[^a-z])(labels?|emotions?|expressions?|annotations?)([^a-z]|$)")
_CLASS_WORDS = frozenset(("class", "label", "emotion", "expression", "category", "c"))


def refuse_labels(folder: Path, videos: bool) -> None:
    """Raise UserError where a folder of images, or of videos, has signs of labels."""
    found = next(_of_videos(folder) if videos else _of_images(folder), "")
    if found:
        raise UserError(
            f"{folder} has {found}, which may be labels, but no reader knows this form. Write a "
            "classes.csv (columns folder,label) or a labels.csv (columns image,label) in it, or go "
            f"on without labels with --unlabelled {folder.name!r}."
        )


def _of_images(folder: Path) -> Iterator[str]:
    """Yield what looks like labels of images, in words."""
    yield from _expression_folders(folder, IMAGE_SUFFIXES)
    for level in trees.number_levels(folder):
        names = sorted(level.classes, key=int)
        if _images_in(level.place, names):
            yield f"folders numbered {names[0]} to {names[-1]} in {level.place}"
    seen: dict[frozenset[str], Path] = {}
    for place, names in trees.walk_levels(folder):
        if not 2 <= len(names) <= trees.CLASSES_MAX or _are_persons(names):
            continue
        least = _images_in(place, names)
        if least and trees.split_of(place.name):
            other = seen.setdefault(frozenset(names), place)
            if other != place:
                yield f"the same folders, {some(sorted(names))}, in {other.name} and {place.name}"
        if least >= _MANY:
            yield f"few folders of many images, {some(sorted(names))}, in {place}"
    yield from _tables(folder)
    for place in _places(folder):
        if subfolder(place, "labels") and subfolder(place, "images"):
            yield f"a folder labels beside images in {place}"
        if names := _named_after_expressions(place, IMAGE_SUFFIXES):
            yield f"images named after expressions, such as {names[0]}, in {place}"


def _of_videos(folder: Path) -> Iterator[str]:
    """Yield what looks like labels of videos, in words."""
    for found in _expression_folders(folder, VIDEO_SUFFIXES):
        yield f"videos in {found}"
    for place in _places(folder):
        if names := _named_after_expressions(place, VIDEO_SUFFIXES):
            yield f"videos named after expressions, such as {names[0]}, in {place}"


def _expression_folders(folder: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Yield places of folders named after expressions that hold such files, in words."""
    for place, classes, _ in trees.named_places(folder):
        known = [name for name in classes if trees.class_of(name)]
        if any(trees.holds_image(place / name, suffixes) for name in known):
            yield f"folders named after expressions, {some(sorted(known))}, in {place}"


def _places(folder: Path) -> list[Path]:
    """Return the folder and the first ones below."""
    return [folder, *(Path(entry.path) for entry in look(folder)[:20] if entry.is_dir())]


def _are_persons(names: Sequence[str]) -> bool:
    """Say whether most folders are named like persons, parts or splits."""
    stems = {re.sub(r"\d+$", "", name).strip(" _-").lower() for name in names}
    if len(stems) == 1 and not stems & _CLASS_WORDS and "" not in stems:
        return True
    return 2 * sum(map(_is_person, names)) > len(names)


def _is_person(name: str) -> bool:
    two_names = re.fullmatch(r"[A-Z][^\W_]*\.?([ _-]+[A-Z][^\W_]*\.?)+", name)
    digits = sum(sign.isdigit() for sign in name)
    padded = name.isdigit() and trees.number_of(name) is None
    return bool(two_names) or digits >= 3 or padded or bool(trees.split_of(name))


def _images_in(place: Path, names: Sequence[str]) -> int:
    """Return the least number of images right in three of the folders, as far as one looks.

    Images in the folders of splits count too. 0 where one of the three holds other folders: those
    are then persons, and the folders above are parts.
    """
    return min(_count_images(place / name) for name in sorted(names)[:3])


def _count_images(place: Path) -> int:
    try:
        with os.scandir(place) as found:
            some = list(itertools.islice(found, _LOOK))
    except OSError:  # walking the folder will say so
        return 0
    inner = [entry for entry in some if entry.is_dir()]
    if not all(trees.split_of(entry.name) for entry in inner):
        return 0
    images = sum(os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES for entry in some)
    return images + sum(_count_images(Path(entry.path)) for entry in inner)


def _tables(folder: Path) -> Iterator[str]:
    for path in (Path(e.path) for place in _places(folder) for e in look(place) if e.is_file()):
        kind, name = path.suffix.lower(), path.stem.lower()
        if kind not in (".csv", ".tsv", ".txt", ".xlsx", ".json"):
            continue
        columns = _COLUMNS.intersection(_columns(path, kind))
        if columns:
            yield f"the table {path} with a column {min(columns)!r}"
        elif _LIST_NAME.search(name):
            yield f"the list {path}"


def _columns(path: Path, kind: str) -> list[str]:
    """Return the fields of a table's first line, none where it is none."""
    try:
        if kind == ".xlsx":
            return sheet_rows(path, ())[0]
        return header_of(placed_lines(path))[1] if kind != ".json" else []
    except UserError:
        return []


def _named_after_expressions(place: Path, suffixes: frozenset[str]) -> list[str]:
    """Return names of files that hold expressions: of three or more, and of most files."""
    files = [e.name for e in look(place) if os.path.splitext(e.name)[1].lower() in suffixes]
    labels = {name: _expression_in(name) for name in files}
    found = [name for name in files if labels[name]]
    return (
        found if len({labels[name] for name in found}) > 2 and 2 * len(found) > len(files) else []
    )


def _expression_in(name: str) -> tuple[str, ...]:
    for word in trees.words_of(os.path.splitext(name)[0]):
        try:
            return parse_labels(word)
        except ValueError:
            continue
    return ()

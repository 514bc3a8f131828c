"""Trees of folders that say what their images are: the split, and the class by name or number."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from common.emotions import parse_labels
from common.raw.layout import (
    IMAGE_SUFFIXES,
    LOOK,
    Item,
    Skip,
    file_names,
    is_shown,
    labelled,
    look,
    prepared_name,
    walk_files,
)

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "publictest"), "val"),
    **dict.fromkeys(("test", "testing", "privatetest"), "test"),
}
# What may stand beside a split or a class in the name of a folder.
_FILLERS = frozenset(
    (
        *("set", "sets", "data", "dataset", "images", "image", "img", "imgs", "pictures", "faces"),
        *("face", "facial", "aligned", "cropped", "crops", "crop", "new", "split", "samples"),
        *("folder", "class", "emotion", "emotions", "expression", "expressions", "label"),
        *("labels", "clip", "clips", "frames", "fer", "ferplus", "affectnet", "raf", "rafdb"),
        *("db", "ck", "sfew", "expw", "jaffe", "kdef"),
    )
)
_OTHERS = ("other", "others")  # kept without a label
_FIRST_NAMES = ("joy",)  # of persons too
_LOOKS = 64  # folders that are looked into: classes lie high up
_LEVELS = 5  # classes lie at most this many folders down: archive/data/train/person/happy
_LOOKS_FOR_NAMES = 200  # names of expressions are sure signs, so they are looked for farther
_LEVELS_FOR_NAMES = 10
_LISTED = 2_000  # entries of a folder among which class folders are found beside loose images
_PERSONS_MIN = 10  # folders below a class that are so many are persons, and not views
CLASSES_MAX = 26  # more folders are rather persons


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case, without numbers: `Val_Set2` -> val, set."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return re.findall(r"[^\W\d_]+", apart.lower())


def split_of(name: str) -> str:
    """Return the split that a folder is named after (`Validation_Set`, `test`, `train_data`)."""
    words = words_of(name)
    found = {SPLITS[word] for word in words if word in SPLITS}
    rest = [word for word in words if word not in SPLITS and word not in _FILLERS]
    return found.pop() if len(found) == 1 and not rest else ""


def split_of_path(folders: tuple[str, ...]) -> str:
    """Return the split of an image below these folders: what is held out anywhere is held out."""
    found = [split for split in map(split_of, folders) if split]
    return next(
        (split for split in reversed(found) if split != "train"), found[-1] if found else ""
    )


def class_of(name: str) -> tuple[str, ...] | None:
    """Return the labels of a folder named after a class, () for Other, None for another name.

    Numbers, case and words such as `faces` do not matter: `01_angry`, `3-sad`, `Happy faces`.
    """
    words = [word for word in words_of(name) if word not in _FILLERS]
    if len(words) == 1 and words[0] in _OTHERS:
        return ()
    try:
        return parse_labels(" ".join(words))
    except ValueError:
        return None


def number_of(name: str) -> int | None:
    """Return the number of a folder named by it alone (`3`), None for another or a padded one."""
    return int(name) if re.fullmatch("0|[1-9][0-9]?", name) else None


def numbered(classes: dict[int, str]) -> Callable[[str], tuple[str, ...] | None]:
    """Return a function like class_of for folders that a data set numbers."""
    labels = {str(number): parse_labels(name) for number, name in classes.items()}
    return labels.get


class Level(NamedTuple):
    """A folder whose folders are classes: where it is, their names, and those of other folders."""

    place: Path
    classes: list[str]
    others: list[str]


def levels(folder: Path, of_class: Callable = class_of) -> Iterator[Level]:
    """Yield the folders below (and this one) whose folders are classes by name.

    Three classes, or more class folders than others; two classes in all of them together, for
    splits and persons may have one each. Only some 200 folders are looked into.
    """
    found = []
    for level in named_places(folder, of_class):
        labels = {of_class(name) for name in level.classes}
        if len(labels) > 2 or len(level.classes) > len(level.others):
            found.append((level, labels))
    if len(set().union(*(labels for _, labels in found))) > 1:
        for level, _ in found:
            yield level._replace(others=with_images(level.place, level.others))


def named_places(folder: Path, of_class: Callable = class_of) -> Iterator[Level]:
    """Yield the folders below (and this one) with a folder that is a class by name.

    Their `others` are all other folders that are no splits, with images or without. A folder named
    as a person may be (Joy) among more than two others says nothing.
    """
    for place, names in walk_levels(folder, for_names=True):
        known = [name for name in names if of_class(name) is not None]
        others = [name for name in names if name not in known and not split_of(name)]
        persons = all("".join(words_of(name)) in _FIRST_NAMES for name in known)
        if known and not (persons and len(others) > 2 * len(known)):
            yield Level(place, known, others)


def with_images(place: Path, names: list[str]) -> list[str]:
    """Return those of a place's folders that hold an image."""
    return [name for name in names if holds_image(place / name)]


def number_levels(folder: Path) -> Iterator[Level]:
    """Yield the folders whose folders are numbered from 0 or 1 on, two to CLASSES_MAX of them."""
    for place, found in walk_levels(folder):
        names = [name for name in found if not split_of(name)]
        if not 2 <= len(names) <= CLASSES_MAX:
            continue
        numbers = sorted(-1 if (n := number_of(name)) is None else n for name in names)
        gapless = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        if gapless and numbers[0] in (0, 1) and with_images(place, names[:3]):
            yield Level(place, names, [])


def walk_levels(folder: Path, for_names: bool = False) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders down to five levels, with the names of their folders, 64 at the most.

    Folders with more than 200 entries are left out: they hold images or persons.
    for_names: down to ten levels, 200 folders at the most, among them those with more files; some
    of many persons are looked into.
    """
    looks_max, levels_max = (
        (_LOOKS_FOR_NAMES, _LEVELS_FOR_NAMES) if for_names else (_LOOKS, _LEVELS)
    )
    level, looks = [folder], 0
    for _ in range(levels_max):
        below = []
        for place in level:
            if (looks := looks + 1) > looks_max:
                return
            some = look(place)
            if len(some) <= LOOK:
                names = [entry.name for entry in some if entry.is_dir()]
            elif for_names:
                names = _some_folders(place)
            else:
                continue
            if len(names) > LOOK:
                names = names[: 2 * _PERSONS_MIN]
            elif names:
                yield place, names
            below += [place / name for name in names]
        level = below


def _some_folders(place: Path) -> list[str]:
    """Return the names of some 200 folders among the first entries of a folder, sorted."""
    try:
        with os.scandir(place) as found:
            shown = filter(is_shown, itertools.islice(found, _LISTED))
            names = (entry.name for entry in shown if entry.is_dir())
            return sorted(itertools.islice(names, LOOK + 1))
    except OSError:
        return []


def holds_image(place: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> bool:
    """Say whether a folder, or one of the first below it, holds an image, or another file."""
    return bool(_first_names(place, suffixes))


def _first_names(place: Path, suffixes: frozenset[str], depth: int = 3) -> list[str]:
    """Return names of files right in a folder, else in one of the first folders below it."""
    names = file_names(place, suffixes)
    if names or not depth:
        return names
    inner = [Path(entry.path) for entry in look(place) if entry.is_dir()][:5]
    return next(filter(None, (_first_names(path, suffixes, depth - 1) for path in inner)), [])


def is_named(folder: Path, word: str) -> bool:
    """Say whether a folder, or one of the first down to two levels, has a word in its name."""
    below = [
        place / name for place, names in itertools.islice(walk_levels(folder), 9) for name in names
    ]
    names = (path.name for path in (folder, *below) if len(path.relative_to(folder).parts) <= 2)
    return any(word in "".join(filter(str.isalnum, name)).lower() for name in names)


def some_names(folder: Path, suffixes: frozenset[str]) -> list[str]:
    """Return names of files with one of the suffixes in a folder and nine of those below."""
    below = (place / name for place, names in walk_levels(folder) for name in names[:3])
    places = (folder, *itertools.islice(below, 9))
    return [name for place in places for name in file_names(place, suffixes)]


def image_names(level: Level) -> list[str]:
    """Return names of images in three of the class folders, or below, if so many have any."""
    places = (level.place / name for name in level.classes)
    found = filter(None, (_first_names(place, IMAGE_SUFFIXES) for place in places))
    return [name for names in itertools.islice(found, 3) for name in names]


def read_tree(
    folder: Path,
    dataset: str,
    of_class: Callable[[str], tuple[str, ...] | None] = class_of,
    of_name: Callable[[str], tuple[str, str]] | None = None,
    counts: Counter | None = None,
) -> Iterator[Item | Skip]:
    """Yield the images below a folder: their class is the innermost folder that is one.

    An image in folders of two classes by words (`sad/Joy/1.jpg`) is left out, unless one is a
    part of the other. Images held out may lie in no such folder, for a test set may have no
    labels, but not in one beside class folders; they are added to counts.
    of_name: returns (split, subject) for the name of an image; "" where the folders tell. Without
    it, persons are folders between class and image, or right above the classes, where these are
    many.
    """
    start, of_class = os.path.join(folder, ""), lru_cache(4096)(of_class)
    above, below = (False, False) if of_name else _persons(folder, of_class)
    named = named_places(folder, of_class)
    unknown = {level.place / name for level in named for name in level.others}
    for path in walk_files(folder, IMAGE_SUFFIXES):
        relative = path.removeprefix(start)
        *folders, name = relative.split(os.sep)
        labels = [of_class(name) for name in folders]
        at = max((n for n, found in enumerate(labels) if found is not None), default=-1)
        by_folder = split_of_path(tuple(folders))
        if at < 0 and (by_folder in ("", "train") or not unknown.isdisjoint(Path(path).parents)):
            yield Skip(path, dataset, "is not in the folder of a class")
            continue
        inner = set(labels[at] or ())  # of `versions/1/train/3` the 1 is no class
        outers = zip(map(set, (found or () for found in labels)), folders, strict=True)
        if not all(n.isdecimal() or outer <= inner or inner <= outer for outer, n in outers):
            yield Skip(path, dataset, "is in the folders of two classes")
            continue
        if at < 0 and counts is not None:
            counts["held out, in no class folder: kept without a label"] += 1
        split, subject = of_name(name) if of_name else ("", "")
        if below and at >= 0:
            subject = "/".join(name for name in folders[at + 1 :] if not split_of(name))
        elif above and at > 0 and not split_of(folders[at - 1]):
            subject = folders[at - 1]
        split = _held_out_first(by_folder, split)
        fields = labelled(labels[at] if at >= 0 else ())
        yield Item(path, prepared_name(relative), dataset, split, subject=subject, **fields)


def _held_out_first(by_folder: str, by_name: str) -> str:
    """Return the split of an image by its name, unless its folder alone holds it out."""
    return by_folder if by_name in ("", "train") and by_folder else by_name


def _persons(folder: Path, of_class: Callable) -> tuple[bool, bool]:
    """Say whether the folders above the classes, and those below them, are persons."""
    found = list(levels(folder, of_class))
    above = {level.place for level in found if not split_of(level.place.name)}
    widest = max(found, key=lambda level: len(level.classes), default=None)
    classes = [widest.place / name for name in widest.classes] if widest else []
    below = max((len(_beyond_splits(place)) for place in classes), default=0)
    return len(above) >= _PERSONS_MIN, below >= _PERSONS_MIN


def _beyond_splits(place: Path) -> set[str]:
    """Return the names of some of the folders in a folder, and in those of its splits."""
    inner = [entry for entry in look(place) if entry.is_dir()]
    splits = [look(Path(entry.path)) for entry in inner if split_of(entry.name)]
    found = itertools.chain(inner, *splits)
    return {entry.name for entry in found if entry.is_dir() and not split_of(entry.name)}

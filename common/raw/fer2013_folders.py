"""FER2013 and FERPlus as folders of images, as several authors at Kaggle pass them on.

    {train,test}/angry/Training_3908.jpg        FER2013 (msambare, fer2013)
    images/{train,validation}/angry/0.jpg       FER2013 (jonathanoheix), in a folder named FER2013
    {train,test}/{0..6}/...                     FER2013, in a folder named so
    {train,validation,test}/{anger,...,suprise}/fer0000000.png     FERPlus by majority

See common.raw.fer2013 for the numbers. Traps: `test/` of the first holds PublicTest and PrivateTest
together; their names give the split (val, test). FERPlus in this form has no votes and so no
compounds: prefer common.raw.ferplus. Persons are unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from common.raw import classes, trees
from common.raw.fer2013 import CLASSES
from common.raw.layout import Item, Skip, are_mostly

ALIGNED = True

_NAME = re.compile(r"(Training|PublicTest|PrivateTest)_\d+\.", re.I)
_PLUS = re.compile(r"fer\d{7}\.", re.I)
_by_number = trees.numbered(dict(enumerate(CLASSES)))


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    dataset, of_class = _what(folder)
    return f"{dataset}, {'class folders' if of_class is trees.class_of else 'numbered folders'}"


def _what(folder: Path) -> tuple[str, Callable] | None:
    """Return the data set and the function from folder to class; None for another folder."""
    named = trees.is_named(folder, "fer2013")
    for level in trees.levels(folder):
        names = trees.image_names(level)
        if are_mostly(names, _PLUS.match):
            return "FERPlus", trees.class_of
        if named or are_mostly(names, _NAME.match):
            return "FER2013", trees.class_of
    for level in trees.number_levels(folder):
        known = named or are_mostly(trees.image_names(level), _NAME.match)
        if known and set(level.classes) <= set("0123456"):
            return "FER2013", _by_number
    return None


def recognises(folder: Path) -> bool:
    """A folder with class folders, whose images or itself are named as those of FER2013."""
    return _what(folder) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images; see common.raw."""
    dataset, of_class = _what(folder)
    if of_class is trees.class_of:
        classes.check_names(folder)
    return trees.read_tree(folder, dataset, of_class, _of_name, counts)


def _of_name(name: str) -> tuple[str, str]:
    found = _NAME.match(name)
    return (trees.SPLITS[found[1].lower()] if found else "", "")

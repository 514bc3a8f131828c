"""Names in lists that are not quite those of files: what differs, and which file is meant."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from common.raw.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, walk_files

# Reasons of a Skip whose detail is the name that no file has.
MISSING = ("listed image is missing", "listed clip is missing", "image is not in the folder")

_FOLDER = "its folder"
_ALIKE = 0.5  # share of the letters of two names, in their order
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


class Files:
    """The images and videos below a folder, to be found by names that are not quite theirs.

    Names are compared without regard to Unicode form (NFC, NFD), case, ending, backslashes, or the
    folders above of an absolute path. The folder is read at the first question: about 300 bytes of
    memory a file.
    """

    def __init__(self, folder: Path, suffixes: frozenset[str] = _SUFFIXES):
        self._folder, self._suffixes = folder, suffixes
        self._by_key: dict[str, list[str]] | None = None

    def find(self, name: str, counts: Counter) -> str | None:
        """Return the path of the only file that a name can mean, or None; count what differs."""
        nearest = self._nearest(name)
        if len(nearest) != 1:
            return None
        ((path, differs),) = nearest.items()
        if _FOLDER in differs:
            return None
        counts[f"names matched with their files that differ by {' and '.join(differs)}"] += 1
        return path

    def explain(self, name: str) -> str:
        """Say which files a name may mean and what differs, or return "" where there is none."""
        nearest = self._nearest(name)
        shown = [
            f"{os.path.relpath(p, self._folder)} by {' and '.join(d)}" for p, d in nearest.items()
        ]
        return f"differs from {', from '.join(sorted(shown)[:3])}" if shown else ""

    def _nearest(self, name: str) -> dict[str, list[str]]:
        """Return the files that differ least from a name, each with what differs."""
        if self._by_key is None:
            self._by_key = {}
            for path in walk_files(self._folder, self._suffixes):
                self._by_key.setdefault(_key(os.path.basename(path)), []).append(path)
        found = {}
        for path in self._by_key.get(_key(re.split(r"[/\\]", name)[-1]), ()):
            differs = _differences(name, os.path.relpath(path, self._folder))
            if differs is not None:
                found[path] = differs
        least = min(map(len, found.values()), default=0)
        return {path: differs for path, differs in found.items() if len(differs) == least}


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Say which of the known names of videos differs least from one that is not among them.

    By case, ending, leading zeros or Unicode form, or else by its letters; returns "" where more
    than half of these differ, or a digit: video 8 is not video 9. known: names that nothing else
    means.
    """
    wanted, (same, alike) = _key(name), _index(frozenset(known))
    if others := same.get(wanted.lstrip("0")):
        differs, other = min(
            ((_video_differences(name, other), other) for other in others),
            key=lambda found: len(found[0]),
        )
        return f"there is {other!r}, which differs by {' and '.join(differs)}"
    keys = alike.get(_digits(wanted), {})
    close = difflib.get_close_matches(wanted, keys, n=1, cutoff=_ALIKE)
    return f"the nearest name is {keys[close[0]]!r}" if close else ""


@lru_cache(maxsize=1)  # thousands of names are looked up among the same ones
def _index(known: frozenset[str]) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """Return the names by their keys without leading zeros; keys and names by their digits."""
    same, alike = {}, {}
    for other in sorted(known):
        key = _key(other)
        same.setdefault(key.lstrip("0"), []).append(other)
        alike.setdefault(_digits(key), {})[key] = other
    return same, alike


def _digits(key: str) -> str:
    return "".join(re.findall(r"\d", key))


def _video_differences(name: str, other: str) -> list[str]:
    if _key(name) != _key(other):
        return ["leading zeros"]
    return _differences(name, other) or ["blanks"]


def _key(name: str) -> str:
    """Return a name without what two names of one file may differ in."""
    stem, ending = os.path.splitext(unicodedata.normalize("NFC", name).casefold())
    return stem if ending in _SUFFIXES else stem + ending


def _differences(name: str, path: str) -> list[str] | None:
    """Say in what a name differs from a file's path; None where it names another folder."""
    differs = []
    if "\\" in name:
        name = name.replace("\\", "/")
        differs.append("backslashes")
    if absolute := bool(re.match(r"/|[A-Za-z]:/", name)):
        differs.append("an absolute path")
    given, there = [part for part in name.split("/") if part not in ("", ".")], path.split(os.sep)
    same = 0  # folders that agree, from the last one up
    for one, other in zip(given[-2::-1], there[-2::-1], strict=False):
        if _key(one) != _key(other):
            break
        same += 1
    if not absolute:
        if same < len(given) - 1:
            return None
        if there[: len(there) - len(given)] not in ([], ["images"]):
            differs.append(_FOLDER)
    one, first = os.path.splitext("/".join(given[-1 - same :]))
    other, second = os.path.splitext("/".join(there[-1 - same :]))
    plain = [unicodedata.normalize("NFC", text) for text in (one, other)]
    if one.casefold() != other.casefold():
        differs.append("Unicode form")
    if plain[0] != plain[1] or (first != second and first.casefold() == second.casefold()):
        differs.append("case")
    if first.casefold() != second.casefold():
        differs.append("ending")
    return differs

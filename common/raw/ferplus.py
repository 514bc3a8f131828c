"""FERPlus (Barsoum, Zhang, Canton Ferrer & Zhang 2016, https://github.com/microsoft/FERPlus): the
faces of FER2013 with the votes of ten people, as the owners' script writes them.

    FER2013Train/fer0000000.png      FER2013Valid/..., FER2013Test/...     48 x 48 pixels, gray
    FER2013Train/label.csv           `fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0`
    fer2013new.csv                   Usage,Image name,neutral,...,contempt,unknown,NF

up to two levels down. Where two of the six emotions share the votes the face is a compound of both,
else it is a single by the owners' majority rule (common.raw.votes), or, without a majority, has
votes but no label. A face of which most votes say `unknown` or `NF` (no face) is left out. The same
votes beside fer2013.csv are read by common.raw.fer2013.

Traps: the two lists differ in one face of 25, and fer2013new.csv, the newer, counts where it is
there; it names four images twice (the script writes the second over the first) and some rows have
no name. Exact copies of one photograph lie in several splits: 01 keeps those held out. Persons are
unknown.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import ADAPTATION, parse_labels
from common.raw import votes
from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    file_in,
    labelled,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import check_text, split_row, table_rows, text_lines, whole_number
from common.script.files import UserError

ALIGNED = True
SETTINGS = ("votes_rule",)

TABLE = "fer2013new.csv"
CHOICES = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)
# Which of CHOICES each expression of ADAPTATION is.
_PLACES = tuple(
    [parse_labels(choice) for choice in CHOICES[:8]].index((name,)) for name in ADAPTATION
)
_SETS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_FIELDS = 2 + len(CHOICES)


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return f"owners' images, votes of {TABLE if _table(folder) else 'label.csv'}"


def _sets(folder: Path) -> dict[Path, str]:
    found = {subfolder(folder, name, depth=3): split for name, split in _SETS.items()}
    return {path: split for path, split in found.items() if path}


def _table(folder: Path) -> Path | None:
    return file_in(folder, TABLE, depth=3)


def recognises(folder: Path) -> bool:
    """A folder with one of the owners' sets."""
    return subfolder(folder, *_SETS, depth=3) is not None


def read(
    folder: Path, counts: Counter, votes_rule: tuple[int, int] = votes.RULE
) -> Iterator[Item | Skip]:
    """Return the images of all sets; see common.raw."""
    sets, table = _sets(folder), _table(folder)
    lists = {place: table or file_in(place, "label.csv") for place in sets}
    for place, listing in lists.items():
        if listing is None:
            raise UserError(
                f"FERPlus lacks its votes {place / 'label.csv'}; put it there, or {TABLE} in "
                f"{folder}, both from the owners' repository."
            )
    check_text(*lists.values())
    if table:
        table_rows(table, ("Image name", *CHOICES))  # or it complains
    return _read(sets, lists, table, counts, votes_rule)


def _read(
    sets: dict[Path, str],
    lists: dict[Path, Path],
    table: Path | None,
    counts: Counter,
    rule: tuple[int, int],
) -> Iterator[Item | Skip]:
    for place, split in sets.items():
        ballots = {}
        for number, image, ballot in (
            _rows_of_table(table) if table else _rows_of_list(lists[place])
        ):
            if ballot is None:
                where = f"{lists[place]}:{number}"
                yield Skip(where, "FERPlus", f"not a row of {_FIELDS} fields", image)
            elif image:
                ballots[image] = number, ballot  # of two rows the second
        for path in walk_files(place, IMAGE_SUFFIXES):
            image = os.path.basename(path)
            item = Item(path, prepared_name(f"{split}/{image}"), "FERPlus", split)
            _, ballot = ballots.pop(image, (0, []))
            yield voted(item, ballot, path, counts, rule)
        if not table:  # which names the images of all sets
            for image, (number, _) in ballots.items():
                yield Skip(f"{lists[place]}:{number}", "FERPlus", "listed image is missing", image)


def _rows_of_table(table: Path) -> Iterator[tuple[int, str, list[str]]]:
    for number, row in table_rows(table, ("Image name", *CHOICES)):
        yield number, row["Image name"], [row[name] for name in CHOICES]


def _rows_of_list(listing: Path) -> Iterator[tuple[int, str, list[str] | None]]:
    """Yield (line number, image, its votes) of a list; None for a bad row."""
    for number, line in text_lines(listing):
        fields = split_row(line)
        good = len(fields) == _FIELDS
        yield number, fields[0] if good else line[:80], fields[2:] if good else None


def voted(
    item: Item, ballot: list, where: str, counts: Counter, rule: tuple[int, int]
) -> Item | Skip:
    """Return an item with its votes and the labels that they make, or why it is left out.

    ballot: the votes for each of CHOICES as text; empty or None where there are none. where: the
    input's place, as of a Skip.
    """
    numbers = [whole_number(field) for field in ballot]
    if len(numbers) != len(CHOICES) or any(n is None or n < 0 for n in numbers) or not any(numbers):
        return Skip(where, item.dataset, "no votes in its list")
    expressions = tuple(numbers[place] for place in _PLACES)
    labels = votes.labels_of(expressions, rule, others=numbers[8:])
    strongest = numbers.index(max(numbers))
    if labels or strongest < len(ADAPTATION):
        votes.count_labels(counts, labels, rule)
        return item._replace(votes=expressions, **labelled(labels))
    majority = votes.majority_of(numbers) is not None
    reason = f"the {'majority says' if majority else 'most votes say'} {CHOICES[strongest]}"
    return Skip(where, item.dataset, reason, fault=False)

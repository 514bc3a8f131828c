"""The challenge's files: its list of frames, a submission, a table of true labels.

The frame list rules: a decoder may find a frame more or less than it names. Every listed frame
gets exactly one class, in the list's order. Nothing here needs pandas or torch, whose import takes
longer than `--check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.emotions import CHALLENGE, challenge_class, parse_labels
from common.script.files import UserError, whole_file

# The challenge's header: eight names above rows of two fields (FACTS §2).
HEADER = ",".join(("image_location", *CHALLENGE))

# Frames of each class in the whole C-EXPR-DB as its owners publish them, order of CHALLENGE.
DATABASE_COUNTS = (14445, 24915, 10780, 10637, 10535, 10112, 8878)

CLASS_NUMBERS = tuple(map(str, range(len(CHALLENGE))))
AFTER_COMMA = "after the comma stands one class, " + ", ".join(
    f"{number} {name}" for number, name in enumerate(CHALLENGE)
)

# No honest row is longer; a film given for a list is refused without reading it whole.
LONGEST_LINE = 4096


def lines_of(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line with its end) of a file, in bounded memory.

    A line of more than LONGEST_LINE bytes comes in pieces. Raises UserError if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                yield number, line
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None


def _text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (number, text without line end and byte order mark), leaving out empty last lines."""
    empty = 0
    for number, line in lines_of(path):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"{path}, line {number}: not text; is this the right file?") from None
        if not text.strip():
            empty = empty or number
            continue
        if empty:
            raise UserError(f"{path}, line {empty}: empty line between rows; remove it.")
        yield number, text


def split_location(location: str) -> tuple[str, int]:
    """Return (video, frame from 1) of an image location such as `01/00001.jpg`.

    Raises ValueError for any other form, and for a video name that would leave its folder.
    """
    match = re.fullmatch(r"([^/\\,]+)/([0-9]{5,6})\.jpg", location)
    if match and match[1] not in (".", "..") and location.isprintable():
        video, frame = match[1], int(match[2])
        if frame >= 1 and match[2] == f"{frame:05d}" and video == video.strip():
            return video, frame
    raise ValueError(f"{location!r} is not of the form 01/00001.jpg (frames from 00001)")


def locate(video: str, frame: int) -> str:
    """Return the image location of a frame: `01/00001.jpg`."""
    return f"{video}/{frame:05d}.jpg"


def read_frame_list(path: str | Path) -> tuple[str, list[str]]:
    """Read the challenge's list: its header, verbatim, and the image locations in its order.

    Rows are `01/00001.jpg,` or `01/00001.jpg,0` (a dummy). A byte order mark, CRLF and blanks
    around fields are taken off. Raises UserError, with the line's number, for anything else.
    """
    header, locations = None, {}
    for number, text in _text_lines(path):
        fields = [field.strip() for field in text.split(",")]
        if header is None:
            if [name.lower() for name in fields] != HEADER.lower().split(","):
                raise UserError(
                    f"{path}, line {number}: not the header of a frame list; expected {HEADER}."
                )
            header = text
            continue
        if len(fields) != 2 or not re.fullmatch("-?[0-9]*", fields[1]):
            raise UserError(
                f"{path}, line {number}: {text[:80]!r} is not like 01/00001.jpg, (in a list, after "
                "the comma stands nothing, or a whole number without meaning)."
            )
        try:
            split_location(fields[0])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
        if fields[0] in locations:
            first = locations[fields[0]]
            raise UserError(f"{path}, line {number}: {fields[0]} stands in line {first} already.")
        locations[fields[0]] = number
    if not locations:
        raise UserError(f"The frame list {path} names no frame.")
    return header, list(locations)


def write_submission(
    path: str | Path, header: str, locations: Sequence[str], classes: Sequence[int]
) -> None:
    """Write the challenge's file: the header and `01/00001.jpg,3` for each frame, LF, atomically.

    Raises ValueError where there is not one class 0..6 for each location.
    """
    if len(locations) != len(classes) or not set(map(int, classes)) <= set(range(len(CHALLENGE))):
        raise ValueError("a submission needs one class 0..6 for each listed frame")
    with whole_file(path, "w") as file:
        file.write(header + "\n")
        file.writelines(
            f"{location},{int(number)}\n"
            for location, number in zip(locations, classes, strict=True)
        )


def write_frame_list(path: str | Path, locations: Sequence[str]) -> None:
    """Write a list as the challenge does: its header, then `01/00001.jpg,` for each frame."""
    with whole_file(path, "w") as file:
        file.write(HEADER + "\n")
        file.writelines(f"{location},\n" for location in locations)


def read_submission(path: str | Path) -> dict[str, int]:
    """Read a submission, to compare it with another: {image_location: class 0..6}, in its order.

    Raises UserError, with the line's number, for a row of another form or a frame named twice;
    `checking.check_submission` tells all that is wrong.
    """
    classes: dict[str, int] = {}
    for number, text in _text_lines(path):
        fields = [field.strip() for field in text.split(",")]
        if number == 1 and fields[0].lower() == "image_location":
            continue
        try:
            split_location(fields[0])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
        if len(fields) != 2 or fields[1] not in CLASS_NUMBERS:
            raise UserError(
                f"{path}, line {number}: {text[:80]!r} is not like 01/00001.jpg,3; {AFTER_COMMA}."
            )
        if fields[0] in classes:
            raise UserError(f"{path}, line {number}: {fields[0]} occurs a second time.")
        classes[fields[0]] = int(fields[1])
    if not classes:
        raise UserError(f"{path} holds no prediction.")
    return classes


class Truth(NamedTuple):
    """What is known of a frame: its class 0..6, or -1; its split as written, or empty."""

    label: int
    split: str


def read_truth(path: str | Path) -> dict[str, Truth]:
    """Read the true classes of frames by their location.

    A table `image_location,label`, optionally with a third column `split` (train, val or test). A
    label is 0..6, a compound's name, or -1 or empty where it is not scored. Raises UserError, with
    the line's number, for another form, an unknown label, or a frame named twice.
    """
    truth: dict[str, Truth] = {}
    columns = 2
    for number, text in _text_lines(path):
        fields = [field.strip() for field in text.split(",")]
        if number == 1:
            columns = len(fields)
            if fields not in (["image_location", "label"], ["image_location", "label", "split"]):
                raise UserError(
                    f"{path}, line 1: the header must be image_location,label, or "
                    "image_location,label,split."
                )
            continue
        try:
            if len(fields) != columns:
                raise ValueError(f"{text[:80]!r} has {len(fields)} fields, the header {columns}")
            split_location(fields[0])
            label = _truth_class(fields[1])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
        split = fields[2].lower() if columns == 3 else ""
        if split not in ("", "train", "val", "test"):
            raise UserError(
                f"{path}, line {number}: the split {fields[2]!r} is none of train, val and test."
            )
        if fields[0] in truth:
            raise UserError(f"{path}, line {number}: {fields[0]} has a label already.")
        truth[fields[0]] = Truth(label, split)
    return truth


def _truth_class(label: str) -> int:
    if label in ("", "-1"):
        return -1
    if re.fullmatch("[0-9]+", label):
        number = int(label)
    else:
        number = challenge_class(" ".join(parse_labels(label)))
    if not 0 <= number < len(CHALLENGE):
        raise ValueError(f"{label!r} is none of the seven classes 0..6; leave it empty to skip it")
    return number

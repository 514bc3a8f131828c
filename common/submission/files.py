"""The challenge's text files: its list of frames and a submission; earlier submissions are kept.

The list decides which frames count, since a decoder may find one more or one less. Nothing here
needs pandas or torch, which take longer to import than `--check` takes to run.
"""

from __future__ import annotations

import filecmp
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.emotions import CHALLENGE
from common.script.files import UserError, whole_file

# The challenge's header names eight columns, but its rows have two fields.
HEADER = ",".join(("image_location", *CHALLENGE))

# Frames of each class in the whole C-EXPR-DB as its owners publish them, order of CHALLENGE.
DATABASE_COUNTS = (14445, 24915, 10780, 10637, 10535, 10112, 8878)

CLASS_NUMBERS = tuple(map(str, range(len(CHALLENGE))))
AFTER_COMMA = "the class after the comma is one of " + ", ".join(
    f"{number} {name}" for number, name in enumerate(CHALLENGE)
)

# What 05 writes for one submission; predictions.txt is copied last, so that its copy is whole.
FILES = (
    "frame_list.txt",
    "probabilities.csv",
    "run.json",
    "score.json",
    "report.html",
    "predictions.txt",
)
_DATED = ("run.json", "report.html")  # these differ with each run

# Longer than any valid row: a film passed as a list is refused without reading all of it.
LONGEST_LINE = 4096


def lines_of(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line with its end) of a file, in bounded memory.

    A line of more than LONGEST_LINE bytes comes in pieces. Raises UserError if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            yield from enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None


def rows_of(path: str | Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line number from 1, text, comma-separated fields without blanks around them).

    Byte order mark, line ends and empty last lines are removed. Raises UserError for a file that
    is not text, or has an empty line between rows.
    """
    empty = 0
    for number, line in lines_of(path):
        with in_line(path, number):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise ValueError("not text; check that this is the right file") from None
        if not text.strip():
            empty = empty or number
        elif empty:
            raise UserError(f"{path}, line {empty}: empty line between rows; remove it.")
        else:
            yield number, text, [field.strip() for field in text.split(",")]


@contextmanager
def in_line(path: str | Path, number: int) -> Iterator[None]:
    """Turn a ValueError about a row into a UserError that names the file and the line."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}.") from None


def split_location(location: str) -> tuple[str, int]:
    """Return (video, frame from 1) of an image location such as `01/00001.jpg`.

    Raises ValueError for any other form, and for a video name that would leave its folder.
    """
    match = re.fullmatch(r'([^/\\,"]+)/([0-9]{5,6})\.jpg', location)
    if match and match[1] not in (".", "..") and location.isprintable():
        video, frame = match[1], int(match[2])
        if frame >= 1 and match[2] == f"{frame:05d}" and video == video.strip():
            return video, frame
    raise ValueError(f"{location!r} is not of the form 01/00001.jpg (frames from 00001)")


def readable(text: object) -> str:
    """Return text that can be written: bytes of a file's name that are not UTF-8 as `caf\\xe9`."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def locate(video: str, frame: int) -> str:
    """Return the image location of a frame: `01/00001.jpg`."""
    return f"{video}/{frame:05d}.jpg"


def check_video_names(videos: Mapping[str, Path]) -> None:
    """Raise UserError where a submission could not name a video's frames. videos: name -> path."""
    for name, path in sorted(videos.items()):
        try:
            split_location(locate(name, 1))
        except ValueError:
            raise UserError(
                f"The name of the video {str(path)!r} cannot stand in a submission (no commas, "
                "quotes, backslashes, line breaks, nor blanks at its ends); rename it."
            ) from None


def header_difference(found: Sequence[str], expected: Sequence[str]) -> str:
    """Say where a header differs first from the expected one: `column 8 is 'a', not 'b'`."""
    for number, (one, other) in enumerate(zip(found, expected, strict=False), start=1):
        if one != other:
            return f"column {number} is {one[:80]!r}, not {other!r}"
    return f"it has {len(found)} columns, not {len(expected)}"


def read_frame_list(path: str | Path) -> tuple[str, list[str]]:
    """Read the challenge's list: its header, verbatim, and the image locations in its order.

    Rows are `01/00001.jpg,` or `01/00001.jpg,0` (the number means nothing). Byte order mark, CRLF
    and blanks around fields are removed. Raises UserError, with the line's number, for anything
    else.
    """
    header, line_of = None, {}
    for number, text, fields in rows_of(path):
        with in_line(path, number):
            if header is None:
                names = [name.lower() for name in fields]
                if names != (expected := HEADER.lower().split(",")):
                    where = header_difference(names, expected)
                    raise ValueError(f"not the header of a frame list: {where}; expected {HEADER}")
                header = text
                continue
            if len(fields) != 2 or not re.fullmatch("-?[0-9]*", fields[1]):
                raise ValueError(
                    f"{text[:80]!r} is not like 01/00001.jpg, with nothing or a whole number after "
                    "the comma"
                )
            split_location(fields[0])
            if fields[0] in line_of:
                raise ValueError(f"{fields[0]} is already in line {line_of[fields[0]]}")
            line_of[fields[0]] = number
    if not line_of:
        raise UserError(f"The frame list {path} names no frame.")
    return header, list(line_of)


def submission_text(header: str, locations: Sequence[str], classes: Sequence[int]) -> str:
    """Return the challenge's file: the header and `01/00001.jpg,3` for each frame, with LF.

    Raises ValueError where there is not one class 0..6 for each location.
    """
    if len(locations) != len(classes) or not set(map(int, classes)) <= set(range(len(CHALLENGE))):
        raise ValueError("a submission needs one class 0..6 for each listed frame")
    rows = zip(locations, classes, strict=True)
    return "".join([f"{header}\n", *(f"{place},{int(number)}\n" for place, number in rows)])


def write_submission(
    path: str | Path, header: str, locations: Sequence[str], classes: Sequence[int]
) -> None:
    """Write the challenge's file, as `submission_text`, whole or not at all."""
    text = submission_text(header, locations, classes)
    with whole_file(path, "w") as file:
        file.write(text)


def list_text(header: str, locations: Sequence[str]) -> str:
    """Return a list as the challenge writes it: its header, then `01/00001.jpg,` for each frame."""
    return "".join(f"{row}\n" for row in (header, *(f"{place}," for place in locations)))


def read_submission(path: str | Path) -> dict[str, int]:
    """Read a submission, to compare it with another: {image_location: class 0..6}, in its order.

    Raises UserError, with the line's number, for a row of another form or a frame named twice;
    `checking.check_submission` lists all faults.
    """
    classes: dict[str, int] = {}
    for number, text, fields in rows_of(path):
        if number == 1 and fields[0].lower() == "image_location":
            continue
        with in_line(path, number):
            split_location(fields[0])
            if len(fields) != 2 or fields[1] not in CLASS_NUMBERS:
                raise ValueError(f"{text[:80]!r} is not like 01/00001.jpg,3; {AFTER_COMMA}")
            if fields[0] in classes:
                raise ValueError(f"{fields[0]} occurs a second time")
        classes[fields[0]] = int(fields[1])
    if not classes:
        raise UserError(f"{path} holds no prediction.")
    return classes


def replace_submission(
    folder: Path,
    header: str,
    locations: Sequence[str],
    classes: Sequence[int],
    listing: bytes | None = None,
    inputs: Sequence[Path] = (),
) -> str:
    """Write predictions.txt and frame_list.txt; keep what belongs to an earlier one that differs.

    listing: the list in use, byte for byte; None to write one of these locations. inputs: files
    that were read; where the folder's own are among them, they are kept too. Returns a line that
    names the earlier submission, or "" where there was none to keep.
    """
    now, listed = folder / "predictions.txt", folder / "frame_list.txt"
    text, kept = submission_text(header, locations, classes), ""
    own = {path.resolve() for path in _belonging(folder)}
    if now.is_file() and now.read_bytes() != text.encode():
        kept = f"earlier    {now.with_stem(f'{now.stem}-{_keep(folder)}')}, which differs"
    elif read := [path for path in inputs if path.resolve() in own]:
        kept = f"earlier    {read[0].with_stem(f'{read[0].stem}-{_keep(folder)}')}, which was read"
    if kept:
        (folder / "score.json").unlink(missing_ok=True)  # it was copied just now
    write_submission(now, header, locations, classes)
    with whole_file(listed) as file:
        file.write(list_text(header, locations).encode() if listing is None else listing)
    return kept


def set_aside(path: Path) -> str:
    """Rename what an earlier run wrote to a free number; return a line that says so, or ""."""
    if not path.is_file():
        return ""
    return f"earlier    {path.rename(path.with_stem(f'{path.stem}-{_free_number(path.parent)}'))}"


def _belonging(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).is_file()]


def _free_number(folder: Path) -> int:
    names = [Path(name) for name in (*FILES, "tuned.toml")]
    taken = {path.name for path in folder.iterdir()}
    free = (n for n in itertools.count(1) if not taken & {f"{p.stem}-{n}{p.suffix}" for p in names})
    return next(free)


def _keep(folder: Path) -> str:
    """Copy a submission and what belongs to it to one number, unless a copy exists: return it."""
    files = _belonging(folder)
    same = [path for path in files if path.name not in _DATED]
    for path in sorted(folder.glob("predictions-[0-9]*.txt")):
        number = path.stem.removeprefix("predictions-")
        copies = [file.with_stem(f"{file.stem}-{number}") for file in same]
        pairs = zip(copies, same, strict=True)
        if all(copy.is_file() and filecmp.cmp(copy, file, shallow=False) for copy, file in pairs):
            return number
    number = str(_free_number(folder))
    for path in files:
        with whole_file(path.with_stem(f"{path.stem}-{number}")) as file:
            file.write(path.read_bytes())
    return number

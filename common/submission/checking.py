"""All faults of a submission file, and how two submissions differ.

Nothing here is shared with the writing of submissions, so that a fault there cannot hide here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from common.emotions import CHALLENGE
from common.script.files import UserError, csv_rows
from common.submission import files
from common.submission.files import AFTER_COMMA, CLASS_NUMBERS, split_location

SHOWN = 10  # examples of each fault
_BOM = b"\xef\xbb\xbf"


@dataclass
class Finding:
    """One kind of fault: what, how often, where first. A note does not make a file invalid."""

    what: str
    note: bool = False
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more; keep the first ones as examples."""
        self.count += 1
        if len(self.examples) < SHOWN:
            self.examples.append(example)

    def __str__(self) -> str:
        more = f"\n  … and {self.count - SHOWN} more" if self.count > SHOWN else ""
        places = "".join(f"\n  {example}" for example in self.examples)
        return f"{'note' if self.note else 'fault'}: {self.what} ({self.count}){places}{more}"


def find_list(path: Path, prepared: Path) -> Path:
    """Return the frame list to check a submission against: beside it, or in the prepared folder.

    Raises UserError where there is no such submission, or no list.
    """
    if not path.is_file():
        raise UserError(f"There is no submission {path} to check.")
    places = path.with_name("frame_list.txt"), prepared / "frame_list.txt"
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"There is no frame list {places[0]} or {places[1]} to check {path} against; name it with "
        "--frame-list."
    )


def check_submission(path: str | Path, frame_list: str | Path) -> list[Finding]:
    """Compare a submission with the challenge's list; return the faults, then the notes.

    A valid file is the list's header and then `location,class` for each listed frame in the
    list's order, class one digit 0..6, with LF ends; a missing last newline is only a note.
    Memory grows with the list, not with the file. Raises UserError if either cannot be read, or
    the list is not a frame list.
    """
    if not Path(path).is_file():  # reported first, because the list may be missing too
        raise UserError(f"Cannot read {path}: there is no such file.")
    header, locations = files.read_frame_list(frame_list)
    found = {
        key: Finding(what)
        for key, what in {
            "empty": "the file is empty",
            "bom": "a byte order mark before the header",
            "header": "the header is not the list's",
            "crlf": "lines end in CRLF, not LF",
            "malformed": f"lines that are not like 01/00001.jpg,3 ({AFTER_COMMA})",
            "spaces": "blanks around a field",
            "class": f"classes that are not a whole number 0..6 ({AFTER_COMMA})",
            "missing": "frames of the list are missing",
            "extra": "frames that are not in the list",
            "duplicate": "frames that occur more than once",
            "order": "frames out of the list's order",
        }.items()
    }
    place = {location: index for index, location in enumerate(locations)}
    first_line: dict[int, int] = {}  # index in the list → line of the submission
    latest = -1
    number, line = 0, b""
    for number, line in files.lines_of(path):
        at = f"line {number}"
        content = line.removesuffix(b"\n")
        if number == 1 and content.startswith(_BOM):
            found["bom"].add(at)
            content = content.removeprefix(_BOM)
        if content.endswith(b"\r"):
            found["crlf"].add(at)
            content = content.removesuffix(b"\r")
        text = content.decode("utf-8", errors="replace")
        if number == 1:
            if text == header:
                continue
            found["header"].add(f"{at}: {_shown(text)}\n  expected: {header}")
            if text.split(",")[0].strip() not in place:
                continue  # a wrong header; otherwise the header is missing
        fields = text.split(",")
        if len(fields) != 2:
            found["malformed"].add(f"{at}: {_shown(text)}")
            continue
        if any(value != value.strip() for value in fields):
            found["spaces"].add(f"{at}: {_shown(text)}")
        location, label = (value.strip() for value in fields)
        if label not in CLASS_NUMBERS:
            found["class"].add(f"{at}: {_shown(label)} for {_shown(location)}")
        if location not in place:
            found["extra"].add(f"{at}: {_shown(location)}")
            continue
        index = place[location]
        if index in first_line:
            found["duplicate"].add(f"{at}: {location}, first in line {first_line[index]}")
            continue
        first_line[index] = number
        if index < latest:
            found["order"].add(f"{at}: {location} after {locations[latest]}")
        latest = max(latest, index)
    if number == 0:
        found["empty"].add("expected the header and a line for each listed frame")
    for index, location in enumerate(locations):
        if index not in first_line:
            found["missing"].add(f"{location}, line {index + 2} of the list")
    if number and not line.endswith(b"\n"):
        found["newline"] = Finding("no newline after the last line", note=True)
        found["newline"].add(f"line {number}")
    return [finding for finding in found.values() if finding.count]


def is_valid(findings: list[Finding]) -> bool:
    """Return whether a file with these findings is valid: notes are not faults."""
    return all(finding.note for finding in findings)


@dataclass
class Comparison:
    """How two submissions differ, over the frames that both predict.

    names: their paths. agreement: share of frames with the same class. kappa: Cohen's, the
    agreement beyond chance; 1 where both give all frames one class. pairs: int [7][7], frames by
    class in A and in B. videos: of each, number of frames and of changed ones. alone: number of
    frames only in A, and only in B. changed: location, class in A, class in B.
    """

    names: tuple[str, str]
    frames: int
    agreement: float
    kappa: float
    pairs: list[list[int]]
    videos: dict[str, tuple[int, int]]
    alone: tuple[int, int]
    changed: list[tuple[str, int, int]]


def compare_submissions(first: str | Path, second: str | Path) -> Comparison:
    """Compare two submissions frame by frame.

    Raises UserError where either cannot be read, or they have no frame in common.
    """
    a, b = files.read_submission(first), files.read_submission(second)
    both = [location for location in a if location in b]
    if not both:
        raise UserError(f"{first} and {second} have no frame in common.")
    pairs = [[0] * len(CHALLENGE) for _ in CHALLENGE]
    videos: dict[str, tuple[int, int]] = {}
    for location in both:
        pairs[a[location]][b[location]] += 1
        video = split_location(location)[0]
        frames, changed = videos.get(video, (0, 0))
        videos[video] = frames + 1, changed + (a[location] != b[location])
    agreement = sum(row[index] for index, row in enumerate(pairs)) / len(both)
    columns = zip(*pairs, strict=True)
    chance = sum(sum(x) * sum(y) for x, y in zip(pairs, columns, strict=True)) / len(both) ** 2
    return Comparison(
        (str(first), str(second)),
        len(both),
        agreement,
        (agreement - chance) / (1 - chance) if chance < 1 else 1.0,
        pairs,
        videos,
        (len(a) - len(both), len(b) - len(both)),
        [(place, a[place], b[place]) for place in both if a[place] != b[place]],
    )


def comparison_text(found: Comparison) -> str:
    """Return a comparison as tables to read."""
    lines = [
        f"A {found.names[0]}",
        f"B {found.names[1]}",
        f"{found.frames:,} frames in both: {found.agreement:.1%} agree, Cohen's kappa "
        f"{found.kappa:.3f}, {len(found.changed):,} changed",
    ]
    if any(found.alone):
        lines.append("only in A: {:,} frames, only in B: {:,}".format(*found.alone))
    lines.append(f"\n{'class':<24}{'in A':>8}{'in B':>8}{'in both':>9}  A's frames changed to")
    for index, (name, row) in enumerate(zip(CHALLENGE, found.pairs, strict=True)):
        moved = sorted(((n, i) for i, n in enumerate(row) if n and i != index), reverse=True)
        into = ", ".join(f"{CHALLENGE[i].replace('_', ' ')} {n:,}" for n, i in moved)
        counts = f"{sum(row):>8,}{sum(pair[index] for pair in found.pairs):>8,}{row[index]:>9,}"
        lines.append(f"{name.replace('_', ' '):<24}{counts}  {into}")
    lines.append(f"\n{'video':<24}{'frames':>8}{'changed':>8}{'agree':>9}")
    for video, (frames, changed) in found.videos.items():
        lines.append(f"{video:<24}{frames:>8,}{changed:>8,}{1 - changed / frames:>9.1%}")
    return "\n".join(lines)


def write_comparison(path: str | Path, found: Comparison) -> None:
    """Write a comparison as CSV: the changed frames by video and pair of classes, with counts.

    Columns: video, frames (of the video), class_a, class_b, changed; a video without a change has
    one row with 0.
    """
    moves = Counter((split_location(place)[0], a, b) for place, a, b in found.changed)
    with csv_rows(path, ["video", "frames", "class_a", "class_b", "changed"]) as table:
        for video, (frames, changed) in found.videos.items():
            if not changed:
                table.writerow([video, frames, "", "", 0])
            for (name, a, b), count in sorted(moves.items()):
                if name == video:
                    table.writerow([video, frames, CHALLENGE[a], CHALLENGE[b], count])


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")

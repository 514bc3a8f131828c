"""Everything that is wrong with a submission file, ours or a rival's.

It shares no code with the writing of submissions: a fault there must not hide itself here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from common.emotions import CHALLENGE
from common.submission import lines_of, read_frame_list

SHOWN = 10  # examples of each fault
_CLASSES = tuple(map(str, range(len(CHALLENGE))))
_BOM = b"\xef\xbb\xbf"


@dataclass
class Finding:
    """One kind of fault: what, how often, its first places; a note does not make a file invalid."""

    what: str
    note: bool = False
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more, and keep it if it is among the first."""
        self.count += 1
        if len(self.examples) < SHOWN:
            self.examples.append(example)

    def __str__(self) -> str:
        more = f"\n  … and {self.count - SHOWN} more" if self.count > SHOWN else ""
        places = "".join(f"\n  {example}" for example in self.examples)
        return f"{'note' if self.note else 'fault'}: {self.what} ({self.count}){places}{more}"


def check_submission(path: str | Path, frame_list: str | Path) -> list[Finding]:
    """Compare a submission with the challenge's list; return what was found, faults first.

    A file is valid if it is the list's header and then `location,class` for each listed frame in
    the list's order, class one digit 0..6, with LF ends; a missing last newline is only a note.
    Memory grows with the list, not with the file. Raises UserError if either cannot be read, or
    if the list itself is not one.
    """
    header, locations = read_frame_list(frame_list)
    found = {
        key: Finding(what)
        for key, what in {
            "empty": "the file is empty",
            "bom": "a byte order mark before the header",
            "header": "the header is not the list's",
            "crlf": "lines end in CRLF, not LF",
            "malformed": "lines that are not like 01/00001.jpg,3",
            "spaces": "blanks around a field",
            "class": "classes that are not a whole number 0..6",
            "missing": "frames of the list are missing",
            "extra": "frames that the list does not have",
            "duplicate": "frames that occur more than once",
            "order": "frames out of the list's order",
        }.items()
    }
    place = {location: index for index, location in enumerate(locations)}
    first_line: dict[int, int] = {}  # index in the list → line of the submission
    latest = -1
    number, line = 0, b""
    for number, line in lines_of(path):
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
                continue  # a header, but a wrong one; else the header is missing
        fields = text.split(",")
        if len(fields) != 2:
            found["malformed"].add(f"{at}: {_shown(text)}")
            continue
        if any(value != value.strip() for value in fields):
            found["spaces"].add(f"{at}: {_shown(text)}")
        location, label = (value.strip() for value in fields)
        if label not in _CLASSES:
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
            found["missing"].add(location)
    if number and not line.endswith(b"\n"):
        found["newline"] = Finding("no newline after the last line", note=True)
        found["newline"].add(f"line {number}")
    return [finding for finding in found.values() if finding.count]


def is_valid(findings: list[Finding]) -> bool:
    """Tell whether a file with these findings may be handed in: notes are no faults."""
    return all(finding.note for finding in findings)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")

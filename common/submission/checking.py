"""All faults of a submission file, and how two submissions differ.

Nothing here is shared with the writing of submissions, so that a fault there cannot hide here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase

from common.emotions import CHALLENGE
from common.script.files import UserError, csv_rows, some
from common.script.flags import COMMON
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

    Beside predictions-1.txt, frame_list-1.txt comes first.

    Raises UserError where there is no such submission, or no list.
    """
    if not path.exists():
        raise UserError(f"There is no submission {path} to check.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name its predictions.txt.")
    places = path.with_name("frame_list.txt"), prepared / "frame_list.txt"
    number = path.stem.removeprefix("predictions")
    for place in (path.with_name(f"frame_list{number}.txt"), *places):
        if place.is_file():
            return place
    raise UserError(
        f"There is no frame list {places[0]} or {places[1]} to check {path} against; name it with "
        "--frame-list."
    )


def print_check(path: Path, frame_list: Path | None, prepared: Path) -> int:
    """Print all faults of a submission; return the exit status: 0 where it is valid, else 1.

    frame_list: the list, or None for the one that `find_list` finds.
    """
    known = prepared / "frame_list.txt"
    if frame_list is None:
        frame_list = find_list(path, prepared)
        if known.is_file() and known.read_bytes() != frame_list.read_bytes():
            print(f"note: {known} is another list; --frame-list checks against it")
    findings = check_submission(path, frame_list)
    valid = is_valid(findings)
    verdict = f"{path} is {'valid' if valid else 'NOT valid'} against {frame_list}"
    print(*findings, verdict, sep="\n")
    return 0 if valid else 1


def check_submission(path: str | Path, frame_list: str | Path) -> list[Finding]:
    """Compare a submission with the challenge's list; return the faults, then the notes.

    A valid file is the list's header and then `location,class` for each listed frame in the
    list's order, class one digit 0..6, with LF ends; a missing last newline is only a note.
    Memory grows with the list, not with the file. Raises UserError if either cannot be read, or
    the list is not a frame list.
    """
    if not Path(path).exists():  # reported first, because the list may be missing too
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
            where = files.header_difference(text.split(","), header.split(","))
            found["header"].add(f"{at}: {where}\n  found: {_shown(text)}\n  expected: {header}")
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

    names: their letters. pairs: int [7][7], frames by class in the first and in the second.
    agreement: share of frames with the same class. kappa: Cohen's, the agreement beyond chance; 1
    where both give all frames one class. macro_f1: mean over the classes that occur. videos: of
    each, number of frames. alone: frames that only the first has, and only the second. changed:
    location, class in the first, class in the second of each frame whose class differs.
    """

    names: tuple[str, str]
    pairs: list[list[int]]
    agreement: float
    kappa: float
    macro_f1: float
    videos: Counter[str]
    alone: tuple[list[str], list[str]]
    changed: list[tuple[str, int, int]]

    @property
    def moves(self) -> Counter[tuple[str, int, int]]:
        """Video, class in the first, class in the second → number of changed frames."""
        return Counter((split_location(place)[0], a, b) for place, a, b in self.changed)


def read_submissions(paths: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Read submissions for `compare_submissions`: their classes by a letter each, from A.

    Raises UserError for fewer than two, more than 26, or one that cannot be read.
    """
    if not 2 <= len(paths) <= len(ascii_uppercase):
        raise UserError(f"--compare takes 2 to {len(ascii_uppercase)} submissions.")
    return dict(zip(ascii_uppercase, map(files.read_submission, paths), strict=False))


def compare_submissions(submissions: dict[str, dict[str, int]]) -> list[Comparison]:
    """Compare every two submissions frame by frame.

    Raises UserError where two have no frame in common.
    """
    return [_compare(*pair) for pair in combinations(submissions.items(), 2)]


def _compare(first: tuple[str, dict[str, int]], second: tuple[str, dict[str, int]]) -> Comparison:
    (name_a, a), (name_b, b) = first, second
    both = [location for location in a if location in b]
    if not both:
        raise UserError(f"The submissions {name_a} and {name_b} have no frame in common.")
    pairs = [[0] * len(CHALLENGE) for _ in CHALLENGE]
    for location in both:
        pairs[a[location]][b[location]] += 1
    videos = Counter(split_location(location)[0] for location in both)
    changed = [(place, a[place], b[place]) for place in both if a[place] != b[place]]
    totals = [(sum(x), sum(y)) for x, y in zip(pairs, zip(*pairs, strict=True), strict=True)]
    same = [row[index] for index, row in enumerate(pairs)]
    f1 = [2 * n / sum(total) for n, total in zip(same, totals, strict=True) if any(total)]
    agreement = sum(same) / len(both)
    chance = sum(x * y for x, y in totals) / len(both) ** 2
    kappa = (agreement - chance) / (1 - chance) if chance < 1 else 1.0
    alone = [place for place in a if place not in b], [place for place in b if place not in a]
    mean = sum(f1) / len(f1)
    return Comparison((name_a, name_b), pairs, agreement, kappa, mean, videos, alone, changed)


def comparison_text(
    paths: Sequence[Path], submissions: dict[str, dict[str, int]], found: list[Comparison]
) -> str:
    """Return comparisons as tables; two submissions also by video, and where their classes went."""
    lines = [
        f"{letter} {path}: {len(classes):,} frames"
        for path, (letter, classes) in zip(paths, submissions.items(), strict=True)
    ]
    lines += [f"\n{'pair':<6}{'in both':>9}{'changed':>9}{'agree':>9}{'macro-F1':>10}{'kappa':>8}"]
    for one in found:
        counts = f"{one.videos.total():>9,}{len(one.changed):>9,}{one.agreement:>9.1%}"
        lines.append(f"{' '.join(one.names):<6}{counts}{one.macro_f1:>10.4f}{one.kappa:>8.3f}")
        for places, letter, other in zip(one.alone, one.names, one.names[::-1], strict=True):
            if places:
                first = some(places, SHOWN)
                lines.append(f"      only in {letter}, not in {other}: {len(places):,} ({first})")
    more = "  A's frames changed to" if len(found) == 1 else ""
    lines.append(f"\n{'class':<24}" + "".join(f"{letter:>8}" for letter in submissions) + more)
    by_class = [Counter(classes.values()) for classes in submissions.values()]
    for index, name in enumerate(CHALLENGE):
        line = f"{name.replace('_', ' '):<24}" + "".join(f"{n[index]:>8,}" for n in by_class)
        if len(found) == 1:
            row = enumerate(found[0].pairs[index])
            moved = sorted(((n, i) for i, n in row if n and i != index), reverse=True)
            line += "  " + ", ".join(f"{CHALLENGE[i].replace('_', ' ')} {n:,}" for n, i in moved)
        lines.append(line.rstrip())
    if len(found) == 1:
        lines.append(f"\n{'video':<24}{'frames':>8}{'changed':>9}{'agree':>9}")
        by_video = Counter(split_location(place)[0] for place, *_ in found[0].changed)
        for video, frames in found[0].videos.items():
            changed = by_video[video]
            lines.append(f"{video:<24}{frames:>8,}{changed:>9,}{1 - changed / frames:>9.1%}")
    return "\n".join(lines)


def print_comparison(paths: Sequence[Path], run_dir: Path) -> None:
    """Print how submissions differ; write two tables where a run folder is named.

    compare.csv: of `write_comparison`. changed.csv: a row for each frame whose class differs, with
    a and b (letters of the submissions), image_location, class_a and class_b.
    """
    submissions = read_submissions(paths)
    found = compare_submissions(submissions)
    print(comparison_text(paths, submissions, found))
    if run_dir != COMMON["run_dir"]["default"]:
        write_comparison(run_dir / "compare.csv", found)
        columns = ["a", "b", "image_location", "class_a", "class_b"]
        with csv_rows(run_dir / "changed.csv", columns) as table:
            for one in found:
                for location, a, b in one.changed:
                    table.writerow([*one.names, location, CHALLENGE[a], CHALLENGE[b]])
        print(f"tables     {run_dir / 'compare.csv'}, {run_dir / 'changed.csv'}")


def write_comparison(path: str | Path, found: list[Comparison]) -> None:
    """Write comparisons as CSV: the changed frames by video and pair of classes, with counts.

    Columns: a, b (letters of the submissions), video, frames (of the video), class_a, class_b,
    changed; a video without a change has one row with 0.
    """
    columns = ["a", "b", "video", "frames", "class_a", "class_b", "changed"]
    with csv_rows(path, columns) as table:
        for one in found:
            moves: dict[str, list] = {}
            for (video, a, b), count in sorted(one.moves.items()):
                moves.setdefault(video, []).append([CHALLENGE[a], CHALLENGE[b], count])
            for video, frames in one.videos.items():
                for row in moves.get(video, []):
                    table.writerow([*one.names, video, frames, *row])
                if video not in moves:
                    table.writerow([*one.names, video, frames, "", "", 0])


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")

"""True classes of frames: a table of frames, or tables of time segments."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from common.emotions import CHALLENGE, challenge_class, parse_labels
from common.script.files import UserError
from common.submission.files import in_line, locate, rows_of, split_location

SPLITS = ("", "train", "val", "test")


class Truth(NamedTuple):
    """What is known of a frame: its class 0..6, or -1; its split as written, or empty."""

    label: int
    split: str


class Segment(NamedTuple):
    """A stretch of a video, in seconds, end excluded, with its class 0..6, or -1 for Other."""

    begin: Fraction
    end: Fraction
    label: int
    line: int


def read_truth(path: str | Path, videos: dict[str, Path] | None = None) -> dict[str, Truth]:
    """Read the true classes of frames by their location.

    A table `image_location,label`, optionally with a third column `split` (train, val or test). A
    label is 0..6, a compound's name, or -1 or empty where it is not scored. Or a folder of tables
    of time segments, such as 01.csv, of these videos (see `read_segments`). Raises UserError, with
    the line's number, for another form, an unknown label, or a frame named twice.
    """
    if Path(path).is_dir():
        return _truth_of_segments(Path(path), videos or {})
    truth: dict[str, Truth] = {}
    columns = ["image_location", "label", "split"]
    for number, text, fields in rows_of(path):
        with in_line(path, number):
            if number == 1:
                columns = columns[: max(2, len(fields))]
                if fields != columns:
                    raise ValueError(
                        "the header must be image_location,label or image_location,label,split, "
                        f"not {text[:80]!r}"
                    )
                continue
            if len(fields) != len(columns):
                raise ValueError(
                    f"{text[:80]!r} has {len(fields)} fields, the header {len(columns)}"
                )
            location, label, split = (*fields, "")[:3]
            split_location(location)
            if split.lower() not in SPLITS:
                raise ValueError(f"the split {split!r} is none of train, val and test")
            if location in truth:
                raise ValueError(f"{location} has a label already")
            truth[location] = Truth(_class_of(label), split.lower())
    return truth


def _truth_of_segments(folder: Path, videos: dict[str, Path]) -> dict[str, Truth]:
    from common.raw.matching import nearest_name  # imports Pillow, for which --help would wait

    truth: dict[str, Truth] = {}
    paths = sorted(folder.glob("*.csv"))
    unlabelled = videos.keys() - {path.stem for path in paths}
    for path in paths:
        segments = read_segments(path)
        if path.stem not in videos:
            near = nearest_name(path.stem, unlabelled)
            print(
                f"warning: {path} labels a video that is not there"
                f"{near and f' ({near}: rename one)'}: left out.",
                file=sys.stderr,
            )
            continue
        times, line_of = frame_times(videos[path.stem]), {}
        for segment in sorted(segments):
            inside = [k for k, t in enumerate(times, 1) if segment.begin <= t < segment.end]
            earlier = [line_of[frame] for frame in inside if frame in line_of]
            if len(earlier) > 1:
                raise UserError(
                    f"{path}, line {segment.line}: overlaps line {earlier[0]} by {len(earlier)} "
                    "frames; only one is allowed."
                )
            for frame in inside:  # a frame in two segments belongs to the later one
                line_of[frame] = segment.line
                truth[locate(path.stem, frame)] = Truth(segment.label, "")
    if not truth:
        used = [path.name for path in paths if path.stem in videos]
        raise UserError(
            f"No frame lies in a segment of {', '.join(used[:5])} in {folder}: check their times."
            if used
            else f"{folder} holds no table of time segments (such as 01.csv) of the videos."
        )
    return truth


def read_segments(path: Path) -> list[Segment]:
    """Read the time segments of a video.

    The header is `Begin Time…`, `End Time…`, the seven compounds in any order, and `Other`; a row
    is `00:00:08.556,00:00:21.974,,,,"1",,,,`, with a mark for exactly one class. Raises UserError,
    with the line's number, for another form.
    """
    segments, labels = [], None
    for number, text, fields in rows_of(path):
        fields = [field.strip('"').strip() for field in fields]
        with in_line(path, number):
            if labels is None:
                times, names = fields[:2], [name.replace(" ", "_") for name in fields[2:]]
                known, found = Counter((*CHALLENGE, "Other")), Counter(names)
                if [time.split(" ")[0] for time in times] != ["Begin", "End"] or found != known:
                    differing = ", ".join(map(repr, sorted(found - known | known - found)))[:200]
                    raise ValueError(
                        "the header must be Begin Time, End Time, the seven compounds and Other; "
                        f"it begins with {times}{differing and f', and differs in {differing}'}"
                    )
                labels = [-1 if name == "Other" else CHALLENGE.index(name) for name in names]
                continue
            begin, end = map(_seconds, fields[:2])
            marks = fields[2:]
            if len(marks) != len(labels) or sorted(marks) != [""] * (len(labels) - 1) + ["1"]:
                raise ValueError(f"{text[:80]!r} does not mark exactly one class with 1")
            if end < begin:
                raise ValueError(f"the segment ends at {fields[1]}, before it begins")
            segments.append(Segment(begin, end, labels[marks.index("1")], number))
    return segments


def _seconds(text: str) -> Fraction:
    match = re.fullmatch(r"([0-9]{1,2}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,9})?)", text)
    if not match:
        raise ValueError(f"{text!r} is not a time like 00:00:08.556")
    return 3600 * int(match[1]) + 60 * int(match[2]) + Fraction(match[3])


def frame_times(path: Path) -> list[Fraction]:
    """Return when each frame of a video is shown, in seconds from the start of the file, rising.

    They are the file's own time stamps: frames need not be evenly spaced. Raises UserError where
    the video cannot be read, or has no time stamps that order its frames.
    """
    from common.faces.packets import opened, packets, survey  # they need PyAV, a table does not

    surveyed = survey(path)
    with opened(path) as container:
        stream = container.streams[surveyed.stream]
        unit, start = stream.time_base, Fraction(container.start_time or 0, 10**6)
        stamps = [packet.pts for packet in packets(container, stream, [])]
    timed = [i for i, time in enumerate(surveyed.times) if time is not None]
    shown = [stamps[i] for i in sorted(timed, key=surveyed.times.__getitem__)]
    if None in shown or shown != sorted(shown):
        raise UserError(
            f"The frames of {path} have no time stamps, or some that do not rise; convert it to "
            "MP4 to use time segments."
        )
    return [stamp * unit - start for stamp in shown]


def _class_of(label: str) -> int:
    if label in ("", "-1"):
        return -1
    if re.fullmatch("[0-9]+", label):
        number = int(label)
    else:
        number = challenge_class(" ".join(parse_labels(label)))
    if not 0 <= number < len(CHALLENGE):
        raise ValueError(f"{label!r} is none of the seven classes 0..6; leave it empty to skip it")
    return number


def check_truth(path: Path | None, videos: Path | None) -> None:
    """Raise UserError where a truth is named that is not there, or times without their videos.

    The truth itself is opened only after the submission is written.
    """
    if path and not path.exists():
        raise UserError(f"There is no truth table {path}.")
    if path and path.is_dir() and not videos:
        raise UserError(f"{path} holds time segments; --videos must name the videos they label.")


def tuning_frames(
    truth: dict[str, Truth], listed: Sequence[str] | None, path: Path
) -> dict[str, int]:
    """Return the class of each frame that may be used for tuning: all that are not test.

    listed: the frames of the challenge's list; they count as test unless marked train or val. A
    video with a frame marked test is left out whole, because its frames resemble each other.
    Raises UserError where the table labels listed frames without a mark, or leaves fewer than two
    videos.
    """
    if listed is not None:
        unmarked = [location for location in listed if location in truth]
        unmarked = [location for location in unmarked if truth[location].split == ""]
        if unmarked:
            raise UserError(
                f"{path} labels {len(unmarked):,} frames of the list to predict, such as "
                f"{unmarked[0]}; settings are not tuned on the frames they are judged by. If these "
                "are your own labelled data, add a column split with train or val."
            )
    test = {split_location(place)[0] for place, known in truth.items() if known.split == "test"}
    usable = {
        place: known.label
        for place, known in truth.items()
        if known.label >= 0 and split_location(place)[0] not in test
    }
    if len({split_location(place)[0] for place in usable}) < 2:
        raise UserError(
            f"{path} labels fewer than two videos that are there and not marked test; tuning needs "
            "some to choose the settings and others to judge them."
        )
    return usable

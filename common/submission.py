"""From probabilities of some frames to the challenge's file: list, gaps, smoothing, writing.

The frame list rules: a decoder may find a frame more or less than it names, and a detector finds
no face in many. Every listed frame gets exactly one class, in the list's order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from common.emotions import BASIC, CHALLENGE, challenge_class, compound_scores, parse_labels
from common.files import UserError, inside, whole_file

# The challenge's header: eight names above rows of two fields (FACTS §2).
HEADER = ",".join(("image_location", *CHALLENGE))

# Frames of each class in the whole C-EXPR-DB as its owners publish them, order of CHALLENGE.
DATABASE_COUNTS = (14445, 24915, 10780, 10637, 10535, 10112, 8878)

SMOOTHING = ("none", "box", "gaussian", "median")

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
            raise UserError(f"{path}, line {number}: {text[:80]!r} is not like 01/00001.jpg,0.")
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


def read_frames(prepared: str | Path) -> pd.DataFrame:
    """Read `frames.csv` of a prepared folder: video (str), frame (int64), image (str or empty).

    Raises UserError if it is missing or damaged, or names an image outside the folder.
    """
    path = Path(prepared) / "frames.csv"
    if not path.is_file():
        raise UserError(
            f"There is no {path}: run 01_prepare_data.py with the challenge's videos under "
            "<data-dir>/raw, or name a folder of videos with --videos."
        )
    try:
        table = pd.read_csv(
            path,
            usecols=["video", "frame", "image"],
            dtype={"video": str, "frame": "int64", "image": str},
            keep_default_na=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); run 01_prepare_data.py again.") from None
    twice = table[table.duplicated(["video", "frame"])]
    if len(twice) or (table["frame"] < 1).any() or not len(table):
        what = f"frame {twice.iloc[0].frame} of {twice.iloc[0].video} twice" if len(twice) else ""
        raise UserError(f"{path} holds {what or 'no valid frames'}; run 01_prepare_data.py again.")
    for image in table["image"]:
        inside(prepared, image)
    return table


def fill_gaps(frames: np.ndarray, probabilities: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Interpolate one video's probabilities linearly in time, holding them at both ends.

    frames: int [K], increasing, frames with a face. probabilities: float [K, C]. wanted: int [N].
    Returns float64 [N, C]; frames that were observed keep their values.
    """
    return np.stack([np.interp(wanted, frames, column) for column in probabilities.T], axis=1)


def smooth(probabilities: np.ndarray, kind: str, width: int) -> np.ndarray:
    """Smooth successive frames of one video in time, each column apart; reflected at the ends.

    probabilities: float [N, C]. width: frames; of the box and the median the whole window, while
    the Gaussian has the standard deviation of that box, so that kinds of one width compare.
    """
    if kind == "none" or width <= 1:
        return probabilities
    if kind == "box":
        return ndimage.uniform_filter1d(probabilities, width, axis=0, mode="reflect")
    if kind == "gaussian":
        return ndimage.gaussian_filter1d(probabilities, width / 12**0.5, axis=0, mode="reflect")
    if kind == "median":
        return ndimage.median_filter(probabilities, size=(width, 1), mode="reflect")
    raise ValueError(f"unknown smoothing {kind!r}: choose {', '.join(SMOOTHING)}")


def align(
    locations: Sequence[str],
    frames: pd.DataFrame,
    probabilities: np.ndarray,
    smoothing: str = "none",
    width: int = 1,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Give every listed frame probabilities: observed, interpolated in time, or the prior.

    locations: N listed frames. frames: [K] rows (video, frame), those with a face; probabilities:
    float [K, 6]. Returns float64 [N, 6], bool [N] (observed), and the listed videos without any
    face: these get the mean over all other frames, or 1/6 where no video has a face.
    """
    pairs = [split_location(location) for location in locations]
    listed = pd.DataFrame(pairs, columns=["video", "frame"])
    seen = {
        video: rows[np.argsort(frames["frame"].to_numpy()[rows])]
        for video, rows in frames.groupby("video").indices.items()
    }
    numbers = frames["frame"].to_numpy()
    used = [seen[video] for video in listed["video"].unique() if video in seen]
    columns = len(BASIC)
    prior = (
        probabilities[np.concatenate(used)].mean(axis=0) if used else np.full(columns, 1 / columns)
    )
    aligned = np.tile(prior.astype(np.float64), (len(listed), 1))
    face = np.zeros(len(listed), dtype=bool)
    faceless = []
    for video, rows in listed.groupby("video", sort=False).indices.items():
        if video not in seen:
            faceless.append(video)
            continue
        wanted, observed = listed["frame"].to_numpy()[rows], seen[video]
        known = numbers[observed]
        face[rows] = np.isin(wanted, known)
        # Every frame of the video takes part in smoothing, also those that are not listed.
        first, last = min(wanted.min(), known[0]), max(wanted.max(), known[-1])
        whole = fill_gaps(known, probabilities[observed], np.arange(first, last + 1))
        aligned[rows] = smooth(whole, smoothing, width)[wanted - first]
    return aligned, face, faceless


def prediction_table(
    locations: Sequence[str], probabilities: np.ndarray, face: np.ndarray, rule: str
) -> pd.DataFrame:
    """Decide every listed frame: one row a frame, as `probabilities.csv` holds it.

    Columns: video, frame, face (0 or 1), p_Surprise … p_Anger, the seven compounds' scores by
    their names in CHALLENGE, decision (class 0..6, the highest score, the first of equals).
    """
    scores = compound_scores(probabilities, rule)
    table = pd.DataFrame(
        [split_location(location) for location in locations], columns=["video", "frame"]
    )
    table["face"] = np.asarray(face).astype(np.int8)
    table[[f"p_{name}" for name in BASIC]] = probabilities
    table[list(CHALLENGE)] = scores
    table["decision"] = scores.argmax(axis=1)
    return table


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


def read_truth(path: str | Path) -> dict[str, int]:
    """Read the true classes of frames: {image_location: 0..6, or -1 where it is not scored}.

    A table `image_location,label`; a label is 0..6, a compound's name, or -1 or empty. Raises
    UserError, with the line's number, for another form, an unknown label, or a frame named twice.
    """
    truth: dict[str, int] = {}
    for number, text in _text_lines(path):
        fields = [field.strip() for field in text.split(",")]
        if number == 1:
            if fields != ["image_location", "label"]:
                raise UserError(f"{path}, line 1: the header must be image_location,label.")
            continue
        try:
            if len(fields) != 2:
                raise ValueError(f"{text[:80]!r} is not like 01/00001.jpg,3")
            split_location(fields[0])
            label = _truth_class(fields[1])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
        if fields[0] in truth:
            raise UserError(f"{path}, line {number}: {fields[0]} has a label already.")
        truth[fields[0]] = label
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

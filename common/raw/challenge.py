"""Videos to be predicted, with the challenge's list of frames (C-EXPR-DB, ABAW 6 to 9).

    <video>.mp4, in the folder or one below     01.mp4 ... 56.mp4
    <video>/00001.jpg, in place of the videos   their frames; with a list, or it is a set of images
    CER.txt (7th), CVPR_6th_ABAW_CE_test_set_example.txt (or _sample.txt), ICCV_9th_..., also in
    prediction_files_format/, or any .txt or .csv whose first line starts with `image_location`

Traps: the list is the truth, not the decoder, and may have a frame more or less than decodes.
prediction_files_format/ also holds the lists of the tasks Expr, VA and AU, for other videos.
Labelled clips (MAFW, DFEW, BLEMORE, a table of one's own) are not the challenge's. The list itself
is read by common.submission.files. Without a list, every frame that decodes counts.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from PIL import Image

from common.faces.stills import NOTES, frame_files, frame_folders
from common.raw import blemore, dfew, mafw, mafw_tables, table, table_clips
from common.raw.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, entries, look, unwrapped, walk_files
from common.script.files import UserError

ALIGNED = False

_LABELLED = (blemore, dfew, mafw, mafw_tables, table, table_clips)

_OFFICIAL_NAME = re.compile(r"cer\.txt|.*_abaw_ce_test_set_(example|sample)\.txt", re.IGNORECASE)
# What follows in lists of the other tasks, and in tables of true classes.
_NOT_OURS = rb"label|neutral|anger|valence|arousal|au\d+"


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "videos, with their list" if find_frame_list(folder) else "videos"


def _files(folder: Path, listed=entries) -> list[os.DirEntry]:
    """Return the files of the challenge; listed: entries, or look where some will do."""
    found = _files_in(folder, listed)
    if any(map(_is_video, found)):
        return found
    inner = _files_in(unwrapped(folder), listed)
    if any(map(_is_video, inner)):
        return inner
    return list({entry.path: entry for entry in found + inner}.values())


def _is_video(entry: os.DirEntry) -> bool:
    return _suffix(entry) in VIDEO_SUFFIXES or _is_animation(entry)


def _is_animation(entry: os.DirEntry) -> bool:
    """Say whether a file is a .gif of several frames."""
    if _suffix(entry) != ".gif" or not entry.is_file():
        return False
    try:
        with Image.open(entry.path) as image:
            return image.is_animated
    except Exception:  # Pillow raises nearly anything on damaged files
        return False


def _suffix(entry: os.DirEntry) -> str:
    return os.path.splitext(entry.name)[1].lower()


def _files_in(folder: Path, listed) -> list[os.DirEntry]:
    """Return the files in a folder and in the folders right below it."""
    found = listed(folder)
    # A face data set may have a million folders; the challenge's has a handful.
    places = [Path(e.path) for e in found if e.is_dir()] if len(found) <= 200 else []
    below = [entry for place in places for entry in listed(place)]
    return [entry for entry in found + below if entry.is_file()]


def recognises(folder: Path) -> bool:
    """A folder with a video in it or one level below, unless the videos are labelled clips.

    Or one with a frame list and folders of frames.
    """
    found = _files(folder, look)
    videos = [entry for entry in found if _is_video(entry)]
    # Among pictures, an animated .gif is one of them.
    pictures = any(_suffix(e) in IMAGE_SUFFIXES and e not in videos for e in found)
    if videos and not (pictures and all(_suffix(e) == ".gif" for e in videos)):
        return not any(reader.recognises(folder) for reader in _LABELLED)
    lists = any(_names_frames(Path(e.path)) for e in found if _is_text(e))
    return lists and bool(frame_folders(unwrapped(folder)))


def find_videos(folder: Path) -> dict[str, Path]:
    """Return name (without ending) -> path of the videos, or of folders of their frames.

    Frames are read where no video is there. Raises UserError if two videos share a name.
    """
    videos: dict[str, Path] = {}
    found = [Path(entry.path) for entry in filter(_is_video, _files(folder))]
    if not found:
        return frame_folders(unwrapped(folder))
    for path in found:
        if path.stem in videos:
            raise UserError(
                f"{path} and {videos[path.stem]} have the same name; rename or remove one."
            )
        videos[path.stem] = path
    return videos


def find_videos_and_rest(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the videos of a folder that the user gives as --videos, and what is not read of it.

    The videos are those of `find_videos`, and folders of frames beside them, in which a raw data
    set may hold pictures for another use. The rest are the names of all other files but notes.
    """
    videos, rest = find_videos(folder), []
    read = set(videos.values())
    beside = {folder, *(path.parent for path in read)} - {path for path in read if path.is_dir()}
    judged: set[Path] = set()
    for path in map(Path, walk_files(folder, None)):
        place = path.parent
        if place.parent in beside and place not in judged and place not in read:
            judged.add(place)
            with suppress(UserError):  # its numbers are not clear: left alone
                if place.name not in videos and frame_files(place):
                    videos[place.name] = place
                    read.add(place)
        if not {path, place} & read and path.suffix.lower() not in NOTES:
            rest.append(str(path.relative_to(folder)))
    return videos, rest


def find_frame_list(folder: Path) -> Path | None:
    """Return the frame list beside the videos, or None. Raises UserError if it is not clear."""
    texts = [Path(e.path) for e in _files(folder) if _is_text(e)]
    # A list of the official name is one, whatever is in it: its reader says what is wrong.
    official = [path for path in texts if _OFFICIAL_NAME.fullmatch(path.name)]
    best = official or [path for path in texts if _looks_like_list(path)]
    if len(best) > 1:
        raise UserError(
            f"{folder} holds several frame lists ({', '.join(p.name for p in best)}); keep one."
        )
    return best[0] if best else None


def _is_text(entry: os.DirEntry) -> bool:
    return entry.name.lower().endswith((".txt", ".csv"))


def _names_frames(path: Path) -> bool:
    return bool(_OFFICIAL_NAME.fullmatch(path.name)) or _looks_like_list(path)


def _looks_like_list(path: Path) -> bool:
    """Say whether a file starts with the header of a list, or with a row of one (not headed)."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:
        return False
    ours = rb"image_location(?!\s*,\s*(" + _NOT_OURS + rb")\b)"
    listed = rb"(\xef\xbb\xbf)?\s*(" + ours + rb"|[^/\n]+/\d{5}\.jpg)"
    return bool(re.match(listed, start, re.I))

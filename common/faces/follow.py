"""Follow the main face through a video, or the frames of one, and crop it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.faces.alignment import TEMPLATE, align, come_aligned
from common.faces.detector import LEAST_FACE_PX, Detector, Faces, overlap
from common.faces.packets import survey
from common.faces.stills import frame_files, others, stills
from common.faces.video import Footage, number_frames, pictures
from common.script.files import UserError, some

_TRACK_GAP_FRAMES = 25
_LINK_IOU = 0.3
_SHOT_FRAMES = 5
_FILL_SHARE = 0.25  # of the main face's area times score


def main_face(faces: Faces) -> int | None:
    """Return the index of a photograph's main face, large and certain, or None without a face."""
    if not len(faces.scores):
        return None
    return int(np.argmax(areas(faces.boxes) * faces.scores))


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes [n, 4]: float [n]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def follow_main_face(found: list[Faces]) -> list[int]:
    """Choose the face to crop in each frame: its index in found[frame], or -1.

    Faces of successive frames are linked into tracks where their boxes overlap; a track survives
    a second or so without its face. The main track has the largest sum of area times score: size,
    certainty and persistence together, so that a smaller face that passes by does not win. Other
    tracks fill the time in which the chosen ones are absent (after a cut), from the largest sum
    down, if they do not overlap a chosen one in time and their faces are not much smaller.
    """
    tracks: list[_Track] = []
    for frame, faces in enumerate(found):
        alive = [t for t in tracks if frame - t.frames[-1] <= _TRACK_GAP_FRAMES]
        free = set(range(len(faces.scores)))
        if alive and free:
            iou = overlap(np.stack([t.box for t in alive]), faces.boxes)
            while iou.size and iou.max() >= _LINK_IOU:
                which, face = np.unravel_index(iou.argmax(), iou.shape)
                alive[which].add(frame, int(face), faces)
                free.discard(int(face))
                iou[which], iou[:, face] = 0, 0
        for face in sorted(free):
            tracks.append(_Track())
            tracks[-1].add(frame, face, faces)
    chosen = [-1] * len(found)
    within = np.zeros(len(found), dtype=bool)  # the first to the last frame of a chosen track
    tracks.sort(key=lambda track: -track.weight)
    for track in tracks:
        typical, main = (t.weight / len(t.frames) for t in (track, tracks[0]))
        if typical < _FILL_SHARE * main or any(chosen[frame] >= 0 for frame in track.frames):
            continue
        # A face for a moment amid a track is rather a mistake of the detector than a shot.
        if within[track.frames].any() and len(track.frames) < _SHOT_FRAMES:
            continue
        within[track.frames[0] : track.frames[-1] + 1] = True
        for frame, face in zip(track.frames, track.faces, strict=True):
            chosen[frame] = face
    return chosen


@dataclass
class _Track:
    """One face through time: its frames, its index among each frame's faces, its last box."""

    frames: list[int] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    weight: float = 0.0  # sum of area times score
    box: np.ndarray | None = None

    def add(self, frame: int, face: int, faces: Faces) -> None:
        self.frames.append(frame)
        self.faces.append(face)
        self.box = faces.boxes[face]
        self.weight += float(areas(faces.boxes[face : face + 1])[0] * faces.scores[face])


class FrameRow(NamedTuple):
    """One row of frames.csv.

    image: relative to the prepared folder, or empty where no face was found; box, score too.
    decoded: 1, or 0 where the frame could not be read, or is listed and not there.
    """

    video: str
    frame: int
    image: str = ""
    box: str = ""
    score: str = ""
    decoded: int = 1


def video_faces(
    path: str | os.PathLike, detector: Detector, *, everyone: bool = False
) -> tuple[Footage, Iterator[tuple[int, Faces, list[np.ndarray]]]]:
    """Return what a video holds, and (number, faces, their crops) of every frame that decodes.

    path: of a video, or of a folder of its frames. The faces are the main one, or everyone found.
    Two passes, one to find and follow the faces and one to crop, so that only boxes and landmarks
    are held in memory, whatever the length. Frames that are aligned crops already (as their first
    face lies in most of them) are crops as they are. Raises UserError for an unreadable video, and
    for one that changes meanwhile.
    """
    read, settle = _from_folder(path) if os.path.isdir(path) else _from_file(path)
    shown, sizes, found = [], [], []
    for key, image in read():
        shown.append(key)
        sizes.append(image.shape[:2])
        found.append(detector.detect(image))
    if not shown:
        raise UserError(f"None of the frames in {path} can be read; replace them or remove them.")
    numbers, footage = settle(shown)
    if os.path.isdir(path) and come_aligned(found, sizes):
        return footage, _whole(read(), numbers)
    footage.remarks.extend(_missed_by_size(detector, sizes, found))
    if not everyone:
        chosen = follow_main_face(_in_one_scale(found, sizes))
        pairs = zip(found, chosen, strict=True)
        found = [faces.take([face] if face >= 0 else []) for faces, face in pairs]

    def crops() -> Iterator[tuple[int, Faces, list[np.ndarray]]]:
        again = []
        for (key, image), number, faces in zip(read(), numbers, found, strict=False):
            again.append(key)
            yield number, faces, [align(image, landmarks) for landmarks in faces.landmarks]
        if again != shown:
            raise UserError(f"The video {path} changed while it was read; run again.")

    return footage, crops()


Settle = Callable[[list[int]], tuple[list[int], Footage]]


def _from_file(path: str | os.PathLike) -> tuple[Callable, Settle]:
    """Return what yields (packet, image) of a video file, and what numbers the packets' frames."""
    surveyed = survey(path)
    return partial(pictures, path, surveyed), partial(number_frames, surveyed)


def _from_folder(path: str | os.PathLike) -> tuple[Callable, Settle]:
    """Return the same of a folder of frames, whose names number them."""
    files = frame_files(path)
    held, left, remarks = list(files), others(path, files), []
    if left:
        remarks = [f"holds {len(left):,} more, named unlike its frames: left alone ({some(left)})."]

    def settle(shown: list[int]) -> tuple[list[int], Footage]:
        return shown, Footage(held, sorted(set(held) - set(shown)), remarks)

    return partial(stills, files), settle


def _whole(
    images: Iterator[tuple[int, np.ndarray]], numbers: list[int]
) -> Iterator[tuple[int, Faces, list[np.ndarray]]]:
    """Yield crops that were aligned before, each as the one face of its frame."""
    for (_, image), number in zip(images, numbers, strict=True):
        height, width = image.shape[:2]
        box = np.float32([[0, 0, width, height]])
        face = Faces(box, np.float32([1]), TEMPLATE[None] * np.float32([width, height]))
        yield number, face, [image]


def _missed_by_size(
    detector: Detector, sizes: list[tuple[int, int]], found: list[Faces]
) -> list[str]:
    """Say what to set where most frames of a large video show no face: it may be too small."""
    longest, sides = max(map(max, sizes)), detector.sides_px
    without = sum(not len(faces.scores) for faces in found)
    if longest <= 2 * max(sides) or 2 * without <= len(found):
        return []
    larger = -(-longest // 128) * 32  # a quarter, for the detector in whole steps
    return [
        f"shows no face in {without} of {len(found)} frames: at {longest} pixels, faces under "
        f"{LEAST_FACE_PX * longest // max(sides)} are missed. --detect-sides "
        f"{' '.join(map(str, [*sides, larger]))} finds those from "
        f"{LEAST_FACE_PX * longest // larger}, in three times the time."
    ]


def _in_one_scale(found: list[Faces], sizes: list[tuple[int, int]]) -> list[Faces]:
    """Return faces with boxes as if all frames, sizes (height, width), were as large as the first.

    A video may change its resolution midway, and its faces stay what they are.
    """
    height, width = sizes[0]
    return [
        faces
        if size == sizes[0]
        else faces._replace(
            boxes=faces.boxes * np.tile(np.float32([width / size[1], height / size[0]]), 2)
        )
        for faces, size in zip(found, sizes, strict=True)
    ]


def crop_video(
    path: str | os.PathLike, video: str, prepared: Path, detector: Detector
) -> tuple[list[FrameRow], Footage]:
    """Crop the main face of each frame to prepared/crops/<video>/00001.jpg.

    Returns a row for every frame that the video holds. Raises UserError for an unreadable video.
    """
    folder = Path("crops") / video
    (prepared / folder).mkdir(parents=True, exist_ok=True)
    footage, shown = video_faces(path, detector)
    lost = set(footage.lost)
    rows = {n: FrameRow(video, n, decoded=int(n not in lost)) for n in footage.held}
    for number, faces, crops in shown:
        if not crops:
            continue
        name = folder / f"{number:05d}.jpg"
        write_jpeg(crops[0], prepared / name)
        box = " ".join(f"{v:.1f}" for v in faces.boxes[0])
        rows[number] = FrameRow(video, number, name.as_posix(), box, f"{faces.scores[0]:.3f}")
    return list(rows.values()), footage


def write_jpeg(image: np.ndarray | Image.Image, path: Path) -> int:
    """Write a picture (quality 95) that appears whole or not at all; return its size in bytes.

    Not synced to disk one by one, which would take longer than all else: after a power cut the
    next run finds an empty file and makes it again.
    """
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(aside, "wb") as file:
        image.save(file, "JPEG", quality=95)
        size = file.tell()
    os.replace(aside, path)
    return size

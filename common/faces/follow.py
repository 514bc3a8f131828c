"""Follow the main face through a video, align and crop faces by their five landmarks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.faces.detector import Detector, Faces, overlap
from common.faces.video import frames
from common.script.files import UserError

# Where the landmarks lie in a crop, as fractions (x, y) of its side: image-left eye, image-right
# eye, nose tip, image-left and image-right corner of the mouth.
TEMPLATE = np.array(
    ((0.35, 0.39), (0.65, 0.39), (0.50, 0.56), (0.376, 0.737), (0.624, 0.737)), dtype=np.float32
)
CROP_PX = 256

_TRACK_GAP_FRAMES = 25
_LINK_IOU = 0.3
_SHOT_FRAMES = 5
_FILL_SHARE = 0.25  # of the main face's area times score


def similarity(landmarks: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Return (a, b) of the least-squares similarity z -> a·z + b from landmarks to target.

    Points are [5, 2] and stand as complex numbers x + iy, so that a holds scale and rotation and
    no reflection is possible (the least-squares solution of Umeyama 1991).
    """
    z, w = (points.astype(np.float64) @ (1, 1j) for points in (landmarks, target))
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred).real
    return a, w.mean() - a * z.mean()


def align(image: np.ndarray, landmarks: np.ndarray, size: int = CROP_PX) -> np.ndarray:
    """Crop a face so that its landmarks fall on TEMPLATE: uint8 [H, W, 3] -> [size, size, 3].

    Least-squares similarity of the five points, bicubic. What lies outside the image repeats its
    nearest edge: a black corner would tell the network how the head was tilted.
    """
    a, b = similarity(landmarks, TEMPLATE * size)
    corners = (np.array([0, size, 1j * size, size + 1j * size]) - b) / a  # in the image
    # Bicubic reads 4 x 4 pixels whatever the scale: average first where several become one.
    shrink = max(1, int(1 / abs(a)))
    margin = 2 * shrink + 1  # what bicubic reads beyond the square
    x0, x1 = (int(np.floor(f(corners.real) + s)) for f, s in ((min, -margin), (max, margin + 1)))
    y0, y1 = (int(np.floor(f(corners.imag) + s)) for f, s in ((min, -margin), (max, margin + 1)))
    region = image.take(range(y0, y1), axis=0, mode="clip")
    region = Image.fromarray(region.take(range(x0, x1), axis=1, mode="clip"))
    if shrink > 1:
        region = region.reduce(shrink)
    back = 1 / (a * shrink)  # crop pixel -> region pixel
    shift = ((-b / a) - (x0 + 1j * y0)) / shrink
    coefficients = (back.real, -back.imag, shift.real, back.imag, back.real, shift.imag)
    crop = region.transform(
        (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(crop)


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
    """One row of frames.csv. image is relative to the prepared folder, or empty; box, score too."""

    video: str
    frame: int
    image: str
    box: str
    score: str


def video_faces(
    path: str | os.PathLike,
    detector: Detector,
    *,
    everyone: bool = False,
    counts: Counter | None = None,
) -> Iterator[tuple[int, Faces, list[np.ndarray]]]:
    """Yield (number, faces, their crops) of every frame: of the main face, or of everyone found.

    Two passes, one to find and follow the faces and one to crop, so that only boxes and landmarks
    are held in memory, whatever the length. Raises UserError for an unreadable video, and for one
    that changes meanwhile.
    """
    found = [detector.detect(image) for _, image in frames(path, counts)]
    if not everyone:
        chosen = follow_main_face(found)
        pairs = zip(found, chosen, strict=True)
        found = [faces.take([face] if face >= 0 else []) for faces, face in pairs]
    number = 0
    for (number, image), faces in zip(frames(path), found, strict=False):
        yield number, faces, [align(image, landmarks) for landmarks in faces.landmarks]
    if number != len(found):
        raise UserError(f"The video {path} changed while it was read; run again.")


def crop_video(
    path: str | os.PathLike,
    video: str,
    prepared: Path,
    detector: Detector,
    *,
    counts: Counter | None = None,
) -> list[FrameRow]:
    """Crop the main face of each frame to prepared/crops/<video>/00001.jpg; return all rows.

    Raises UserError for an unreadable video.
    """
    folder = Path("crops") / video
    (prepared / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, faces, crops in video_faces(path, detector, counts=counts):
        if not crops:
            rows.append(FrameRow(video, number, "", "", ""))
            continue
        name = folder / f"{number:05d}.jpg"
        write_jpeg(crops[0], prepared / name)
        box = " ".join(f"{v:.1f}" for v in faces.boxes[0])
        rows.append(FrameRow(video, number, name.as_posix(), box, f"{faces.scores[0]:.3f}"))
    return rows


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

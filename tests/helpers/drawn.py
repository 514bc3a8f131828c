"""A face drawn well enough for the detector, and videos of it, for the tests."""

from __future__ import annotations

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Landmarks of `draw_face`, in its sizes from its centre, in the order of faces.TEMPLATE.
LANDMARKS = np.array(((-0.15, -0.11), (0.15, -0.11), (0, 0.08), (-0.124, 0.237), (0.124, 0.237)))


def draw_face(picture: Image.Image, x: float, y: float, size: float) -> None:
    """Draw a face of about `size` pixels in height, its centre at (x, y)."""
    draw = ImageDraw.Draw(picture)

    def ellipse(dx, dy, rx, ry, colour):
        box = (x + (dx - rx) * size, y + (dy - ry) * size)
        draw.ellipse((*box, x + (dx + rx) * size, y + (dy + ry) * size), fill=colour)

    ellipse(0, -0.12, 0.45, 0.55, (60, 40, 30))
    ellipse(0, 0, 0.38, 0.5, (224, 180, 150))
    for side in (-0.15, 0.15):
        ellipse(side, -0.11, 0.075, 0.04, (250, 250, 250))
        ellipse(side, -0.11, 0.035, 0.035, (50, 30, 20))
        brow = (
            x + (side - 0.09) * size,
            y - 0.19 * size,
            x + (side + 0.09) * size,
            y - 0.19 * size,
        )
        draw.line(brow, fill=(70, 45, 35), width=max(1, int(0.025 * size)))
    nose = [
        (x, y - 0.05 * size),
        (x - 0.04 * size, y + 0.08 * size),
        (x + 0.03 * size, y + 0.08 * size),
    ]
    draw.line(nose, fill=(170, 120, 95), width=max(1, int(0.02 * size)))
    ellipse(0, 0.237, 0.124, 0.04, (180, 70, 70))


def scene(*faces: tuple[float, float, float], size=(320, 240)) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], of faces (x, y, size) on a plain ground."""
    picture = Image.new("RGB", size, (110, 130, 140))
    for face in faces:
        draw_face(picture, *face)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)))


def write_video(path, pictures, codec="libx264") -> None:
    """Write pictures, uint8 [H, W, 3] each, as a video that starts with its index."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "g": "5"}
        stream.height, stream.width = pictures[0].shape[:2]
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)

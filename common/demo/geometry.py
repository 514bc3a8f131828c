"""Curves, the pose of a head, and the canvas that faces are drawn on.

Face units: the origin lies between the eyes, x to the image's right, y down, z towards the viewer;
the pupils of a frontal face lie at x = -0.5 and x = +0.5. A head is about 2.2 wide and 3 tall.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# Half axes of the ellipsoid that gives points of the face their depth, and its centre's height.
DEPTH_AXES = np.array([1.22, 1.85, 0.80])
CENTRE_Y = 0.35
_CENTRE = np.array([0.0, CENTRE_Y])


@lru_cache
def _catmull_rom_basis(steps: int) -> np.ndarray:
    """Return the weights [steps, 4] of four neighbours along one segment."""
    t = np.arange(steps)[:, None] / steps
    powers = t ** np.arange(4)  # [steps, 4]: 1, t, t², t³
    matrix = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    return powers @ matrix


def spline(points: np.ndarray, closed: bool = False, steps: int = 5) -> np.ndarray:
    """Return a Catmull-Rom curve through `points` [N, D]: [M, D], `steps` points a segment."""
    points = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    windows = np.stack([padded[k : len(padded) - 3 + k] for k in range(4)], axis=1)  # [S, 4, D]
    curve = np.einsum("tk,skd->std", _catmull_rom_basis(steps), windows)
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])


def surface_depth(xy: np.ndarray) -> np.ndarray:
    """Return z [N] of the face's surface under `xy` [N, 2] (zero beyond its rim)."""
    scaled = (xy - _CENTRE) / DEPTH_AXES[:2]
    inside = 1 - np.einsum("ij,ij->i", scaled, scaled)
    return DEPTH_AXES[2] * np.sqrt(np.maximum(inside, 0))


@dataclass(frozen=True)
class Pose:
    """Where a head is and how it is turned.

    x, y: the point between the eyes of the unturned head, px; unit: distance of the pupils, px;
    yaw (to the image's right), pitch (down), roll (clockwise): degrees, about the head's middle.
    """

    x: float
    y: float
    unit: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @cached_property
    def rotation(self) -> np.ndarray:
        """Return the rotation matrix [3, 3]: yaw first, then pitch, then roll."""
        yaw, pitch, roll = np.radians([self.yaw, self.pitch, self.roll])
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return tilt @ nod @ turn

    def project(self, xyz: np.ndarray) -> np.ndarray:
        """Return pixels [N, 2] of points [N, 3] in face units (parallel projection)."""
        matrix, shift = self._affine
        return xyz @ matrix + shift

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the matrix [3, 2] and the shift [2] that take face units to pixels."""
        matrix = self.rotation[:2].T * self.unit
        pivot = np.array([self.x, self.y + CENTRE_Y * self.unit])
        return matrix, pivot - np.array([0, CENTRE_Y, 0]) @ matrix

    def project_rim(self, points: np.ndarray, depth: np.ndarray | float) -> np.ndarray:
        """Return pixels [N, 2] of a silhouette: `points` [N, 2] of the frontal head's outline.

        A turned head keeps its width, so the outline is moved sideways by the depth of the axis
        it surrounds and by no rotation of its own.
        """
        axis = np.zeros((len(points), 3))
        axis[:, 1], axis[:, 2] = points[:, 1], depth
        across = np.radians(self.roll)
        # A head is a little longer from front to back than wide.
        width = points[:, 0] * (1 + 0.05 * np.sin(np.radians(self.yaw)) ** 2)
        return self.project(axis) + np.outer(width, [np.cos(across), np.sin(across)]) * self.unit


def mirror(points: list[tuple[float, float]]) -> np.ndarray:
    """Return a closed outline [2N or 2N-2, 2] from its half of x ≥ 0, listed from top to bottom."""
    right = np.asarray(points, dtype=np.float64)
    left = right[::-1] * (-1, 1)
    left = left[1 if left[0, 0] == 0 else 0 : -1 if left[-1, 0] == 0 else None]
    return np.concatenate([right, left])


_NORMAL = np.array([-1.0, 1.0])


def taper(path: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the outline [2N, 2] of a stroke along `path` [N, 2] with full `widths` [N]."""
    step = path[1:] - path[:-1]
    along = np.concatenate([step[:1], step[1:] + step[:-1], step[-1:]])  # central differences
    half = 0.5 * widths / np.maximum(np.sqrt(np.einsum("ij,ij->i", along, along)), 1e-9)
    offset = along[:, ::-1] * _NORMAL * half[:, None]
    return np.concatenate([path + offset, (path - offset)[::-1]])


@lru_cache
def _profile(count: int, start: float, end: float) -> np.ndarray:
    """Return the width along a stroke of `count` points: 1 in its middle, less at its ends."""
    t = np.linspace(0, 1, count)
    ends = start * (1 - t) + end * t
    return ends + (1 - ends) * 4 * t * (1 - t)


class Canvas:
    """An image being drawn at `scale` times its final size, and its soft light and shadow.

    Flat colours go on at once with `fill`, `stroke` and `dot`; `shade` collects soft shadows
    (wide or fine) and lights at final size, which the caller blurs and applies after shrinking.
    """

    LAYERS = ("dark", "fine", "light", "blush")

    def __init__(self, background: np.ndarray, pose: Pose, scale: int):
        height, width = background.shape[:2]
        self.pose, self.scale, self.size = pose, scale, (width, height)
        large = (width * scale, height * scale)
        self.image = Image.fromarray(background).resize(large, Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self.image)
        self._blending = ImageDraw.Draw(self.image, "RGBA")  # much slower than the opaque one
        self.head = Image.new("L", self.size)
        # Soft layers are kept at half size: they are blurred anyway.
        half = ((width + 1) // 2, (height + 1) // 2)
        self.masks = {name: Image.new("L", half) for name in self.LAYERS}
        self._mask_draws = {name: ImageDraw.Draw(mask) for name, mask in self.masks.items()}
        self._head_draw = ImageDraw.Draw(self.head)

    def at(self, points, lift: float = 0.0) -> np.ndarray:
        """Return pixels [N, 2] (final size) of `points` [N, 2] on the face, raised by `lift`."""
        points = np.asarray(points, dtype=np.float64)
        xyz = np.empty((len(points), 3))
        xyz[:, :2], xyz[:, 2] = points, surface_depth(points) + lift
        return self.pose.project(xyz)

    def fill(self, pixels: np.ndarray, colour, alpha: float = 1.0, head: bool = False) -> None:
        """Fill a polygon of final-size pixels [N, 2]; `head` marks it as lit like the head."""
        draw = self._draw if alpha > 0.99 else self._blending
        draw.polygon((pixels * self.scale).ravel().tolist(), fill=_ink(colour, alpha))
        if head:
            self._head_draw.polygon(pixels.ravel().tolist(), fill=255)

    def stroke(self, pixels, width: float, colour, alpha: float = 1.0, ends=(0.15, 0.15)) -> None:
        """Draw a stroke along pixels [N, 2]: `width` face units at its middle, `ends` thinner."""
        widths = _profile(len(pixels), *ends) * (width * self.pose.unit)
        # Below a pixel of the large image, thin strokes fade instead of breaking up.
        least = 1.0 / self.scale
        widest = width * self.pose.unit
        if widest < least:
            alpha, widths = alpha * widest / least, np.full(len(pixels), least)
        self.fill(taper(pixels, np.maximum(widths, 0.6 * least)), colour, alpha)

    def crease(self, points, width: float, colour, alpha: float, lift=0.0, ends=(0.15, 0.15)):
        """Draw a smooth stroke through `points` [N, 2] on the face; nothing where too faint."""
        if alpha > 0.03:
            self.stroke(self.at(spline(points, steps=3), lift), width, colour, alpha, ends)

    def dot(self, pixel: np.ndarray, radius: float, colour, alpha: float = 1.0) -> None:
        """Draw a disc about one final-size pixel [2]; `radius` in face units."""
        x, y = pixel * self.scale
        r = radius * self.pose.unit * self.scale
        self._blending.ellipse((x - r, y - r, x + r, y + r), fill=_ink(colour, alpha))

    def shade(self, layer: str, pixels: np.ndarray, strength: float) -> None:
        """Add a polygon to a soft layer; `strength` 0..1."""
        value = int(255 * min(max(strength, 0.0), 1.0))
        if value > 3:
            self._mask_draws[layer].polygon((pixels * 0.5).ravel().tolist(), fill=value)

    def soft(self, layer: str, radius: float) -> np.ndarray:
        """Return a blurred layer, float32 [H, W] in 0..1; `radius` in face units."""
        blur = ImageFilter.GaussianBlur(float(radius * self.pose.unit) / 2)
        blurred = self.masks[layer].filter(blur).resize(self.size, Image.Resampling.BILINEAR)
        return np.asarray(blurred, dtype=np.float32) * np.float32(1 / 255)


def _ink(colour, alpha: float) -> tuple[int, ...]:
    """Return a colour as Pillow takes it: three numbers where opaque, else four."""
    red, green, blue = (min(max(int(channel), 0), 255) for channel in colour)
    if alpha > 0.99:
        return red, green, blue
    return red, green, blue, int(255 * max(alpha, 0.0))


def blend(first, second, share: float) -> np.ndarray:
    """Return the colour `share` of the way from `first` to `second`, float [3]."""
    return np.asarray(first) * (1 - share) + np.asarray(second) * share

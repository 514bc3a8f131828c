"""Draw one face: `draw_face(background, person, units, pose)`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ImageFilter

from common.demo import features, hair, head, mouth
from common.demo.geometry import CENTRE_Y, Canvas, Pose, surface_depth
from common.demo.people import Person

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 24, 25, 26)

# Where aligned crops hold the eyes, the nose tip and the mouth's corners, as fractions of the
# side: the crop that 01_prepare_data.py makes of videos, so that stills and videos look alike.
TEMPLATE = np.array([(0.35, 0.39), (0.65, 0.39), (0.50, 0.56), (0.376, 0.737), (0.624, 0.737)])


@dataclass(frozen=True)
class Light:
    """Where light comes from: x to the right, y down, z from the viewer; and its share of all."""

    x: float = -0.4
    y: float = -0.5
    z: float = 0.75
    strength: float = 0.5
    warmth: float = 0.0


def no_units() -> np.ndarray:
    """Return the action units of a neutral face: zeros [2, 27]."""
    return np.zeros((2, 27))


def seen_landmarks(person: Person, units: np.ndarray, pose: Pose) -> np.ndarray:
    """Return pixels [5, 2] where CenterFace sees the landmarks, as far as one can foretell.

    On drawn faces it reports eyes a little low and close together and a mouth too high, drawn
    towards its idea of a face; the factors were fitted on 150 scenes. Framed by the true
    landmarks, stills would show faces 15 % smaller than 01's crops of the videos do.
    """
    lips = mouth.shape_lips(person, units)
    flat = np.array(
        [
            (-0.467, 0.047),
            (0.467, 0.047),
            (0.0, 0.63 * person.nose_y + 0.17),
            (0.93 * lips.x[0], 0.42 * lips.upper_in[0] + 0.525),
            (0.93 * lips.x[-1], 0.42 * lips.upper_in[-1] + 0.525),
        ]
    )
    depth = surface_depth(flat) + (0.0, 0.0, 0.25, 0.0, 0.0)
    return pose.project(np.column_stack([flat, depth]))


def aligned_pose(
    person: Person, units: np.ndarray, size: int, yaw: float = 0.0, pitch: float = 0.0
) -> Pose:
    """Return the pose whose landmarks, as a detector sees them, fit `TEMPLATE` in a crop of `size`.

    A similarity (scale, roll, shift) by least squares, as a face aligner does it.
    """
    turned = seen_landmarks(person, units, Pose(0, 0, 1, yaw, pitch))
    source = turned @ (1, 1j)
    target = TEMPLATE @ (1, 1j) * size
    centred = source - source.mean()
    factor = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred).real
    # Pose turns about the head's middle (0, CENTRE_Y), which the similarity moves along.
    pivot = factor * (1j * CENTRE_Y - source.mean()) + target.mean()
    unit, roll = float(abs(factor)), float(np.degrees(np.angle(factor)))
    return Pose(float(pivot.real), float(pivot.imag) - CENTRE_Y * unit, unit, yaw, pitch, roll)


def draw_face(
    background: np.ndarray,
    person: Person,
    units: np.ndarray,
    pose: Pose,
    light: Light | None = None,
    gaze: tuple[float, float] = (0.0, 0.0),
    turned_away: bool = False,
) -> np.ndarray:
    """Draw a person on a background; uint8 [H, W, 3] in, a new uint8 [H, W, 3] out.

    units: float [2, 27], see `no_units`; gaze: shift of the irises, face units (±0.08 is a glance).
    Parts beyond the picture are cut off.
    """
    height, width = background.shape[:2]
    reach = 2.3 * pose.unit
    x0, x1 = (int(np.clip(v, 0, width)) for v in (pose.x - reach, pose.x + reach))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (pose.y - reach, height))
    result = background.copy()
    if x1 - x0 < 2 or y1 - y0 < 2:
        return result
    local = Pose(pose.x - x0, pose.y - y0, pose.unit, pose.yaw, pose.pitch, pose.roll)
    scale = 2 if pose.unit >= 45 else 3
    canvas = Canvas(background[y0:y1, x0:x1], local, scale)
    if turned_away:
        hair.draw_from_behind(canvas, person)
    else:
        _draw_layers(canvas, person, units, gaze)
    small = canvas.image.reduce(scale)
    result[y0:y1, x0:x1] = _shade(np.asarray(small), canvas, light or Light())
    return result


def _draw_layers(canvas: Canvas, person: Person, units: np.ndarray, gaze) -> None:
    """Draw from back to front."""
    hair.draw_back_hair(canvas, person)
    head.draw_neck(canvas, person)
    if person.hat != "scarf":
        head.draw_ears(canvas, person)
    canvas.fill(head.rim(canvas, head.head_outline(person, units)), person.skin, head=True)
    if person.freckles:
        _freckles(canvas, person)
    lips = mouth.shape_lips(person, units)
    features.forehead(canvas, person, units)
    features.cheeks(canvas, person, units)
    mouth.draw_chin(canvas, person, units)
    hair.draw_beard(canvas, person, units, lips)
    mouth.draw_mouth(canvas, person, units, lips)
    features.nose(canvas, person, units)
    features.eyes(canvas, person, units, gaze)
    features.brows(canvas, person, units)
    if person.glasses:
        hair.draw_glasses(canvas, person)
    hair.draw_hair(canvas, person)


def _freckles(canvas: Canvas, person: Person) -> None:
    random = np.random.default_rng(person.texture)
    spots = random.normal(0, 1, (22, 2)) * (0.42, 0.13) + (0, 0.38)
    for pixel in canvas.at(spots):
        canvas.dot(pixel, 0.016, person.skin * 0.62, 0.6)


def _shade(image: np.ndarray, canvas: Canvas, light: Light) -> np.ndarray:
    """Light the head as an ellipsoid and apply the soft layers; uint8 [H, W, 3] in and out."""
    height, width = image.shape[:2]
    pose, unit = canvas.pose, canvas.pose.unit
    x = (np.arange(width, dtype=np.float32) - pose.x)[None, :] / (1.35 * unit)
    y = (np.arange(height, dtype=np.float32) - pose.y - CENTRE_Y * unit)[:, None] / (1.85 * unit)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0.05, 1))
    direction = np.array([light.x, light.y, light.z])
    lx, ly, lz = (direction / np.linalg.norm(direction)).astype(np.float32)
    lambert = np.clip(lx * x + ly * y + lz * z, 0, 1)
    lit = (1 - light.strength) + light.strength * 1.38 * lambert
    # The mask has hard edges; unsoftened they would show as teeth on the outline.
    soft_head = canvas.head.filter(ImageFilter.BoxBlur(1))
    head_mask = np.asarray(soft_head, dtype=np.float32) * np.float32(1 / 255)
    dark, fine = canvas.soft("dark", 0.13), canvas.soft("fine", 0.035)
    bright, blush = canvas.soft("light", 0.09), canvas.soft("blush", 0.12)
    factor = 1 + (lit - 1) * head_mask
    factor *= (1 - 0.42 * dark) * (1 - 0.50 * fine) * (1 + 0.19 * bright)
    shadow = dark + fine
    result = np.empty_like(image)
    # Plane by plane: numpy is slow over a last axis of three. Shadows on skin are warmer than
    # black, cheeks are redder, and lights have the warmth of their source.
    for channel, (warm, glow, pink, tint) in enumerate(
        ((9, 10, -0.02, 0.08), (2, 9, 0.10, 0.0), (0, 7, 0.09, -0.10))
    ):
        colour = (1 - pink * blush) * (1 + light.warmth * tint * head_mask)
        plane = image[..., channel] * factor * colour + shadow * warm + bright * glow
        result[..., channel] = np.clip(plane, 0, 255)
    return result

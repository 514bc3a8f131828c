"""The bare head: the outline of skull and face, ears, neck and shoulders."""

from __future__ import annotations

import numpy as np

from common.demo.geometry import Canvas, mirror, spline
from common.demo.mouth import jaw_drop
from common.demo.people import Person

# How far forward of the head's axis its silhouette lies, at five heights from crown to chin.
_RIM_Y = (-1.1, -0.3, 0.4, 1.1, 1.9)
_RIM_DEPTH = (-0.15, -0.08, 0.0, 0.16, 0.42)

# fmt: off
EAR = np.array([(0.92, 0), (1.02, -0.08), (1.12, 0.02), (1.11, 0.25), (1.05, 0.46), (0.94, 0.50)])
EAR_GROOVE = np.array([(1.00, 0.02), (1.07, 0.06), (1.06, 0.24), (1.00, 0.34)])
# Below the neck's base; the torso runs out of every picture.
SHOULDERS = [(0, 1.32), (0.62, 1.12), (0.95, 1.16), (1.55, 1.36), (2.05, 1.75), (2.25, 3.0),
             (2.3, 9.0), (0, 9.0)]
COLLAR = np.array([(-0.62, 1.13), (-0.30, 1.30), (0, 1.36), (0.30, 1.30), (0.62, 1.13)])
# fmt: on


def fit(person: Person, points) -> np.ndarray:
    """Return a shape [N, 2] of the average head as this person has it: width and skull's height."""
    shape = np.array(points, dtype=np.float64)
    shape[:, 0] *= person.face_width / 1.04
    shape[:, 1] *= np.where(shape[:, 1] < 0, person.skull, 1.0)
    return shape


def rim(canvas: Canvas, outline: np.ndarray, back: float = 0.0) -> np.ndarray:
    """Return pixels [N, 2] of a silhouette curve [N, 2]; `back` moves its axis backwards."""
    depth = np.interp(outline[:, 1], _RIM_Y, _RIM_DEPTH) - back
    return canvas.pose.project_rim(outline, depth)


def head_outline(person: Person, units: np.ndarray) -> np.ndarray:
    """Return the outline of skull and face, closed, in face units [M, 2]; AU 26 lengthens it."""
    drop, w, top = jaw_drop(units), person.face_width, -1.14 * person.skull
    chin = person.chin_y + drop
    half = [
        (0.0, top),
        (0.42, top + 0.06),
        (0.76, top + 0.30),
        (0.96 * w * person.forehead / 0.86, -0.45),
        (0.985 * w * person.cheek, 0.05),
        (0.975 * w * person.cheek, 0.50),
        (0.45 * w + 0.5 * person.jaw, 0.92 + 0.2 * drop),
        (person.jaw * 0.96, 1.22 + 0.5 * drop),
        (0.5 * (person.jaw + person.chin_width), 1.56 + 0.8 * drop),
        (person.chin_width, chin - 0.08),
        (0.0, chin),
    ]
    return spline(mirror(half), closed=True, steps=4)


def draw_neck(canvas: Canvas, person: Person) -> None:
    """Draw neck and shoulders, which do not turn with the head, and the chin's shadow."""
    unit = canvas.pose.unit
    base = canvas.pose.project(np.array([[0.0, 1.2, -0.35]]))[0]
    width = 0.62 if person.jaw < 0.90 else 0.74
    half = [(width, -0.3), (width * 0.98, 0.9), (width + 0.3, 1.5)]
    canvas.fill(base + mirror(half) * unit, person.skin * 0.80, head=True)
    canvas.fill(base + spline(mirror(SHOULDERS), closed=True, steps=4) * unit, person.shirt)
    collar = base + spline(COLLAR) * unit
    canvas.stroke(collar, 0.07, person.shirt * 0.72, ends=(0.8, 0.8))
    chin = person.chin_y + 0.16
    shadow = [(-0.9, 1.0), (-0.62, chin - 0.2), (0, chin + 0.1), (0.62, chin - 0.2), (0.9, 1.0)]
    shadow = rim(canvas, spline(shadow, steps=4))
    # No wider than the neck itself.
    shadow[:, 0] = np.clip(shadow[:, 0], base[0] - width * unit, base[0] + width * unit)
    canvas.fill(shadow, person.skin * 0.42, 0.55)


def draw_ears(canvas: Canvas, person: Person) -> None:
    """Draw the ears, which the head's outline then overlaps, and earrings."""
    edge = np.array([0.95 * person.face_width * person.cheek + 0.02, 0.2])
    for side in (-1, 1):

        def place(shape: np.ndarray, closed: bool, side=side) -> np.ndarray:
            points = spline(((shape - (0.95, 0.2)) * person.ear + edge) * (side, 1), closed)
            return canvas.pose.project(np.column_stack([points, np.full(len(points), -0.2)]))

        canvas.fill(place(EAR, True), person.skin * 0.93, head=True)
        canvas.stroke(place(EAR_GROOVE, False), 0.05, person.skin * 0.62, 0.8)
        if person.earrings:
            lobe = np.array([[side * (edge[0] + 0.03), 0.57, -0.1]])
            canvas.dot(canvas.pose.project(lobe)[0], 0.06, (214, 186, 110))

"""Brows, eyes and nose, with the folds of skin that their action units make.

`units` is float [2, 27] everywhere: strength 0..1 of each FACS action unit, by its own number,
for the image's left and right half of the face.
"""

from __future__ import annotations

import numpy as np

from common.demo.geometry import Canvas, blend, spline
from common.demo.people import Person

SIDES = (-1, 1)  # the image's left and right half; index 0 and 1 of `units`
FROWN_BULGE = np.array([(0.10, -0.36), (0.20, -0.20), (0.13, -0.05), (0.06, -0.15)])


def brows(canvas: Canvas, person: Person, units: np.ndarray) -> None:
    """Draw both eyebrows: AU 1 lifts the inner end, 2 the outer, 4 lowers and draws together."""
    # Fair brows would be lost on fair skin, and the brows carry half of the expressions.
    fair = 0.30 + 0.45 * (person.hair.mean() / 255)
    colour = blend(person.hair, np.minimum(person.skin * 0.35, person.hair), fair)
    s = np.linspace(0, 1, 6)  # from the inner end to the outer
    inner, outer = (1 - s) ** 1.2, np.sin(np.pi * np.clip(0.15 + 0.75 * s, 0, 1)) * s**0.6
    for side, a in zip(SIDES, units, strict=True):
        # Where AU 1 meets AU 4 the inner end goes up all the same: the slant of sadness and fear.
        frown = a[4] * (1 - 0.95 * min(1.0, 1.3 * a[1]))
        oblique = min(a[1], a[4]) * (1 - 0.7 * a[2])
        x = np.linspace(0.21, 0.83, 6) - (0.065 * a[4] + 0.03 * a[9]) * inner
        y = person.brow_y - person.brow_arch * np.sin(np.pi * (0.1 + 0.75 * s)) + 0.05 * s**3
        y -= (0.17 * a[1] + 0.05 * oblique) * inner + 0.18 * a[2] * outer
        y += frown * (0.145 * inner + 0.06) + 0.05 * oblique * s + 0.08 * a[9] * inner + 0.02 * a[7]
        path = spline(np.column_stack([side * x, y]), steps=3)
        pixels = canvas.at(path, 0.05)
        bristle = person.brow_width * (1.1 - 0.25 * person.age)
        ends = (0.75, 0.15)
        canvas.stroke(pixels, bristle * 1.2, colour, 0.35, ends)
        canvas.stroke(pixels, bristle * 0.85, colour, 0.8, ends)
        # The bulge of skin that a frown pushes up beside the nose's root.
        canvas.shade("fine", canvas.at(FROWN_BULGE * (side, 1)), 0.55 * frown)


def eyes(canvas: Canvas, person: Person, units: np.ndarray, gaze: tuple[float, float]) -> None:
    """Draw both eyes: AU 5 lifts the upper lid, 6 and 7 raise the lower one, 4 and 9 narrow."""
    t = np.linspace(-1, 1, 13)  # from the inner corner to the outer
    circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    half = 0.265 * person.eye_size
    skin, age = person.skin, person.age
    lash = blend(skin * 0.18, (20, 14, 12), 0.5)
    for side, a in zip(SIDES, units, strict=True):
        squeeze = 0.40 * a[7] + 0.20 * a[6] + 0.20 * a[4] * (1 - a[1]) + 0.32 * a[9] + 0.05 * a[12]
        up = 0.132 * person.eye_open * max(0.16, 1 + 0.80 * a[5] + 0.12 * a[1] - squeeze)
        low = 0.088 * (1 + 0.25 * a[5] - 0.62 * a[7] - 0.50 * a[6] - 0.30 * a[9])
        slant = person.eye_tilt + 0.02 * min(a[1], a[4])

        def upper(u, up=up):
            return -up * np.clip(1 - np.abs(u + 0.1) ** 2.4 / 1.25, 0, 1) ** 0.85

        def lower(u, low=low):
            return low * np.clip(1 - np.abs(u - 0.05) ** 2.2 / 1.1, 0, 1)

        ends = np.clip(1.25 - np.abs(t) ** 6 * 1.25, 0, 1)  # both lids meet in the corners
        top, bottom = upper(t) * ends, lower(t) * ends
        # The crease of the upper lid closes as the eye opens wide.
        fold = (0.075 * person.eyelid + 0.03 * a[1] + 0.03 * a[2]) * (1 - 0.4 * a[5])
        centre_u, centre_y = side * gaze[0] / half, gaze[1] - 0.012
        radii = np.array([[0.118], [0.100], [0.05]])  # iris with its dark rim, and pupil
        ring_u = np.clip(centre_u + radii / half * np.cos(circle), -0.95, 0.95)
        ring_y = np.clip(centre_y + radii * np.sin(circle), upper(ring_u), lower(ring_u))
        curves = np.stack(
            [top - fold * ends, top, bottom, np.minimum(top + 0.045, bottom), bottom + 0.05]
            + [bottom + 0.075 + 0.03 * age]
        )
        # All points of the eye are placed at once: many small arrays would take far longer.
        u = np.concatenate([np.tile(t, len(curves)), ring_u.ravel(), [centre_u - side * 0.15]])
        y = np.concatenate([curves.ravel(), ring_y.ravel(), [centre_y - 0.035]])
        pixels = canvas.at(np.column_stack([side * (0.5 + half * u), y - slant * u]))
        crease, edge, lower_edge, wet, under, bag = pixels[: curves.size].reshape(-1, len(t), 2)
        rings, spark = pixels[curves.size : -1].reshape(3, -1, 2), pixels[-1]

        socket = canvas.at(_ring(side * 0.48, -0.06, 0.36, 0.20))
        canvas.shade("dark", socket, 0.30 + 0.15 * age + 0.25 * a[4] + 0.1 * a[9])
        canvas.fill(np.concatenate([crease, edge[::-1]]), skin * 0.84, 0.7)
        white = blend((240, 236, 232), skin, 0.10)
        canvas.fill(np.concatenate([edge, lower_edge[::-1]]), white)
        for ring, colour in zip(
            rings, (person.iris * 0.45, person.iris, (12, 10, 12)), strict=True
        ):
            canvas.fill(ring, colour)
        canvas.fill(np.concatenate([edge, wet[::-1]]), (40, 26, 24), 0.30)  # the lid's shadow
        if up > 0.06:
            canvas.dot(spark, 0.026, (255, 255, 255), 0.9)
        canvas.stroke(edge, 0.046, lash, 0.95, (0.3, 0.7))
        canvas.stroke(lower_edge[1:], 0.022, blend(skin * 0.45, lash, 0.3), 0.7)
        canvas.stroke(crease[1:-1], 0.024, skin * 0.5, 0.75)
        # Below the eye: a bag in age, a fold under the raised lower lid.
        folded = 0.25 * age + 0.65 * max(a[6], 0.7 * a[7])
        canvas.stroke(bag[2:-1], 0.022, skin * 0.5, folded)
        canvas.shade("fine", under, 0.3 * folded)
        _crows_feet(canvas, side, skin, max(0.9 * a[6], 0.6 * age - 0.2))


def _crows_feet(canvas: Canvas, side: int, skin: np.ndarray, strength: float) -> None:
    for slope in (-0.12, 0.02, 0.15):
        line = [(side * 0.77, 0.01 + slope * 0.4), (side * 0.86, slope), (side * 0.93, slope * 1.7)]
        canvas.crease(line, 0.022, skin * 0.45, 0.8 * strength)


def _ring(x: float, y: float, rx: float, ry: float, count: int = 14) -> np.ndarray:
    """Return an ellipse [count, 2]."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([x + rx * np.cos(angle), y + ry * np.sin(angle)])


def nose(canvas: Canvas, person: Person, units: np.ndarray) -> None:
    """Draw the nose: AU 9 lifts its wings and wrinkles its root, AU 10 lifts the wings a little."""
    skin, width, tip = person.skin, person.nose_width, person.nose_y
    both = units.mean(axis=0)
    rise = 0.055 * both[9] + 0.025 * both[10]
    away = 1 if canvas.pose.yaw < 0 else -1  # the side of the bridge that lies in shadow
    bridge = [(0.0, -0.12), (0.05, 0.2), (0.07, tip - 0.08), (-0.07, tip - 0.08), (-0.05, 0.2)]
    canvas.shade("light", canvas.at(bridge, 0.22), 0.55)
    side_wall = [(0.09, -0.1), (0.10, 0.15), (width, tip - 0.06), (0.09, tip - 0.12)]
    canvas.shade("dark", canvas.at(np.array(side_wall) * (away, 1), 0.12), 0.42)
    base = tip + 0.09 - rise
    under = np.array([(-0.9 * width, -0.01), (0, 0.11), (0.9 * width, -0.01), (0, -0.03)])
    canvas.shade("fine", canvas.at(under + (0, base), 0.08), 0.65)
    canvas.shade("light", canvas.at(_ring(0, tip - 0.03 - rise, 0.09, 0.08), 0.30), 0.6)
    line = spline([(away * 0.11, -0.08), (away * 0.095, 0.16), (away * 0.12, tip - 0.16)], steps=4)
    canvas.stroke(canvas.at(line, 0.14), 0.02, skin * 0.55, 0.35)
    for side, a in zip(SIDES, units, strict=True):
        up = 0.06 * a[9] + 0.03 * a[10]
        wide = width * (1 + 0.14 * a[9] + 0.06 * a[10] + 0.05 * a[12])
        wing = [(0.80, -0.11), (1.03, -0.01), (0.96, 0.075), (0.72, 0.085)]
        wing = spline(np.array(wing) * (side * wide, 1) + (0, tip - up), steps=4)
        canvas.stroke(canvas.at(wing, 0.1), 0.034, skin * 0.46, 0.85)
        hole = canvas.at(_ring(side * wide * 0.42, tip + 0.075 - up, 0.066, 0.028, 10), 0.16)
        canvas.fill(hole, skin * 0.22, 0.85)
        # Wrinkles that AU 9 draws over the bridge and beside it.
        for k in range(3):
            x, y = 0.10 + 0.035 * k, -0.02 + 0.085 * k
            wrinkle = [(side * 0.01, y - 0.05), (side * x * 0.6, y - 0.015), (side * x, y + 0.06)]
            canvas.crease(wrinkle, 0.03, skin * 0.42, 0.85 * a[9], lift=0.15)
        pouch = [(side * 0.12, 0.02), (side * 0.2, 0.2), (side * 0.24, 0.42), (side * 0.13, 0.3)]
        canvas.shade("fine", canvas.at(pouch, 0.05), 0.5 * a[9])


def forehead(canvas: Canvas, person: Person, units: np.ndarray) -> None:
    """Draw the forehead's lines (AU 1 and 2, age) and the frown between the brows (AU 4)."""
    skin, age = person.skin, person.age
    left, right = units
    canvas.shade("light", canvas.at(_ring(0, -0.66, 0.5, 0.2)), 0.40)
    raised = max(units[:, 1].mean(), units[:, 2].mean())
    whole = min(units[:, 1].mean(), units[:, 2].mean())  # both: lines across the whole forehead
    x = np.linspace(-1, 1, 9)
    for k in range(3):
        reach = (0.30 + 0.32 * whole + 0.1 * age) * (1 - 0.12 * k)
        wave = 0.03 * np.cos(2.5 * x + k) * (0.4 + whole) - 0.07 * (1 - x**2) * (1 - whole)
        y = person.brow_y - 0.20 - 0.115 * k - 0.06 * raised + wave
        visible = min(1.0, 0.80 * raised + 0.5 * max(0.0, age - 0.45)) * (1.0 - 0.15 * k)
        canvas.crease(np.column_stack([x * reach, y]), 0.030, skin * 0.50, visible)
    # Where the inner brows rise, the frown shows as two lines leaning together.
    for side, a in zip(SIDES, (left, right), strict=True):
        frown = min(1.0, a[4] + 0.25 * max(0.0, age - 0.4))
        lean = 0.03 * a[1]
        line = [
            (side * (0.075 + lean), -0.12),
            (side * 0.062, -0.26),
            (side * (0.095 - lean), -0.42),
        ]
        canvas.crease(line, 0.036, skin * 0.42, 0.9 * frown, lift=0.08)


def cheeks(canvas: Canvas, person: Person, units: np.ndarray) -> None:
    """Shade the cheeks: AU 6 and 12 push them up, AU 10, 9 and 12 cut the nasolabial fold."""
    skin, age = person.skin, person.age
    wing_y, mouth_y = person.nose_y - 0.03, person.mouth_y
    for side, a in zip(SIDES, units, strict=True):
        up = 0.08 * a[12] + 0.06 * a[6]
        ball = _ring(side * 0.60, 0.50 - up, 0.23, 0.16)
        canvas.shade("light", canvas.at(ball, 0.05), 0.30 + 0.40 * max(a[6], 0.7 * a[12]))
        canvas.shade("blush", canvas.at(_ring(side * 0.62, 0.55 - up, 0.26, 0.2)), 0.55)
        hollow = [(side * 0.98, 0.45), (side * 0.78, 0.8), (side * 0.62, 1.1), (side * 0.88, 1.0)]
        canvas.shade("dark", canvas.at(hollow), 0.22 + 0.25 * age)
        depth = min(1.0, 0.30 * age + 0.50 * a[12] + 0.85 * a[10] + 0.35 * a[9] + 0.2 * a[20])
        out, drop = 0.10 * a[12] + 0.07 * a[20] + 0.02 * a[10], -0.10 * a[12] - 0.02 * a[10]
        lift = 0.03 * a[10] + 0.05 * a[9]
        fold = [
            (side * (person.nose_width + 0.05), wing_y - lift),
            (side * (0.37 + 0.7 * out + 0.05 * a[10]), 0.74 - 0.04 * a[10] + 0.3 * drop),
            (side * (0.49 + out), 0.98 + drop),
            (side * (0.53 + out - 0.03 * a[10]), mouth_y + 0.02 + drop + 0.06 * a[10]),
        ]
        path = canvas.at(spline(fold, steps=4), 0.03)
        canvas.stroke(path, 0.034, skin * 0.48, 0.75 * depth, (0.6, 0.1))
        inner = np.array(fold) - (side * 0.07, -0.03)
        canvas.shade("fine", np.concatenate([path, canvas.at(inner)[::-1]]), 0.40 * depth)

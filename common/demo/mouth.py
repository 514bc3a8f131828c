"""The mouth and the chin: lips, teeth, tongue, and the dents around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.demo.geometry import Canvas, blend
from common.demo.people import Person

CHIN_DIMPLES = np.array(
    [(-0.12, 0.02), (-0.04, 0.07), (0.05, 0.0), (0.12, 0.06), (0.0, -0.04), (-0.08, -0.04)]
)


def jaw_drop(units: np.ndarray) -> float:
    """Return how far AU 26 lowers the chin, face units."""
    return 0.29 * float(units[:, 26].mean())


@dataclass(frozen=True)
class Lips:
    """Four curves across the mouth, from the image's left corner to its right: y over x, [15]."""

    x: np.ndarray
    upper_out: np.ndarray
    upper_in: np.ndarray
    lower_in: np.ndarray
    lower_out: np.ndarray


def shape_lips(person: Person, units: np.ndarray) -> Lips:
    """Return the lips of a person under AU 10, 12, 15, 17, 20, 24, 25 and 26."""
    t = np.linspace(-1, 1, 15)
    d = np.abs(t)
    a = np.where(t[:, None] < 0, units[0], units[1])  # [15, 27]: each half moves by itself
    m = units.mean(axis=0)
    wide = 1 + 0.26 * a[:, 12] + 0.24 * a[:, 20] - 0.14 * a[:, 24] - 0.07 * a[:, 17]
    wide -= (0.22 * a[:, 26] + 0.03 * a[:, 15]) * (1 - 0.8 * a[:, 12]) * (1 - 0.6 * a[:, 20])
    x = person.mouth_width * wide * t
    jaw = jaw_drop(units)
    # The line on which the lips meet: corners up or down, the middle raised by AU 17 and 10.
    line = -0.21 * a[:, 12] * d**1.7 + 0.17 * a[:, 15] * d**2.6 + 0.035 * a[:, 20] * d**2
    line += 0.06 * a[:, 10] * d**2 * (1 - 0.6 * a[:, 12]) + 0.30 * jaw * d**2
    line += 0.05 * m[17] * d**2 - 0.035 * m[15] * (1 - d**2) + 0.045 * m[12] * (1 - d)
    line += person.mouth_y - 0.045 * m[17] - 0.03 * m[10] - 0.02 * m[9]
    # The opening: stretched lips (20) leave a broad slit, a dropped jaw an upright oval.
    power = 2.0 + 2.2 * m[20] + 0.6 * m[12]
    gap = np.clip(1 - d**power, 0, 1) ** (0.75 - 0.15 * m[26])
    shut = 1 - 0.8 * m[24]
    # AU 10 alone lifts the upper lip off the teeth; AU 17 presses the lower one back up.
    part = max(m[25], 0.45 * m[10] * (1 - 0.8 * m[17])) * shut
    up = 0.035 * part + 0.03 * m[26] + part * (0.07 * m[10] + 0.025 * m[12] + 0.02 * m[20])
    down = (
        0.075 * part * (1 - 0.5 * m[10])
        + part * (0.055 * m[20] + 0.085 * m[12])
        + (0.25 + 0.75 * m[25]) * jaw
    )
    down = max(0.0, down - 0.05 * m[17])
    upper_in, lower_in = line - up * gap, line + down * gap
    thin = (1 - 0.22 * m[12]) * (1 - 0.30 * m[20]) * (1 - 0.62 * m[24]) * (1 - 0.12 * m[26])
    round_ = np.clip(1 - d**2.2, 0, 1) ** 0.65
    bow = 1 - 0.30 * np.exp(-((t / 0.14) ** 2)) + 0.12 * np.exp(-(((d - 0.26) / 0.16) ** 2))
    curl = 0.030 * m[10]
    upper_out = upper_in - (person.lip_upper * thin * (1 + 0.15 * m[17]) + curl) * round_ * bow
    pout = person.lip_lower * thin * (1 + 0.30 * m[17])
    lower_out = lower_in + pout * np.clip(1 - d**2.4, 0, 1) ** 0.7
    return Lips(x, upper_out, upper_in, lower_in, lower_out)


def draw_mouth(canvas: Canvas, person: Person, units: np.ndarray, lips: Lips) -> None:
    """Draw lips, teeth and tongue, and the dents of AU 12, 15, 17, 20 and 24 around them."""
    m, skin = units.mean(axis=0), person.skin

    height = float((lips.lower_in - lips.upper_in).max())
    bared = min(0.13, 0.045 + 0.09 * m[12] + 0.07 * m[20] + 0.07 * m[10])  # of the upper teeth
    below = lips.lower_out + 0.02
    curves = (
        lips.upper_out,
        lips.upper_in,
        np.minimum(lips.upper_in + bared, lips.lower_in),
        # Fear stretches the lips off the lower teeth too.
        np.maximum(lips.lower_in - 0.06 * m[20], lips.upper_in),
        # The tongue lies on the floor of a wide-open mouth.
        0.58 * lips.lower_in + 0.42 * lips.upper_in,
        lips.lower_in,
        0.55 * lips.lower_in + 0.45 * lips.lower_out,
        lips.lower_out,
        below,
        below + 0.09 * (1 - np.linspace(-1, 1, 15) ** 2),
        0.5 * (lips.upper_in + lips.lower_in),
    )
    points = np.column_stack([np.tile(lips.x, len(curves)), np.concatenate(curves)])
    (upper_out, upper_in, upper_teeth, lower_teeth, tongue, lower_in, gloss, lower_out, *rest) = (
        canvas.at(points, 0.06).reshape(len(curves), 15, 2)
    )

    def between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.concatenate([first, second[::-1]])

    canvas.shade("fine", between(rest[0], rest[1]), 0.50)
    if height > 0.02:
        canvas.fill(between(upper_in, lower_in), (62, 18, 22))
        if height > 0.22:
            canvas.fill(between(tongue[3:-3], lower_in[3:-3]), (150, 62, 66), 0.85)
        canvas.fill(between(upper_in, upper_teeth), (236, 230, 216))
        if m[20] > 0.3:
            canvas.fill(between(lower_teeth, lower_in), (222, 214, 200))
    canvas.fill(between(upper_out, upper_in), person.lips * 0.88)
    canvas.fill(between(lower_in, lower_out), person.lips)
    canvas.stroke(gloss[4:-4], 0.035, blend(person.lips, (255, 235, 230), 0.45), 0.45)
    if height <= 0.03:
        dark = blend(skin * 0.25, person.lips * 0.35, 0.5)
        canvas.stroke(rest[2], 0.034 + 0.014 * m[24], dark, ends=(0.5, 0.5))
    for k, side in ((0, -1), (-1, 1)):
        a = units[k]
        corner = np.array([lips.x[k], lips.upper_in[k]])
        dent = 0.35 + 0.4 * max(a[12], a[15], a[20], 0.6 * a[24])
        canvas.shade("fine", canvas.at(corner + _disc(0.06, 0.06) + (side * 0.03, 0)), dent)
        down = corner + np.array([(0, 0.01), (0.06, 0.10), (0.05, 0.24)]) * (side, 1)
        strength = max(0.85 * a[15], 0.5 * person.age - 0.2)
        canvas.crease(down, 0.034, skin * 0.48, strength, ends=(0.7, 0.1))
        bracket = corner + np.array([(0.09, -0.12), (0.14, 0.02), (0.09, 0.16)]) * (side, 1)
        stretch = max(0.75 * a[20], 0.35 * a[12])
        canvas.crease(bracket, 0.030, skin * 0.5, stretch)


def _disc(rx: float, ry: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    return np.column_stack([rx * np.cos(angle), ry * np.sin(angle)])


def draw_chin(canvas: Canvas, person: Person, units: np.ndarray) -> None:
    """Draw the chin's light, and the dimples of its boss under AU 17."""
    rise = float(units[:, 17].mean())
    y = person.chin_y - 0.24 + jaw_drop(units) - 0.03 * rise
    canvas.shade("light", canvas.at(_disc(0.17, 0.12) + (0, y)), 0.45 + 0.2 * rise)
    crease = [
        (-0.24, y - 0.06),
        (-0.12, y - 0.13),
        (0, y - 0.15),
        (0.12, y - 0.13),
        (0.24, y - 0.06),
    ]
    canvas.crease(crease, 0.04, person.skin * 0.48, 0.75 * rise, lift=0.05)
    for pixel in canvas.at(CHIN_DIMPLES + (0, y), 0.05):
        canvas.dot(pixel, 0.022, person.skin * 0.5, 0.75 * rise)

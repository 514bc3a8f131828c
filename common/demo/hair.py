"""What covers the head: hair, beard, hats, glasses; and the head seen from behind.

Shapes are listed for a head of average width and height and fitted to the person by `fit`.
"""

from __future__ import annotations

import numpy as np

from common.demo.geometry import Canvas, blend, mirror, spline
from common.demo.head import draw_ears, draw_neck, fit, head_outline, rim
from common.demo.mouth import Lips, jaw_drop
from common.demo.people import Person

# Right halves of closed outlines, from the crown down.
# fmt: off
BEHIND = {
    "long": [(0, -1.24), (0.80, -1.04), (1.27, -0.10), (1.31, 1.00), (1.35, 2.20), (0.94, 2.70),
             (0, 2.50)],
    "bob": [(0, -1.26), (0.80, -1.06), (1.25, -0.20), (1.33, 0.80), (1.19, 1.45), (0.62, 1.40),
            (0, 1.30)],
    "scarf": [(0, -1.26), (0.80, -0.99), (1.27, 0), (1.23, 1.00), (1.04, 1.90), (1.30, 2.70),
              (0, 2.80)],
}
# Hairlines from the image's left ear over the forehead to the right one.
HAIRLINES = {
    "short": [(-0.97, 0.22), (-0.93, -0.35), (-0.72, -0.66), (-0.30, -0.80), (0.30, -0.82),
              (0.72, -0.66), (0.93, -0.35), (0.97, 0.22)],
    "side": [(-0.97, 0.22), (-0.93, -0.30), (-0.80, -0.50), (-0.35, -0.60), (0.20, -0.82),
             (0.72, -0.70), (0.93, -0.35), (0.97, 0.22)],
    "fringe": [(-0.98, 0.22), (-0.95, -0.30), (-0.72, -0.50), (-0.30, -0.54), (0.25, -0.53),
               (0.72, -0.50), (0.95, -0.30), (0.98, 0.22)],
    "long": [(-1.02, 1.00), (-0.97, 0.30), (-0.90, -0.20), (-0.50, -0.68), (0.08, -0.92),
             (0.55, -0.66), (0.90, -0.20), (0.97, 0.30), (1.02, 1.00)],
    "bob": [(-1.02, 0.75), (-0.95, 0.30), (-0.88, -0.30), (-0.62, -0.56), (0, -0.60),
            (0.62, -0.56), (0.88, -0.30), (0.95, 0.30), (1.02, 0.75)],
    "bun": [(-0.98, 0.22), (-0.93, -0.35), (-0.66, -0.76), (-0.25, -0.93), (0.25, -0.93),
            (0.66, -0.76), (0.93, -0.35), (0.98, 0.22)],
}
CURLY_HAIRLINE = [(-0.98, 0.10), (-0.90, -0.40), (-0.62, -0.70), (0, -0.78), (0.62, -0.70),
                  (0.90, -0.40), (0.98, 0.10)]
SCARF = [(0, -1.28), (0.50, -1.19), (0.95, -0.79), (1.17, 0), (1.14, 0.80), (0.96, 1.50),
         (0.52, 2.02), (0, 2.15)]
SCARF_OPENING = [(0, -0.74), (0.50, -0.66), (0.84, -0.35), (0.93, 0.20), (0.88, 0.90),
                 (0.62, 1.45), (0.30, 1.78), (0, 1.86)]
BEANIE = [(0, -1.44), (0.55, -1.32), (0.98, -0.92), (1.14, -0.36)]
BRIM = [(1.03, -0.36), (0.60, -0.54), (0, -0.60), (-0.60, -0.54), (-1.03, -0.36)]
# Upper edge of a full beard, from the image's left ear to the right one; and a goatee, measured
# from the chin.
BEARD_EDGE = np.array([(-0.97, 0.45), (-0.83, 0.86), (-0.62, 0.95), (-0.36, 0.86), (0, 0.82),
                       (0.36, 0.86), (0.62, 0.95), (0.83, 0.86), (0.97, 0.45)])
GOATEE = np.array([(-0.30, -0.50), (-0.34, -0.22), (-0.20, 0.02), (0, 0.05), (0.20, 0.02),
                   (0.34, -0.22), (0.30, -0.50), (0, -0.34)])
# fmt: on
# How far hair stands off the skull.
VOLUME = {"buzz": 0.03, "short": 0.11, "fringe": 0.12}


def draw_back_hair(canvas: Canvas, person: Person) -> None:
    """Draw the hair or scarf that hangs behind neck and ears."""
    style = person.hat if person.hat == "scarf" else person.hair_style
    hair = person.hair * 0.72
    if style in BEHIND:
        shape = spline(mirror(fit(person, BEHIND[style])), closed=True, steps=4)
        cloth = np.asarray(person.hat_colour) * 0.8
        canvas.fill(rim(canvas, shape, 0.15), cloth if style == "scarf" else hair, head=True)
    elif style == "bun" and not person.hat:
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        knot = np.column_stack([0.36 * np.cos(angle), -1.36 + 0.30 * np.sin(angle)])
        canvas.fill(rim(canvas, fit(person, knot), 0.5), person.hair * 0.85, head=True)
    elif style in ("afro", "curly"):
        canvas.fill(rim(canvas, _curly_outline(person), 0.15), hair, head=True)


def draw_from_behind(canvas: Canvas, person: Person) -> None:
    """Draw the head as seen from behind: neck, ears and hair or hat, no face."""
    draw_neck(canvas, person)
    if person.hat != "scarf":
        draw_ears(canvas, person)
    bald = person.hair_style == "bald" and not person.hat
    cover = person.skin if bald else person.hat_colour if person.hat else person.hair
    outline = head_outline(person, np.zeros((2, 27)))
    canvas.fill(rim(canvas, outline * (1.03, 0.96)), cover, head=True)
    draw_back_hair(canvas, person)


def draw_hair(canvas: Canvas, person: Person) -> None:
    """Draw the cap of hair in front of the skull, or the hat that covers it."""
    if person.hat:
        (_draw_beanie if person.hat == "beanie" else _draw_scarf)(canvas, person)
    elif person.hair_style == "bald":
        shine = [(-0.4, -0.95), (0, -1.02), (0.4, -0.95), (0.25, -0.82), (-0.25, -0.82)]
        canvas.shade("light", canvas.at(shine), 0.7)
    elif person.hair_style in ("curly", "afro"):
        _draw_curly_cap(canvas, person)
    else:
        _draw_cap(canvas, person)


def _draw_cap(canvas: Canvas, person: Person) -> None:
    style = person.hair_style
    line = fit(person, HAIRLINES.get(style, HAIRLINES["short"]))
    # Men's hair recedes with age.
    recede = 0.22 * max(0.0, person.age - 0.5) * (style in ("short", "buzz", "side"))
    line[:, 1] -= recede * np.clip(1 - np.abs(line[:, 0]), 0, 1)
    out = VOLUME.get(style, 0.14)
    # Hanging hair ends low; other hair ends above the ears, in pointed sideburns.
    ends = (1.06, line[0, 1]) if style in ("long", "bob") else (1.01, -0.06)
    half = [
        (0.0, -1.14 - out),
        (0.44, -1.09 - out),
        (0.80 + 0.6 * out, -0.86 - 0.4 * out),
        (1.04 + 0.62 * out, -0.45),
        (1.07 + 0.64 * out, -0.1),
        (ends[0] + 0.62 * out, ends[1]),
    ]
    over = rim(canvas, spline(over_the_top(fit(person, half)), steps=4), 0.05)
    cap = np.concatenate([over, canvas.at(spline(line, steps=4))[::-1]])
    canvas.fill(cap, person.hair, 0.72 if style == "buzz" else 1.0, head=True)
    if style != "buzz":
        _draw_strands(canvas, person, spline(line, steps=4))
    lower = line * (0.97, 1) + (0, 0.07)
    shadow = np.concatenate([canvas.at(lower), canvas.at(line * (0.97, 1))[::-1]])
    canvas.shade("fine", shadow, 0.45)


def over_the_top(half: np.ndarray) -> np.ndarray:
    """Return an open outline from the image's left ear over the crown to the right one.

    half: its right half [N, 2], from the crown down.
    """
    return np.concatenate([half[::-1] * (-1, 1), half[1:]])


def _draw_strands(canvas: Canvas, person: Person, edge: np.ndarray) -> None:
    """Draw some lighter and darker strands from the hairline to the crown."""
    random = np.random.default_rng(person.texture)
    for _ in range(9):
        start = edge[random.integers(3, len(edge) - 3)]
        crown = np.array([start[0] * 0.6 + random.normal(0, 0.05), -0.92])
        bend = 0.5 * (start + crown) + (0.10 * np.sign(start[0]), -0.02)
        tone = random.choice([0.62, 0.75, 1.25, 1.4])
        colour = person.hair * tone + 10 * (tone > 1)
        canvas.crease(np.stack([start, bend, crown]), 0.05, colour, 0.5)


def _curly_outline(person: Person) -> np.ndarray:
    """Return a bumpy closed outline around the skull, from the image's right ear over the top."""
    afro = person.hair_style == "afro"
    random = np.random.default_rng(person.texture)
    angle = np.linspace(-0.22 * np.pi, 1.22 * np.pi, 26)
    bumps = 1 + (0.025 if afro else 0.05) * np.where(np.arange(26) % 2, 1, -1)
    bumps += random.uniform(-0.015, 0.015, 26)
    x = (1.41 if afro else 1.21) * bumps * np.cos(angle)
    y = -0.10 - (1.45 if afro else 1.22) * bumps * np.sin(angle)
    return spline(fit(person, np.column_stack([x, y])), closed=True, steps=3)


def _draw_curly_cap(canvas: Canvas, person: Person) -> None:
    crown = _curly_outline(person)
    crown = rim(canvas, crown[crown[:, 1] < 0.1], 0.1)
    line = canvas.at(spline(fit(person, CURLY_HAIRLINE), steps=4))
    canvas.fill(np.concatenate([crown, line]), person.hair, head=True)
    random = np.random.default_rng(person.texture + 1)
    for _ in range(16):
        angle, radius = random.uniform(0.05, 0.95) * np.pi, random.uniform(0.95, 1.18)
        x, y = 1.04 * radius * np.cos(angle), -0.1 - 1.12 * radius * np.sin(angle)
        turn = np.linspace(0, 4.2, 7) + random.uniform(0, 6)
        curl = fit(person, np.column_stack([x + 0.09 * np.cos(turn), y + 0.09 * np.sin(turn)]))
        tone = random.choice([0.6, 1.3])
        canvas.stroke(rim(canvas, curl, 0.1), 0.05, person.hair * tone + 12 * (tone > 1), 0.55)


def _draw_beanie(canvas: Canvas, person: Person) -> None:
    colour = np.asarray(person.hat_colour, dtype=float)
    over = rim(canvas, spline(over_the_top(fit(person, BEANIE)), steps=4), 0.05)
    brim = spline(fit(person, BRIM), steps=4)
    canvas.fill(np.concatenate([over, canvas.at(brim, 0.05)]), colour, head=True)
    canvas.stroke(canvas.at(brim + (0, -0.12), 0.08), 0.24, colour * 0.78, ends=(0.95, 0.95))


def _draw_scarf(canvas: Canvas, person: Person) -> None:
    colour = np.asarray(person.hat_colour, dtype=float)
    outer = rim(canvas, spline(mirror(fit(person, SCARF)), closed=True, steps=4), 0.05)
    inner = canvas.at(spline(mirror(fit(person, SCARF_OPENING)), closed=True, steps=4))
    # One polygon with a hole: along the outer edge, across, and back along the inner one.
    ring = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
    canvas.fill(ring, colour, head=True)
    for share in (0.04, 0.08):
        fold = over_the_top(fit(person, SCARF[:5])) * (1 - share)
        canvas.stroke(rim(canvas, spline(fold, steps=3)), 0.04, colour * 0.75, 0.7)


def draw_beard(canvas: Canvas, person: Person, units: np.ndarray, lips: Lips) -> None:
    """Draw stubble, goatee or full beard and the moustache; they move with jaw and lips."""
    hair = blend(person.hair, person.skin * 0.5, 0.12)
    if person.beard in ("stubble", "beard"):
        outline = head_outline(person, units)
        jaw = rim(canvas, outline[outline[:, 1] > 0.45])  # from the image's right to its left
        area = np.concatenate([jaw, canvas.at(spline(fit(person, BEARD_EDGE)))])
        canvas.fill(area, hair, 0.30 if person.beard == "stubble" else 1.0)
    if person.beard == "goatee":
        chin = person.chin_y + jaw_drop(units)
        canvas.fill(canvas.at(spline(GOATEE + (0, chin), closed=True), 0.04), hair)
    if person.moustache and person.beard != "stubble":
        t = np.linspace(-1, 1, 15)
        depth = 0.175 * (1 - 0.55 * np.abs(t) ** 1.5) - 0.025 * np.exp(-((t / 0.1) ** 2))
        x, low = lips.x * 1.12, lips.upper_out + 0.005 + 0.05 * t**2
        upper, lower = np.column_stack([x, low - depth]), np.column_stack([x, low])
        canvas.fill(canvas.at(np.concatenate([upper, lower[::-1]]), 0.07), hair)


def draw_glasses(canvas: Canvas, person: Person) -> None:
    """Draw glasses before the eyes: frames, a hint of the lenses, arms and bridge."""
    colour, thick = person.glasses_colour, 0.055
    roundness = 1.0 if person.glasses == "round" else 0.5
    angle = np.linspace(0, 2 * np.pi, 21)
    c, s = np.cos(angle), np.sin(angle)
    for side in (-1, 1):
        x = side * 0.5 + 0.37 * np.sign(c) * np.abs(c) ** roundness
        y = 0.02 + 0.29 * np.sign(s) * np.abs(s) ** roundness
        # Flat, a little bent towards the temples.
        frame = canvas.pose.project(np.column_stack([x, y, 0.90 - 0.35 * np.abs(x) ** 2.5]))
        canvas.fill(frame, (225, 235, 245), 0.07)
        canvas.stroke(frame, thick, colour, ends=(1.0, 1.0))
        arm = np.array([(side * 0.87, -0.06, 0.62), (side * 1.0, -0.04, 0.15)])
        shaded = blend(colour, (0, 0, 0), 0.2)
        canvas.stroke(canvas.pose.project(arm), thick, shaded, ends=(1.0, 1.0))
    bridge = np.array([(-0.13, -0.03, 0.9), (0, -0.07, 0.95), (0.13, -0.03, 0.9)])
    canvas.stroke(canvas.pose.project(bridge), thick, colour, ends=(1.0, 1.0))

"""The head around the features: skull, ears, neck, hair, hats, glasses, earrings."""

from __future__ import annotations

import numpy as np

from common.demo.geometry import Canvas, blend, mirror, spline
from common.demo.mouth import jaw_drop
from common.demo.people import Person

# How far forward of the head's axis its silhouette lies, at five heights from crown to chin.
_RIM_Y = (-1.1, -0.3, 0.4, 1.1, 1.9)
_RIM_DEPTH = (-0.15, -0.08, 0.0, 0.16, 0.42)


def rim(canvas: Canvas, outline: np.ndarray, back: float = 0.0) -> np.ndarray:
    """Return pixels of a closed or open silhouette curve [N, 2]; `back` moves its axis backwards."""
    depth = np.interp(outline[:, 1], _RIM_Y, _RIM_DEPTH) - back
    return canvas.pose.project_rim(outline, depth)


def head_outline(person: Person, units: np.ndarray) -> np.ndarray:
    """Return the outline of skull and face, closed, in face units [M, 2]."""
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


def draw_back_hair(canvas: Canvas, person: Person) -> None:
    """Draw the hair that hangs behind neck and ears."""
    colour = person.hair * 0.72
    w, top = person.face_width, -1.14 * person.skull
    if person.hat == "scarf":
        half = [(0, top - 0.12), (0.8, top + 0.15), (1.22 * w, 0.0), (1.18 * w, 1.0), (1.0, 1.9), (1.25, 2.7), (0, 2.8)]  # fmt: skip
        canvas.fill(_rim_shape(canvas, half), np.asarray(person.hat_colour) * 0.8, head=True)
    elif person.hair_style == "long":
        half = [(0, top - 0.1), (0.8, top + 0.1), (1.22 * w, -0.1), (1.26 * w, 1.0), (1.30 * w, 2.2), (0.9, 2.7), (0, 2.5)]  # fmt: skip
        canvas.fill(_rim_shape(canvas, half), colour, head=True)
    elif person.hair_style == "bob":
        half = [(0, top - 0.12), (0.8, top + 0.08), (1.2 * w, -0.2), (1.28 * w, 0.8), (1.14 * w, 1.45), (0.6, 1.4), (0, 1.3)]  # fmt: skip
        canvas.fill(_rim_shape(canvas, half), colour, head=True)
    elif person.hair_style == "bun":
        knot = np.array([(0.36 * np.cos(a), top - 0.22 + 0.30 * np.sin(a)) for a in np.linspace(0, 6.28, 14, endpoint=False)])  # fmt: skip
        canvas.fill(rim(canvas, knot, back=0.5), person.hair * 0.85, head=True)
    elif person.hair_style in ("afro", "curly"):
        canvas.fill(rim(canvas, _curls(person), back=0.15), colour, head=True)


def _rim_shape(canvas: Canvas, half: list, back: float = 0.15) -> np.ndarray:
    return rim(canvas, spline(mirror(half), closed=True, steps=4), back)


def _curls(person: Person) -> np.ndarray:
    """Return a bumpy closed outline around the skull, ending at the ears or jaw."""
    afro = person.hair_style == "afro"
    random = np.random.default_rng(person.texture)
    angle = np.linspace(-0.22 * np.pi, 1.22 * np.pi, 26)  # from below one ear over the top
    radius_x = person.face_width * (1.36 if afro else 1.16)
    radius_y = 1.45 if afro else 1.22
    bumps = 1 + (0.025 if afro else 0.05) * np.where(np.arange(26) % 2, 1, -1)
    bumps += random.uniform(-0.015, 0.015, 26)
    x = radius_x * bumps * np.cos(angle)
    y = -0.10 - radius_y * bumps * np.sin(angle) * person.skull
    return spline(np.column_stack([x, y]), closed=True, steps=3)


def draw_neck(canvas: Canvas, person: Person) -> None:
    """Draw neck and shoulders; they turn half as far as the head."""
    pose, unit = canvas.pose, canvas.pose.unit
    base = pose.project(np.array([[0.0, 1.2, -0.35]]))[0]
    width = 0.62 if person.jaw < 0.84 else 0.74
    shape = np.array([(-width, -0.3), (-width * 0.98, 0.9), (-width - 0.3, 1.5), (width + 0.3, 1.5), (width * 0.98, 0.9), (width, -0.3)])  # fmt: skip
    canvas.fill(base + shape * unit, person.skin * 0.80, head=True)
    half = [(0, 1.32), (0.62, 1.12), (0.95, 1.16), (1.55, 1.36), (2.05, 1.75), (2.2, 3.5), (0, 3.5)]
    torso = base + spline(mirror(half), closed=True, steps=4) * unit
    canvas.fill(torso, person.shirt)
    collar = base + spline(np.array([(-0.62, 1.13), (-0.3, 1.3), (0, 1.36), (0.3, 1.3), (0.62, 1.13)])) * unit  # fmt: skip
    canvas.stroke(collar, 0.07, person.shirt * 0.72, 1.0, (0.8, 0.8))
    chin = person.chin_y - 0.1
    shadow = [(-0.8, chin - 0.5), (-0.6, chin + 0.12), (0, chin + 0.28), (0.6, chin + 0.12), (0.8, chin - 0.5)]  # fmt: skip
    canvas.shade("dark", rim(canvas, np.array(shadow)), 0.75)


def draw_ears(canvas: Canvas, person: Person) -> None:
    """Draw the ears behind the head's outline, and earrings."""
    if person.hat == "scarf":
        return
    size, w = person.ear, person.face_width * person.cheek
    for side in (-1, 1):
        shape = np.array([(0.92, 0.0), (1.02, -0.08), (1.12, 0.02), (1.11, 0.25), (1.05, 0.46), (0.94, 0.50)])  # fmt: skip
        shape = (shape - (0.95, 0.2)) * size + (0.95 * w + 0.02, 0.2)
        points = np.column_stack(
            [spline(shape * (side, 1), closed=True, steps=4), np.full(24, -0.2)]
        )
        canvas.fill(canvas.pose.project(points), person.skin * 0.93, head=True)
        groove = (np.array([(1.0, 0.02), (1.07, 0.06), (1.06, 0.24), (1.0, 0.34)]) - (0.95, 0.2)) * size + (0.95 * w + 0.02, 0.2)  # fmt: skip
        groove = spline(groove * (side, 1), steps=3)
        path = canvas.pose.project(np.column_stack([groove, np.full(len(groove), -0.18)]))
        canvas.stroke(path, 0.05, person.skin * 0.62, 0.8)
        if person.earrings:
            lobe = canvas.pose.project(np.array([(side * (0.98 * w + 0.02), 0.57, -0.1)]))[0]
            canvas.dot(lobe, 0.06, (214, 186, 110))


def draw_from_behind(canvas: Canvas, person: Person) -> None:
    """Draw the head as seen from behind: neck, ears and hair or hat, no face."""
    draw_neck(canvas, person)
    draw_ears(canvas, person)
    outline = head_outline(person, np.zeros((2, 27)))
    hidden = person.hat_colour if person.hat else person.hair
    bald = person.hair_style == "bald" and not person.hat
    canvas.fill(rim(canvas, outline * (1.03, 0.96)), person.skin if bald else hidden, head=True)
    draw_back_hair(canvas, person)


def draw_hair(canvas: Canvas, person: Person, units: np.ndarray) -> None:
    """Draw the cap of hair in front of the skull, or the hat that covers it."""
    if person.hat:
        _draw_hat(canvas, person)
        return
    style, hair, w = person.hair_style, person.hair, person.face_width
    if style == "bald":
        shine = [(-0.4, -0.95), (0, -1.02), (0.4, -0.95), (0.25, -0.82), (-0.25, -0.82)]
        canvas.shade("light", canvas.at(shine), 0.7)
        return
    top = -1.14 * person.skull
    volume = {"buzz": 0.03, "short": 0.11, "fringe": 0.12, "curly": 0.0, "afro": 0.0}.get(
        style, 0.14
    )
    side_y = {"long": 1.0, "bob": 0.75, "buzz": 0.05}.get(style, 0.16)
    # Hairline from the image's left ear over the forehead, on the face's surface.
    front = {
        "short": [(-0.97, side_y), (-0.93, -0.35), (-0.72, -0.66), (-0.3, -0.80), (0.3, -0.82), (0.72, -0.66), (0.93, -0.35), (0.97, side_y)],
        "side": [(-0.97, side_y), (-0.93, -0.30), (-0.80, -0.50), (-0.35, -0.60), (0.2, -0.82), (0.72, -0.70), (0.93, -0.35), (0.97, side_y)],
        "fringe": [(-0.98, side_y), (-0.95, -0.30), (-0.72, -0.50), (-0.3, -0.54), (0.25, -0.53), (0.72, -0.50), (0.95, -0.30), (0.98, side_y)],
        "long": [(-1.02, side_y), (-0.97, 0.3), (-0.90, -0.20), (-0.5, -0.68), (0.08, -0.92), (0.55, -0.66), (0.90, -0.2), (0.97, 0.3), (1.02, side_y)],
        "bob": [(-1.02, side_y), (-0.95, 0.3), (-0.88, -0.30), (-0.62, -0.56), (0.0, -0.60), (0.62, -0.56), (0.88, -0.30), (0.95, 0.3), (1.02, side_y)],
        "bun": [(-0.98, side_y), (-0.93, -0.35), (-0.66, -0.76), (-0.25, -0.93), (0.25, -0.93), (0.66, -0.76), (0.93, -0.35), (0.98, side_y)],
    }  # fmt: skip
    line = np.array(front.get(style, front["short"]))
    recede = 0.22 * max(0.0, person.age - 0.5) * (style in ("short", "buzz", "side"))
    line[:, 1] -= recede * np.clip(1 - np.abs(line[:, 0]), 0, 1)
    hairline = canvas.at(spline(line * (w / 1.04, 1), steps=4))
    wide = w + volume * 0.62
    half = [(0.0, top - volume), (0.44, top + 0.05 - volume), (0.80 + volume * 0.6, top + 0.28 - volume * 0.4), (1.0 * wide, -0.45), (1.03 * wide, 0.0), (1.0 * wide + (0.05 if style in ("long", "bob") else 0), side_y)]  # fmt: skip
    over = rim(
        canvas, spline(mirror(half, closed=False)[_clockwise(len(half))], steps=4), back=0.05
    )
    cap = np.concatenate([over, hairline[::-1]])
    opacity = 0.72 if style == "buzz" else 1.0
    canvas.fill(cap, hair, opacity, head=True)
    if style in ("curly", "afro"):
        crown = _curls(person)
        crown = crown[crown[:, 1] < 0.1]  # runs from the image's right ear over the top
        frame = [(-0.98, 0.1), (-0.9, -0.4), (-0.62, -0.70), (0.0, -0.78), (0.62, -0.70), (0.9, -0.4), (0.98, 0.1)]  # fmt: skip
        frame = canvas.at(spline(np.array(frame) * (w / 1.04, 1), steps=4))
        canvas.fill(np.concatenate([rim(canvas, crown, 0.1), frame]), hair, head=True)
        _draw_curls(canvas, person)
    else:
        _draw_strands(canvas, person, line * (w / 1.04, 1), half)
    shadow = line * (0.97, 1) + (0, 0.07)
    canvas.shade("fine", np.concatenate([canvas.at(spline(shadow, steps=2)), canvas.at(line * (0.97, 1))[::-1]]), 0.45)  # fmt: skip


def _clockwise(count: int) -> np.ndarray:
    """Return the order that turns `mirror`'s open outline into one from left ear to right ear."""
    return np.concatenate([np.arange(count, 2 * count), np.arange(1, count)])


def _draw_strands(canvas: Canvas, person: Person, line: np.ndarray, half: list) -> None:
    """Draw some lighter and darker strands from the hairline to the crown."""
    random = np.random.default_rng(person.texture)
    edge = spline(line, steps=4)
    for _ in range(9 if person.hair_style != "buzz" else 0):
        start = edge[random.integers(3, len(edge) - 3)]
        crown = np.array([start[0] * 0.75 + random.normal(0, 0.08), half[0][1] + 0.12])
        bend = 0.5 * (start + crown) + (0.18 * np.sign(start[0]), -0.02)
        path = canvas.at(spline(np.stack([start, bend, crown]), steps=4), 0.1)
        tone = random.choice([0.62, 0.75, 1.25, 1.4])
        canvas.stroke(path, 0.05, np.clip(person.hair * tone + (tone > 1) * 10, 0, 255), 0.5)


def _draw_curls(canvas: Canvas, person: Person) -> None:
    random = np.random.default_rng(person.texture + 1)
    for _ in range(16):
        angle = random.uniform(0.05, 0.95) * np.pi
        radius = random.uniform(0.95, 1.18)
        x, y = radius * person.face_width * np.cos(angle), -0.1 - 1.12 * radius * np.sin(angle)
        turn = np.linspace(0, 4.2, 7) + random.uniform(0, 6)
        curl = np.column_stack([x + 0.09 * np.cos(turn), y + 0.09 * np.sin(turn)])
        tone = random.choice([0.6, 1.3])
        path = rim(canvas, curl, 0.1)
        canvas.stroke(path, 0.05, np.clip(person.hair * tone + (tone > 1) * 12, 0, 255), 0.55)


def _draw_hat(canvas: Canvas, person: Person) -> None:
    colour, top, w = np.asarray(person.hat_colour, dtype=float), -1.14 * person.skull, person.face_width  # fmt: skip
    if person.hat == "beanie":
        half = [(0.0, top - 0.22), (0.5, top - 0.12), (0.9, top + 0.25), (1.06 * w, -0.50)]
        over = rim(canvas, spline(mirror(half, closed=False)[_clockwise(4)], steps=4), 0.05)
        brim = np.array([(1.0, -0.50), (0.6, -0.62), (0, -0.66), (-0.6, -0.62), (-1.0, -0.50)])
        canvas.fill(
            np.concatenate([over, canvas.at(spline(brim, steps=4), 0.05)]), colour, head=True
        )
        band = spline(brim + (0, -0.1), steps=4)
        canvas.stroke(canvas.at(band, 0.08), 0.19, colour * 0.82, 1.0, (0.9, 0.9))
        return
    half = [(0.0, top - 0.14), (0.5, top - 0.05), (0.95, top + 0.35), (1.13 * w, 0.0), (1.10 * w, 0.8), (0.92, 1.5), (0.5, 2.02), (0, 2.15)]  # fmt: skip
    outer = rim(canvas, spline(mirror(half), closed=True, steps=4), 0.05)
    inner = [(0.0, -0.74), (0.5, -0.66), (0.84, -0.35), (0.93, 0.2), (0.88, 0.9), (0.62, 1.45), (0.3, 1.78), (0, 1.86)]  # fmt: skip
    inside = canvas.at(spline(mirror(inner), closed=True, steps=4))
    # One polygon with a hole: along the outer edge, across, and back along the inner one.
    ring = np.concatenate([outer, outer[:1], inside[:1], inside[::-1]])
    canvas.fill(ring, colour, head=True)
    for k in (0.3, 0.65):
        fold = spline(
            mirror(half, closed=False)[_clockwise(len(half))][3:-3] * (1 - 0.12 * k), steps=3
        )
        canvas.stroke(rim(canvas, fold, 0.0), 0.04, colour * 0.75, 0.7)


def draw_glasses(canvas: Canvas, person: Person) -> None:
    """Draw the frames of glasses before the eyes."""
    colour = person.glasses_colour
    power = 2.0 if person.glasses == "round" else 4.0
    angle = np.linspace(0, 2 * np.pi, 21)
    c, s = np.cos(angle), np.sin(angle)
    for side in (-1, 1):
        x = side * 0.5 + 0.37 * np.sign(c) * np.abs(c) ** (2 / power)
        y = 0.02 + 0.29 * np.sign(s) * np.abs(s) ** (2 / power)
        z = surface_at_glasses(x)
        path = canvas.pose.project(np.column_stack([x, y, z]))
        canvas.fill(path, (225, 235, 245), 0.07)
        canvas.stroke(path, 0.055, colour, 0.95, (1.0, 1.0))
        arm = np.array([(side * 0.87, -0.06, 0.55), (side * 1.03, -0.02, -0.1)])
        canvas.stroke(
            canvas.pose.project(arm), 0.055, blend(colour, (0, 0, 0), 0.2), 0.95, (1.0, 1.0)
        )
    bridge = np.array([(-0.13, -0.03, 0.9), (0, -0.07, 0.95), (0.13, -0.03, 0.9)])
    canvas.stroke(canvas.pose.project(bridge), 0.055, colour, 0.95, (1.0, 1.0))


def surface_at_glasses(x: np.ndarray) -> np.ndarray:
    """Return the depth [N] of a pair of glasses at `x` [N]: flat, a little bent to the temples."""
    return 0.90 - 0.35 * np.abs(x) ** 2.5

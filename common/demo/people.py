"""Identities: who is drawn. One seeded draw of shape, skin, hair, age and accessories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.demo.geometry import blend

# Skin tones from light to dark, each with the hair colours that are common with it.
BLACK, DARK, BROWN = (24, 20, 22), (46, 31, 25), (82, 53, 36)
LIGHT_BROWN, BLOND, STRAW, RED, AUBURN = (
    (128, 88, 56),
    (190, 150, 92),
    (214, 184, 132),
    (168, 78, 38),
    (112, 50, 32),
)
SKINS = (
    ((247, 217, 199), (BROWN, LIGHT_BROWN, BLOND, STRAW, RED, DARK)),
    ((240, 203, 178), (BROWN, LIGHT_BROWN, BLOND, RED, AUBURN, DARK)),
    ((240, 206, 170), (BLACK, DARK, BLACK)),
    ((230, 186, 152), (BROWN, DARK, LIGHT_BROWN, AUBURN, BLACK)),
    ((217, 170, 132), (DARK, BLACK, BROWN)),
    ((199, 147, 108), (DARK, BLACK, BROWN)),
    ((174, 120, 84), (BLACK, DARK)),
    ((144, 94, 64), (BLACK, DARK)),
    ((112, 70, 48), (BLACK, DARK)),
    ((84, 52, 38), (BLACK,)),
)
EYES = ((74, 46, 30), (96, 62, 36), (110, 92, 50), (84, 116, 84), (88, 126, 160), (112, 130, 146))
SHIRTS = ((58, 74, 104), (112, 52, 56), (64, 92, 76), (70, 66, 74), (150, 140, 126), (98, 84, 112))
FRAMES = ((30, 28, 30), (92, 58, 36), (120, 124, 130), (60, 40, 70))


@dataclass(frozen=True)
class Person:
    """The features of one identity that no expression changes; lengths in face units.

    `age` runs from 0 (young) to 1 (old). Colours are RGB, 0..255. `texture` seeds what is drawn at
    random on the person: strands of hair, freckles, curls.
    """

    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    shirt: np.ndarray
    age: float
    texture: int
    face_width: float = 1.06
    cheek: float = 1.0
    jaw: float = 0.84
    chin_width: float = 0.34
    chin_y: float = 1.84
    forehead: float = 0.86
    skull: float = 1.0
    ear: float = 1.0
    eye_size: float = 1.0
    eye_open: float = 1.0
    eye_tilt: float = 0.02
    eyelid: float = 1.0
    brow_y: float = -0.32
    brow_arch: float = 0.05
    brow_width: float = 0.085
    nose_width: float = 0.22
    nose_y: float = 0.56
    mouth_width: float = 0.40
    mouth_y: float = 1.157
    lip_upper: float = 0.08
    lip_lower: float = 0.11
    hair_style: str = "short"
    beard: str = ""  # "", stubble, beard, goatee
    moustache: bool = False
    glasses: str = ""  # "", round, square
    glasses_colour: tuple[int, int, int] = (40, 36, 36)
    hat: str = ""  # "", beanie, scarf
    hat_colour: tuple[int, int, int] = (92, 62, 70)
    earrings: bool = False
    freckles: bool = False


def sample_person(rng: np.random.Generator) -> Person:
    """Draw an identity; the same generator state gives the same person."""
    skin, hairs = SKINS[rng.integers(len(SKINS))]
    skin = np.clip(np.asarray(skin) * rng.normal(1, 0.03) + rng.normal(0, 3, 3), 30, 252)
    darkness = 1 - skin.mean() / 255
    hair = np.asarray(hairs[rng.integers(len(hairs))], dtype=float) * rng.uniform(0.85, 1.15)
    age = float(rng.beta(1.3, 1.7))
    if age > 0.55:  # greying starts late and ends white
        grey = np.full(3, rng.uniform(150, 215))
        hair = blend(hair, grey, float(np.clip((age - 0.55) * rng.uniform(1.0, 3.0), 0, 0.92)))
    masculine = rng.random() < 0.5
    if masculine:
        styles = {"short": 4, "side": 3, "buzz": 3, "bald": 1 + 2 * age, "curly": 2, "fringe": 1}
    else:
        styles = {"long": 4, "bob": 3, "bun": 3, "fringe": 2, "curly": 2, "short": 1}
    if darkness > 0.5:
        styles["afro"] = 3.0
    weights = np.array(list(styles.values()), dtype=float)
    style = str(rng.choice(list(styles), p=weights / weights.sum()))
    red = np.array([176, 72, 74]) if masculine else np.array([182, 58, 68])
    lips = blend(skin, red * (1.05 - 0.55 * darkness), rng.uniform(0.3, 0.45 if masculine else 0.7))
    beard = str(rng.choice(["", "stubble", "beard", "goatee"], p=[0.58, 0.18, 0.14, 0.10]))
    if not masculine or age < 0.15:
        beard = ""
    hat = str(rng.choice(["", "beanie", "scarf"], p=[0.92, 0.04, 0.04]))
    if masculine and hat == "scarf":
        hat = ""
    brown_eyed = darkness > 0.38 or rng.random() < 0.4
    span = rng.normal  # most features scatter normally about the mean face
    return Person(
        skin=skin,
        hair=np.clip(hair, 14, 235),
        lips=lips,
        iris=np.asarray(EYES[rng.integers(2) if brown_eyed else rng.integers(2, len(EYES))]),
        shirt=np.asarray(SHIRTS[rng.integers(len(SHIRTS))]) * rng.uniform(0.7, 1.2),
        age=age,
        texture=int(rng.integers(2**31)),
        face_width=float(np.clip(span(1.06 if masculine else 1.03, 0.035), 0.96, 1.14)),
        cheek=float(np.clip(span(1.0, 0.025), 0.94, 1.05)),
        jaw=float(np.clip(span(0.94 if masculine else 0.87, 0.04), 0.78, 1.02)),
        chin_width=float(np.clip(span(0.44 if masculine else 0.37, 0.05), 0.27, 0.56)),
        chin_y=float(np.clip(span(1.86 if masculine else 1.79, 0.05), 1.68, 1.98)),
        forehead=float(np.clip(span(0.87, 0.03), 0.78, 0.95)),
        skull=float(np.clip(span(1.0, 0.03), 0.93, 1.07)),
        ear=float(np.clip(span(1.0, 0.1), 0.75, 1.25)),
        eye_size=float(np.clip(span(0.99 if masculine else 1.05, 0.05), 0.86, 1.18)),
        eye_open=float(np.clip(span(1.0, 0.08), 0.8, 1.2)),
        eye_tilt=float(np.clip(span(0.02, 0.02), -0.03, 0.07)),
        eyelid=float(np.clip(span(1.0, 0.25) - 0.3 * age, 0.35, 1.5)),
        brow_y=float(np.clip(span(-0.31 if masculine else -0.34, 0.025), -0.40, -0.26)),
        brow_arch=float(np.clip(span(0.045 if masculine else 0.07, 0.02), 0.0, 0.12)),
        brow_width=float(np.clip(span(0.10 if masculine else 0.075, 0.014), 0.05, 0.14)),
        nose_width=float(np.clip(span(0.215 + 0.05 * darkness, 0.02), 0.17, 0.30)),
        nose_y=float(np.clip(span(0.56, 0.025), 0.50, 0.62)),
        mouth_width=float(np.clip(span(0.40, 0.025), 0.34, 0.46)),
        mouth_y=float(np.clip(span(1.15, 0.03), 1.08, 1.22)),
        lip_upper=float(np.clip(span(0.07 + 0.05 * darkness, 0.014), 0.045, 0.13)),
        lip_lower=float(np.clip(span(0.10 + 0.05 * darkness, 0.016), 0.06, 0.17)),
        hair_style=style,
        beard=beard,
        moustache=beard in ("beard", "goatee") or (masculine and rng.random() < 0.06),
        glasses=str(rng.choice(["", "round", "square"], p=[0.8, 0.1, 0.1])),
        glasses_colour=FRAMES[rng.integers(len(FRAMES))],
        hat=hat,
        hat_colour=tuple(int(c) for c in rng.integers(50, 150, 3)),
        earrings=not masculine and rng.random() < 0.35,
        freckles=darkness < 0.25 and rng.random() < 0.2,
    )

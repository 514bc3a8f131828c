"""The demo's faces move as FACS and the paper of their prototypes say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from common.demo import settings as knobs
from common.demo.camera import sample_background
from common.demo.expressions import OPTIONAL, PROTOTYPES, key_of, sample_units
from common.demo.face import TEMPLATE, aligned_pose, draw_face, no_units
from common.demo.geometry import Pose
from common.demo.mouth import shape_lips
from common.demo.people import sample_person
from common.emotions import CHALLENGE, RAF11
from common.faces.alignment import similarity
from common.faces.detector import Detector


def test_prototypes_are_those_of_the_paper():
    table = (  # Du, Tao & Martinez 2014, typed again
        "Happy 12 25 · Sad 4 15 · Fearful 1 4 20 25 · Angry 4 7 24 · Surprised 1 2 25 26 · "
        "Disgusted 9 10 17 · Happily surprised 1 2 12 25 · Happily disgusted 10 12 25 · "
        "Sadly fearful 1 4 15 25 · Sadly angry 4 7 15 · Sadly surprised 1 4 25 26 · "
        "Sadly disgusted 4 10 · Fearfully angry 4 20 25 · Fearfully surprised 1 2 5 20 25 · "
        "Angrily surprised 4 25 26 · Angrily disgusted 4 10 17 · Disgustedly surprised 1 2 5 10"
    )
    for entry in table.split(" · "):
        name, units = re.fullmatch(r"([A-Za-z ]+?) ([\d ]+)", entry).groups()
        assert PROTOTYPES[key_of(name)] == tuple(map(int, units.split())), name
    for name in (*CHALLENGE, *RAF11):
        assert key_of(name) in PROTOTYPES
    # No optional unit makes one challenge compound out of another.
    compounds = {key_of(name): set(PROTOTYPES[key_of(name)]) for name in CHALLENGE}
    for name, units in compounds.items():
        for other, theirs in compounds.items():
            assert name == other or not theirs - units or theirs - units - set(OPTIONAL[name])


def test_sampled_units_scale_with_intensity():
    clear = knobs.Difficulty(spread=0, missing=0, optional=0, stray=0, asymmetry=0)
    rng = np.random.default_rng(0)
    for name, prototype in PROTOTYPES.items():
        if name in ("Neutral", "Contempt"):
            continue
        units = sample_units(rng, name, clear, intensity=0.5)
        expected = no_units()
        expected[:, list(prototype)] = 0.5
        np.testing.assert_allclose(units, expected)


# A young person without accessories, on a plain wall, frontal: the face alone changes.
SIDE = 200


def portrait(*units: int, strength: float = 1.0) -> np.ndarray:
    """Return the face as float [SIDE, SIDE]."""
    person = sample_person(knobs.generator(0, "person", "sheet", 1))
    shown = no_units()
    shown[:, list(units)] = strength
    wall = np.full((SIDE, SIDE, 3), 120, dtype=np.uint8)
    return draw_face(wall, person, shown, Pose(0.5 * SIDE, 0.39 * SIDE, 0.3 * SIDE)).mean(axis=2)


UPPER, MIDDLE, LOWER = (0.12, 0.48), (0.30, 0.66), (0.60, 1.0)  # heights as shares of the side


@pytest.mark.parametrize(
    ("unit", "region"),
    [(u, UPPER) for u in (1, 2, 4, 5, 7)]
    + [(6, (0.3, 0.7)), (9, MIDDLE)]
    + [(12, (0.5, 1.0))]
    + [(u, LOWER) for u in (10, 15, 17, 20, 24, 25, 26)],
)
def test_an_action_unit_moves_its_part_of_the_face(unit, region):
    change = np.abs(portrait(unit) - portrait())
    inside = change[int(region[0] * SIDE) : int(region[1] * SIDE)].sum()
    assert inside > 600  # grey levels; a pixel or two of difference would be noise
    assert inside / change.sum() > 0.6
    assert change.sum() > np.abs(portrait(unit, strength=0.4) - portrait()).sum()


def brow_height(columns: tuple[float, float], *units: int) -> float:
    """Return the height of the brow's dark pixels in some columns, as a share of the side."""
    left, right = (int(column * SIDE) for column in columns)
    rows = portrait(*units)[int(0.18 * SIDE) : int(0.345 * SIDE), left:right]
    dark = np.clip(90 - rows, 0, None).sum(axis=1)
    return float((dark * np.arange(len(dark))).sum() / dark.sum() / SIDE)


def test_brows_rise_and_fall_where_their_units_say():
    inner, outer = (0.415, 0.44), (0.26, 0.30)
    assert brow_height(outer, 2) < brow_height(outer) - 0.01
    assert brow_height(inner, 1) < brow_height(inner) - 0.01
    assert brow_height(inner, 4) > brow_height(inner) + 0.01
    # Where the inner raise meets the frown, the raise wins: the brows of sadness and fear.
    assert brow_height(inner, 1, 4) < brow_height(inner) - 0.01


def test_lips_move_as_their_units_say():
    person = sample_person(knobs.generator(0, "person", "sheet", 1))

    def lips(*units: int) -> tuple[float, float, float, float]:
        """Return the mouth's width, corners' height (up is positive), opening and thickness."""
        shown = no_units()
        shown[:, list(units)] = 1.0
        curves = shape_lips(person, shown)
        middle = len(curves.x) // 2
        rise = (curves.upper_in + curves.lower_in)[[middle, 0]] @ (0.5, -0.5)
        opening = (curves.lower_in - curves.upper_in)[middle]
        return np.ptp(curves.x), rise, opening, np.ptp([curves.upper_out, curves.lower_out])

    width, rise, opening, thickness = lips()
    assert opening == 0
    assert lips(12)[1] > rise + 0.1 and lips(12)[0] > width
    assert lips(15)[1] < rise - 0.1
    assert lips(20)[0] > 1.15 * width
    assert lips(24)[3] < 0.7 * thickness and lips(24)[0] < width
    assert 0.05 < lips(25)[2] < 0.5 * lips(25, 26)[2]


def test_detector_finds_the_faces_and_crops_them_as_the_stills_are_framed():
    detector, found, sizes = Detector(), [], []
    for number in range(24):
        rng = knobs.generator(0, "scene", number)
        person = sample_person(rng)
        units = sample_units(rng, list(PROTOTYPES)[number % len(PROTOTYPES)], knobs.Difficulty())
        pose = Pose(rng.uniform(120, 200), 98, rng.uniform(31, 42), yaw=rng.uniform(-15, 15))
        room = sample_background(rng, 320, 240, 22)
        faces = detector.detect(draw_face(room, person, units, pose))
        found.append(len(faces.boxes) > 0 and faces.boxes[0, 3] - faces.boxes[0, 1] > 60)
        if found[-1]:
            factor, _ = similarity(faces.landmarks[0], TEMPLATE * 100)
            still = aligned_pose(person, units, 100, yaw=pose.yaw)
            sizes.append(pose.unit * abs(factor) / still.unit)
    assert np.mean(found) >= 0.85
    assert abs(np.mean(sizes) - 1) < 0.04

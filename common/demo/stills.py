"""Single pictures of the demo world: what one shows, and drawing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from common.demo.camera import photograph, sample_background, sample_light
from common.demo.expressions import sample_units
from common.demo.face import aligned_pose, draw_face
from common.demo.geometry import Pose
from common.demo.people import Person, sample_person
from common.demo.settings import Difficulty, Settings, generator


@dataclass(frozen=True)
class Still:
    """One picture to draw.

    path: below the raw folder; person: group and number, the same in two stills for one identity;
    expression: what is drawn (a key of expressions.PROTOTYPES), whatever the label says; knobs:
    the name of the field of `Settings` that holds its difficulty; size: px in the file; drawn: px
    of the drawing, enlarged to `size`; scene: pictures of one scene share background and light;
    intensity: of the expression, None for a draw.
    """

    path: str
    person: tuple[str, int]
    expression: str
    knobs: str
    size: int
    drawn: int = 0
    scene: str = ""
    intensity: float | None = None


def person_of(seed: int, person: tuple[str, int]) -> Person:
    """Return the identity with this group and number in the world of a seed."""
    return sample_person(generator(seed, "person", *person))


def jittered_pose(rng: np.random.Generator, pose: Pose, size: int, jitter: float) -> Pose:
    """Return a pose as a face aligner's small errors would leave it."""
    x, y, grow, roll = rng.normal(0, jitter, 4)
    return replace(
        pose,
        x=pose.x + x * size,
        y=pose.y + y * size,
        unit=pose.unit * (1 + 1.5 * grow),
        roll=pose.roll + 100 * roll,
    )


def sample_turn(rng: np.random.Generator, knobs: Difficulty) -> tuple[float, float]:
    """Draw yaw and pitch, degrees."""
    yaw, pitch = np.clip(rng.normal(0, 1, 2), -2, 2) * (knobs.yaw, knobs.pitch)
    return float(yaw), float(pitch)


def draw_still(settings: Settings, still: Still) -> Image.Image:
    """Return the picture; it depends on the seed and on `still` alone."""
    rng = generator(settings.seed, "still", still.path)
    scene = generator(settings.seed, "scene", still.scene) if still.scene else rng
    knobs: Difficulty = getattr(settings, still.knobs)
    size = still.drawn or still.size
    light = sample_light(scene, knobs)
    background = sample_background(scene, size, size, knobs.background)
    person = person_of(settings.seed, still.person)
    units = sample_units(rng, still.expression, knobs, still.intensity)
    pose = aligned_pose(person, units, size, *sample_turn(rng, knobs))
    pose = jittered_pose(rng, pose, size, knobs.jitter)
    gaze = tuple(np.clip(rng.normal(0, 0.025, 2), -0.07, 0.07))
    image = photograph(rng, draw_face(background, person, units, pose, light, gaze), knobs)
    if size != still.size:
        image = image.resize((still.size, still.size), Image.Resampling.BICUBIC)
    return image


def write_still(settings: Settings, path: Path, still: Still) -> None:
    """Draw a picture and write it as JPEG to `path`, whatever place `still.path` names."""
    knobs: Difficulty = getattr(settings, still.knobs)
    quality = int(generator(settings.seed, "jpeg", still.path).integers(*knobs.jpeg))
    draw_still(settings, still).save(path, "JPEG", quality=quality)

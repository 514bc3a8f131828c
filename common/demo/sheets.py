"""Pictures for the eye: people by expressions, and the action units one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.demo.camera import photograph, sample_background, sample_light
from common.demo.expressions import PROTOTYPES, key_of
from common.demo.face import ACTION_UNITS, aligned_pose, draw_face, no_units
from common.demo.geometry import Pose
from common.demo.people import sample_person
from common.demo.settings import Difficulty, generator
from common.demo.stills import sample_turn
from common.emotions import BASIC, CHALLENGE

SIDE, GAP, MARGIN = 104, 3, 128  # px
# People of seed 0 who differ in skin, hair, age and what they wear.
SHOWN = (7, 41, 10, 12, 29, 53, 0, 25, 58, 45)


def contact_sheet(path: Path, seed: int = 0) -> None:
    """Draw a sheet of neutral, six basic and seven compound expressions of some people."""
    names = ["Neutral", *BASIC, *CHALLENGE]
    width, height = MARGIN + len(SHOWN) * (SIDE + GAP), len(names) * (SIDE + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw, large, small = (
        ImageDraw.Draw(sheet),
        ImageFont.load_default(13),
        ImageFont.load_default(10),
    )
    knobs = Difficulty(noise=(1.0, 2.0), blur=(0.0, 0.0))
    for row, name in enumerate(names):
        y = row * (SIDE + GAP)
        units_of_row = PROTOTYPES[key_of(name)]
        draw.text((4, y + 34), name.replace("_", "\n"), fill="black", font=large)
        if units_of_row:
            line = y + (68 if "_" in name else 52)
            draw.text((4, line), "AU " + " ".join(map(str, units_of_row)), fill="#666", font=small)
        for column, number in enumerate(SHOWN):
            rng = generator(seed, "sheet", row, column)
            person = sample_person(generator(seed, "person", "sheet", number))
            units = no_units()
            units[:, list(units_of_row)] = rng.uniform(0.8, 1.0)
            pose = _whole_head(aligned_pose(person, units, SIDE, *sample_turn(rng, knobs)))
            background = sample_background(rng, SIDE, SIDE, knobs.background)
            face = draw_face(background, person, units, pose, sample_light(rng, knobs))
            sheet.paste(photograph(rng, face, knobs), (MARGIN + column * (SIDE + GAP), y))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=80)


def action_unit_sheet(path: Path, seed: int = 0) -> None:
    """Draw each action unit at a third, two thirds and full strength on one person."""
    person = sample_person(generator(seed, "person", "sheet", 1))
    width, top = len(ACTION_UNITS) * (SIDE + GAP), 16
    sheet = Image.new("RGB", (width, top + 3 * (SIDE + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    background = np.full((SIDE, SIDE, 3), (116, 124, 128), dtype=np.uint8)
    pose = _whole_head(aligned_pose(person, no_units(), SIDE))
    for column, unit in enumerate(ACTION_UNITS):
        x = column * (SIDE + GAP)
        draw.text((x + 4, 1), f"AU {unit}", fill="black", font=font)
        for row in range(3):
            units = no_units()
            units[:, unit] = (row + 1) / 3
            face = draw_face(background, person, units, pose)
            sheet.paste(Image.fromarray(face), (x, top + row * (SIDE + GAP)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _whole_head(pose: Pose) -> Pose:
    """Return a pose for pictures: smaller than in an aligned crop, so that hair and chin show."""
    centre, share = SIDE / 2, 0.92
    x, y = (centre + (at - centre) * share for at in (pose.x, pose.y))
    return replace(pose, x=x, y=y, unit=pose.unit * share)

"""Expressions as FACS action units: the prototypes of Du, Tao & Martinez (PNAS 2014) and samples.

A compound is not the union of its two parts: sadly surprised has 1 4 25 26, but not sadness's 15
nor surprise's 2. That is what makes the challenge's compounds hard to learn from single emotions.
"""

from __future__ import annotations

import numpy as np

from common.demo.face import no_units
from common.demo.settings import Difficulty
from common.emotions import parse_labels

# Action units by expression, after Du, Tao & Martinez 2014, table 1. Keys are spelled as in
# common.emotions (alphabetical for compounds), see `key_of`.
PROTOTYPES = {
    "Neutral": (),
    "Happiness": (12, 25),
    "Sadness": (4, 15),
    "Fear": (1, 4, 20, 25),
    "Anger": (4, 7, 24),
    "Surprise": (1, 2, 25, 26),
    "Disgust": (9, 10, 17),
    "Contempt": (12, 14),  # one-sided, see `sample_units`
    "Happiness Surprise": (1, 2, 12, 25),
    "Disgust Happiness": (10, 12, 25),
    "Fear Sadness": (1, 4, 15, 25),
    "Anger Sadness": (4, 7, 15),
    "Sadness Surprise": (1, 4, 25, 26),
    "Disgust Sadness": (4, 10),
    "Anger Fear": (4, 20, 25),
    "Fear Surprise": (1, 2, 5, 20, 25),
    "Anger Surprise": (4, 25, 26),
    "Anger Disgust": (4, 10, 17),
    "Disgust Surprise": (1, 2, 5, 10),
}

# Units that some people add, with how often. Chosen by us so that no addition turns one
# expression into another one's prototype.
OPTIONAL = {
    "Happiness": {6: 0.6, 26: 0.2},
    "Sadness": {1: 0.35, 17: 0.3},
    "Fear": {5: 0.5, 2: 0.2, 26: 0.2},
    "Anger": {17: 0.3, 9: 0.1},
    "Surprise": {5: 0.6},
    "Disgust": {4: 0.3, 7: 0.2, 25: 0.15},
    "Happiness Surprise": {5: 0.5, 26: 0.4, 6: 0.2},
    "Disgust Happiness": {6: 0.4, 9: 0.3},
    "Fear Sadness": {17: 0.2, 20: 0.2},
    "Anger Sadness": {17: 0.3},
    "Sadness Surprise": {5: 0.15},
    "Disgust Sadness": {1: 0.3, 15: 0.4},
    "Anger Fear": {5: 0.3, 7: 0.3},
    "Fear Surprise": {26: 0.3},
    "Anger Surprise": {5: 0.2, 7: 0.3},
    "Anger Disgust": {7: 0.4, 9: 0.4},
    "Disgust Surprise": {9: 0.2, 17: 0.2},
}


def key_of(name: str) -> str:
    """Return the key in PROTOTYPES of an expression however it is written."""
    return " ".join(parse_labels(name))


def sample_units(
    rng: np.random.Generator, expression: str, knobs: Difficulty, intensity: float | None = None
) -> np.ndarray:
    """Return action units [2, 27] of one showing of an expression (a key of PROTOTYPES).

    intensity: overall strength; None draws it from the knobs' range. Neutral and Contempt differ:
    the one shows at most a faint stray unit, the other one corner of the lips.
    """
    units = no_units()
    if intensity is None:
        intensity = rng.uniform(*knobs.intensity)
    shown = [unit for unit in PROTOTYPES[expression] if unit != 14]
    # At most one unit goes missing: two would leave nothing to recognise.
    if len(shown) > 1 and rng.random() < knobs.missing * len(shown):
        shown.pop(rng.integers(len(shown)))
    strength = {unit: 1.0 for unit in shown}
    for unit, chance in OPTIONAL.get(expression, {}).items():
        if rng.random() < chance * knobs.optional:
            strength[unit] = rng.uniform(0.4, 0.9)
    for unit, factor in strength.items():
        level = intensity * factor + rng.normal(0, knobs.spread) * intensity
        units[:, unit] = level * (1 + rng.normal(0, knobs.asymmetry, 2))
    if expression == "Contempt":  # the lip's corner on one side only
        units[rng.integers(2), 12] = 0.0
        units[:, 7] = 0.3 * intensity
    if expression == "Neutral" or rng.random() < knobs.stray:
        stray = rng.choice([1, 2, 4, 5, 7, 12, 15, 17, 24, 25])
        units[:, stray] += rng.uniform(0.0, 0.22)
    return np.clip(units, 0.0, 1.0)

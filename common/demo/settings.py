"""The demo world's numbers: how much of it there is and how hard it is. All of them stand here."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field, replace

import numpy as np

# Raised whenever the same settings would give other files; an older world is then refused.
VERSION = 1


@dataclass(frozen=True)
class Counts:
    """How many pictures each data set has, at scale 1."""

    # RAF-DB basic, by its classes Surprise Fear Disgust Happiness Sadness Anger Neutral:
    # imbalanced like the original, but mildly, so that 1,200 pictures are enough to learn from.
    raf_basic_train: tuple[int, ...] = (180, 130, 140, 250, 190, 140, 170)
    raf_basic_test: tuple[int, ...] = (40, 40, 40, 40, 40, 40, 40)
    raf_compound_train: int = 12  # a challenge compound; natural compounds are scarce
    raf_compound_train_other: int = 6  # each of RAF-DB's other four
    raf_compound_test: int = 30
    raf_compound_test_other: int = 8
    affectnet_train: int = 70  # a class, of eight
    affectnet_val: int = 10
    affwild_train_videos: int = 8
    affwild_val_videos: int = 3
    affwild_frames: int = 40
    faces: int = 1500
    videos: int = 42
    video_frames: int = 40

    def scaled(self, scale: float) -> Counts:
        """Return the counts times `scale`, at least 1 each; videos keep their length.

        Challenge videos stay at least seven and Aff-Wild2's at least three and one: the forms of
        the data sets need them.
        """
        floors = {"videos": 7, "affwild_train_videos": 3}
        changed = {}
        for name, value in asdict(self).items():
            if name.endswith("frames"):
                changed[name] = value if scale >= 0.25 else 12
            elif isinstance(value, tuple):
                changed[name] = tuple(max(1, round(each * scale)) for each in value)
            else:
                changed[name] = max(floors.get(name, 1), round(value * scale))
        return replace(self, **changed)


@dataclass(frozen=True)
class Difficulty:
    """How hard pictures of one data set are: the face's own knobs, then the camera's."""

    intensity: tuple[float, float] = (0.55, 1.0)  # strength common to all units of a picture
    spread: float = 0.12  # standard deviation of single units about it
    missing: float = 0.06  # chance, for each unit of a prototype, that one does not show
    optional: float = 1.0  # factor on the chances in expressions.OPTIONAL
    stray: float = 0.05  # chance of a faint unit that does not belong
    asymmetry: float = 0.10  # standard deviation between the face's halves
    label_noise: float = 0.0  # share of labels replaced by another class
    yaw: float = 10.0  # standard deviation, degrees; cut at twice that, like pitch
    pitch: float = 5.0
    jitter: float = (
        0.02  # of the alignment: shift in crop sides, scale; roll is 100 × it in degrees
    )
    light: tuple[float, float] = (0.30, 0.65)  # share of directed light
    background: float = 22.0  # contrast of the background, grey levels
    blur: tuple[float, float] = (0.0, 0.7)  # px
    noise: tuple[float, float] = (1.5, 5.0)  # grey levels
    jpeg: tuple[int, int] = (82, 96)  # quality


@dataclass(frozen=True)
class Settings:
    """Everything that decides the bytes of a world, beside the code's `VERSION`."""

    seed: int = 0
    scale: float = 1.0
    counts: Counts = field(default_factory=Counts)
    raf: Difficulty = Difficulty(label_noise=0.05)
    affectnet: Difficulty = Difficulty(label_noise=0.15, yaw=13, pitch=7, jitter=0.045)
    affwild: Difficulty = Difficulty(label_noise=0.05, intensity=(0.45, 1.0))
    faces: Difficulty = Difficulty(intensity=(0.3, 1.0), yaw=13, pitch=7, jitter=0.03)
    videos: Difficulty = Difficulty(yaw=9, pitch=4)
    video_intensity: tuple[float, float] = (0.25, 1.0)  # from a segment's ends to its middle


def settings_for(seed: int = 0, scale: float = 1.0) -> Settings:
    """Return the default world's settings at a seed and a scale."""
    return Settings(seed=seed, scale=scale, counts=Counts().scaled(scale))


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator that depends on the seed and on names only: not on order or processes."""
    key = "/".join(str(name) for name in names)
    return np.random.default_rng([seed, zlib.crc32(key.encode())])

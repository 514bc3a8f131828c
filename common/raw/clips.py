"""Frames of labelled clips, for the readers of data sets that consist of videos."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from common.faces.packets import survey
from common.faces.video import pictures
from common.raw.layout import Item
from common.script.files import UserError

INFINITE = float("inf")
FRAMES = 8  # of each clip, evenly spread


def frames_of(clip: Item, begin_s: float = 0, end_s: float = INFINITE) -> Iterator[Item]:
    """Yield FRAMES frames of a clip, or of its part from begin_s to end_s, as scenes.

    clip: its name is that of the folder of its frames.
    """
    span = "" if (begin_s, end_s) == (0, INFINITE) else f"@{begin_s:.3f}:{end_s:.3f}"
    for number in range(1, FRAMES + 1):
        yield clip._replace(
            name=f"{clip.name}/{number}.jpg",
            part=f"{number}/{FRAMES}{span}",
            opener=open_frame,
            scene=True,
        )


def spread(things: Sequence, count: int = FRAMES) -> list:
    """Return the middle things of `count` equal parts, all where there are fewer."""
    places = {int(len(things) * (2 * k + 1) / (2 * count)) for k in range(count)}
    return [things[place] for place in sorted(places)] if things else []


def open_frame(path: str, part: str) -> np.ndarray:
    """Return a frame of a clip, uint8 [H, W, 3], for a part `k/n` or `k/n@begin:end`, in seconds.

    Frame k of n evenly spread ones, from 1. Raises ValueError where there are fewer.
    """
    place, _, span = part.partition("@")
    number, count = map(int, place.split("/"))
    begin_s, end_s = map(float, span.split(":")) if span else (0.0, INFINITE)
    found = _spread_frames(path, count, begin_s, end_s)
    if number > len(found):
        raise ValueError(f"the clip has {len(found)} frames that decode")
    return found[number - 1]


@functools.lru_cache(maxsize=1)  # the frames of a clip are asked for one after the other
def _spread_frames(path: str, count: int, begin_s: float, end_s: float) -> list[np.ndarray]:
    """Return the middle frames of `count` equal parts of a clip, fewer of a clip that has fewer."""
    try:
        surveyed = survey(path)
        due = sorted((time, n) for n, time in enumerate(surveyed.times) if time is not None)
        seconds = [((time - due[0][0]) * surveyed.unit_s, packet) for time, packet in due]
        within = [packet for time, packet in seconds if begin_s <= time < end_s]
        wanted = set(spread(within, count))
        return [image for packet, image in pictures(path, surveyed) if packet in wanted]
    except UserError as error:
        raise ValueError(f"the clip does not decode: {error}"[:200]) from None

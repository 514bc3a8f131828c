"""Frames of a video, with their true numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import av
import numpy as np

from common.script.files import UserError


def frames(
    path: str | os.PathLike, counts: Counter | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, image) of every frame that decodes, in order of presentation.

    number: from 1, as in the challenge's lists. image: uint8 [H, W, 3], RGB, upright (a rotation
    noted in the container is applied). Frames are made one by one, so that memory does not grow
    with the video. The container's own count is ignored, for it is often wrong: what decodes is
    what there is. A stream that breaks off yields its frames so far and adds one to
    counts["videos that end early"]. Raises UserError where not one frame can be read.
    """
    number = promised = 0
    broken = False
    try:
        # Titles and the like are often in other encodings, and nobody reads them here.
        with av.open(os.fspath(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video stream; remove it or replace it.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            promised = stream.frames
            for frame in container.decode(stream):
                number += 1
                image = frame.to_ndarray(format="rgb24")
                # frame.rotation is the counter-clockwise turn that makes the picture upright.
                turns = round(frame.rotation / 90) % 4
                yield number, np.ascontiguousarray(np.rot90(image, turns)) if turns else image
    except (av.FFmpegError, OSError, ValueError) as error:
        if number == 0:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"The video {path} cannot be decoded ({reason}); replace it or remove it."
            ) from None
        broken = True
    # A file that was cut off often just ends; a container that is a few frames out is no sign.
    if counts is not None and number and (broken or number < 0.9 * promised):
        counts["videos that end early"] += 1
    if number == 0:
        raise UserError(f"The video {path} holds no frame; replace it or remove it.")

"""Faces of raw videos in batches, read in background threads, in memory that does not grow.

Decoder, detector and Pillow all work outside Python's global lock, so threads suffice: some read
ahead, a video each, while the network computes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from common.faces.detector import Detector
from common.faces.follow import video_faces
from common.pictures import small_jpeg
from common.script.files import UserError
from common.script.flags import DETECT_SIDES_PX

_READY = 2  # batches that wait for the network, for each thread


@dataclass
class FaceBatch:
    """Faces of one video, in order of frames: B of them.

    frames: int64 [B], a frame occurs as often as it has faces. views: by side S in pixels, uint8
    [B, 3, S, S]. pictures: a small JPEG of each.
    """

    video: str
    frames: np.ndarray
    views: dict[int, torch.Tensor]
    pictures: list[bytes]


@dataclass
class VideoEnd:
    """What became of a video: its frames' numbers, which of them decoded, and what went wrong."""

    video: str
    held: Sequence[int] = ()
    decoded: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def stream_faces(
    paths: dict[str, Path],
    sizes: Sequence[int],
    *,
    batch_size: int,
    everyone: bool,
    threads: int,
    sides_px: Sequence[int] = DETECT_SIDES_PX,
) -> Iterator[FaceBatch | VideoEnd]:
    """Yield the faces of videos in batches, and a VideoEnd after the last of each video.

    sizes: sides of the networks' inputs. everyone: all faces of a frame, not the main one alone.
    sides_px: of the detector.
    Videos come interleaved, but no batch holds two, so that its content does not depend on
    threads. A video that cannot be read has its reason in VideoEnd. Raises whatever else a thread
    raised.
    """
    detector = Detector(sides_px=sides_px)  # its session may be used by several threads
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for item in sorted(paths.items()):
        waiting.put(item)
    ready: queue.Queue = queue.Queue(_READY * threads)
    left = threading.Event()  # the reader of this generator has gone

    def hand_over(item) -> None:
        while not left.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise _Left

    def work() -> None:
        try:
            while not left.is_set():
                video, path = waiting.get_nowait()
                for item in _read(video, path, detector, sizes, batch_size, everyone):
                    hand_over(item)
        except (queue.Empty, _Left):
            pass
        except BaseException as error:  # handed to the main thread, which raises it
            with suppress(_Left):  # or has raised another's already
                hand_over(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        ended = 0
        while ended < len(paths):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            ended += isinstance(item, VideoEnd)
            yield item
    finally:
        left.set()
        for worker in workers:
            worker.join()


class _Left(Exception):
    """Nobody reads any more."""


def _read(
    video: str,
    path: Path,
    detector: Detector,
    sizes: Sequence[int],
    batch_size: int,
    everyone: bool,
) -> Iterator[FaceBatch | VideoEnd]:
    """Yield one video's batches and its end."""
    end = VideoEnd(video)
    numbers: list[int] = []
    crops: list[np.ndarray] = []

    def batch() -> FaceBatch:
        chosen = crops[:batch_size]
        # Crops that were aligned before need not all have one size.
        chosen = list(takewhile(lambda crop: crop.shape == chosen[0].shape, chosen))
        images = torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2)
        made = FaceBatch(
            video,
            np.array(numbers[: len(chosen)], dtype=np.int64),
            {size: resize(images, size) for size in sizes},
            [small_jpeg(crop) for crop in chosen],
        )
        del numbers[: len(chosen)], crops[: len(chosen)]
        return made

    try:
        footage, shown = video_faces(path, detector, everyone=everyone)
        end.held = footage.held
        end.warnings += [f"{path} {remark}" for remark in footage.remarks]
        for number, _, found in shown:
            end.decoded.append(number)
            numbers += [number] * len(found)
            crops += found
            while len(crops) >= batch_size:
                yield batch()
    except UserError as error:  # the others can still be labelled
        end.warnings.append(str(error))
    while crops:
        yield batch()
    yield end


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize crops to a network's input as `loading.evaluation_batches` does: bicubic, averaged."""
    return interpolate(images, (size, size), mode="bicubic", antialias=True)

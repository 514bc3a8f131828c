"""Frames of a video file, with their true numbers, upright, past whatever is damaged.

A frame's number is its place among the frames that the file holds, in presentation order, whether
or not each of them decodes. So a video is surveyed first (which packets hold a frame, and when it
is shown; nothing is decoded), then decoded, and numbered once it is known what did not decode.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

from common.faces.packets import ERRORS, Survey, opened, packets, survey
from common.script.files import UserError

_TAIL_PACKETS = 64  # more than a decoder with threads holds when a file ends
_FIELD_SHARE = 0.4  # of the packets: second fields, which show no frame of their own, are half
_STRETCH_MAX = 4  # sides of a pixel: a ratio beyond this is no camera's


class Footage(NamedTuple):
    """What a video, or a folder of frames, turned out to hold.

    held: the numbers of its frames, from 1, whether or not they decode. lost: those that do not.
    remarks: as of a Survey.
    """

    held: Sequence[int]
    lost: list[int]
    remarks: list[str]


def pictures(
    path: str | os.PathLike, surveyed: Survey | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (packet, image) of every frame that decodes, in order of presentation.

    packet: which of the survey's. image: uint8 [H, W, 3], RGB, as a player shows it: turned and
    mirrored as the file says, with square pixels. Frames are made one by one, so that memory does
    not grow with the video. What does not decode is passed over. Raises UserError where nothing
    decodes.
    """
    surveyed = surveyed or survey(path)
    made = 0
    try:
        for shown in _decode(path, surveyed, "AUTO"):
            made += 1
            yield shown
    except _Damaged:
        # A decoder's threads lose sound frames beside a damaged one, more of them on more cores.
        # One thread loses none; it goes over what came before the damage once more.
        for shown in itertools.islice(_decode(path, surveyed, "NONE"), made, None):
            made += 1
            yield shown
    if not made:
        raise UserError(
            f"The video {path} cannot be decoded (none of its {len(surveyed.times)} frames); "
            "replace it or remove it."
        )


def number_frames(surveyed: Survey, shown: Sequence[int]) -> tuple[list[int], Footage]:
    """Number the frames that decoded, in the order in which they came.

    shown: their packets. Returns their numbers, from 1, and what the video holds. A lost frame is
    counted where its time stamp puts it. Where all decoded, the numbers are 1, 2, 3…
    """
    times, seen, remarks = surveyed.times, set(shown), list(surveyed.remarks)
    lost = [i for i, time in enumerate(times) if time is not None and i not in seen]
    # A cut recording may begin with what depends on pictures before its beginning.
    cut = {i for i in lost if i < surveyed.begins or (0 in seen and times[i] < times[0])}
    if cut:
        lost = [i for i in lost if i not in cut]
        remarks.append(f"begins with {len(cut)} frames that nothing can decode: not counted.")
    if surveyed.fields and len(lost) > _FIELD_SHARE * len(times):
        lost = _without_second_fields(lost, len(times))
    # A decoder may show two frames of one packet and none of the next.
    lost = lost[len(shown) - len(seen) :]
    # Sorted, because some files note the order of decoding in place of that of presentation.
    due = sorted(0 if times[i] is None else times[i] for i in shown)
    gone = sorted(times[i] for i in lost)
    numbers = [n + bisect_left(gone, time) for n, time in enumerate(due, start=1)]
    held = range(1, len(shown) + len(lost) + 1)
    return numbers, Footage(held, sorted(set(held) - set(numbers)), remarks)


def _without_second_fields(lost: list[int], packets: int) -> list[int]:
    """Return the lost packets but for those that are the second field of the packet before."""
    gone, kept, second = set(lost), [], False
    for packet in range(packets):
        if packet in gone and second:
            second = False
            continue
        if packet in gone:
            kept.append(packet)
        second = True
    return kept


class _Damaged(Exception):
    """A decoder with threads has met something that does not decode."""


def _decode(
    path: str | os.PathLike, surveyed: Survey, threads: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (packet, image) of every frame that decodes.

    Raises _Damaged where one does not, unless threads is NONE.
    """
    first_of_tail = len(surveyed.times) - _TAIL_PACKETS
    tail = {i for i, time in enumerate(surveyed.times) if time is not None and i >= first_of_tail}
    with opened(path) as container:
        stream = container.streams[surveyed.stream]
        stream.thread_type = threads
        stream.codec_context.copy_opaque = True  # a frame knows its packet
        stretch, matrices = float(stream.sample_aspect_ratio or 1), {}
        packets_and_end = itertools.chain(packets(container, stream, []), [None])
        for count, packet in enumerate(packets_and_end):
            if packet:
                packet.opaque = [count]  # a list, because PyAV knows it by its address alone
            for frame in _decoded(packet or stream, packet, threads):
                kind = frame.rotation, frame.width, frame.height
                if kind not in matrices:
                    matrices[kind] = _matrix(frame)
                tail.discard(frame.opaque[0])
                yield frame.opaque[0], _as_shown(frame, stretch, matrices[kind])
    if tail and threads != "NONE":  # at the end, errors are not reported
        raise _Damaged


def _decoded(decoder, packet: av.Packet | None, threads: str) -> list[av.VideoFrame]:
    try:
        return decoder.decode() if packet else decoder.decode(None)
    except ERRORS:
        if threads != "NONE":
            raise _Damaged from None
        return []


def _matrix(frame: av.VideoFrame) -> tuple[int, ...]:
    """Return how a frame is to be turned: (a, b, c, d), where a point (x, y) of it goes.

    x moves by a right and b down, y by c right and d down.
    """
    # A frame that was asked for its side data, each referring to the other, stays in memory until
    # the next garbage collection: a small copy is asked, and only where its kind is new.
    matrix = frame.reformat(8, 8, "gray").side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _as_shown(frame: av.VideoFrame, stretch: float, matrix: tuple[int, ...]) -> np.ndarray:
    """Return a frame as a player shows it: square pixels, turned and mirrored as the file says."""
    width, height = frame.width, frame.height
    if 1 < stretch <= _STRETCH_MAX:
        width = round(width * stretch)
    elif 1 / _STRETCH_MAX <= stretch < 1:
        height = round(height / stretch)
    if (width, height) == (frame.width, frame.height):
        image = frame.to_ndarray(format="rgb24")
    else:
        image = frame.reformat(width, height, "rgb24").to_ndarray()
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])

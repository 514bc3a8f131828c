"""The packets of a video file: which hold a frame, when it is shown, and whether the file is whole.

Nothing is decoded here: the whole of a film takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition

from common.script.files import UserError

ERRORS = (av.FFmpegError, OSError, ValueError)

_SEGMENT = 1 << 64  # beyond any time stamp
_TRIES = 3  # to go on after damage of a container
_BROADCAST = ("mpegts", "mpeg")
_TS_BYTES = 188  # of a packet of an MPEG transport stream
_TS_TAIL = 1 << 17  # bytes in which every program has a packet


class Survey(NamedTuple):
    """The packets of a video stream, in file order, none of them decoded.

    stream: its index in the file. times: of each packet, when its frame is shown, in units that
    only compare; None where the packet holds no frame. unit_s: seconds of such a unit, within a
    recording. begins: the first packet that counts. fields: whether a frame may come in two
    packets. remarks: what is odd, each the rest of a sentence that starts with the video's name.
    """

    stream: int
    times: list[int | None]
    unit_s: float
    begins: int
    fields: bool
    remarks: list[str]


def survey(path: str | os.PathLike) -> Survey:
    """Find the stream to use of a video file, and which of its packets hold a frame.

    The stream is the file's default one, never an attached cover or a single picture beside a film.
    Raises UserError for a file that is no video, or holds no frame.
    """
    with opened(path) as container:
        streams = container.streams.video
        if not streams:
            raise UserError(f"{path} holds no video stream; remove it or replace it.")
        tracks = {stream.index: _Track(stream.codec_context.name) for stream in streams}
        end_s, failure = 0.0, []
        for packet in packets(container, None, failure):
            if packet.stream_index in tracks:
                tracks[packet.stream_index].add(packet)
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                end_s = max(end_s, float((time + (packet.duration or 0)) * packet.time_base))
        chosen = max(streams, key=lambda stream: _preference(stream, tracks[stream.index]))
        track = tracks[chosen.index]
        times = track.times()
        frames = sum(time is not None for time in times)
        if not frames:
            reason = f" ({failure[0]})" if failure else ""
            raise UserError(f"The video {path} holds no frame{reason}; replace it or remove it.")
        remarks = []
        if early := _ends_early(container, chosen, track, end_s, failure):
            remarks.append(f"breaks off after {frames} frames: {early}.")
        elif container.format.name == "avi" and chosen.frames > len(times):
            remarks.append(
                f"shows its last picture again in {chosen.frames - len(times)} places that hold "
                "none (dropped frames of an AVI); they are not counted as frames."
            )
        # Of interlaced H.264 outside of MP4 and MKV, FFmpeg's parser makes a packet of each field.
        fields = chosen.codec_context.name == "h264" and chosen.codec_context.field_order > 1
        # A recording of a broadcast may begin anywhere.
        begins = track.first_key or 0 if container.format.name in _BROADCAST else 0
        return Survey(chosen.index, times, float(chosen.time_base), begins, fields, remarks)


def packets(
    container: av.container.InputContainer, stream: av.VideoStream | None, failure: list[str]
) -> Iterator[av.Packet]:
    """Yield the packets of a stream, or of all, past damage of the container.

    Where that does not end, the reason is added to `failure`.
    """
    failed = 0  # in a row
    while True:
        try:
            for packet in container.demux(stream) if stream else container.demux():
                failed = 0
                if packet.size:  # else it only tells that the stream has ended
                    yield packet
            return
        except ERRORS as error:
            failed += 1
            if failed == _TRIES:
                failure.append(_reason(error))
                return


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Open a video. Raises UserError where it is none."""
    try:
        # Titles and the like are often in other encodings, and nobody reads them here.
        container = av.open(os.fspath(path), metadata_errors="replace")
    except ERRORS as error:
        raise UserError(
            f"The video {path} cannot be decoded ({_reason(error)}); replace it or remove it."
        ) from None
    with container:
        yield container


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class _Track:
    """The packets of one stream, as they come.

    first_key: the first key frame, or None. corrupt: the number of the last that is not whole.
    """

    def __init__(self, codec: str):
        self.codec = codec
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.holds = bytearray()
        self.first_key: int | None = None
        self.corrupt = 0

    def add(self, packet: av.Packet) -> None:
        if packet.is_keyframe and self.first_key is None:
            self.first_key = len(self.pts)
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.holds.append(_holds_frame(self.codec, packet))
        if packet.is_corrupt:
            self.corrupt = len(self.pts)

    def times(self) -> list[int | None]:
        """Return when each packet's frame is shown, or None where it holds no frame."""
        times, later = list(self.pts), None
        for i in reversed(range(len(times))):
            if times[i] is None:
                if self.dts[i] is None:
                    return [i if holds else None for i, holds in enumerate(self.holds)]
                # AVI has no times of presentation. FFmpeg finds those of B frames; a frame on which
                # they depend is shown when the next such frame is decoded.
                times[i], later = self.dts[i] + _SEGMENT if later is None else later, self.dts[i]
        start, latest = 0, None
        for i, dts in enumerate(self.dts):
            if dts is not None:
                if latest is not None and dts < latest:  # joined recordings: the clock starts again
                    start += 2 * _SEGMENT
                latest = dts
            times[i] = times[i] + start if self.holds[i] else None
        return times


def _holds_frame(codec: str, packet: av.Packet) -> bool:
    """Say whether a packet holds a frame that is to be shown."""
    if packet.is_discard:  # left out by an edit list
        return False
    if codec == "vp8":  # a frame that others are predicted from may be marked as not to be shown
        tag = int.from_bytes(memoryview(packet)[:3], "little")
        return bool(tag & 0x10) or tag >> 5 == 0  # of no size: damaged
    # An MPEG-4 "VOP not coded" fills the place of a dropped frame, or follows two frames in one.
    return codec != "mpeg4" or packet.size > 8


def _preference(stream: av.VideoStream, track: _Track) -> tuple:
    """Rank the video streams of a file."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    return (
        not stream.disposition & covers,
        len(track.pts) > 1,
        bool(stream.disposition & Disposition.default),
        stream.codec_context.width * stream.codec_context.height,
        len(track.pts),
        -stream.index,
    )


def _ends_early(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    track: _Track,
    end_s: float,
    failure: list[str],
) -> str:
    """Return what shows that a file was cut off, or "". end_s: of its last packet."""
    if failure:
        return failure[0]
    index = stream.index_entries
    if len(index) and max(entry.pos + entry.size for entry in index) > container.size:
        return "the file ends before its last frames"
    kind = container.format.name
    if kind == "avi":
        last = max((dts for dts in track.dts if dts is not None), default=-1) + 1
        missing = stream.frames - last
        return f"{missing} of {stream.frames} frames are missing" if missing > 2 else ""
    times = sorted(time for time in track.pts if time is not None)
    if kind in _BROADCAST:
        if kind == "mpegts" and _ends_in_frame(container, stream.id):
            return "the file ends within a frame"
        steps = np.diff(times[-16:])
        if track.corrupt > len(times) - 4 or max(steps, default=0) > 1.5 * np.median(steps):
            return "frames are missing among its last ones"  # which come out of order
    if kind == "asf" and not container.duration:
        return "the file is shorter than it says"
    if stream.frames or not container.duration:  # the index is complete, or no length is stated
        return ""
    pause_s = float(max(np.diff(times), default=0) * stream.time_base)
    stated_s = container.duration / av.time_base
    if stated_s - end_s <= max(0.1, 3 * pause_s):
        return ""
    return f"it says that it lasts {stated_s:.1f} s, and has {end_s:.1f} s"


def _ends_in_frame(container: av.container.InputContainer, pid: int) -> bool:
    """Say whether the last packet of a transport stream's program `pid` is full to its last byte.

    A frame seldom fills its packets: what is left of the last one is stuffed.
    """
    if container.size % _TS_BYTES and container.size % (_TS_BYTES + 4):
        return True
    with open(container.name, "rb") as file:
        file.seek(-min(container.size, _TS_TAIL), os.SEEK_END)
        tail = file.read()
    at = len(tail) - _TS_BYTES
    # Cameras note the time before each packet.
    step = _TS_BYTES if tail[at - _TS_BYTES] == 0x47 else _TS_BYTES + 4
    while at >= 0:
        if int.from_bytes(tail[at + 1 : at + 3]) & 0x1FFF == pid:
            return tail[at + 3] & 0x20 == 0  # no adaptation field, and so no stuffing
        at -= step
    return False

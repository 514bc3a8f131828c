"""Videos made and damaged by the tests."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 112, 64


def numbered(count, first=1):
    """Pictures that show their number in binary: seven bars on a restless ground."""
    made = []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        picture = random.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for bit in range(7):
            picture[8:56, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
        made.append(picture)
    return made


def write(path, codec, pictures_, times=None, form=None, container_options=None, **options):
    """Encode pictures of 1/25 s, or at `times` of that unit."""
    with av.open(str(path), "w", format=form, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures_[0].shape[:2]
        stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
        for place, picture in enumerate(pictures_):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[place] if times else place, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def parts_of(path):
    """Return where in a file the bytes of each packet lie that holds a frame: start, length."""
    with av.open(str(path)) as container:
        parts = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content, places, at = path.read_bytes(), [], 0
    for part in parts:
        at = content.index(part, at)
        places.append((at, len(part)))
        at += len(part)
    return places


def damage(path, which, how):
    """Damage the bytes of one packet, of those that hold a frame."""
    start, length = parts_of(path)[which]
    content = bytearray(path.read_bytes())
    if how == "zeroed":
        content[start : start + length] = bytes(length)
    else:
        random = np.random.default_rng(1)
        for place in random.integers(0, length, max(4, length // 8)):
            content[start + place] ^= int(random.integers(1, 256))
    path.write_bytes(content)

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


def field_video(brightness):
    """Return raw H.264 of interlaced frames, 16 x 32, each in two packets: its fields.

    No encoder at hand writes such; uncompressed macroblocks (I_PCM) make it short. ITU-T H.264,
    7.3.2 (sequence and picture), 7.3.3 (slice), 7.3.5 (macroblock).
    """
    profile, flags = ((8, 77), (8, 0), (8, 30)), ((1, 0), (1, 0), (1, 1), (1, 0), (1, 0), (1, 1))
    sequence = _bits(*profile, 0, 0, 2, 1, (1, 0), 0, 0, *flags)
    picture = _bits(0, 0, (2, 0), 0, 0, 0, (3, 0), 0, 0, 0, (3, 0), (1, 1))
    made = [b"\x67" + sequence, b"\x68" + picture]
    for number, value in enumerate(brightness):
        for bottom in (0, 1):
            first = number == bottom == 0
            header = [0, 7, 0, (4, number % 16), (1, 1), (1, bottom)]
            header += [0, (2, 0)] if first else [(1, 0)]  # 0: id of the first picture
            slice_data = _bits(*header, 0, 25) + bytes([value]) * 256 + bytes([128]) * 128
            made.append((b"\x25" if first else b"\x21") + slice_data + b"\x80")
    # No three bytes in a row of these must look like a start code.
    assert not any(b"\0\0" in unit for unit in made)
    return b"".join(b"\0\0\0\1" + unit for unit in made)


def _bits(*fields):
    """Return bytes of (width, value) and of numbers in Exp-Golomb code, filled up with zeros."""
    text = ""
    for one in fields:
        width, value = one if isinstance(one, tuple) else (2 * (one + 1).bit_length() - 1, one + 1)
        text += f"{value:0{width}b}"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")

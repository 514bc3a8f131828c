"""Frames come with their true numbers, upright, as far as the file goes."""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
import pytest
from helpers.drawn import write_video

from common.faces.video import frames
from common.script.files import UserError


def numbered(count):
    """Pictures that tell their number by their brightness."""
    return [np.full((64, 96, 3), 20 + 5 * i, dtype=np.uint8) for i in range(count)]


def test_every_frame_comes_once_in_order_with_its_number(tmp_path):
    path = tmp_path / "v.mp4"
    write_video(path, numbered(30))
    found = list(frames(path))
    assert [number for number, _ in found] == list(range(1, 31))
    for number, image in found:
        assert image.shape == (64, 96, 3) and image.dtype == np.uint8
        assert abs(image.mean() - (20 + 5 * (number - 1))) < 3


def test_video_that_breaks_off_gives_its_beginning_and_is_counted(tmp_path):
    path = tmp_path / "v.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 96, 3), dtype=np.uint8)
    write_video(path, noise)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    counts = Counter()
    found = [number for number, _ in frames(path, counts)]
    assert 5 < len(found) < 35
    assert found == list(range(1, len(found) + 1))
    assert counts == {"videos that end early": 1}


def test_a_whole_video_is_not_counted_as_ending_early(tmp_path):
    write_video(tmp_path / "v.mp4", numbered(5))
    counts = Counter()
    assert len(list(frames(tmp_path / "v.mp4", counts))) == 5
    assert not counts


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100])
def test_a_file_that_is_no_video_is_a_user_error_naming_it(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.mp4"):
        list(frames(path))


def test_missing_video_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"gone\.mp4"):
        list(frames(tmp_path / "gone.mp4"))


def test_rotation_noted_in_the_container_is_applied(tmp_path):
    path = tmp_path / "v.mp4"
    picture = np.zeros((64, 96, 3), dtype=np.uint8)
    picture[:, 48:] = 255  # bright at the right
    write_video(path, [picture] * 3)
    content = path.read_bytes()
    one = 1 << 16
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    # The player is to turn the picture by 90 degrees clockwise: the right comes to the bottom.
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    track = content.index(b"tkhd")
    start = content.index(upright, track)
    path.write_bytes(content[:start] + turned + content[start + len(turned) :])
    image = next(frames(path))[1]
    assert image.shape == (96, 64, 3)
    assert image[80].mean() > 200 and image[10].mean() < 50

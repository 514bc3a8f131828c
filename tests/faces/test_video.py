"""Frames come with their true numbers, past damage, upright, from the right stream."""

from __future__ import annotations

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.drawn import write_video
from helpers.videos import HEIGHT, WIDTH, damage, field_video, numbered, parts_of, write

from common.faces.packets import survey
from common.faces.video import number_frames, pictures
from common.script.files import UserError


def number_shown(image):
    """Read the number that a picture shows, whatever its size."""
    height, width = image.shape[:2]
    middle = image[height // 4 : -height // 4]
    bars = [
        middle[:, int(width * (bit + 0.3) / 7) : int(width * (bit + 0.7) / 7)] for bit in range(7)
    ]
    return sum(1 << bit for bit, bar in enumerate(bars) if bar.mean() > 128)


def read(path):
    """Return the numbers that frames are given, those that they show, and what the video holds."""
    surveyed = survey(path)
    shown = [(packet, number_shown(image)) for packet, image in pictures(path, surveyed)]
    numbers, footage = number_frames(surveyed, [packet for packet, _ in shown])
    return numbers, [number for _, number in shown], footage


H264 = {"g": "12", "bf": "3"}
FORMS = {
    "v.mp4": ("libx264", H264),
    "v.mov": ("libx264", H264),
    "v.mkv": ("libx265", {"x265-params": "log-level=none:keyint=12"}),
    "v.webm": ("libvpx-vp9", {"g": "12"}),
    "vp8.webm": ("libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "mpeg4.avi": ("mpeg4", {"g": "12"}),
    "between.avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "motion.avi": ("mjpeg", {}),
    "h264.avi": ("libx264", H264),
    "v.ts": ("libx264", H264),
    "v.mpg": ("mpeg2video", {"g": "12", "bf": "2"}),
    "v.wmv": ("wmv2", {}),
    "v.flv": ("flv", {}),
    "v.gif": ("gif", {}),
    "v.h264": ("libx264", H264),
    "av1.mkv": ("libsvtav1", {"svtav1-params": "keyint=12"}),
    "lossless.mkv": ("ffv1", {}),
    "uneven.mp4": ("libx264", H264),
    "late.mp4": ("libx264", H264),
    "fragments.mp4": ("libx264", H264),
}
TIMES = {"uneven.mp4": [n + n * n // 7 for n in range(60)], "late.mp4": list(range(99, 159))}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


def write_form(path):
    codec, options = FORMS[path.name]
    container = FRAGMENTS if path.stem == "fragments" else None
    write(path, codec, numbered(60), TIMES.get(path.name), None, container, **options)


@pytest.mark.parametrize("name", FORMS)
def test_frames_of_a_sound_video_are_numbered_as_they_come(tmp_path, name):
    write_form(tmp_path / name)
    numbers, shown, footage = read(tmp_path / name)
    assert numbers == shown == list(footage.held) == list(range(1, 61))
    assert footage.lost == footage.remarks == []


@pytest.mark.parametrize("how", ["zeroed", "flipped"])
@pytest.mark.parametrize("which", [0, 1, 20, -1])
@pytest.mark.parametrize(
    "name", ["v.mp4", "v.mkv", "v.webm", "vp8.webm", "mpeg4.avi", "motion.avi"]
)
def test_damage_of_one_frame_shifts_no_other(tmp_path, name, which, how):
    """Pictures that depend on the damaged one may be lost with it or look odd, until the next key
    frame; whatever comes out has its own number."""
    write_form(tmp_path / name)
    damage(tmp_path / name, which, how)
    numbers, shown, footage = read(tmp_path / name)
    assert footage.held == range(1, 61)
    assert footage.lost == sorted(set(range(1, 61)) - set(numbers))
    begins = 60 + which if which < 0 else which
    odd = range(begins - 3, begins + 17)  # it and what may depend on it
    assert set(footage.lost) <= set(odd)
    pairs = [pair for pair in zip(numbers, shown, strict=True) if pair[0] not in odd]
    assert len(pairs) >= 40 and all(number == seen for number, seen in pairs)
    if name == "motion.avi":
        assert footage.lost == [begins + 1]  # here, no picture depends on another


def test_threads_of_the_decoder_lose_no_sound_frame_at_the_end(tmp_path):
    write_form(tmp_path / "v.mp4")
    damage(tmp_path / "v.mp4", -1, "zeroed")
    assert len(read(tmp_path / "v.mp4")[2].lost) == 1


@pytest.mark.parametrize(
    "name", ["fast.mp4", "fragments.mp4", "v.mkv", "v.webm", "mpeg4.avi", "v.ts", "v.wmv", "v.flv"]
)
def test_a_file_that_was_cut_off_is_seen_and_says_where(tmp_path, name):
    path = tmp_path / name
    if name == "fast.mp4":
        write(path, "libx264", numbered(60), container_options={"movflags": "faststart"}, **H264)
    else:
        write_form(path)
    assert not survey(path).remarks
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    numbers, shown, footage = read(path)
    assert 2 < len(numbers) < 50 and numbers[:-3] == shown[:-3] == list(range(1, len(shown) - 2))
    (remark,) = footage.remarks
    assert remark.startswith(f"breaks off after {len(footage.held)} frames")


def test_frames_that_an_edit_list_leaves_out_are_not_missing(tmp_path):
    write(tmp_path / "v.mp4", "libx264", numbered(60), list(range(-20, 40)), **H264)
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].frames == 60
    numbers, shown, footage = read(tmp_path / "v.mp4")
    assert numbers == list(range(1, 41)) and shown == list(range(21, 61))
    assert footage.lost == footage.remarks == []


def test_dropped_frames_of_an_avi_are_no_frames_and_are_said(tmp_path):
    times = [n + (n >= 10) + (n >= 20) for n in range(28)]
    write(tmp_path / "v.avi", "mpeg4", numbered(28), times)
    numbers, shown, footage = read(tmp_path / "v.avi")
    assert numbers == shown == list(footage.held) == list(range(1, 29)) and not footage.lost
    (remark,) = footage.remarks
    assert "in 2 places" in remark


def test_recordings_joined_in_one_file_follow_each_other(tmp_path):
    """Their clocks start at the same time, and so do not tell the order."""
    parts = []
    for first, options in ((1, H264), (31, H264)):
        write(tmp_path / "part.ts", "libx264", numbered(30, first), **options)
        parts.append((tmp_path / "part.ts").read_bytes())
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(parts))
    numbers, shown, _ = read(path)
    assert numbers == list(range(1, len(numbers) + 1)) and shown == numbers and len(shown) == 60


def test_a_recording_that_begins_amid_a_scene_counts_from_what_can_be_decoded(tmp_path):
    with av.open(str(tmp_path / "whole.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for place, picture in enumerate(numbered(40)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            packets = stream.encode(frame)
            if place >= 30:
                container.mux(packets)
        container.mux(stream.encode())
    numbers, shown, footage = read(tmp_path / "whole.ts")
    assert numbers == list(footage.held) == list(range(1, len(shown) + 1)) and not footage.lost
    assert not footage.remarks or "not counted" in footage.remarks[0]


def test_a_frame_that_is_not_to_be_shown_is_not_counted(tmp_path):
    """As the alternate references of VP8, which other frames are predicted from."""
    path = tmp_path / "vp8.webm"
    write_form(path)
    content = bytearray(path.read_bytes())
    content[parts_of(path)[30][0]] &= ~0x10
    path.write_bytes(content)
    numbers, shown, footage = read(path)
    assert numbers == list(footage.held) == list(range(1, 60)) and not footage.lost
    assert shown[:30] == numbers[:30] and shown[36:] == list(range(38, 61))


@pytest.mark.parametrize("first", ["attached", "single"])
def test_a_cover_or_a_single_picture_beside_the_film_is_not_the_film(tmp_path, first):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = 480, 640, "yuvj420p"
        if first == "attached":
            cover.disposition = av.stream.Disposition.attached_pic
        film = container.add_stream("libx264", rate=25)
        film.height, film.width, film.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        picture = np.full((480, 640, 3), 99, dtype=np.uint8)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(cover.encode())
        for picture in numbered(30):
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(film.encode())
    numbers, shown, _ = read(path)
    assert numbers == shown == list(range(1, 31))


ONE = 1 << 16
MATRICES = {
    "upright": ((ONE, 0, 0, ONE), lambda p: p),
    "turned right": ((0, ONE, -ONE, 0), lambda p: np.rot90(p, -1)),
    "turned left": ((0, -ONE, ONE, 0), lambda p: np.rot90(p, 1)),
    "upside down": ((-ONE, 0, 0, -ONE), lambda p: np.rot90(p, 2)),
    "mirrored": ((-ONE, 0, 0, ONE), np.fliplr),
    "flipped": ((ONE, 0, 0, -ONE), np.flipud),
    "transposed": ((0, ONE, ONE, 0), lambda p: p.transpose(1, 0, 2)),
    "anti-transposed": ((0, -ONE, -ONE, 0), lambda p: np.rot90(p.transpose(1, 0, 2), 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_pictures_are_turned_and_mirrored_as_the_container_says(tmp_path, name):
    (a, b, c, d), expected = MATRICES[name]
    path = tmp_path / "v.mp4"
    picture = np.zeros((64, 96, 3), dtype=np.uint8)
    picture[:20, 60:] = 255  # bright in one corner
    write_video(path, [picture] * 3)
    content = path.read_bytes()
    upright = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    noted = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    start = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:start] + noted + content[start + len(noted) :])
    for _, image in pictures(path):
        wanted = expected(picture)
        assert image.shape == wanted.shape and image.flags["C_CONTIGUOUS"]
        assert np.abs(image.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize(
    "ratio, shape", [((2, 1), (64, 192)), ((1, 2), (128, 96)), ((1, 1), (64, 96))]
)
def test_pixels_are_square(tmp_path, ratio, shape):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8))))
        container.mux(stream.encode())
    assert [image.shape[:2] for _, image in pictures(tmp_path / "v.mp4")] == [shape]


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100])
def test_a_file_that_is_no_video_is_a_user_error_naming_it(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.mp4"):
        list(pictures(path))


def test_missing_video_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"gone\.mp4"):
        list(pictures(tmp_path / "gone.mp4"))


def test_a_video_in_which_nothing_decodes_is_a_user_error(tmp_path):
    write(tmp_path / "v.avi", "mjpeg", numbered(2))
    for which in (0, 1):
        damage(tmp_path / "v.avi", which, "zeroed")
    with pytest.raises(UserError, match="none of its 2 frames"):
        list(pictures(tmp_path / "v.avi"))


@pytest.mark.parametrize("lost", [[], [8, 9]])
def test_a_frame_whose_fields_come_in_two_packets_is_one_frame(tmp_path, lost):
    path = tmp_path / "v.h264"
    path.write_bytes(field_video([20 + 16 * n for n in range(12)]))
    places, content = parts_of(path), bytearray(path.read_bytes())
    for which in lost:
        start, length = places[which]
        content[start + 6 : start + length] = b"\xff" * (length - 6)
    path.write_bytes(content)
    surveyed = survey(path)
    shown = [(packet, image.mean()) for packet, image in pictures(path, surveyed)]
    numbers, footage = number_frames(surveyed, [packet for packet, _ in shown])
    values = [(value / 255 * 219 + 16 - 20) / 16 + 1 for _, value in shown]
    assert numbers == [round(value) for value in values] and footage.held == range(1, 13)
    assert footage.lost == ([5] if lost else [])


def test_a_frame_that_is_noted_as_not_coded_is_none(tmp_path):
    """MPEG-4 may fill the place of a dropped frame with seven bytes that show nothing."""
    write(tmp_path / "whole.avi", "mpeg4", numbered(20), g="12")
    # Type P, no second gone by, time 0 of 25 (5 bits), not coded, filled up.
    not_coded = b"\x00\x00\x01\xb6\x50\x4f\x7f"
    with (
        av.open(str(tmp_path / "whole.avi")) as whole,
        av.open(str(tmp_path / "v.avi"), "w") as container,
    ):
        stream = container.add_stream_from_template(whole.streams.video[0])
        contents = [bytes(packet) for packet in whole.demux(video=0) if packet.size]
        contents[8:8] = [not_coded]
        for place, content in enumerate(contents):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = place
            packet.is_keyframe = place in (0, 13)
            container.mux(packet)
    numbers, shown, footage = read(tmp_path / "v.avi")
    assert numbers == shown == list(footage.held) == list(range(1, 21)) and not footage.lost


def test_frames_leave_the_memory_as_they_are_shown(tmp_path):
    """And do not wait for the next garbage collection: in 4K, a frame is 37 MB with its image."""
    path = tmp_path / "v.mp4"
    write(path, "libx264", [np.zeros((1080, 1920, 3), np.uint8)] * 60, **H264)
    code = (
        "import gc, sys; from common.faces.video import pictures\n"
        "gc.disable(); shown = pictures(sys.argv[1]); next(shown); next(shown)\n"
        "pages = lambda: int(open('/proc/self/statm').read().split()[1])\n"
        "before = pages(); rest = sum(1 for _ in shown); print(rest, (pages() - before) // 256)"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    rest, grown_mib = map(int, done.stdout.split())
    assert rest == 58 and grown_mib < 80  # 58 frames kept would be 170

"""The challenge's videos: who shows which compounds when, drawn frame by frame and encoded.

The list of frames differs by one from what decodes in some videos, both ways, as in the original.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from common.demo.camera import photograph, sample_background, sample_light
from common.demo.expressions import key_of, sample_units
from common.demo.face import Light, draw_face, no_units
from common.demo.geometry import Pose
from common.demo.people import Person
from common.demo.settings import Settings, generator
from common.demo.stills import person_of
from common.emotions import CHALLENGE

WIDTH, HEIGHT, RATE = 320, 240, 25  # px, px, frames a second
FOLDER = "C-EXPR-DB/videos"
LIST = "C-EXPR-DB/CER.txt"
HEADER = "image_location," + ",".join(CHALLENGE)


@dataclass(frozen=True)
class Video:
    """One challenge video. Frames count from 0 here and from 1 in the list.

    segments: (class, first frame) in order; decoded: frames in the file; listed: in the list;
    event: "", covered, leaves, turned (no face for the frames of `span`), passer (somebody else
    walks through), or empty (nobody at all).
    """

    name: str
    segments: tuple[tuple[int, int], ...]
    decoded: int
    listed: int
    event: str = ""
    span: tuple[int, int] = (0, 0)

    @property
    def path(self) -> str:
        """Where the video stands below the raw folder."""
        return f"{FOLDER}/{self.name}.mp4"

    def class_at(self, frame: int) -> int:
        """Return the challenge's class of a frame."""
        return [label for label, first in self.segments if first <= frame][-1]


def plan_videos(settings: Settings) -> list[Video]:
    """Return the videos; the seven classes have about equally many frames."""
    rng = generator(settings.seed, "C-EXPR-DB")
    count, frames = settings.counts.videos, settings.counts.video_frames
    # Half of the videos show one compound, half two: each class as often first as second.
    singles = [(k % 7,) for k in range(count // 2)]
    doubles = [(k % 7, (k + 1 + k // 7 % 6) % 7) for k in range(count // 2, count)]
    classes = singles + doubles
    order = rng.permutation(count)
    events = ("covered", "", "passer", "leaves", "", "passer", "turned")
    videos = []
    for number, which in enumerate(order):
        labels = classes[which]
        cut = int(frames * rng.uniform(0.4, 0.6))
        segments = ((labels[0], 0),) + (((labels[1], cut),) if len(labels) == 2 else ())
        # The list has one frame more or one less than the file in a part of the videos.
        more = {1: 1, 4: -1}.get(number % 8, 0)
        event = "empty" if number == 12 else events[number % 7]
        length = int(rng.integers(frames // 8 + 1, frames // 4 + 1))
        start = int(rng.integers(1, frames - length))
        span = (start, start + length)
        videos.append(Video(f"{number + 1:02d}", segments, frames, frames + more, event, span))
    return videos


def frame_list(videos: list[Video]) -> str:
    """Return the challenge's list: a header of eight names, two fields a row, the second empty."""
    rows = [f"{v.name}/{k + 1:05d}.jpg," for v in videos for k in range(v.listed)]
    return "\n".join([HEADER, *rows]) + "\n"


def truth_table(videos: list[Video]) -> str:
    """Return the true classes of exactly the listed frames: `image_location,label`."""
    rows = [f"{v.name}/{k + 1:05d}.jpg,{v.class_at(k)}" for v in videos for k in range(v.listed)]
    return "\n".join(["image_location,label", *rows]) + "\n"


def smooth_path(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Return float [count]: a slow wander of standard deviation about `scale`, at 25 frames/s."""
    time = np.arange(count) / RATE
    waves = sum(
        rng.normal(0, 1) * np.sin(2 * np.pi * (rate * time + rng.random()))
        for rate in rng.uniform(0.15, 0.7, 3)
    )
    return scale * (rng.normal(0, 0.7) + 0.6 * waves)


def segment_units(settings: Settings, video: Video, rng: np.random.Generator) -> np.ndarray:
    """Return action units [frames, 2, 27]: each segment's compound rises and falls."""
    low, high = settings.video_intensity
    units = np.zeros((video.decoded, *no_units().shape))
    starts = [first for _, first in video.segments] + [video.decoded]
    for (label, first), last in zip(video.segments, starts[1:], strict=True):
        full = sample_units(rng, key_of(CHALLENGE[label]), settings.videos, intensity=1.0)
        phase = (np.arange(last - first) + 0.5) / (last - first)
        curve = low + (high - low) * np.sin(np.pi * phase) ** 0.7
        peak = rng.uniform(*settings.videos.intensity) ** 0.5
        units[first:last] = full * (curve * peak)[:, None, None]
    # A face does not jump from one expression to the next.
    kernel = np.array([0.25, 0.5, 0.25])
    padded = np.concatenate([units[:1], units, units[-1:]])
    return sum(weight * padded[k : k + len(units)] for k, weight in enumerate(kernel))


def render_video(settings: Settings, video: Video) -> Iterator[Image.Image]:
    """Yield the decoded frames of a video, RGB 320×240."""
    rng = generator(settings.seed, "video", video.name)
    knobs, count = settings.videos, video.decoded
    background = sample_background(rng, WIDTH, HEIGHT, knobs.background)
    light = sample_light(rng, knobs)
    person = person_of(settings.seed, ("C-EXPR-DB", int(video.name)))
    units = segment_units(settings, video, rng)
    unit = rng.uniform(31, 42) * (1 + smooth_path(rng, count, 0.02))
    x = rng.uniform(120, 200) + smooth_path(rng, count, 14)
    y = rng.uniform(88, 108) + smooth_path(rng, count, 6)
    yaw = np.clip(smooth_path(rng, count, knobs.yaw), -2.2 * knobs.yaw, 2.2 * knobs.yaw)
    pitch = np.clip(smooth_path(rng, count, knobs.pitch), -2 * knobs.pitch, 2 * knobs.pitch)
    roll = np.clip(smooth_path(rng, count, 4), -10, 10)
    glances = [smooth_path(rng, count, 0.03), smooth_path(rng, count, 0.015)]
    gaze = np.clip(np.stack(glances, axis=1), -0.07, 0.07)
    x += _leaving(video, x)
    passer = _Passer.sample(settings, video, rng) if video.event == "passer" else None
    grain = rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32)
    camera_state = generator(settings.seed, "camera", video.name).bit_generator.state
    for k in range(count):
        image = passer.draw(background, k, light) if passer else background
        pose = Pose(x[k], y[k], unit[k], yaw[k], pitch[k], roll[k])
        gone = video.event in ("covered", "turned") and video.span[0] <= k < video.span[1]
        if video.event != "empty":
            turned = gone and video.event == "turned"
            image = draw_face(image, person, units[k], pose, light, tuple(gaze[k]), turned)
        if gone and video.event == "covered":
            image = _cover(image, pose, person, min(1.0, (k - video.span[0] + 1) / 3))
        # The same exposure and blur in all frames, another grain in each.
        camera = np.random.default_rng()
        camera.bit_generator.state = camera_state
        shift = rng.integers(0, (HEIGHT, WIDTH))
        yield photograph(camera, image, knobs, np.roll(grain, shift, axis=(0, 1)))


def _leaving(video: Video, x: np.ndarray) -> np.ndarray:
    """Return shifts [frames] in px that take the head out of the picture during the span."""
    if video.event != "leaves":
        return np.zeros_like(x)
    frame, (start, end) = np.arange(len(x)), video.span
    # Six frames to leave and six to come back; in between the head is wholly outside.
    out = np.clip(np.minimum(frame - start + 6, end + 5 - frame) / 6, 0, 1)
    away = 1 if x.mean() > WIDTH / 2 else -1
    return away * (3 * out**2 - 2 * out**3) * (WIDTH * 0.5 + 100)


@dataclass(frozen=True)
class _Passer:
    """Somebody smaller who walks through the picture behind the main person."""

    person: Person
    start: Pose
    speed_px: float

    @classmethod
    def sample(cls, settings: Settings, video: Video, rng: np.random.Generator) -> _Passer:
        person = person_of(settings.seed, ("C-EXPR-DB passer", int(video.name)))
        ahead = 1 if rng.random() < 0.5 else -1
        unit, y = rng.uniform(13, 19), rng.uniform(50, 90)
        x = -40 if ahead > 0 else WIDTH + 40
        return cls(person, Pose(x, y, unit, 14 * ahead, 0, 0), ahead * rng.uniform(7, 10))

    def draw(self, background: np.ndarray, frame: int, light: Light) -> np.ndarray:
        """Return the background with the passer as in this frame."""
        pose = replace(self.start, x=self.start.x + self.speed_px * frame)
        return draw_face(background, self.person, no_units(), pose, light)


def _cover(image: np.ndarray, pose: Pose, person: Person, entered: float) -> np.ndarray:
    """Return the picture with a magazine held before the face; `entered` 0..1: how far up it is."""
    picture, unit = Image.fromarray(image), pose.unit
    draw = ImageDraw.Draw(picture)
    top = pose.y - 1.35 * unit + 4.5 * unit * (1 - entered)
    left, right = pose.x - 1.5 * unit, pose.x + 1.5 * unit
    paper = person.shirt[::-1] * 0.6 + 70
    draw.rectangle((left, top, right, top + 3.95 * unit), fill=tuple(paper.astype(int)))
    for k in range(5):  # lines of print
        y = top + (0.3 + 0.7 * k) * unit
        print_ = (left + 0.3 * unit, y, right - 0.3 * unit, y + 0.25 * unit)
        draw.rectangle(print_, fill=tuple((paper * 0.7).astype(int)))
    for x in (left, right):  # the hands that hold it
        y, r = top + 3.05 * unit, 0.34 * unit
        draw.ellipse((x - r, y - r, x + r, y + 1.3 * r), fill=tuple(person.skin.astype(int)))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.5)))


def write_video(settings: Settings, path: Path, video: Video) -> None:
    """Draw a video and encode it as H.264 in MP4 to `path`, whatever place `video.path` names.

    One encoder thread: with more, x264's output would depend on their number. And of its machine
    code only what gives the bytes of its plain C: with AVX-512 they change from call to call.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        code = "asm=sse2" if platform.machine() in ("x86_64", "AMD64") else "asm=0"
        options = {"crf": "20", "preset": "veryfast", "threads": "1", "g": "25"}
        stream.options = {**options, "x264-params": code}
        for frame in render_video(settings, video):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))

"""What is around a face: light, background, and what a camera does to the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from common.demo.face import Light
from common.demo.settings import Difficulty


def sample_light(rng: np.random.Generator, knobs: Difficulty) -> Light:
    """Draw a light: mostly from above, from either side."""
    return Light(
        x=rng.uniform(-0.9, 0.9),
        y=rng.uniform(-0.8, 0.1),
        z=rng.uniform(0.5, 1.0),
        strength=rng.uniform(*knobs.light),
        warmth=rng.uniform(-0.5, 0.5),
    )


def sample_background(
    rng: np.random.Generator, width: int, height: int, contrast: float
) -> np.ndarray:
    """Return an out-of-focus room, uint8 [height, width, 3]: muted colours, a few soft shapes.

    contrast: standard deviation of the shapes' colours about the wall's, grey levels.
    """
    wall = rng.uniform(70, 190) + rng.normal(0, 9, 3)
    tones = rng.normal(0, 0.8 * contrast, (3, 4, 1)) + rng.normal(0, 0.25 * contrast, (3, 4, 3))
    corners = np.clip(wall + tones, 0, 255).astype(np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(2, 6)):
        colour = np.clip(wall + rng.normal(0, contrast) + rng.normal(0, 9, 3), 0, 255)
        x, y = rng.uniform(-0.2, 1.0, 2) * (width, height)
        w, h = rng.uniform(0.12, 0.7, 2) * (width, height)
        shape = draw.ellipse if rng.random() < 0.3 else draw.rectangle
        shape((x, y, x + w, y + h), fill=(*(int(c) for c in colour), 190))
    return np.asarray(image.filter(ImageFilter.BoxBlur(rng.uniform(0.02, 0.05) * height)))


def photograph(
    rng: np.random.Generator, image: np.ndarray, knobs: Difficulty, noise: np.ndarray | None = None
) -> Image.Image:
    """Return the picture with exposure, colour cast, blur and grain; uint8 [H, W, 3] in.

    noise: standard normal float32 [H, W, 3] to use instead of a fresh draw.
    """
    gain = rng.normal(1.0, 0.07) * (1 + rng.normal(0, 0.025, 3))
    level, sharpness = rng.uniform(*knobs.noise), rng.uniform(*knobs.blur)
    table = np.clip(np.arange(256) * gain[:, None], 0, 255).astype(int)  # [3, 256]
    picture = Image.fromarray(image).point(table.ravel().tolist())
    if sharpness > 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(float(sharpness)))
    if noise is None:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
    grainy = noise * np.float32(level) + np.asarray(picture)
    return Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8))

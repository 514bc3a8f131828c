"""Ways to write the files of a small raw data set, and to read it as 01 does."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from common.raw.layout import Item, Skip

# Real photographs and clips, where this machine has them.
REAL = Path(__file__).resolve().parents[3] / "shared" / "real"


def image(path, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    # Each its own pattern: pictures of one gray, and the same ones twice, are left out.
    coarse = np.random.default_rng(zlib.crc32(bytes(path))).integers(0, 255, (9, 9, 3), np.uint8)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, "JPEG")


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def read(reader, place):
    """Return items by prepared name, skips as (file name, reason), and counts."""
    counts = Counter()
    found = list(reader.read(place, counts))
    items = {f"{item.dataset}/{item.name}": item for item in found if isinstance(item, Item)}
    assert len(items) == sum(isinstance(item, Item) for item in found), "names collide"
    skips = [(os.path.basename(s.path), s.reason) for s in found if isinstance(s, Skip)]
    return items, skips, counts


def faults(reader, place):
    """Return the file names of skips that are the input's fault."""
    found = reader.read(place, Counter())
    return [os.path.basename(s.path) for s in found if isinstance(s, Skip) and s.fault]

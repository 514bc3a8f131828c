"""Pictures that are not files of their own: rows, frames, boxes of faces."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import scene
from PIL import Image

from common.prepare.ingest import Options, ingest
from common.raw.layout import Item, Skip


def jpeg_at(path: str, part: str) -> bytes:
    """Open the JPEG that lies in a file at `start+length`."""
    start, length = map(int, part.split("+"))
    return Path(path).read_bytes()[start : start + length]


def gray_at(path: str, part: str) -> np.ndarray:
    """Open a square of one gray, or complain of it."""
    if part == "bad":
        raise ValueError("9 pixels instead of 2304")
    return np.full((48, 48), int(part), dtype=np.uint8)


@pytest.fixture
def options(tmp_path):
    return Options(str(tmp_path / "raw"), str(tmp_path / "prepared"), 16, "", 0.4, (160, 480))


def jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


def test_a_part_of_a_file_is_prepared_like_a_file(tmp_path, options):
    (tmp_path / "raw").mkdir()
    pack = tmp_path / "raw" / "all.bin"
    contents = [jpeg(np.full((40, 30 + n, 3), 60 * n, dtype=np.uint8)) for n in range(3)]
    pack.write_bytes(b"".join(contents))
    starts = [sum(map(len, contents[:n])) for n in range(3)]
    parts = [f"{start}+{len(c)}" for start, c in zip(starts, contents, strict=True)]
    items = [
        Item(str(pack), f"{n}.jpg", "Pack", part=part, opener=jpeg_at)
        for n, part in enumerate([*parts, "5+9", "0+0"])
    ]
    records = ingest(items, False, options)
    assert [(r.path, r.width, r.reason) for r in records] == [
        *((f"all.bin#{part}", str(30 + n), "") for n, part in enumerate(parts)),
        ("all.bin#5+9", "", "not an image"),
        ("all.bin#0+0", "", "empty file"),
    ]
    # Small JPEGs are not compressed a second time.
    assert [(tmp_path / "prepared" / r.image).read_bytes() for r in records[:3]] == contents


def test_pixels_of_a_row_are_prepared_and_bad_ones_refused(tmp_path, options):
    (tmp_path / "raw").mkdir()
    path = str(tmp_path / "raw" / "pixels.csv")
    Path(path).write_text("rows")
    items = [Item(path, f"{p}.png.jpg", "Rows", part=p, opener=gray_at) for p in ("90", "bad")]
    good, bad, gone = ingest([*items, items[0]._replace(path=path + "x", part="x")], False, options)
    assert np.abs(np.asarray(Image.open(tmp_path / "prepared" / good.image)) - 90.0).max() < 2
    assert (bad.path, bad.reason, bad.detail) == (
        "pixels.csv#bad",
        "damaged image",
        "9 pixels instead of 2304",
    )
    assert gone.reason == "damaged image" and not gone.image


def test_a_box_is_cut_out_and_kept_inside_the_picture(tmp_path, options):
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "a.png"
    picture = np.zeros((50, 80, 3), dtype=np.uint8)
    picture[10:40, 20:60] = (0, 200, 0)
    Image.fromarray(picture).save(path)
    boxes = [(20, 10, 60, 40), (-30, -5, 30, 500), (90, 0, 120, 40), (5, 5, 9, 40)]
    records = ingest(
        [Item(str(path), f"{n}.jpg", "B", box=box) for n, box in enumerate(boxes)], False, options
    )
    assert [(r.path, r.width, r.height, r.reason) for r in records] == [
        ("a.png#20,10,60,40", "40", "30", ""),
        ("a.png#-30,-5,30,500", "30", "50", ""),
        ("a.png#90,0,120,40", "", "", "face box lies outside the picture"),
        ("a.png#5,5,9,40", "", "", "smaller than --min-side"),
    ]
    green = np.asarray(Image.open(tmp_path / "prepared" / records[0].image)).astype(int)
    assert np.abs(green - (0, 200, 0)).max() < 12


def test_a_scene_without_a_face_is_refused_and_a_photograph_kept(tmp_path, options):
    (tmp_path / "raw").mkdir()
    for name, faces in (("none", ()), ("one", ((160, 120, 100),))):
        Image.fromarray(scene(*faces)).save(tmp_path / "raw" / f"{name}.png")
    items = [
        Item(str(tmp_path / "raw" / f"{name}.png"), f"{name}{kind}.jpg", "S", scene=kind)
        for name in ("none", "one")
        for kind in (False, True)
    ]
    records = ingest([*items, Skip("x", "S", "why")], True, options)
    assert [(r.reason, r.face, r.width) for r in records] == [
        ("", "none found", "320"),
        ("no face found", "", ""),
        ("", "aligned", "256"),
        ("", "aligned", "256"),
        ("why", "", ""),
    ]

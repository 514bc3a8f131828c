"""01_prepare_data.py on images: what it refuses, and what it makes of those it takes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import scene
from helpers.preparing import prepare, skipped, state_of
from helpers.raw_files import REAL, image, text
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from common.manifest import read_manifest
from common.raw import folder as folder_reader
from common.raw.layout import Item


def png_of_20000_pixels_square():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bad_images_are_refused_one_by_one_with_a_reason(tmp_path):
    place = tmp_path / "raw" / "Faces"
    image(place / "good.jpg")
    image(place / "cut.jpg", side=200)
    (place / "cut.jpg").write_bytes((place / "cut.jpg").read_bytes()[:-300])
    text(place / "empty.jpg", "")
    text(place / "words.jpg", "these are words")
    (place / "bomb.png").write_bytes(png_of_20000_pixels_square())
    image(place / "small.jpg", side=15)
    (place / "line\nfeed.jpg").write_bytes((place / "good.jpg").read_bytes())
    (place / os.fsdecode(b"latin-\xe9.jpg")).write_bytes((place / "good.jpg").read_bytes())
    (place / "gone.jpg").symlink_to(place / "nowhere")
    prepared = prepare(tmp_path)
    assert read_manifest(prepared / "manifest.csv")["image"].tolist() == ["images/Faces/good.jpg"]
    assert skipped(prepared) == {
        "bomb.png": "too many pixels",
        "cut.jpg": "damaged image",
        "empty.jpg": "empty file",
        "gone.jpg": "cannot be read",
        "latin-\\udce9.jpg": "unusable file name",
        "line feed.jpg": "unusable file name",
        "small.jpg": "smaller than --min-side",
        "words.jpg": "not an image",
    }
    assert [p.name for p in (prepared / "images").rglob("*") if p.is_file()] == ["good.jpg"]


def test_pipes_and_huge_files_cost_neither_time_nor_memory(tmp_path):
    place = tmp_path / "raw" / "Faces"
    image(place / "a.jpg")
    os.mkfifo(place / "pipe.jpg")
    with open(place / "huge.jpg", "wb") as file:
        file.truncate(1 << 40)
    (place / "bomb.png").write_bytes(png_of_20000_pixels_square())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepared = prepare(tmp_path)
    assert skipped(prepared) == {
        "bomb.png": "too many pixels",
        "huge.jpg": "damaged image",
        "pipe.jpg": "cannot be read",
    }
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 600 * 1024  # two copies of 256 MiB, and not 1 TiB or 1.2 GB


def climbing_reader(folder, counts):
    for name in ("../../../out.jpg", "/out.jpg", "a/../../out.jpg", "n" * 300 + ".jpg"):
        yield Item(str(folder / "a.jpg"), name, "Faces")
    yield Item(str(folder / "a.jpg"), "in/a.jpg", "Faces")


def test_no_prepared_name_leaves_the_prepared_folder(tmp_path, monkeypatch):
    outside = tmp_path / "elsewhere" / "more"
    image(outside / "b.jpg")
    image(tmp_path / "raw" / "Faces" / "a.jpg")
    # Data folders are often linked: what lies behind a link is read like the rest.
    (tmp_path / "raw" / "Faces" / "linked").symlink_to(outside)
    manifest = read_manifest(prepare(tmp_path) / "manifest.csv")
    assert manifest["image"].tolist() == ["images/Faces/a.jpg", "images/Faces/linked/b.jpg"]
    monkeypatch.setattr(folder_reader, "read", climbing_reader)
    before = set(state_of(tmp_path))
    prepared = prepare(tmp_path)
    assert read_manifest(prepared / "manifest.csv")["image"].tolist() == ["images/Faces/in/a.jpg"]
    assert set(skipped(prepared).values()) == {"unusable file name"}
    assert {name for name in state_of(tmp_path) if "out.jpg" in name or "nnn" in name} == set()
    assert all(name.startswith("prepared") for name in set(state_of(tmp_path)) - before)


def test_whatever_the_format_what_is_prepared_is_an_upright_rgb_jpeg(tmp_path):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    left_red = np.zeros((60, 100, 3), dtype=np.uint8)
    left_red[:, :50] = (250, 0, 0)
    picture = Image.fromarray(left_red)
    picture.save(place / "webp.jpg", "WEBP", lossless=True)
    picture.save(place / "rgba.png")
    picture.convert("P").save(place / "palette.gif")
    picture.convert("CMYK").save(place / "cmyk.jpg", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise: what is left comes up
    picture.save(place / "turned.jpg", exif=turned, quality=95)
    deep = np.tile(np.linspace(0, 65535, 100).astype(np.uint16), (60, 1))
    Image.fromarray(deep).save(place / "deep.png")
    picture.resize((1000, 600)).save(place / "large.jpg", quality=95)
    picture.save(place / "plain.jpg", quality=37)
    prepared = prepare(tmp_path, "--duplicates", "keep", "--min-sharpness", "0")
    manifest = read_manifest(prepared / "manifest.csv").set_index("image")
    assert len(manifest) == 8 and not skipped(prepared)
    for name, row in manifest.iterrows():
        decoded = decode_image(str(prepared / name), mode=ImageReadMode.RGB).numpy()
        kind = Path(name).name.split(".")[0]
        assert Image.open(prepared / name).format == "JPEG"
        assert decoded.shape == (3, row["height"], row["width"])
        if kind == "turned":
            assert decoded.shape == (3, 100, 60)
            assert decoded[0, :40].mean() > 200 and decoded[0, 60:].mean() < 50
        elif kind == "deep":
            assert abs(decoded[0, :, 95:].mean() - 250) < 8 and decoded[0, :, :5].mean() < 12
        else:
            half = decoded.shape[2] // 2
            assert decoded[0, :, : half - 5].mean() > 180 and decoded[0, :, half + 5 :].mean() < 60
    assert min(manifest.loc["images/Faces/large.jpg", ["width", "height"]]) == 256
    # A small JPEG is not compressed a second time.
    assert (prepared / "images" / "Faces" / "plain.jpg").read_bytes() == (
        place / "plain.jpg"
    ).read_bytes()


def test_a_jpeg_that_only_pillow_reads_is_written_anew(tmp_path):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    noise = np.random.RandomState(0).randint(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "a.jpg", quality=60)
    content = bytearray((place / "a.jpg").read_bytes())
    content[685] = 255  # the start of a marker amid the data
    (place / "a.jpg").write_bytes(content)
    with pytest.raises(RuntimeError):
        decode_image(str(place / "a.jpg"))
    prepared = prepare(tmp_path)
    image_name = read_manifest(prepared / "manifest.csv")["image"][0]
    assert decode_image(str(prepared / image_name)).shape == (3, 40, 40)


def photographs(place, aligned):
    """Faces drawn where TEMPLATE has them, or small and aside."""
    names = [f"Ann_Lee_{n:04d}.jpg" for n in range(4)]
    (place / "images").mkdir(parents=True)
    for number, name in enumerate(names):
        face = (50, 52, 90) if aligned else (30 + 3 * number, 60, 50)
        Image.fromarray(scene(face, size=(100, 100))).save(place / "images" / name)
    text(place / "labels.csv", "image,label\n" + "".join(f"{n},fear\n" for n in names))


@pytest.mark.parametrize("align", ["auto", "always", "never"])
def test_photographs_are_aligned_as_asked(tmp_path, align):
    photographs(tmp_path / "raw" / "Mine", aligned=False)
    manifest = read_manifest(prepare(tmp_path, "--align", align) / "manifest.csv")
    assert set(manifest["width"]) == ({100} if align == "never" else {256})


def test_a_photograph_without_a_face_is_kept_and_counted(tmp_path):
    photographs(tmp_path / "raw" / "Mine", aligned=False)
    image(tmp_path / "raw" / "Mine" / "images" / "Ann_Lee_0002.jpg", side=70)
    prepared = prepare(tmp_path)
    assert sorted(read_manifest(prepared / "manifest.csv")["width"]) == [70, 256, 256, 256]
    faces = json.loads((prepared / "summary.json").read_text())["datasets"]["Mine"]["faces"]
    assert faces == {"aligned": 3, "none found": 1}


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/real: real photographs are not here")
def test_real_photographs_are_read_and_their_faces_found(tmp_path):
    shutil.copytree(REAL / "faces", tmp_path / "raw" / "Photographs")
    prepared = prepare(tmp_path, "--limit", "60")
    manifest = read_manifest(prepared / "manifest.csv")
    assert len(manifest) == 60 and not skipped(prepared)
    faces = json.loads((prepared / "summary.json").read_text())["datasets"]["Photographs"]["faces"]
    assert faces["aligned"] >= 57
    assert decode_image(str(prepared / manifest["image"][0])).shape == (3, 256, 256)

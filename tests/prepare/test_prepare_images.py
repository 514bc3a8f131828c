"""01_prepare_data.py on images: what it refuses, and what it makes of those it takes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from helpers.drawn import scene
from helpers.preparing import prepare, rows_of, skipped, state_of
from helpers.raw_files import REAL, image, text
from PIL import Image, ImageCms
from torchvision.io import ImageReadMode, decode_image

from common.batches.images import ImageStore
from common.manifest import read_manifest
from common.prepare import tally
from common.prepare.decoding import Refused, as_rgb
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


def damaged(path, **options):
    """A JPEG with a marker amid its data, from which decoders continue with false colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (90, 90, 3), np.uint8)
    picture = Image.fromarray(noise).resize(options.pop("size", (90, 90)))
    picture.convert(options.pop("mode", "RGB")).save(path, "JPEG", **options)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xda") + (len(content) - content.index(b"\xff\xda")) // 2
    content[at : at + 2] = b"\xff\xd3"
    path.write_bytes(content)
    Image.open(path).load()  # Pillow says nothing


@pytest.mark.parametrize("split", ["train", "", "val", "test"])
def test_a_jpeg_with_damaged_data_is_refused_in_training_and_reported_in_test(
    tmp_path, split, capsys
):
    place = tmp_path / "raw" / "Mine"
    turned = Image.Exif()
    turned[0x0112] = 6
    damaged(place / "small.jpg")
    damaged(place / "large.jpg", size=(700, 650))
    damaged(place / "cmyk.jpg", mode="CMYK")
    damaged(place / "gray.jpg", mode="L")
    damaged(place / "turned.jpg", exif=turned)
    image(place / "good.jpg", side=90)
    names = [path.name for path in sorted(place.iterdir())]
    text(
        place / "labels.csv", "image,label,split\n" + "".join(f"{n},fear,{split}\n" for n in names)
    )
    prepared = prepare(tmp_path, "--align", "never")
    kept = [Path(n).name for n in read_manifest(prepared / "manifest.csv")["image"]]
    bad, out = set(names) - {"good.jpg"}, capsys.readouterr().out
    if split in ("val", "test"):
        assert kept == names and not skipped(prepared)
        assert f"{tally.KEPT_DAMAGED}: 5 (such as Mine/cmyk.jpg " in out
        for name in names:  # written again, so that what is prepared is sound
            simplejpeg.decode_jpeg((prepared / "images" / "Mine" / name).read_bytes())
    else:
        assert kept == ["good.jpg"] and skipped(prepared) == dict.fromkeys(bad, "damaged image")
        details = {Path(r["path"]).name: r["detail"] for r in rows_of(prepared / "skipped.csv")}
        assert all("Corrupt JPEG data" in details[name] for name in bad)


def test_training_reads_what_was_prepared_and_nothing_that_is_damaged_since(tmp_path):
    damaged(tmp_path / "bad.jpg")
    image(tmp_path / "good.jpg")
    store = ImageStore(tmp_path, ["bad.jpg", "good.jpg"])
    assert store.read(0) is None
    assert np.array_equal(store.read(1).numpy(), decode_image(str(tmp_path / "good.jpg")).numpy())


PICTURE = Image.fromarray(
    np.stack([np.tile(np.arange(40, 220, 3, dtype=np.uint8), (50, 1))] * 3, axis=2)
)


def in_mode(mode):
    """PICTURE, a gray wedge, in one of Pillow's modes."""
    gray = np.asarray(PICTURE.convert("L"))
    if mode.startswith("I;16"):
        # What Pillow calls N is the machine's own order.
        kind = ">u2" if mode == "I;16B" else "<u2"
        picture = Image.frombytes(mode, PICTURE.size, (gray.astype(kind) * 257).tobytes())
    elif mode == "LAB":
        profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        transform = ImageCms.buildTransform(*profiles, "RGB", "LAB")
        picture = ImageCms.applyTransform(PICTURE, transform)
    elif mode == "I":  # as Pillow reads and writes PGM of 16 bits
        picture = Image.fromarray(gray.astype(np.int32) * 257)
    elif mode in ("P", "PA", "La", "RGBa"):
        between = {"P": "L", "PA": "L", "La": "LA", "RGBa": "RGBA"}[mode]
        picture = PICTURE.convert(between)
        picture = picture.convert("P").convert(mode) if "P" in mode else picture.convert(mode)
    else:
        picture = PICTURE.convert(mode)
    assert picture.mode == mode
    return picture


@pytest.mark.parametrize("mode", Image.MODES)
def test_pictures_of_every_mode_are_scaled_by_its_range_or_refused(mode):
    if mode in ("I", "F"):
        with pytest.raises(Refused, match="no known range"):
            as_rgb(in_mode(mode))
        return
    made = np.asarray(as_rgb(in_mode(mode))).astype(int)
    wrong = np.abs(made - np.asarray(PICTURE)).mean()
    assert wrong < (130 if mode == "1" else 5)  # black and white have no other range
    if mode == "1":
        assert set(made.ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_files_of_every_mode_are_scaled_or_refused_whatever_their_split(tmp_path, split):
    place, saved = tmp_path / "raw" / "Mine", {}
    place.mkdir(parents=True)
    for mode, ending in itertools.product(Image.MODES, ("png", "tiff", "ppm", "jpg")):
        with contextlib.suppress(OSError, KeyError, ValueError):  # not all formats have all modes
            name = f"{mode.replace(';', '-')}.{ending}"
            in_mode(mode).save(place / name)
            with Image.open(place / name) as image_again:
                saved[name] = image_again.mode
    (place / "float.pfm").write_bytes(b"Pf\n60 50\n-1.0\n" + np.ones(3000, "<f4").tobytes())
    deep = (np.asarray(PICTURE.convert("L")).astype(int) * 16).astype(">u2").tobytes()
    (place / "deep.pgm").write_bytes(b"P5\n60 50\n4095\n" + deep)  # white is 4095
    assert {*saved.values()} >= {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"}
    assert {*saved.values()} >= {"I", "F", "I;16", "I;16B"}
    rows = [f"{name},fear,{split}\n" for name in [*saved, "float.pfm", "deep.pgm"]]
    text(place / "labels.csv", "image,label,split\n" + "".join(rows))
    prepared = prepare(tmp_path, "--align", "never", "--duplicates", "keep", "--min-sharpness", "0")
    unknown = {n for n, mode in saved.items() if mode == "F" or (mode == "I" and "tiff" in n)}
    unknown |= {n for n in saved if n.endswith(".ppm") and saved[n] == "F"} | {"float.pfm"}
    assert skipped(prepared) == dict.fromkeys(unknown, "brightness has no known range")
    for name in {*saved, "deep.pgm"} - unknown:
        kept = name if name.endswith(".jpg") else name + ".jpg"
        made = np.asarray(Image.open(prepared / "images" / "Mine" / kept).convert("RGB"))
        wrong = np.abs(made.astype(int) - np.asarray(PICTURE)).mean()
        assert wrong < (130 if name.startswith("1.") else 6), name


def test_heic_is_read_with_pillow_heif_and_named_with_that_advice_without(tmp_path):
    place = tmp_path / "raw" / "Faces"
    image(place / "a.jpg", side=64)
    try:
        import pillow_heif

        pillow_heif.from_pillow(Image.open(place / "a.jpg")).save(place / "b.heic")
    except ImportError:
        (place / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
        prepared = prepare(tmp_path, "--align", "never")
        (row,) = rows_of(prepared / "skipped.csv")
        assert row["path"] == "Faces/b.heic" and row["reason"] == "HEIC needs pillow-heif"
        assert "pip install pillow-heif" in row["detail"]
        return
    prepared = prepare(tmp_path, "--align", "never", "--duplicates", "keep")
    assert len(read_manifest(prepared / "manifest.csv")) == 2 and not skipped(prepared)


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

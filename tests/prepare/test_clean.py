"""What 01 leaves out of the manifest although it is sound: each rule, by its default."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import scene
from helpers.preparing import prepare, rows_of
from helpers.raw_files import REAL, image, text
from PIL import Image, ImageFilter

from common.manifest import read_manifest
from common.prepare.decoding import sharpness, small_gray


def table(place, rows, columns="image,label,split,subject"):
    text(place / "labels.csv", "\n".join([columns, *rows]))


def left_out(prepared):
    """Reason and detail of every skipped input by the name of its file."""
    return {
        Path(r["path"]).name: (r["reason"], r["detail"]) for r in rows_of(prepared / "skipped.csv")
    }


def kept(prepared):
    return sorted(Path(name).name for name in read_manifest(prepared / "manifest.csv")["image"])


def again(path, source, quality=40, scale=1.0):
    """Save a picture compressed anew, and smaller."""
    with Image.open(source) as picture:
        size = (round(picture.width * scale), round(picture.height * scale))
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.resize(size, Image.Resampling.BICUBIC).save(path, "JPEG", quality=quality)


def test_the_same_picture_is_used_once_and_the_labelled_one_stays(tmp_path):
    faces, mine = tmp_path / "raw" / "A-faces", tmp_path / "raw" / "Mine"
    for n in range(4):
        image(mine / f"{n}.jpg", side=240)
    table(mine, [f"{n}.jpg,fear,train,s{n}" for n in range(4)])
    faces.mkdir()
    (faces / "copy.jpg").write_bytes((mine / "0.jpg").read_bytes())
    again(faces / "anew.jpg", mine / "1.jpg")
    again(faces / "small.jpg", mine / "2.jpg", quality=90, scale=0.8)
    image(faces / "other.jpg", side=90)
    flags = ("--align", "never")
    prepared = prepare(tmp_path, *flags)
    assert left_out(prepared) == {
        "copy.jpg": ("exact duplicate", "images/Mine/0.jpg"),
        "anew.jpg": ("near-duplicate", "images/Mine/1.jpg"),
        "small.jpg": ("near-duplicate", "images/Mine/2.jpg"),
    }
    assert kept(prepared) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "other.jpg"]
    prepare(tmp_path, *flags, "--duplicates", "exact")
    assert list(left_out(prepared)) == ["copy.jpg"]
    prepare(tmp_path, *flags, "--duplicates", "keep")
    assert len(kept(prepared)) == 8


def test_training_images_like_one_held_out_go_whatever_their_data_set(tmp_path, capsys):
    raw = tmp_path / "raw"
    for n in range(4):
        image(raw / "A" / f"a{n}.jpg", side=90)
    table(raw / "A", [f"a{n}.jpg,fear,{'train' if n else 'val'},p{n}" for n in range(4)])
    again(raw / "B" / "b0.jpg", raw / "A" / "a0.jpg")
    again(raw / "B" / "b1.jpg", raw / "A" / "a0.jpg", quality=70)
    image(raw / "B" / "b2.jpg", side=90)
    again(raw / "B" / "b3.jpg", raw / "A" / "a3.jpg")
    splits = {"b0": "train", "b1": "test", "b2": "train", "b3": "test"}
    table(raw / "B", [f"{name}.jpg,anger,{split},q" for name, split in splits.items()])
    prepared = prepare(tmp_path, "--align", "never")
    # What is held out stays, even twice: results are measured on it.
    reason = "near-duplicate of an image held out"
    assert {name: (r, d.split("/")[-1]) for name, (r, d) in left_out(prepared).items()} == {
        "b0.jpg": (reason, "a0.jpg"),
        "a3.jpg": (reason, "b3.jpg"),
    }
    assert {"a0.jpg", "b1.jpg", "b3.jpg"} < set(kept(prepared))
    assert f"skipped, {reason}: 1 (such as B/b0.jpg like images/" in capsys.readouterr().out


def test_neighbouring_frames_of_a_video_are_no_duplicates(tmp_path):
    root = tmp_path / "raw" / "Aff-Wild2"
    header = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"
    names = {"Train": ("one", "two"), "Validation": ("three",)}
    for part, videos in names.items():
        for video in videos:
            place = root / "EXPR_Recognition_Challenge" / f"{part}_Set"
            text(place / f"{video}.txt", header + "3\n" * 3)
            first = root / "cropped_aligned" / video / "00001.jpg"
            image(first, side=112)
            again(first.with_name("00002.jpg"), first, quality=50)
    # A frame of training that shows what one of validation shows is another matter.
    again(root / "cropped_aligned" / "two" / "00003.jpg", first)
    prepared = prepare(tmp_path)
    assert len(kept(prepared)) == 6
    assert list(left_out(prepared).values()) == [
        ("near-duplicate of an image held out", "images/Aff-Wild2/three/00001.jpg")
    ]


def test_drawn_faces_that_differ_in_expression_or_place_are_all_kept(tmp_path):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    for n in range(24):
        face = (52 + n % 3, 50 + n % 4, 84 + 2 * (n % 6))
        picture = Image.fromarray(scene(face, size=(100, 100))).convert("RGB")
        mouth = Image.new("RGB", (8 + n, 3 + n // 6), (120, 40 + 6 * n, 50))
        picture.paste(mouth, (46 - n // 2, 70))
        picture.save(place / f"{n}.jpg", quality=95)
    assert len(kept(prepare(tmp_path, "--align", "never"))) == 24


def test_blurred_and_flat_pictures_are_left_out(tmp_path):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    for name, x, radius in (("sharp", 50, 0), ("soft", 55, 2), ("blurred", 60, 12)):
        picture = Image.fromarray(scene((x, 60, 90), size=(110, 120)))
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
        picture.save(place / f"{name}.jpg", quality=95)
    Image.new("L", (128, 128), 90).save(place / "flat.jpg")
    prepared = prepare(tmp_path, "--align", "never")
    assert kept(prepared) == ["sharp.jpg", "soft.jpg"]
    assert {reason for reason, _ in left_out(prepared).values()} == {
        "less sharp than --min-sharpness"
    }
    prepare(tmp_path, "--align", "never", "--min-sharpness", "0")
    assert len(kept(prepared)) == 4


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_rule_but_a_damaged_file_takes_an_image_from_what_is_measured_on(tmp_path, split):
    place = tmp_path / "raw" / "Mine"
    for n in range(4):
        image(place / f"{n}.jpg", side=240)
    Image.new("L", (128, 128), 90).save(place / "flat.jpg")
    Image.fromarray(scene((80, 120, 40), size=(320, 240))).save(place / "small.jpg", quality=95)
    (place / "broken.jpg").write_bytes((place / "0.jpg").read_bytes()[:900])
    rows = [f"{n}.jpg,fear,train,s{n}" for n in range(4)]
    rows += [f"{name}.jpg,anger,{split},h" for name in ("flat", "small", "broken")]
    table(place, rows)
    strict = ("--min-face", "60", "--accept-losses")
    prepared = prepare(tmp_path, *strict)
    assert set(left_out(prepared)) == {"broken.jpg"}
    table(place, [row.replace(split, "train") for row in rows])
    assert set(left_out(prepare(tmp_path, *strict))) >= {"broken.jpg", "flat.jpg", "small.jpg"}


def test_sharpness_is_that_of_a_plain_loop_and_not_of_brightness():
    random = np.random.default_rng(0)
    gray = random.integers(0, 256, (64, 64), dtype=np.uint8)
    laplacian = []
    for y in range(1, 63):
        for x in range(1, 63):
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            laplacian.append(sum(float(gray[p]) for p in near) - 4 * float(gray[y, x]))
    found = sharpness(np.stack([gray, gray // 4, np.full_like(gray, 7)]))
    assert found[0] == pytest.approx(np.var(laplacian) / np.var(gray), rel=1e-4)
    assert found[1] == pytest.approx(found[0], rel=0.02) and found[2] == 0


def test_small_faces_of_photographs_are_left_out_and_rules_cost_no_second_look(tmp_path, capsys):
    place = tmp_path / "raw" / "Faces"
    place.mkdir(parents=True)
    for n, size in enumerate((100, 60, 40)):
        picture = scene((80 + 9 * n, 120, size), size=(320, 240))
        Image.fromarray(picture).save(place / f"{size}.jpg", quality=95)
    prepared = prepare(tmp_path)
    assert len(kept(prepared)) == 3
    capsys.readouterr()
    prepare(tmp_path, "--min-face", "45")
    reason, detail = left_out(prepared)["40.jpg"]
    assert reason == "face smaller than --min-face" and 20 < int(detail.split()[0]) < 45
    done = capsys.readouterr().out.splitlines()[-1]
    assert done.startswith("Nothing new to prepare, 2 images kept, 1 skipped")


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/real: real photographs are not here")
def test_no_two_real_photographs_are_taken_for_one(tmp_path):
    place = tmp_path / "raw" / "Photographs"
    for path in sorted((REAL / "faces" / "images").iterdir())[:400]:
        (place / path.name).parent.mkdir(parents=True, exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes())
    prepared = prepare(tmp_path, "--align", "never")
    assert len(kept(prepared)) == 400 and not left_out(prepared)
    for n, path in enumerate(sorted(place.iterdir())[:40]):
        again(tmp_path / "raw" / "Z" / f"{n}.jpg", path, quality=60)
    prepare(tmp_path, "--align", "never")
    assert len(kept(prepared)) <= 402  # of 40 copies all but one or two are found out


def test_a_picture_in_gray_is_measured_as_in_colour():
    picture = Image.fromarray(scene((50, 52, 90), size=(100, 100)))
    file = io.BytesIO()
    picture.convert("L").save(file, "PNG")
    gray, colour = small_gray(Image.open(file)), small_gray(picture)
    assert gray.shape == (64, 64) and np.abs(gray.astype(int) - colour).max() <= 1

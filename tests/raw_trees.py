"""Small raw data sets, each as its owners ship it, traps included; and ways to read them."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from drawn import scene, write_video
from PIL import Image
from scipy.io import savemat

from common.raw.layout import Item, Skip


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


def rafdb_tree(root):
    basic, compound = root / "basic", root / "compound"
    text(
        basic / "EmoLabel" / "list_patition_label.txt",
        "train_00001.jpg 5\r\ntrain_00002.jpg 1\r\ntest_0001.jpg 7\r\ntrain_00003.jpg 8\r\n"
        "train_00009.jpg 4\r\nnonsense\r\nvalid_0001.jpg 2",
    )
    for name in ("train_00001", "train_00002", "test_0001", "train_00003", "valid_0001", "odd"):
        image(basic / "Image" / "aligned" / f"{name}_aligned.jpg")
    image(basic / "Image" / "original" / "train_00001.jpg")
    text(
        compound / "EmoLabel" / "list_patition_label.txt",
        "train_00001.jpg 1\ntest_0001.jpg 11\ntest_0002.jpg 7\n",
    )
    for name in ("train_00001", "test_0001", "test_0002"):
        image(compound / "Image" / "aligned" / f"{name}_aligned.jpg")
    return root


def rafdb_classes_tree(root):
    """Class folders of the compound part, as they are passed on."""
    for name in ("Angrily Surprised/train_0001.jpg", "Angrily Surprised/test_0002.jpg"):
        image(root / name)
    image(root / "Sadly_Angry" / "train_0003.jpg")
    image(root / "Sadly_Angry" / "train_0001.jpg")  # also an Angrily Surprised
    image(root / "Sadly_Angry" / "IMG_7.jpg")
    image(root / "Disgustly Surprised" / "train_0009.jpg")
    return root


def rafdb_mirror_tree(root):
    rows = {"train": ["image,label"], "test": ["image,label"]}
    for split, label, number in (("train", 1, 1), ("train", 7, 2), ("test", 4, 1), ("test", 2, 2)):
        name = f"{split}_{number:05d}_aligned.jpg"
        image(root / "DATASET" / split / str(label) / name)
        rows[split].append(f"{name},{label}")
    rows["test"][-1] = "test_00002_aligned.jpg,3"  # its folder says 2
    rows["test"].append("test_00009_aligned.jpg,1")  # and no such image
    for split, lines in rows.items():
        text(root / f"{split}_labels.csv", "\r\n".join(lines))
    return root


def rafce_tree(root):
    text(
        root / "RAFCE_emolabel.txt",
        "0001.jpg 0\r\n0002.jpg 8\r\n0003.jpg 13\r\n0004.jpg 14\r\n0005.jpg 5\r\n"
        "0006.jpg\r\n0001.jpg 2\r\n0007.jpg 9",
    )
    text(root / "RAFCE_partition.txt", "0001.jpg 0\n0002.jpg 1\n0003.jpg 2\n0004.jpg 0\n0007.jpg 3")
    text(root / "RAFCE_AUlabel.txt", "0002.jpg 4+9+12\n0003.jpg null\n0004.jpg 4+?+l2\n")
    for name in ("0001", "0002", "0003", "0004", "0007", "0008"):
        image(root / "aligned" / f"{name}_aligned.jpg")
    image(root / "original" / "0001.jpg")
    return root


def affectnet_tree(root):
    labels = {
        "train_set": ["0", "1", "7", "8", "9", "10", "11", "many"],
        "val_set": [np.int64(6), np.array([4]), np.float32(5)],
    }
    for name, values in labels.items():
        for number, value in enumerate(values):
            image(root / name / "images" / f"{number}.jpg")
            (root / name / "annotations").mkdir(exist_ok=True)
            np.save(root / name / "annotations" / f"{number}_exp.npy", np.array(value))
            np.save(root / name / "annotations" / f"{number}_val.npy", np.array("-2"))
    return root


def affectnet_plus_tree(root):
    for name, values in {"train_set": [3, "1", 9, None, [1]], "validation_set": [0, 12]}.items():
        place = root / "human_annotated" / name
        for number, value in enumerate(values):
            image(place / "images" / f"{number}.jpg")
            note = {"human-label": value, "soft-label": [0.1] * 8} if value is not None else {}
            text(place / "annotations" / f"{number}.json", json.dumps(note))
    text(root / "human_annotated" / "train_set" / "annotations" / "4.json", '{"human-label": [')
    image(root / "no_human_annotated" / "images" / "0.jpg")
    return root


AFFECTNET_COLUMNS = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)


def affectnet_lists_tree(root):
    lists = root / "Manually_Annotated_file_lists"
    rows = [
        "1/a.jpg,10,12,40,40,1.5;2.5;3,1,0.7,-0.1",
        "1/b.JPG,4,4,20,24,1;2,7,0.1,0.2",
        "2/c.png,4,4,20,24,1;2,8,-2,-2",
        "2/d.jpg,4,4,-7,24,1;2,6,0.1,0.2",
        "1/a.jpg,4,4,20,24,1;2,6,0.1,0.2",
        "9/gone.jpg,4,4,20,24,1;2,6,0.1,0.2",
        "../../secret.jpg,4,4,20,24,1;2,6,0.1,0.2",
        "2/e.jpg,4,wide,20,24,1;2,6,0.1,0.2",
        '"2/e.jpg,4,4,20,24,1;2,6',
        "2/e.jpg,4,4,20,24,1;2,12,0,0",
    ]
    text(lists / "training.csv", "\r\n".join([AFFECTNET_COLUMNS, *rows]))
    text(lists / "validation.csv", "1/v.jpg,0,0,30,30,1;2,4,0.5,0.5\n1/b.JPG,4,4,20,24,1;2,2,0,0")
    images = root / "Manually_Annotated" / "Manually_Annotated_Images"
    for name in ("1/a.jpg", "1/b.JPG", "2/c.png", "2/d.jpg", "2/e.jpg", "1/v.jpg"):
        image(images / name, side=60)
    image(root.parent / "secret.jpg")
    return root


HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def affwild2_tree(root, name="EXPR_Recognition_Challenge", header=HEADER):
    text(root / name / "Train_Set" / "1-30-1280x720.txt", f"{header}\n0\n1\n-1\n7\n4")
    text(root / name / "Validation_Set" / "v_left.txt", f"{header}\r\n6\r\n2\r\n")
    text(root / name / "Validation_Set" / "v_right.txt", f"{header}\r\n5\r\nx\r\n")
    for frame in (1, 3, 4, 5, 6):  # 2 has no face; 6 is one more than labels
        image(root / "cropped_aligned" / "1-30-1280x720" / f"{frame:05d}.jpg")
    image(root / "cropped_aligned_new_50_vids" / "v_left" / "00002.jpg")
    for frame in (1, 2):
        image(root / "cropped_aligned_new_50_vids" / "v_right" / f"{frame:05d}.jpg")
    return root


def mtl_row(image_name, expression, valence="-0.0023"):
    return f"{image_name},{valence},0.0,{expression}" + ",0" * 11 + ",-1"


def mtl_tree(root):
    rows = [
        mtl_row("341/00001.jpg", 7),
        mtl_row("341/00002.jpg", 6, valence="-5"),
        mtl_row("341/00002.jpg", 6, valence="-5"),
        mtl_row("341/00002.jpg", 1),
        mtl_row("341/00003.jpg", -1),
        mtl_row("9_left/00001.jpg", 4),
        "341/00004.jpg,0.1,0.2,3",
        mtl_row("341/00077.jpg", 2),
        mtl_row("../secret.jpg", 2),
        mtl_row("341/00005.jpg", "three"),
    ]
    header = "image,valence,arousal,expression,aus"
    text(root / "training_set_annotations.txt", "\r\n".join([header, *rows]))
    text(root / "validation_set_annotations.txt", f"{header}\n{mtl_row('12/00001.jpg', 5)}\n")
    names = ["341/00001", "341/00002", "341/00003", "341/00004", "341/00005", "12/00001"]
    for name in (*names, "9_left/00001"):
        image(root / "cropped_aligned" / f"{name}.jpg")
    image(root / "secret.jpg")
    return root


def mafw_tree(root, captions="no_caption"):
    lists = root / "Train & Test Set"
    compound = {
        "train": ["00001.mp4 fear_surprise", "00002.mp4 anxiety", "nonsense", "00009.mp4 anger"],
        "test": ["00003.mp4 anger_disgust_contempt"],
    }
    single = {"train": ["00001.mp4 fear", "00004.mp4 happiness"], "test": []}
    for kind, splits in (("compound", compound), ("single", single)):
        for fold in range(1, 6):
            for split, lines in splits.items():
                body = "\r\n".join(lines) + "\r\n"
                if captions == "with_caption":
                    rows = (
                        f"{line.replace(' ', chr(9))}\t他很害怕 \tHe is afraid" for line in lines
                    )
                    body = "\r\n".join(rows)
                place = lists / kind / captions / f"set_{fold}" / f"{split}.txt"
                text(place, body, "gbk")
    clips = root / "data" / "clips"
    clips.mkdir(parents=True)
    write_video(clips / "00001.mp4", [scene((60 + 5 * n, 120, 100)) for n in range(20)])
    write_video(clips / "00002.mp4", [scene()] * 9)
    write_video(clips / "00003.mp4", [scene((160, 120, 100))] * 3)
    (clips / "00004.mp4").write_bytes(b"no video" * 99)
    return root


def fer2013_rows():
    pixels = [" ".join([str(gray)] * 2304) for gray in (10, 60, 110, 160, 210, 250)]
    return [
        ("0", pixels[0], "Training"),
        ("3", pixels[1], "PublicTest"),
        ("6", pixels[2], "PrivateTest"),
        ("7", pixels[3], "Training"),
        ("5", pixels[4][:-40], "Training"),
        ("1", pixels[5], "Sometimes"),
    ]


def fer2013_tree(root, votes=False, mirror=False):
    rows = [("emotion", "pixels", "Usage"), *fer2013_rows()]
    if mirror:
        rows = [("emotion", " Usage", " pixels"), *((e, u, p) for e, p, u in fer2013_rows())]
    name = "icml_face_data.csv" if mirror else "fer2013.csv"
    text(root / name, "\r\n".join([*map(",".join, rows), "torn,row"]))
    if votes:
        header = (
            "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,"
            "unknown,NF"
        )
        ballots = [
            "Training,fer0000000.png,4,0,0,1,5,0,0,0,0,0",  # 5 of 9: anger
            "PublicTest,fer0000001.png,0,4,4,1,1,0,0,0,0,0",  # 4 of 8: none
            "PrivateTest,,0,0,0,0,0,0,0,0,1,9",  # no face
            "Training,fer0000003.png,0,0,0,0,0,0,0,6,4,0",  # 6 of 10: contempt
            "Training,fer0000004.png,0,0,0,1,0,0,0,0,9,0",  # unknown
            "Training,fer0000005.png,0,1,1,1,1,1,1,1,1,1",  # single votes only
        ]
        text(root / "fer2013new.csv", "\n".join([header, *ballots]))
    return root


def expw_tree(root):
    lines = [
        "a_man_1.jpg 0 10 20 50 60 98.5 3",  # top left right bottom
        "a_man_1.jpg 1 5 70 95 30 30.0 0",
        "a_man_1.jpg 1 5 70 95 30 30.0 4",
        "b.jpg 0 30 20 10 60 98.5 3",  # right of its left
        "gone.jpg 0 10 20 50 60 98.5 3",
        "b.jpg 1 10 20 50 60 98.5 7",
        "b.jpg 2 10 20 50",
        "b.jpg 3 10 20 50 60 98.5 6",
    ]
    text(root / "label" / "label.lst", "\n".join(lines))
    for name in ("a_man_1.jpg", "b.jpg"):
        image(root / "image" / "origin" / name, side=100)
    return root


def ckplus_tree(root):
    for person, sequence, count in (("S005", "001", 5), ("S005", "002", 4), ("S010", "001", 2)):
        for frame in range(1, count + 1):
            name = f"{person}_{sequence}_{frame:08d}.png"
            image(root / "cohn-kanade-images" / person / sequence / name)
        (root / "Emotion" / person / sequence).mkdir(parents=True)
    text(root / "cohn-kanade-images" / "S005" / "001" / ".DS_Store", "x")
    text(root / "cohn-kanade-images" / ".DS_Store", "x")
    name = "Emotion/S005/001/S005_001_00000005_emotion.txt"
    text(root / name, "   3.0000000e+00\n")
    text(root / "Emotion/S010/001/S010_001_00000002_emotion.txt", "   8.0000000e+00\n")
    return root


def celeba_tree(root, mirror=False):
    names = [f"{n:06d}.jpg" for n in range(1, 5)]
    images = root / "img_align_celeba"
    for name in names[:3]:
        image((images / "img_align_celeba" if mirror else images) / name)
    rows = [(names[0], 0), (names[1], 1), (names[2], 2), (names[3], 0)]
    if mirror:
        body = "image_id,partition\n" + "\n".join(f"{n},{s}" for n, s in rows)
        text(root / "list_eval_partition.csv", body)
        return root
    text(root / "list_eval_partition.txt", "\r\n".join(f"{n} {s}" for n, s in rows) + "\r\nx 7")
    text(root / "identity_CelebA.txt", f"{names[0]} 2880\n{names[1]} 2880\nodd row here\n")
    return root


def imdb_rows():
    """Names, scores and second scores: used, no face, low, two faces, gone, outside, twice."""
    return [
        ("01/nm0000001_rm124825600_1899-5-10_1968.jpg", 1.46, np.nan),
        ("01/nm0000001_rm2_1899-5-10_1970.jpg", -np.inf, np.nan),
        ("02/nm0000002_rm3_1924-9-16_2004.jpg", 0.99, np.nan),
        ("02/nm0000002_rm4_1924-9-16_2004.jpg", 5.0, 1.2),
        ("02/nm0000002_rm5_1924-9-16_2004.jpg", 5.0, np.nan),
        ("../nm0000003_rm6_1924-9-16_2004.jpg", 5.0, np.nan),
        ("01/nm0000001_rm124825600_1899-5-10_1968.jpg", 1.46, np.nan),
    ]


def imdbwiki_tree(root):
    for name, rows in (
        ("imdb", imdb_rows()),
        ("wiki", [("17/10000217_1981-05-05_2009.jpg", 4, np.nan)]),
    ):
        place = root / f"{name}_crop"
        paths = np.empty((1, len(rows)), dtype=object)
        paths[0] = [row[0] for row in rows]
        table = {
            "full_path": paths,
            "face_score": np.array([[row[1] for row in rows]], dtype=float),
            "second_face_score": np.array([[row[2] for row in rows]], dtype=float),
            "dob": np.zeros((1, len(rows))),
        }
        for path, *_ in rows:
            if "rm5" not in path:
                image(place / path)
        savemat(place / f"{name}.mat", {name: table})
    return root


def jpeg_bytes(side=20, gray=90):
    file = io.BytesIO()
    Image.new("L", (side, side), gray).save(file, "JPEG")
    return file.getvalue()


RECORD_MAGIC = struct.pack("<I", 0xCED7230A)


def record(payload, part=0):
    head = RECORD_MAGIC + struct.pack("<I", part << 29 | len(payload))
    return head + payload + bytes(-len(payload) % 4)


def image_header(label, flag=0):
    return struct.pack("<IfQQ", flag, label, 1, 0)


def recordio_tree(root):
    """Two persons with three images, one of which holds the magic number; then their own rows."""
    split = image_header(7.0) + jpeg_bytes(gray=200)
    content = [
        record(image_header(4.0, flag=2) + struct.pack("<2f", 4, 6)),
        record(image_header(3.0) + jpeg_bytes()),
        record(image_header(3.0) + jpeg_bytes(gray=10)),
        record(split, part=1) + record(b"tail", part=3),
        record(image_header(5.0, flag=2) + struct.pack("<2f", 1, 3)),
        record(image_header(6.0, flag=2) + struct.pack("<2f", 3, 4)),
    ]
    root.mkdir(parents=True)
    (root / "train.rec").write_bytes(b"".join(content))
    text(root / "train.idx", "0\t0\n")
    return root


def table_tree(root, rows=("Ann_Lee_0001.jpg,happy",), header="image,label"):
    text(root / "labels.csv", "\r\n".join([header, *rows]))
    for name in ("Ann_Lee_0001.jpg", "Ann_Lee_0012.jpg", "sub/Bo_0001.png"):
        image(root / "images" / name)
    image(root / "beside.jpg")
    return root


def challenge_tree(root):
    (root / "videos").mkdir(parents=True)
    write_video(root / "videos" / "01.mp4", [scene()] * 2)
    text(root / "CER.txt", "image_location,Fearfully_Surprised\n01/00001.jpg,\n")
    return root


def faces_tree(root):
    for name in ("WebFace42M_Root/0_0_0000000/0_0.jpg", "WebFace42M_Root/1_0_0000001/1_1.jpg"):
        image(root / name)
    text(root / "README.txt", "words")
    return root


def casia_tree(root):
    for person in range(3):
        for number in range(2):
            image(root / f"{person:07d}" / f"{number:03d}.jpg")
    return root


# The right reader of each tree: tree -> (builder, name of the module in common.raw).
TREES = {
    "RAF-DB": (rafdb_tree, "rafdb"),
    "RAF-DB in class folders": (rafdb_classes_tree, "rafdb"),
    "RAF-DB compound in class folders": (
        lambda r: rafdb_classes_tree(r / "compound").parent,
        "rafdb",
    ),
    "RAF-DB mirror": (rafdb_mirror_tree, "rafdb"),
    "RAF-CE": (rafce_tree, "rafce"),
    "AffectNet npy": (affectnet_tree, "affectnet"),
    "AffectNet+": (affectnet_plus_tree, "affectnet"),
    "AffectNet original": (affectnet_lists_tree, "affectnet_lists"),
    "Aff-Wild2": (affwild2_tree, "affwild2"),
    "s-Aff-Wild2": (mtl_tree, "affwild2"),
    "MAFW": (mafw_tree, "mafw"),
    "FER2013": (fer2013_tree, "fer2013"),
    "FERPlus": (lambda root: fer2013_tree(root, votes=True), "fer2013"),
    "FER2013 mirror": (lambda root: fer2013_tree(root, mirror=True), "fer2013"),
    "ExpW": (expw_tree, "expw"),
    "CK+": (ckplus_tree, "ckplus"),
    "CelebA": (celeba_tree, "celeba"),
    "CelebA mirror": (lambda root: celeba_tree(root, mirror=True), "celeba"),
    "IMDB-WIKI": (imdbwiki_tree, "imdbwiki"),
    "RecordIO": (recordio_tree, "recordio"),
    "labelled table": (table_tree, "table"),
    "C-EXPR-DB": (challenge_tree, "challenge"),
    "WebFace42M": (faces_tree, "folder"),
    "CASIA-WebFace": (casia_tree, "folder"),
}
REAL = Path(__file__).resolve().parents[2] / "shared" / "real"

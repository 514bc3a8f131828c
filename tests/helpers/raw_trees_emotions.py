"""Small sets of labelled faces, each as its owners ship it, traps included."""

from __future__ import annotations

import json

import numpy as np
from helpers.raw_files import image, text


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
        ballots = [
            "Training,fer0000000.png,4,0,0,1,5,0,0,0,0,0",  # 5 of 9: anger
            "PublicTest,fer0000001.png,4,4,0,1,1,0,0,0,0,0",  # 4 of 8: none
            "PrivateTest,,0,0,0,0,0,0,0,0,1,9",  # no face
            "Training,fer0000003.png,0,0,0,0,0,0,0,6,4,0",  # 6 of 10: contempt
            "Training,fer0000004.png,0,0,0,1,0,0,0,0,9,0",  # unknown
            "Training,fer0000005.png,0,1,1,1,1,1,1,1,1,1",  # single votes only
        ]
        text(root / "fer2013new.csv", "\n".join([VOTES_HEADER, *ballots]))
    return root


VOTES_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)


def ferplus_tree(root, newer=False):
    """What the owners' script writes; newer: with their table of newer votes beside it."""
    ballots = {
        "FER2013Train/fer0000000.png": "4,0,0,1,5,0,0,0,0,0",  # 5 of 9: anger
        "FER2013Train/fer0000002.png": "0,0,4,0,0,0,3,0,3,0",  # fear and surprise
        "FER2013Train/fer0000003.png": "0,0,5,1,0,0,2,2,0,0",  # 5 of 9: surprise
        "FER2013Train/fer0000004.png": "3,0,3,1,0,0,3,0,0,0",  # nobody
        "FER2013Valid/fer0028638.png": "0,0,0,0,0,0,0,6,4,0",  # contempt
        "FER2013Valid/fer0028639.png": "0,0,0,1,0,0,0,0,9,0",  # unknown
        "FER2013Test/fer0032220.png": "0,0,0,7,3,0,0,0,0,0",  # anger and sadness
        "FER2013Test/fer0032221.png": "0,1,0,0,0,0,0,0,0,9",  # no face
    }
    lists = {}
    for name, ballot in ballots.items():
        folder, _, picture = name.partition("/")
        lists.setdefault(folder, []).append(f'{picture},"(0, 0, 48, 48)",{ballot}')
        image(root / "data" / name, side=48)
    lists["FER2013Train"] += ["fer0000009.png,torn", 'gone.png,"(0, 0, 48, 48)"' + ",1" * 10]
    image(root / "data" / "FER2013Train" / "fer0000777.png", side=48)  # without votes
    for folder, lines in lists.items():
        text(root / "data" / folder / "label.csv", "\r\n".join(lines))
    if newer:
        rows = [
            "Training,fer0000000.png,0,0,0,0,0,0,0,0,0,10",
            "Training,,0,0,0,0,0,0,0,0,0,10",
            "Training,fer0000000.png,0,9,1,0,0,0,0,0,0,0",  # named twice: the second counts
            "PublicTest,fer0028638.png,0,6,4,0,0,0,0,0,0,0",
        ]
        text(root / "fer2013new.csv", "\n".join([VOTES_HEADER, *rows]))
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


def table_tree(root, rows=("Ann_Lee_0001.jpg,happy",), header="image,label"):
    text(root / "labels.csv", "\r\n".join([header, *rows]))
    for name in ("Ann_Lee_0001.jpg", "Ann_Lee_0012.jpg", "sub/Bo_0001.png"):
        image(root / "images" / name)
    image(root / "beside.jpg")
    return root

"""Small sets of labelled videos and their frames, as their owners ship them, traps included."""

from __future__ import annotations

from helpers.drawn import scene, write_video
from helpers.raw_files import image, text

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


def challenge_tree(root):
    (root / "videos").mkdir(parents=True)
    write_video(root / "videos" / "01.mp4", [scene()] * 2)
    text(root / "CER.txt", "image_location,Fearfully_Surprised\n01/00001.jpg,\n")
    return root

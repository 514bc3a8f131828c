"""Challenge videos beside the toy world: crops, their frame table and their labels."""

import shutil
from pathlib import Path

import pandas as pd

from common.emotions import CHALLENGE_PAIRS, label_of
from common.submission.files import locate

VIDEOS, FRAMES = 7, 4
FACELESS = ("03", 2)
UNLABELLED = "07"


def add_videos(world: Path) -> Path:
    """Add crops of seven videos, each of one compound, to a toy world; return their label table.

    Video 07 has no labels. Frame 2 of video 03 shows no face, frame 1 of 04 is not scored, and the
    table names a video that is not there.
    """
    prepared = world / "prepared"
    manifest = pd.read_csv(prepared / "manifest.csv", keep_default_na=False)
    rows, lines = [], ["image_location,label", "99/00001.jpg,3"]
    for number in range(VIDEOS):
        video = f"{number + 1:02d}"
        looks = manifest[manifest.labels == label_of(CHALLENGE_PAIRS[number])]
        for frame in range(1, FRAMES + 1):
            image = "" if (video, frame) == FACELESS else f"crops/{video}/{frame:05d}.png"
            if image:
                (prepared / image).parent.mkdir(parents=True, exist_ok=True)
                source = looks.image.iloc[frame % len(looks)]
                shutil.copy(prepared / source, prepared / image)
            rows.append((video, frame, image, "", "", 1))
            label = "" if (video, frame) == ("04", 1) else number
            lines += [f"{locate(video, frame)},{label}"] * (video != UNLABELLED)
    columns = ["video", "frame", "image", "box", "score", "decoded"]
    pd.DataFrame(rows, columns=columns).to_csv(prepared / "frames.csv", index=False)
    table = world / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return table

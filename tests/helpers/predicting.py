"""Crops to predict, networks that do it, and ways to run 05_predict_submit.py on them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from common.networks.classifier import create_classifier
from common.networks.weights import save_model
from common.submission.files import HEADER

SCRIPT = "05_predict_submit.py"
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
OPTIONS = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
# Video 01 decodes 5 frames and lists 6; 02 shows no face; the list lacks the last frame of 10.
DECODED = {"01": 5, "02": 3, "10": 4}
FACELESS = {("01", 3), ("02", 1), ("02", 2), ("02", 3)}
LISTED = [("01", i) for i in range(1, 7)] + [("02", i) for i in (1, 2, 3)]
LISTED += [("10", i) for i in (1, 2, 3)]
LOCATIONS = [f"{video}/{frame:05d}.jpg" for video, frame in LISTED]


def make_checkpoint(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = create_classifier("vit_tiny_patch16_224", 16, OPTIONS)
    torch.nn.init.normal_(network.head.weight, std=1.0)
    folder.mkdir(parents=True)
    save_model(folder, network)
    settings = {"model": "vit_tiny_patch16_224", "image_size": 16, "model_options": OPTIONS}
    settings |= {"mean": MEAN, "std": STD}
    (folder / "run.json").write_text(json.dumps({"settings": settings}))
    return folder / "model.safetensors"


def make_crops(folder: Path) -> Path:
    """Write a prepared folder of 16-pixel crops, two models of them and the truth of its list.

    The crops are PNG, so that they are read back exactly.
    """
    random, rows = np.random.default_rng(0), []
    for video, count in DECODED.items():
        for frame in range(1, count + 1):
            image = ""
            if (video, frame) not in FACELESS:
                image = f"crops/{video}/{frame:05d}.png"
                path = folder / "prepared" / image
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
            rows.append((video, frame, image, "0 0 9 9" if image else "", 0.9 if image else "", 1))
    columns = ["video", "frame", "image", "box", "score", "decoded"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "prepared" / "frames.csv", index=False)
    text = HEADER + "\n" + "".join(f"{location},\n" for location in LOCATIONS)
    (folder / "prepared" / "frame_list.txt").write_text(text)
    make_checkpoint(folder / "run" / "curriculum", 0)
    make_checkpoint(folder / "other" / "curriculum", 1)
    labels = ["3", "Sadly Angry", "", "-1", *"012345", "6"]  # one listed frame has no row
    text = "".join(f"{a},{b}\n" for a, b in zip(LOCATIONS, labels, strict=False))
    (folder / "truth.csv").write_text("image_location,label\n" + text + "99/00001.jpg,2\n")
    return folder


def predict(start, crops, out, *more):
    """Run the script into its own run folder."""
    checkpoint = crops / "run" / "curriculum" / "model.safetensors"
    return start(
        SCRIPT,
        "--data-dir",
        crops,
        "--run-dir",
        out,
        "--checkpoints",
        checkpoint,
        "--workers",
        "0",
        "--mixed-precision",
        "no",
        "--batch-size",
        "4",
        *(() if {"--images", "--export"} & set(more) else ("--smooth", "none")),
        *more,
    )


def read_probabilities(out) -> pd.DataFrame:
    """Return probabilities.csv as pandas reads it, with the video and frame of each location."""
    table = pd.read_csv(out / "submission" / "probabilities.csv")
    places = table["image_location"].str.extract(r"(?P<video>.+)/(?P<frame>\d+)\.jpg")
    return table.join(places.astype({"frame": int}))

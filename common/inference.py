"""Probabilities of faces from one or more classifiers, and faces straight from raw videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import timm.layers
import torch
from torch import nn
from tqdm import tqdm

from common.augment import normalise
from common.emotions import BASIC
from common.files import UserError
from common.images import ImageStore
from common.loading import evaluation_batches
from common.submission import split_location

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU, set up for networks made from now on."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    timm.layers.set_fused_attn(False)  # as in training on CPUs, see common.runs
    return torch.device("cpu")


@torch.inference_mode()
def predict_probabilities(
    models: Sequence[tuple[nn.Module, dict]],
    store: ImageStore,
    device: torch.device,
    *,
    flip: bool,
    precision: str,
    batch_size: int,
    workers: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the models' mean probabilities, float64 [n, 6], and bool [n]: could it be read.

    models: of `classifier.load_classifier`. flip: average each image and its mirror image. The
    crops are read once for all models of one input size. Raises UserError for a number that is
    not finite.
    """
    total = np.zeros((len(store), len(BASIC)))
    readable = np.ones(len(store), dtype=bool)
    models = [(network.to(device), settings) for network, settings in models]
    sizes = sorted({settings["image_size"] for _, settings in models})
    bar = tqdm(total=len(store) * len(sizes), desc="predict", unit="img", disable=None)
    for size in sizes if len(store) else []:
        group = [pair for pair in models if pair[1]["image_size"] == size]
        for positions, images, valid in evaluation_batches(store, size, batch_size, workers):
            rows = positions.numpy()
            images = images.to(device, non_blocking=True)
            for network, settings in group:
                view = normalise(images, settings["mean"], settings["std"])
                for shown in (view, view.flip(-1)) if flip else (view,):
                    with torch.autocast(
                        device.type, PRECISIONS[precision], enabled=precision != "no"
                    ):
                        logits = network(shown)  # [b, 6]
                    total[rows] += torch.sigmoid(logits.float()).cpu().numpy()
            readable[rows] = valid.numpy()
            bar.update(len(rows))
    bar.close()
    if not np.isfinite(total).all():
        raise UserError("The network's output is not finite; try --mixed-precision no.")
    return total / (len(models) * (2 if flip else 1)), readable


def crop_videos(
    videos: Path, folder: Path, frame_list: tuple[str, list[str]] | None
) -> tuple[pd.DataFrame, list[str]]:
    """Crop the main face of each frame of a folder of videos to `folder/crops`.

    With a frame list, only of videos that it names. Returns rows like those of `frames.csv`, and
    warnings about videos that cannot be read. Raises UserError where none can.
    """
    # Here, because whoever predicts from prepared crops needs neither decoder nor detector.
    from common.centerface import Detector
    from common.faces import FrameRow, crop_video
    from common.raw.challenge import find_videos

    paths = find_videos(videos)
    if frame_list:
        listed = {split_location(location)[0] for location in frame_list[1]}
        paths = {name: path for name, path in paths.items() if name in listed}
    if not paths:
        raise UserError(f"{videos} holds no video{' that the list names' if frame_list else ''}.")
    detector, counts, rows, warnings = Detector(), Counter(), [], []
    for name, path in tqdm(sorted(paths.items()), desc="crop", unit="video", disable=None):
        try:
            rows += crop_video(path, name, folder, detector, counts=counts)
        except UserError as error:  # the others can still be labelled
            warnings.append(str(error))
    if not rows:
        raise UserError(warnings[0])
    warnings += [f"{count} {what}." for what, count in counts.items()]
    return pd.DataFrame(rows, columns=FrameRow._fields), warnings

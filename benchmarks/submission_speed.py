"""mp4 to submission, ours against the usual loop over frames, on the same clips, by one network.

The loop is that of most examples of this field (EmotiEffLib's among them): decode a frame, detect
faces at full resolution, crop the surest by its box, and put this one image through the network.
Both sides use the same detector and threads, and no test-time augmentation. Clips: the folder that
the variable CLIPS names (CLIPS=folder python benchmarks/speed.py), else drawn ones. The weights are
random, which changes no time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import Line, in_turns
from common.batches.augment import normalise
from common.emotions import compound_scores
from common.faces.alignment import align
from common.faces.detector import Detector
from common.faces.follow import follow_main_face
from common.faces.video import pictures
from common.hardware import best_device, default_precision
from common.networks.classifier import create_classifier
from common.raw.challenge import find_videos
from common.script.files import UserError
from common.script.flags import FACE_MEAN, FACE_STD
from common.submission.decision import Decision, Timelines, decide
from common.submission.ensemble import Ensemble, face_probabilities
from common.submission.files import HEADER, locate, write_submission
from common.submission.sources import Source, frames_to_decide, observe
from common.submission.streaming import resize

DEMO = {"patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}
DEMO |= {"stem": "conv", "global_pool": "concat"}
# Name, side, options of timm's VisionTransformer.
MODELS = {
    "the demo's ViT, 64 px": ("vit_tiny_patch16_224", 64, DEMO),
    "ViT-S/16, 224 px": ("vit_small_patch16_224", 224, {}),
    "ViT-B/16, 224 px": ("vit_base_patch16_224", 224, {}),
}


def measure(quick: bool) -> list[Line]:
    """Return a line for each network, with where our time goes."""
    with tempfile.TemporaryDirectory() as folder:
        videos = clips(Path(folder))
        if quick:  # one clip, neither the smallest nor the largest
            name = sorted(videos, key=lambda name: videos[name].stat().st_size)[len(videos) // 2]
            videos = {name: videos[name]}
        return [_line(name, videos, Path(folder), quick) for name in MODELS]


def clips(folder: Path, count: int = 7) -> dict[str, Path]:
    """Return the clips by name; draws `count` where there are none."""
    named = os.environ.get("CLIPS")
    if named:
        if videos := find_videos(Path(named)) if Path(named).is_dir() else {}:
            return videos
        raise UserError(f"CLIPS={named}: there is no video in that folder.")
    from common.demo.settings import Settings
    from common.demo.videos import plan_videos, write_video

    drawn = plan_videos(Settings(seed=0))[:count]
    for video in drawn:
        write_video(Settings(seed=0), folder / f"{video.name}.mp4", video)
    return find_videos(folder)


def _line(name: str, videos: dict[str, Path], folder: Path, quick: bool) -> Line:
    model, side, options = MODELS[name]
    device = best_device()
    network = create_classifier(model, side, options).to(device).eval()
    ensemble = Ensemble(
        [(network, {"image_size": side, "mean": FACE_MEAN, "std": FACE_STD})],
        device,
        default_precision(),
        flip=False,
        shift=0.0,
    )
    rates = in_turns(
        {
            "ours": lambda: ours(videos, ensemble, folder),
            "theirs": lambda: usual_loop(videos, ensemble, folder),
        },
        repetitions=2 if quick else 3,
    )
    return Line(
        f"mp4 to submission, {name}, {_precision(ensemble)}",
        "frames/s",
        rates["ours"],
        "decode, detect at full resolution, crop, one image a forward, float32",
        rates["theirs"],
        goal=3.0,
        facts={"clips": ", ".join(videos), **shares(videos, ensemble)},
    )


def _precision(ensemble: Ensemble) -> str:
    return {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[ensemble.precision]


def ours(videos: dict[str, Path], ensemble: Ensemble, folder: Path) -> int:
    """Write a submission as 05 does; return its frames."""
    source = Source(folder, None, videos, None)
    observed = observe(source, ensemble, folder)
    locations, _ = frames_to_decide(source, observed)
    table = decide(Timelines(locations, observed.frames), observed.mean(), Decision())
    write_submission(folder / "ours.txt", HEADER, locations, table["decision"].tolist())
    return len(locations)


@torch.inference_mode()
def usual_loop(videos: dict[str, Path], ensemble: Ensemble, folder: Path) -> int:
    """Write a submission frame by frame; return its frames."""
    detector = Detector(sides_px=(10**6,), threads=torch.get_num_threads())
    (network, settings), locations, classes = ensemble.networks[0], [], []
    for video, path in videos.items():
        for number, (_, image) in enumerate(pictures(path), start=1):
            faces = detector.detect(image)
            label = 0
            if len(faces.scores):
                x0, y0, x1, y1 = faces.boxes[0].round().astype(int)
                side = settings["image_size"]
                face = Image.fromarray(image[y0:y1, x0:x1]).resize((side, side))
                view = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None]
                view = normalise(view.to(ensemble.device), settings["mean"], settings["std"])
                probabilities = torch.sigmoid(network(view)).cpu().numpy()
                label = int(compound_scores(probabilities).argmax())
            locations.append(locate(video, number))
            classes.append(label)
    write_submission(folder / "theirs.txt", HEADER, locations, classes)
    return len(locations)


def shares(videos: dict[str, Path], ensemble: Ensemble) -> dict[str, str]:
    """Return where our time goes, one step after the other: share of the seconds of all cores.

    In a run they overlap: the readers decode, detect and align while the network computes.
    """
    clock = time.perf_counter if ensemble.device.type == "cuda" else time.process_time
    spent, detector, crops = Counter(), Detector(), []
    for path in videos.values():
        found, chosen = [], []
        for detecting in (True, False):  # two passes, as in faces.video_faces
            begun = clock()
            for index, (_, image) in enumerate(pictures(path)):
                spent["decode"] += clock() - begun
                begun = clock()
                if detecting:
                    found.append(detector.detect(image))
                    spent["detection"] += clock() - begun
                elif (face := chosen[index]) >= 0:
                    crops.append(align(image, found[index].landmarks[face]))
                    spent["alignment"] += clock() - begun
                begun = clock()
            chosen = follow_main_face(found)
    (size,) = ensemble.sizes
    for start in range(0, len(crops), 32):
        begun = clock()
        images = torch.from_numpy(np.stack(crops[start : start + 32])).permute(0, 3, 1, 2)
        views = resize(images, size)
        spent["alignment"] += clock() - begun
        begun = clock()
        face_probabilities(ensemble, size, views)
        spent["network"] += clock() - begun
    total = sum(spent.values())
    return {step: f"{seconds / total:.0%}" for step, seconds in spent.items()}

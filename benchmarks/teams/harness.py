"""What the teams' systems share: commands, features of frames, windows of them, a small network.

Features are what the frame network's last layer sees. They are computed once for each row of
frames.py, of every labelled still, every labelled frame in sequence (Aff-Wild2) and every frame of
the challenge's videos, and kept in frames.npz.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.batches.augment import normalise
from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.emotions import ADAPTATION, CHALLENGE, challenge_class
from common.manifest import read_manifest
from common.networks.classifier import load_classifier
from common.script.config import make_parser, parse_arguments
from common.script.files import whole_file, write_csv
from common.splits import hold_out, training_rows
from common.submission.ensemble import variants
from common.submission.files import locate
from common.submission.sources import read_frames

SEQUENCES = "Aff-Wild2"  # the set whose labelled frames are videos
VIEWS = 4  # of an image: as it is, mirrored, moved left, mirrored and moved right
SHIFT = 0.05


def flags_of(row) -> list[str]:
    """Return the flags that name a row's recipe, data, folder and seed."""
    data = row.world.partition(":")[0]
    return [
        *("--config", str(row.config), "--data-dir", data),
        *("--run-dir", str(row.folder), "--seed", str(row.seed)),
    ]


def score(row, *flags: str, smooth: tuple[str, ...] = ("--smooth", "none")) -> list[str]:
    """Return the command of 05 that decides and scores a row, one frame at a time."""
    truth = row.world.partition(":")[0] + "/truth.csv"
    return ["05_predict_submit.py", *flags_of(row), "--truth", truth, *smooth, *flags]


def script(row, name: str, *flags: str) -> list[str]:
    """Return the command of a team's own script."""
    others = ("--frames", str(row.other)) if row.other else ()
    return [f"benchmarks/teams/{name}.py", *flags_of(row)[2:], *others, *flags]


def arguments(description: str) -> argparse.Namespace:
    """Read what `script` gives. frames: the folder of the row that this one builds on."""
    parser = make_parser(description, "data_dir", "run_dir", "seed")
    add = parser.group("data").add_argument
    add("--frames", type=Path, help="folder of the row that this one builds on")
    add("--weigh-pairs", action="store_true", help="of AVCER: its second rule")
    return parse_arguments(parser, "teams")


def network_of(row) -> Path:
    """Return the shared frame network that a row builds on."""
    return Path(row.other) / "single" / "model.safetensors"


def tables_of(row) -> list[str]:
    """Return the tables of sound and of words that a world has beside its truth: the demo none."""
    tables = (Path(row.world.partition(":")[0], name) for name in ("sound.csv", "words.csv"))
    return [str(path) for path in tables if path.is_file()]


@dataclass
class Frames:
    """Images with their features.

    rows: n images with video, frame, labels, kind, part (stills, sequences or challenge) and
    training (bool). features: float32 [n, VIEWS, D]. probabilities: of the frame network, float32
    [n, VIEWS, 8].
    """

    rows: pd.DataFrame
    features: np.ndarray
    probabilities: np.ndarray

    def part(self, name: str, chosen: np.ndarray | bool = True) -> Frames:
        """Return the images of a part, of these the chosen ones (bool [n], of all)."""
        here = (self.rows["part"] == name).to_numpy() & chosen
        return Frames(
            self.rows[here].reset_index(drop=True), self.features[here], self.probabilities[here]
        )


def list_images(prepared: Path) -> pd.DataFrame:
    """Return the rows of Frames: training singles and compounds, sequences, challenge frames."""
    manifest = read_manifest(prepared / "manifest.csv")
    labelled = manifest[manifest.kind != "unlabelled"].astype({"labels": str, "subject": str})
    held = hold_out(manifest)
    training = training_rows(manifest, held)[labelled.index]
    sequence = labelled.dataset == SEQUENCES
    stills = labelled.assign(training=training, video="", frame=0, part="stills")
    stills.loc[sequence, "part"] = "sequences"
    stills.loc[sequence, "video"] = labelled.subject[sequence]
    number = labelled.image.str.extract(r"(\d+)\.\w+$")[0].fillna(0).astype(int)
    stills.loc[sequence, "frame"] = number[sequence]
    stills = stills[sequence | training]
    faces = read_frames(prepared).query("image != ''")
    faces = faces.assign(labels="", kind="", training=False, part="challenge")
    columns = ["image", "video", "frame", "labels", "kind", "part", "training"]
    return pd.concat([stills[columns], faces[columns]], ignore_index=True)


@torch.inference_mode()
def read_images(
    checkpoint: Path, prepared: Path, images: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 [n, VIEWS, D], and probabilities [n, VIEWS, C] of images."""
    network, settings = load_classifier(checkpoint)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    store, features, answers = ImageStore(prepared, images), [], []
    for _, pixels, _ in evaluation_batches(store, settings["image_size"], 128, 0):
        faces = normalise(pixels, settings["mean"], settings["std"])
        [[plain, moved, *_], [mirrored, _, other, *_]] = variants(faces, True, SHIFT)
        logits = network(torch.cat([plain, mirrored, moved, other])).float()
        answers.append(_by_view(logits.softmax(1) if logits.shape[1] == 8 else logits.sigmoid()))
        features.append(_by_view(seen.pop()))
    return np.concatenate(features), np.concatenate(answers)


def _by_view(values: torch.Tensor) -> np.ndarray:
    """[VIEWS * b, C] → [b, VIEWS, C]."""
    return values.reshape(VIEWS, -1, values.shape[1]).transpose(0, 1).numpy()


def load_frames(prepared: Path, made: Path) -> Frames:
    """Return the images of a prepared folder with the features that frames.py has kept."""
    with np.load(made, allow_pickle=False) as kept:
        return Frames(list_images(prepared), kept["features"], kept["probabilities"])


def save_frames(prepared: Path, checkpoint: Path, made: Path) -> None:
    """Write frames.npz: features and probabilities of all of list_images."""
    features, probabilities = read_images(checkpoint, prepared, list_images(prepared)["image"])
    with whole_file(made) as file:
        np.savez(file, features=features, probabilities=probabilities)


def windows(
    frames: Frames, offsets: np.ndarray, random: np.random.Generator | None = None
) -> np.ndarray:
    """Return the images around each image, as rows of frames and views: int64 [n, *offsets, 2].

    offsets: int, in frames. In a sequence these are the nearest frames of its video, all in one
    view. A still is taken for a video that does not move: every one of its frames is one of its
    views, drawn at random. random: None for the first view throughout.
    """
    count, found = len(frames.rows), np.zeros((len(frames.rows), *offsets.shape, 2), dtype=np.int64)
    view = random.integers(0, VIEWS, count) if random else np.zeros(count, dtype=np.int64)
    found[..., 1] = view.reshape(-1, *[1] * offsets.ndim)
    found[..., 0] = np.arange(count).reshape(-1, *[1] * offsets.ndim)
    still = (frames.rows["part"] == "stills").to_numpy()
    if random:
        found[still, ..., 1] = random.integers(0, VIEWS, (still.sum(), *offsets.shape))
    for _, rows in frames.rows[~still].groupby("video").indices.items():
        places = np.flatnonzero(~still)[rows]
        numbers = frames.rows["frame"].to_numpy()[places]
        order = np.argsort(numbers)
        wanted = numbers[:, None] + offsets.reshape(1, -1)
        after = np.searchsorted(numbers[order], wanted).clip(1, max(1, len(order) - 1))
        before = numbers[order][after - 1]
        later = numbers[order][np.minimum(after, len(order) - 1)]
        nearest = np.where(wanted - before < later - wanted, after - 1, after)
        nearest = nearest.clip(0, len(order) - 1)
        found[places, ..., 0] = places[order][nearest].reshape(-1, *offsets.shape)
    return found


def joined(*parts: Frames) -> Frames:
    """Return several Frames as one."""
    return Frames(
        pd.concat([part.rows for part in parts], ignore_index=True),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def fit(
    network: nn.Module,
    frames: Frames,
    offsets: np.ndarray,
    loss: Callable[[torch.Tensor, np.ndarray], torch.Tensor],
    epochs: int,
    seed: int,
    rate: float = 2e-3,
    batch: int = 32,
) -> None:
    """Train a network on windows of features: [b, *offsets, D] → what `loss` takes.

    loss: of the output and the rows of `frames` that it is for. AdamW, the rate falls to 0.
    """
    random = np.random.default_rng(seed)
    steps = epochs * -(-len(frames.rows) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        around = windows(frames, offsets, random)
        for chosen in np.array_split(random.permutation(len(around)), steps // epochs):
            output = network(_look_up(frames, around[chosen]))
            optimizer.zero_grad()
            loss(output, chosen).backward()
            optimizer.step()
            schedule.step()
    network.eval()


@torch.inference_mode()
def answers(network: nn.Module, frames: Frames, offsets: np.ndarray) -> np.ndarray:
    """Return a network's output for each image, its mean over the image and its mirror: [n, C]."""
    around, found = windows(frames, offsets), []
    for view in (0, 1):
        around[..., 1] = view
        parts = np.array_split(around, max(1, len(around) // 256))
        found.append(torch.cat([network(_look_up(frames, part)) for part in parts]).numpy())
    return np.mean(found, axis=0)


def _look_up(frames: Frames, around: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames.features[around[..., 0], around[..., 1]])


def classes_of(frames: Frames, names: Sequence[str]) -> np.ndarray:
    """Return the class of each image among ADAPTATION's names or CHALLENGE, int64 [n], else -1."""
    if names is CHALLENGE:
        return frames.rows["labels"].map(challenge_class).to_numpy(np.int64, copy=True)
    known = {name: number for number, name in enumerate(ADAPTATION)}
    return frames.rows["labels"].map(known).fillna(-1).to_numpy(np.int64, copy=True)


def write_table(path: Path, frames: Frames, names: Sequence[str], values: np.ndarray) -> None:
    """Write probabilities, [n, C], as a table for 05 --fuse."""
    places = map(locate, frames.rows["video"], frames.rows["frame"])
    table = pd.DataFrame({"image_location": list(places)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, table.assign(**dict(zip(names, values.T, strict=True))), "%.6f")

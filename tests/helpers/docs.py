"""The documents' blocks of code, and a small world in which their commands run."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
from helpers.drawn import scene, write_video
from helpers.running import ROOT
from PIL import Image

from common.emotions import BASIC, RAF11, parse_labels
from common.networks.classifier import create_encoder
from common.submission.files import HEADER

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SCRIPTS = sorted(path.name for path in ROOT.glob("0*.py"))
# A block of code, indented by four or between fences, and perhaps the mark that it is to be run.
BLOCK = re.compile(
    r"(?P<mark>^<!-- run(?P<slow>: slow)? -->\n)?"
    r"(?:^```(?P<kind>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^    [^\n]+\n|^\n(?=    ))+))",
    re.MULTILINE | re.DOTALL,
)
FRAMES = 6  # of each video
VAL = ["91", "92"]  # videos to tune on
# Clips and labels of MAFW by list; one is none of the seven compounds.
MAFW = {
    "train.txt": {"00001": "anger"},
    "test.txt": {"00002": "anger_surprise", "00003": "fear_sadness", "00004": "anger_anxiety"},
}
# In place of configs/paper.toml: the same scripts, images of 16 pixels, an epoch of each.
OPTIONS = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
RECIPE = f"""
[common]
model = "vit_tiny_patch16_224"
image_size = 16
global_batch = 24
batch_size = 24
workers = 0
mixed_precision = "no"
[common.model_options]
{textwrap.dedent("".join(f"{name} = {value}" + chr(10) for name, value in OPTIONS.items()))}
[pretrain_mae]
epochs = 1
warmup_epochs = 0
decoder_dim = 16
decoder_depth = 1
decoder_heads = 2
[finetune_single]
epochs = 1
[curriculum]
stage_epochs = [1, 1]
compound_shares = [0.0, 0.5]
"""


class Block(NamedTuple):
    """A block of code of a page. marked: by `<!-- run -->`; slow: by `<!-- run: slow -->`."""

    page: str
    line: int
    text: str
    python: bool
    marked: bool
    slow: bool

    def commands(self) -> list[list[str]]:
        """Return the words of each command of a shell block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of code of a page."""
    text = page.read_text(encoding="utf-8") + "\n"
    blocks = [
        Block(
            page.name,
            text[: found.start()].count("\n") + 1,
            textwrap.dedent(found["fenced"] or found["indented"]),
            python=found["kind"] == "python",
            marked=found["mark"] is not None,
            slow=found["slow"] is not None,
        )
        for found in BLOCK.finditer(text)
    ]
    marks = re.findall(r"^<!-- run", text, re.MULTILINE)
    assert len(marks) == sum(block.marked for block in blocks), page
    return blocks


def make_world(folder: Path) -> Path:
    """Write scripts, recipe, raw data, videos, lists and weights, as the commands name them."""
    folder.mkdir()
    for name in SCRIPTS:
        (folder / name).symlink_to(ROOT / name)
    (folder / "configs").mkdir()
    (folder / "configs" / "paper.toml").write_text(RECIPE)
    random, raw = np.random.default_rng(0), folder / "data" / "raw"
    write_set(raw / "RAF-DB" / "basic", BASIC, 48, random)
    write_set(raw / "RAF-DB" / "compound", RAF11, 44, random)
    for clips, videos in (("clips", ["01"]), ("data/raw/C-EXPR-DB", ["01"]), ("val/clips", VAL)):
        (folder / clips).mkdir(parents=True)
        for video in videos:
            pictures = [scene((90 + 4 * i, 120, 90)) for i in range(FRAMES)]
            write_video(folder / clips / f"{video}.mp4", pictures)
    mafw = raw / "MAFW" / "data" / "clips"
    lists = raw / "MAFW" / "Train & Test Set" / "compound" / "no_caption" / "set_1"
    mafw.mkdir(parents=True), lists.mkdir(parents=True)
    for listing, clips in MAFW.items():
        (lists / listing).write_text("".join(f"{n}.mp4 {x}\r\n" for n, x in clips.items()))
        for clip in clips:
            write_video(mafw / f"{clip}.mp4", [scene((90 + 4 * i, 120, 90)) for i in range(8)])
    frames = frames_of(["01"])
    for name in (folder / "CER.txt", raw / "C-EXPR-DB" / "CER.txt"):
        name.write_text("\n".join([HEADER, *(f"{frame}," for frame in frames), ""]))
    (folder / "theirs.txt").write_text("\n".join([HEADER, *(f"{f},3" for f in frames), ""]))
    truth = ["image_location,label", *(f"{f},{i // 3}" for i, f in enumerate(frames_of(VAL))), ""]
    (folder / "val" / "truth.csv").write_text("\n".join(truth))
    Image.fromarray(scene((160, 120, 120))).save(folder / "photograph.jpg")
    encoder = create_encoder("vit_tiny_patch16_224", 16, OPTIONS)
    weights = folder / "mae_face_pretrain_vit_base.pth"  # the format is told by the content
    safetensors.torch.save_file(encoder.state_dict(), weights)
    return folder


def frames_of(videos: list[str]) -> list[str]:
    """Return the frames of videos as a list names them."""
    return [f"{video}/{frame:05d}.jpg" for video in videos for frame in range(1, FRAMES + 1)]


def write_set(folder: Path, names: tuple[str, ...], count: int, random: np.random.Generator):
    """Write a part of RAF-DB: squares whose colours are those of their expressions."""
    images = folder / "Image" / "aligned"
    images.mkdir(parents=True)
    (folder / "EmoLabel").mkdir()
    lines = []
    for number in range(count):
        label = number % len(names)
        name = f"{'test' if number % 4 == 0 else 'train'}_{number:05d}"
        pixels = random.integers(0, 90, (20, 20, 3))
        for emotion in map(BASIC.index, parse_labels(names[label])):
            pixels[10 * (emotion // 3) :, :, emotion % 3] += 120
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / f"{name}_aligned.jpg")
        lines.append(f"{name}.jpg {label + 1}\n")
    (folder / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines))

#!/usr/bin/env python3
"""Draw the pictures of the README and of docs/, most of them from a finished `make demo`.

road.png        faces, masked and rebuilt (02), single expressions (03), compounds (04), a clip (05)
mixing.png      compounds generated as in the paper, and after action units
compounds.png   the runs of docs/paper_tables.csv: what compounds bring
ferplus.png     the runs of docs/ferplus.csv on real faces, beside two other networks
curriculum.png  04's score by epoch over the share of compounds

Examples
  python benchmarks/pictures.py
  python benchmarks/pictures.py --only road mixing --out pictures
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.charts import (
    DPI,
    FONT,
    draw_compounds,
    draw_curriculum,
    draw_ferplus,
    drawn,
    save,
)
from common.batches.augment import mix_pairs, normalise, to_float
from common.batches.batch import BOX, FACS, MIXUP
from common.emotions import BASIC, CHALLENGE, UPPER_OVER_LOWER
from common.manifest import read_manifest
from common.networks.classifier import create_encoder
from common.networks.formats import read_tensors
from common.networks.mae import MaskedAutoencoder
from common.pictures import INK, new_figure
from common.script.files import UserError
from common.script.main import run_script
from common.submission.report import CODES, FILLS, INKS

ROOT = Path(__file__).resolve().parents[1]
# What a mixed image has of its first: Mixup's weight, a box of half the area, the seam's height.
EXTENTS = {MIXUP: 0.1, BOX: 0.5, FACS: 0.48}
# A clip with two expressions, frames without a face, and a mistake.
CLIP = "21"
SHOWN = ("Happily_Surprised", "Sadly_Angry", "Fearfully_Surprised")


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "demo", help="of the demo")
    parser.add_argument("--run-dir", type=Path, default=ROOT / "runs" / "demo", help="of the demo")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder")
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    args = parser.parse_args()
    drawn_from_demo = set(args.only) - {"compounds", "ferplus"}
    if drawn_from_demo and not (args.run_dir / "submission" / "report.html").exists():
        raise UserError(f"There is no finished demo in {args.run_dir}; run `make demo` first.")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        PICTURES[name](args, args.out / f"{name}.png")
        print(args.out / f"{name}.png")


class Faces:
    """The demo's faces with single expressions, by emotion and number."""

    def __init__(self, data_dir: Path):
        self.folder = data_dir / "prepared"
        table = read_manifest(self.folder / "manifest.csv")
        self.table = table[(table.dataset == "RAF-DB-basic") & (table.split == "train")]

    def __call__(self, emotion: int, number: int) -> np.ndarray:
        """Return a face, uint8 [100, 100, 3]. emotion: of BASIC."""
        names = self.table.image[self.table.labels == BASIC[emotion]]
        return np.asarray(Image.open(self.folder / names.iloc[number]).convert("RGB"))


def draw_road(args: argparse.Namespace, path: Path) -> None:
    """Draw a section for each script from 02 to 05."""
    faces = Faces(args.data_dir)
    figure, axis = canvas(8.0, 8.1)
    heading(axis, 0.3, "02  Hide 75 % of a face, rebuild it")
    rows = rebuild(args.run_dir / "mae", np.stack([faces(i % 6, 3 + i) for i in range(9)]))
    for row, name in enumerate(("face", "hidden", "rebuilt")):
        write(axis, 0.1, 0.85 + 0.76 * row, name)
        for column, image in enumerate(rows[row]):
            put(axis, image, 1.0 + 0.76 * column, 0.46 + 0.76 * row, 0.73)
    heading(axis, 3.0, "03  Learn six single expressions")
    for emotion, name in enumerate(BASIC):
        put(axis, faces(emotion, 12), 0.1 + 1.3 * emotion, 3.16, 1.0)
        write(axis, 0.6 + 1.3 * emotion, 4.28, name, ha="center")
    heading(axis, 4.66, "04  Compounds: natural ones, and generated ones")
    for column, name in enumerate(SHOWN[:2]):
        x = 0.1 + 4.0 * column
        first, second = UPPER_OVER_LOWER[CHALLENGE.index(name)]
        pair = faces(first, 8), faces(second, 9)
        for place, image in enumerate((*pair, mix(*pair, BOX))):
            put(axis, image, x + 1.28 * place, 4.82, 1.0)
            if place:
                write(axis, x + 1.28 * place - 0.14, 5.32, "+="[place - 1], ha="center")
        label = f"{BASIC[first]} + {BASIC[second]} = {name.replace('_', ' ')}"
        write(axis, x, 5.94, label, fontsize=FONT - 1.5)
    heading(axis, 6.34, "05  Each frame of a clip")
    draw_clip(axis, args, top=6.5)
    save(drawn(figure), path)


def draw_clip(axis, args: argparse.Namespace, top: float) -> None:
    """Draw frames of the clip, and its decisions in time above the truth."""
    table = pd.read_csv(args.run_dir / "submission" / "probabilities.csv")
    truth = pd.read_csv(args.data_dir / "truth.csv").set_index("image_location")["label"]
    clip = table[table.image_location.str.startswith(f"{CLIP}/")]
    true = clip.image_location.map(truth).to_numpy()
    left, width = 1.3, 6.6 / len(clip)  # of a frame
    with_face = np.flatnonzero(clip.face.to_numpy())
    for place in np.linspace(1, len(clip) - 2, 8):
        row = with_face[np.abs(with_face - place).argmin()]
        crop = args.data_dir / "prepared" / "crops" / clip.image_location.iloc[row]
        put(axis, np.asarray(Image.open(crop)), left + width * place - 0.4, top, 0.78)
    for row, (name, classes) in enumerate((("predicted", clip.decision), ("truth", true))):
        y = top + 0.85 + 0.34 * row
        write(axis, 0.1, y + 0.15, name)
        classes = np.asarray(classes)
        edges = np.flatnonzero(np.diff(classes, prepend=-1, append=-1))
        for start, end in pairwise(edges):
            number, x = classes[start], left + width * start
            span = width * (end - start)
            axis.fill_between([x, x + span], y, y + 0.3, color=FILLS[number], linewidth=0)
            name = CHALLENGE[number].replace("_", " ")
            name = name if span > 2 else CODES[number] if span > 0.3 else ""
            write(axis, x + span / 2, y + 0.15, name, ha="center", color=INKS[number])


def draw_mixing(args: argparse.Namespace, path: Path) -> None:
    """Draw a row a compound: its two faces, and what each way of mixing makes of them."""
    faces = Faces(args.data_dir)
    figure, axis = canvas(8.0, 4.6)
    titles = ("two single expressions", "Mixup\ndefault", "CutMix, box\ndefault", "facs\noption")
    for x, text in zip((2.56, 4.66, 5.96, 7.26), titles, strict=True):
        write(axis, x, 0.35, text, ha="center")
    for row, name in enumerate(SHOWN):
        first, second = UPPER_OVER_LOWER[CHALLENGE.index(name)]
        pair, y = (faces(first, 20 + row), faces(second, 30 + row)), 0.7 + 1.3 * row
        write(axis, 0.1, y + 0.62, name.replace("_", "\n"))
        images = (*pair, *(mix(*pair, form) for form in (MIXUP, BOX, FACS)))
        for x, image in zip((1.3, 2.6, 4.05, 5.35, 6.65), images, strict=True):
            put(axis, image, x, y, 1.22)
    save(drawn(figure), path)


def rebuild(folder: Path, images: np.ndarray) -> np.ndarray:
    """Return faces as they are, masked, and rebuilt by 02's network: uint8 [3, n, S, S, 3]."""
    settings = json.loads((folder / "run.json").read_text())["settings"]
    side = settings["image_size"]
    encoder = create_encoder(settings["model"], side, settings["model_options"])
    names = ("mask_ratio", "decoder_dim", "decoder_depth", "decoder_heads", "norm_pix_loss")
    model = MaskedAutoencoder(encoder, **{name: settings[name] for name in names}).eval()
    model.load_state_dict(read_tensors(folder / "autoencoder.safetensors")[0])
    small = np.stack([Image.fromarray(image).resize((side, side)) for image in images])
    pixels = normalise(tensor(small), settings["mean"], settings["std"])
    noise = torch.rand((len(images), model.patches), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rows = torch.stack([pixels, *model.rebuild(pixels, noise)])  # [3, n, 3, S, S]
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    rows = (rows * std + mean).clamp(0, 1)
    return (255 * rows).byte().permute(0, 1, 3, 4, 2).numpy()


def mix(first: np.ndarray, second: np.ndarray, form: int) -> np.ndarray:
    """Mix two faces, uint8 [H, W, 3], as 04 does. form: MIXUP, BOX or FACS."""
    mixed = mix_pairs(
        to_float(tensor(first[None])),
        to_float(tensor(second[None])),
        rows=torch.zeros(1, dtype=torch.int64),
        form=torch.tensor([form], dtype=torch.uint8),
        extent=torch.tensor([EXTENTS[form]]),
        window=torch.tensor([[0.0, 1.0]]),
        uniform=torch.tensor([[0.5, 0.9]]),  # the box lies low in the middle
        any_facs=form == FACS,
    )
    return (255 * mixed[0]).byte().permute(1, 2, 0).numpy()


def tensor(images: np.ndarray) -> torch.Tensor:
    """Turn uint8 [n, H, W, 3] into uint8 [n, 3, H, W]."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)


def canvas(width: float, height: float):
    """Return a figure and one axis over all of it, in inches from the top left."""
    figure, (axis,) = new_figure(width, height, 1)
    figure.set_dpi(DPI)
    figure.set_layout_engine("none")
    axis.set_position((0, 0, 1, 1))
    axis.set_axis_off()
    return figure, axis


def put(axis, image: np.ndarray, x: float, y: float, side: float) -> None:
    """Show an image with its top left corner at x, y."""
    axis.imshow(image, extent=(x, x + side, y + side, y), interpolation="antialiased")
    width, height = axis.figure.get_size_inches()
    axis.set(xlim=(0, width), ylim=(height, 0))


def write(axis, x: float, y: float, text: str, **how) -> None:
    """Write at x, the middle of its height at y."""
    axis.text(x, y, text, **{"fontsize": FONT, "color": INK, "va": "center"} | how)


def heading(axis, y: float, text: str) -> None:
    """Write the title of a section."""
    write(axis, 0.1, y, text, fontsize=FONT + 1, fontweight="bold")


PICTURES = {
    "road": draw_road,
    "mixing": draw_mixing,
    "compounds": draw_compounds,
    "curriculum": draw_curriculum,
    "ferplus": draw_ferplus,
}

if __name__ == "__main__":
    run_script(main)

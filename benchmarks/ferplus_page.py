"""A page about a run on FER+: scores, confusion, faces most and least sure, compounds.

One HTML file that opens offline, without scripts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, StrictUndefined

from common import pictures
from common.batches.curriculum import PAIRS, Mixing
from common.batches.examples import draw_examples
from common.batches.images import ImageStore, resize
from common.batches.targets import Stock, singles
from common.emotions import ADAPTATION, BASIC, CHALLENGE, challenge_class, compound_scores, label_of
from common.manifest import VOTES
from common.metrics import confusion
from common.script.files import whole_file
from common.splits import hold_out, training_rows

TEMPLATE = Path(__file__).with_suffix(".html")
SHOWN = 14  # faces of a gallery: seven in a row
NATURAL = 12  # real compounds of a class
GENERATORS = {
    "upper over lower face, after action units (facs)": Mixing(mixes=("cutmix",), cutmix="facs"),
    "Mixup, a tenth of the first image": Mixing(mixes=("mixup",)),
    "CutMix": Mixing(mixes=("cutmix",)),
}


def write_page(
    path: Path,
    table: list[list[str]],
    notes: list[str],
    name: str,
    rows: pd.DataFrame,
    found: np.ndarray,
    manifest: pd.DataFrame,
    settings: dict,
    root: Path,
) -> None:
    """Write the page.

    table: cells of the scores, the first row a header. notes: lines below it. name: of the run that
    the pictures are of. rows, found: the images it was judged by and its probabilities, [n, 8], of
    six logits with NaN. manifest: all images. settings: of the run. root: folder of the images.
    """
    labels = rows.labels.astype(str)
    seven = labels.map(challenge_class).to_numpy()
    names = BASIC if np.isnan(found).any() else ADAPTATION
    single = labels.isin(names).to_numpy()
    eight = np.array([names.index(label) for label in labels[single]], dtype=np.int64)
    compound = seven >= 0
    scores = compound_scores(found[compound][:, : len(BASIC)])
    content = {
        "title": "FER+: singles and compounds",
        "table": table,
        "notes": notes,
        "name": name,
        "parts": [
            _part("Compounds", rows[compound], seven[compound], scores, CHALLENGE, root),
            _part(
                "Single expressions",
                rows[single],
                eight,
                found[single][:, : len(names)],
                names,
                root,
            ),
        ],
        "sheets": _sheets(manifest, settings, root),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)
    with whole_file(path, "w") as file:
        file.write(page)


def _part(
    title: str,
    rows: pd.DataFrame,
    truth: np.ndarray,
    scores: np.ndarray,
    names: tuple[str, ...],
    root: Path,
) -> dict:
    """Return the confusion and the galleries of one kind of expression. scores: [n, C]."""
    answer, ordered = scores.argmax(1), np.sort(scores, axis=1)
    top, margin = ordered[:, -1], ordered[:, -1] - ordered[:, -2]
    right, order = answer == truth, np.argsort(-top, kind="stable")
    each = -(-SHOWN // len(names))
    surest = [
        row for c in range(len(names)) for row in order[(right & (answer == c))[order]][:each]
    ]
    chosen = {
        "Surest, and right": surest,
        "Surest, and wrong": order[~right[order]][:SHOWN],
        "Least sure": np.argsort(margin, kind="stable")[:SHOWN],
    }
    matrix = confusion(truth, answer, len(names))
    return {
        "title": f"{title} ({len(rows):,} images)",
        "confusion": _picture(lambda path: pictures.save_confusion(path, matrix, names, title)),
        "galleries": [
            {
                "title": heading,
                "faces": [
                    {
                        "picture": pictures.thumbnail(root / rows.image.iloc[row]),
                        "answer": names[answer[row]].replace("_", " "),
                        "truth": names[truth[row]].replace("_", " "),
                        "wrong": not right[row],
                        "score": f"{top[row]:.2f}",
                        "votes": _votes_of(rows.iloc[row]),
                    }
                    for row in places
                ],
            }
            for heading, places in chosen.items()
        ],
    }


def _votes_of(row: pd.Series) -> str:
    """Return an image's votes as people read them, such as `Fear 6, Surprise 4`."""
    counts = zip(ADAPTATION, str(row.get(VOTES, "")).split(), strict=False)
    given = sorted(((float(count), name) for name, count in counts if float(count)), reverse=True)
    return ", ".join(f"{name} {count:g}" for count, name in given)


def _sheets(manifest: pd.DataFrame, settings: dict, root: Path) -> list[dict]:
    """Return contact sheets of compounds to train on: real ones, and each generator's."""
    settings = {**settings, "order": "label"}
    training = training_rows(manifest, hold_out(manifest))
    store, side = ImageStore(root, manifest.image), settings["image_size"]
    natural = {}
    for name, pair in PAIRS["challenge7"].items():
        rows = np.flatnonzero(training & (manifest.labels == label_of(pair)))
        read = [store.read(row) for row in np.random.default_rng(0).permutation(rows)[:NATURAL]]
        faces = [resize(image, side) for image in read if image is not None]
        if faces:
            natural[f"{name} ({len(rows)})"] = torch.stack(faces)[:, None]
    sheets = {}
    if natural:
        sheets["People's votes make these compounds (with their numbers)"] = natural
    shown = singles(manifest, settings["loss"]) | (manifest.kind == "compound")
    stock = Stock.of(manifest, training & shown, settings)
    for title, mixing in GENERATORS.items():
        generated = replace(mixing, natural_share=0.0)
        if examples := draw_examples(store, stock, generated, settings):
            sheets[f"Generated by {title}: two images, and the compound made of them"] = examples
    return [
        {"title": title, "picture": _picture(lambda path, e=e: pictures.save_examples(path, e))}
        for title, e in sheets.items()
    ]


def _picture(save: Callable[[Path], None]) -> str:
    """Return what `save` writes to a PNG as a data URL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        save(path)
        return pictures.data_url(path.read_bytes(), "png")

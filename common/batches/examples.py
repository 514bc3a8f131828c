"""Generated compounds beside the images they are made of, for a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common import pictures
from common.batches.augment import augment
from common.batches.batch import RANDOMS
from common.batches.curriculum import PAIRS, Mixing, Stock, draw_epoch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import training_passes


def save_examples(
    path: Path, store: ImageStore, stock: Stock, mixing: Mixing, settings: dict
) -> None:
    """Draw generated compounds of every class into a PNG, where 04 generates any."""
    if examples := draw_examples(store, stock, mixing, settings):
        title = "Generated compounds: first image, second image, what the network sees"
        pictures.save_examples(path, examples, title)


def draw_examples(
    store: ImageStore, stock: Stock, mixing: Mixing, settings: dict, each: int = 4
) -> dict[str, torch.Tensor]:
    """Generate `each` compounds of every class as 04 does, without cutout, for a picture.

    Returns, by class, uint8 [each, 3, 3, S, S]: the first image, the second, the mixed one; an
    empty dict where 04 generates none.
    """
    if not mixing.mixes or (mixing.natural_share == 1 and len(stock.natural)):
        return {}
    generated = replace(mixing, natural_share=0.0)
    count = each * len(PAIRS[mixing.pairs])
    random = np.random.default_rng(settings["seed"])
    plan, counts = draw_epoch(stock, count, count, generated, random)
    if not counts["generated"]:
        return {}
    geometry = Geometry(settings["image_size"], tuple(settings["crop_area"]))
    passes = training_passes(
        store,
        plan,
        [np.arange(count)],
        geometry,
        randoms=RANDOMS,
        seed=settings["seed"],
        epoch=0,
        workers=0,
    )
    batch = next(passes)
    plain = dict(jitter=settings["jitter"], cutout_probability=0.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    mixed = (255 * augment(batch, **plain)).byte()
    rows = batch.partner_rows
    shown = torch.stack([batch.images[rows], batch.partners, mixed[rows]], dim=1)
    union = np.maximum(stock.shown[plan.first], stock.shown[plan.second])[rows]
    return {
        name: shown[torch.from_numpy(union[:, list(pair)].sum(1) == 2)]
        for name, pair in PAIRS[mixing.pairs].items()
    }

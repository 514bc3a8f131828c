"""The published Vision Transformers in 02 and 04: networks, losses, operations, peaks of cards."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import nn

from common.batches.augment import normalise
from common.batches.batch import BOX, MIXUP, RANDOMS, Batch
from common.emotions import BASIC
from common.networks.classifier import create_classifier, create_encoder
from common.networks.mae import MaskedAutoencoder
from common.script.flags import FACE_MEAN, FACE_STD
from common.training.losses import expression_loss

# Dense bfloat16 products with float32 sums, TFLOP/s, from the makers' data sheets (those that name
# twice as much count zeros that are left out). By a word of the card's name, the longer one first.
PEAKS_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A40": 150,
    "A10": 125,
    "RTX A6000": 155,
    "RTX 4090": 165,
    "RTX 3090": 71,
}

# Settings of 04 that its loss reads: the script's defaults.
SETTINGS = dict(mean=FACE_MEAN, std=FACE_STD, jitter=0.3, cutout=0.5, rotation=0.0, scale=0.0)
SETTINGS |= dict(shift=0.0, loss="bce", label_smoothing=0.0)


def peak_flops(card: str) -> float | None:
    """Return the bfloat16 peak of a card by its name, FLOP/s; None of one that is not listed.

    A part of a card (MIG) has a part of its peak, and is not listed.
    """
    for name, tflops in PEAKS_TFLOPS.items():
        if re.search(rf"\b{name}\b", card) and "MIG" not in card:
            return tflops * 1e12
    return None


def make(
    stage: str, model: str, side: int = 224, options: dict | None = None, **decoder: int
) -> nn.Module:
    """Return the network that a stage trains: `02` an autoencoder, `04` a classifier of six.

    decoder: sizes of the autoencoder's decoder, where it is not the published one.
    """
    if stage == "02":
        return MaskedAutoencoder(create_encoder(model, side, options), **decoder)
    return create_classifier(model, side, options)


def loss_of(stage: str) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """Return the loss of a stage, of each image [b], as its script has it."""
    return expression_loss(SETTINGS) if stage == "04" else _loss_of_02


def _loss_of_02(network: nn.Module, batch: Batch) -> torch.Tensor:
    return network(normalise(batch.images, FACE_MEAN, FACE_STD), batch.uniform)[0]


def randoms_of(stage: str, network: nn.Module) -> int:
    """Return how many random numbers travel with each image."""
    return network.patches if stage == "02" else RANDOMS


def classes_of(stage: str) -> int:
    """Return the number of columns of the targets."""
    return len(BASIC) if stage == "04" else 0


def mixed_batch(count: int, side: int, randoms: int, classes: int) -> Batch:
    """Return random images; with classes, as 04 shows them where all are mixed."""
    mixed = count if classes else 0
    pixels = torch.randint(0, 256, (2, count, 3, side, side), dtype=torch.uint8)
    targets = torch.eye(max(1, classes))[torch.arange(count) % max(1, classes)][:, :classes]
    return Batch(
        images=pixels[0],
        partners=pixels[1, :mixed],
        partner_rows=torch.arange(mixed),
        form=torch.tensor([MIXUP, BOX], dtype=torch.uint8).repeat(count)[:count] * bool(mixed),
        extent=torch.full((count,), 0.5),
        window=torch.tensor([0.0, 1.0]).repeat(count, 1),
        targets=targets,
        uniform=torch.rand(count, randoms),
        valid=torch.ones(count, dtype=torch.bool),
        any_facs=False,
        step_targets=targets,
    )


def forward_flops(network: nn.Module) -> dict[str, float]:
    """Count the operations of a forward pass's matrix products for one image, by part.

    A block of width D on n tokens: 24·n·D² (query, key and value 6, projection 2, MLP 16) and
    4·n²·D of attention; a linear layer 2 · in · out a token. A backward pass takes twice as many.
    """
    if not isinstance(network, MaskedAutoencoder):
        stem = network.patch_embed
        pixels, tokens = 3 * stem.patch_size[0] ** 2, stem.num_patches + network.num_prefix_tokens
        width = network.embed_dim
        return {
            "patch embedding": 2 * stem.num_patches * pixels * width,
            "encoder": _blocks(len(network.blocks), tokens, width),
            "head": 2 * width * network.num_classes,
        }
    encoder, pixels = network.encoder, 3 * network.patch_size**2
    width, narrow = encoder.embed_dim, network.decoder_embed.out_features
    seen = network.visible + network.prefix_tokens
    every = network.patches + network.prefix_tokens
    return {
        "patch embedding": 2 * network.visible * pixels * width,
        "encoder": _blocks(len(encoder.blocks), seen, width),
        "into the decoder": 2 * seen * width * narrow,
        "decoder": _blocks(len(network.decoder_blocks), every, narrow),
        "prediction": 2 * every * narrow * pixels,
    }


def _blocks(depth: int, tokens: int, width: int) -> float:
    return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)


def step_flops(network: nn.Module) -> float:
    """Return the operations of a training step's matrix products for one image."""
    return 3 * sum(forward_flops(network).values())

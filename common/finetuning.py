"""What 03 and 04 share: their flags, the sets they take singles from, input and loss of a batch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from common.augment import augment, normalise
from common.config import fraction, nearest, positive_float
from common.files import UserError

# The encoder is adapted on these; the six logits are trained on all others (paper §3.2, §3.3).
ADAPTATION_SETS = ("AffectNet", "Aff-Wild2")


def add_flags(parser: argparse.ArgumentParser, warmup_epochs: float) -> None:
    """Add the flags of optimiser and augmentation."""
    add = parser.add_argument
    add("--datasets", nargs="+", help="sets of single expressions (default: all labelled ones but "
        f"{' and '.join(ADAPTATION_SETS)})")  # fmt: skip
    add("--lr", type=positive_float, default=1e-5, help="highest learning rate")
    add("--weight-decay", type=fraction, default=0.05, help="of AdamW")
    add("--layer-decay", type=fraction, default=1.0, help="factor of the rate, block by block")
    add("--warmup-epochs", type=float, default=warmup_epochs, help="epochs of rising learning rate")
    add("--drop-path", type=fraction, default=0.0, help="share of skipped blocks in the last block")
    add("--crop-area", type=fraction, nargs=2, default=[0.6, 1.0], help="range of the random crop")
    add("--jitter", type=fraction, default=0.3, help="strength of the colour jitter")
    add("--cutout", type=fraction, default=0.5, help="share of images with a square cut out")


def choose_sets(manifest: pd.DataFrame, names: Sequence[str] | None, flag: str) -> pd.Series:
    """Return the rows of the named sets, bool [n]; of all but ADAPTATION_SETS for None.

    Raises UserError for a name that is not in the manifest: a misspelt set would change the
    experiment unseen.
    """
    if names is None:
        return ~manifest.dataset.isin(ADAPTATION_SETS)
    known = sorted(set(manifest.dataset))
    for name in names:
        if name not in known:
            raise UserError(
                f"{flag} names {name!r}, but prepared are {', '.join(known)}{nearest(name, known)}"
            )
    return manifest.dataset.isin(names)


def model_options(args: argparse.Namespace) -> dict:
    """Return the model's options with the drop rate that training adds."""
    return {**args.model_options, "drop_path_rate": args.drop_path}


def network_input(args: argparse.Namespace, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mix, augment and normalise a batch on the device (paper §3.3, §3.4)."""
    return augment(
        batch,
        jitter=args.jitter,
        cutout_probability=args.cutout,
        mean=args.mean,
        std=args.std,
        mixup_weight=getattr(args, "mixup_weight", 0.0),  # 03 does not mix
    )


def evaluation_input(args: argparse.Namespace) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from uint8 [b, 3, S, S] to the network's input, without augmentation."""
    return lambda images: normalise(images, args.mean, args.std)


def expression_loss(
    args: argparse.Namespace,
) -> Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]:
    """Return the loss of each image, [b]: binary cross-entropy summed over the six (eq. 1)."""

    def loss(network: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = network(network_input(args, batch))
        return functional.binary_cross_entropy_with_logits(
            logits, batch["targets"], reduction="none"
        ).sum(1)

    return loss

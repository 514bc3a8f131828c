"""What 03 and 04 share: the sets they take singles from, input and losses of a batch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from common.augment import augment, normalise
from common.config import nearest
from common.emotions import ADAPTATION_SETS
from common.files import UserError

# Deviation of the noise that balanced MSE assumes of a label (released code).
NOISE = 1.0

# Probability from which an emotion counts as shown: the logits of balanced MSE aim at 0 and 1.
THRESHOLDS = {"bce": 0.5, "bmc": 1 / (1 + math.exp(-0.5))}


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
        batch, jitter=args.jitter, cutout_probability=args.cutout, mean=args.mean, std=args.std
    )


def evaluation_input(args: argparse.Namespace) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from uint8 [b, 3, S, S] to the network's input, without augmentation."""
    return lambda images: normalise(images, args.mean, args.std)


def expression_loss(
    args: argparse.Namespace, prior: np.ndarray | None = None
) -> Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]:
    """Return the loss of each image, [b]: binary cross-entropy summed over the six (eq. 1), or bmc.

    prior: shares of the emotions among the training images, float [6]; then the logits learn what
    the image adds to it (logit adjustment, Menon et al. 2021), with log(p / (1 - p)) for each.
    """
    offset = None if prior is None else torch.from_numpy(log_odds(prior))

    def loss(network: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = network(network_input(args, batch)).float()
        if offset is not None:
            logits = logits + offset.to(logits)
        if args.loss == "bmc":
            return balanced_mse(logits, batch["targets"], batch["step_targets"], NOISE)
        return functional.binary_cross_entropy_with_logits(
            logits, batch["targets"], reduction="none"
        ).sum(1)

    return loss


def log_odds(prior: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)), float32, of shares kept off 0 and 1."""
    share = np.clip(prior, 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share)).astype(np.float32)


def balanced_mse(
    logits: torch.Tensor, targets: torch.Tensor, all_targets: torch.Tensor, noise: float
) -> torch.Tensor:
    """Return the batch-based Monte Carlo balanced MSE of each image, [b] (Ren et al., CVPR 2022).

    -2σ² log(exp(-|z - t|² / 2σ²) / Σ_j exp(-|z - t_j|² / 2σ²)), j over the labels of the whole
    batch, so that frequent labels do not draw every prediction to them. logits, targets: [b, C];
    all_targets: [B, C], of all processes and passes of the step.
    """
    scale = 2 * noise**2
    distances = (logits[:, None] - all_targets[None]).square().sum(2)  # [b, B]
    own = (logits - targets).square().sum(1)
    return own + scale * torch.logsumexp(-distances / scale, dim=1)


def no_better_for(epochs: int | None, first: int = 0) -> Callable[[list[dict]], bool]:
    """Return what tells fit to stop: `epochs` epochs, from epoch `first` on, without a better one.

    With None, never. A score counts as `val_macro_f1`; without validation there is nothing to stop
    by.
    """

    def stop(rows: list[dict]) -> bool:
        scores = [row["val_macro_f1"] for row in rows[first:] if "val_macro_f1" in row]
        return bool(epochs and scores) and len(scores) - 1 - int(np.argmax(scores)) >= epochs

    return stop

"""What 03 and 04 share: the sets they take singles from, input and losses; and a phase of 03."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from common.batches.augment import augment, normalise
from common.batches.batch import RANDOMS, Batch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Plan, in_turn
from common.emotions import ADAPTATION_SETS
from common.script.config import nearest
from common.script.files import UserError
from common.training.evaluation import predict
from common.training.loop import fit
from common.training.optimization import cosine, make_optimizer
from common.training.runs import Run

# Deviation of the noise that balanced MSE assumes of a label (released code).
NOISE = 1.0


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


def network_input(args: argparse.Namespace, batch: Batch) -> torch.Tensor:
    """Mix, augment and normalise a batch on the device (paper §3.3, §3.4)."""
    return augment(
        batch, jitter=args.jitter, cutout_probability=args.cutout, mean=args.mean, std=args.std
    )


def evaluation_input(args: argparse.Namespace) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from uint8 [b, 3, S, S] to the network's input, without augmentation."""
    return lambda images: normalise(images, args.mean, args.std)


def expression_loss(
    args: argparse.Namespace, prior: torch.Tensor | None = None
) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """Return the loss of each image, [b]: binary cross-entropy summed over the six (eq. 1), or bmc.

    prior: of prior_logits, added to the logits.
    """

    def loss(network: nn.Module, batch: Batch) -> torch.Tensor:
        targets = batch.targets
        logits = network(network_input(args, batch)).float()
        if prior is not None:
            logits = logits + prior.to(logits.device)
        if args.loss == "bmc":
            return balanced_mse(logits, targets, batch.step_targets, NOISE)
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)

    return loss


def prior_logits(balance: str, targets: np.ndarray, exclusive: bool = False) -> torch.Tensor:
    """Return what logit adjustment adds to the logits in training, float32 [C]; else zeros.

    targets: [n, C], labels of the training images. With their frequencies added, the network learns
    what the image says beside them, and decides without them (Menon et al. 2021): the logarithm of
    a class's share where classes are exclusive, that of its odds where each has its own sigmoid.
    """
    share = torch.from_numpy(targets.mean(0)).float().clamp(1e-6, 1 - 1e-6)
    if balance != "logit-adjustment":
        return torch.zeros_like(share)
    return share.log() if exclusive else share.logit()


def draw_order(
    rows: np.ndarray, classes: np.ndarray, balance: str, random: np.random.Generator
) -> np.ndarray:
    """Return the order in which an epoch shows the images `rows`, as many as they are.

    classes: [len(rows)]. `sampling`: every class equally often, its images in turn; else each image
    once.
    """
    if balance != "sampling":
        return random.permutation(rows)
    pools = [rows[classes == label] for label in np.unique(classes)]
    # What does not divide evenly falls to classes drawn anew each epoch.
    quota = len(rows) // len(pools) + (random.permutation(len(pools)) < len(rows) % len(pools))
    drawn = [in_turn(pool, number, random) for pool, number in zip(pools, quota, strict=True)]
    return random.permutation(np.concatenate(drawn))


def fit_phase(
    run: Run,
    args: argparse.Namespace,
    network: nn.Module,
    images: Sequence[str],
    targets: np.ndarray,
    training: np.ndarray,
    held: np.ndarray,
    *,
    name: str,
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    score: Callable[[np.ndarray], float],
    epochs: int,
    rate: float,
    keep: Callable[[], None] | None = None,
) -> tuple[pd.DataFrame, Callable[[], np.ndarray]]:
    """Fit a phase of 03, validating after each epoch; return its table and its validation.

    images: names below prepared/. targets: [n, C]. training, held: bool [n]. score(logits of the
    held ones): the validation figure, whose best epoch `keep` stores. The validation is a function
    that returns those logits.
    """
    network.to(run.accelerator.device)
    store = ImageStore(args.data_dir / "prepared", images)
    training, checking = np.flatnonzero(training), np.flatnonzero(held)
    run.say(
        f"{name}: {len(training):,} images on {run.hardware} ({len(checking):,} held out for "
        "validation)"
    )
    steps = -(-len(training) // args.global_batch)  # an epoch
    classes = targets[training].argmax(1)

    def plan(epoch: int) -> Plan:
        random = np.random.default_rng([args.seed, epoch])
        order = draw_order(training, classes, args.balance, random)
        return Plan(order, targets[order])

    def validation() -> np.ndarray:
        return predict(run, network, store, checking, targets.shape[1], evaluation_input(args))

    def validate(_: int) -> dict:
        return {"val_macro_f1": score(validation())} if len(checking) else {}

    table = fit(
        run,
        network,
        store,
        name=name,
        epochs=epochs,
        plan=plan,
        loss=loss,
        geometry=Geometry(args.image_size, crop_area=tuple(args.crop_area)),
        randoms=RANDOMS,
        optimizer=make_optimizer(network, rate, args.weight_decay, args.layer_decay),
        schedule=cosine(epochs * steps, round(args.warmup_epochs * steps)),
        validate=validate,
        best="val_macro_f1" if keep else None,
        keep=keep,
        stop_early=no_better_for(args.early_stop),
    )
    return table, validation


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

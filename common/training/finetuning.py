"""What 03 and 04 share: data sets, network, and how they train and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from common import pictures
from common.batches.augment import normalise
from common.batches.batch import RANDOMS, RANDOMS_WITH_AFFINE, Batch
from common.batches.images import Geometry, ImageStore
from common.batches.loading import Plan, in_even_turn
from common.emotions import ADAPTATION, ADAPTATION_SETS, BASIC
from common.networks.classifier import start_classifier
from common.networks.fitting import head_names
from common.networks.recognition import has_fixed_scales, settle
from common.networks.weights import flags_of, settings_beside
from common.script.config import nearest
from common.script.files import UserError
from common.splits import held_back
from common.training.evaluation import predict, prediction_table, save_validation
from common.training.experiment import Experiment
from common.training.folds import Split
from common.training.loop import fit
from common.training.losses import LOSSES
from common.training.optimization import SCHEDULES, freeze, make_optimizer
from common.training.runs import Run


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
                f"{flag} names {name!r}, which is none of {', '.join(known)}{nearest(name, known)}"
            )
    return manifest.dataset.isin(names)


def make_classifier(
    run: Run, init: str, classes: int = len(BASIC), keep_head: bool = False
) -> nn.Module:
    """Return the classifier of a run's settings on its device.

    init: file of weights to start from, `timm:NAME` or `none`. keep_head: take its head too.
    """
    settings = run.settings
    options = dict(settings["model_options"])
    if settings["drop_path"]:  # some families have no stochastic depth
        options["drop_path_rate"] = settings["drop_path"]
    shape = settings["model"], settings["image_size"], options
    try:
        network, report = start_classifier(*shape, init, classes, keep_head)
    except UserError as error:
        if not (flags := flags_of(init, settings)):
            raise
        raise UserError(f"{error} They were trained with {flags}.") from None
    if report:
        run.say(str(report))
        run.notes.setdefault("weights", []).append(report.record())
        if keep_head and not settings_beside(Path(init)):  # nothing says what its classes are
            names = ", ".join(ADAPTATION if classes == len(ADAPTATION) else BASIC)
            run.say(f"head: its classes are taken to be {names}, in this order")
    if frozen := freeze(network, settings["freeze"], head_parameters(network)):
        run.say(f"frozen: {frozen:,} weights")
    return network.to(run.accelerator.device)


def head_parameters(network: nn.Module) -> list[str]:
    """Return the names of the parameters of a classifier's head."""
    heads = head_names(network)
    return [name for name, _ in network.named_parameters() if name.startswith(heads)]


def predict_logits(run: Run, network: nn.Module, store: ImageStore) -> np.ndarray:
    """Return the logits of a store's images, without augmentation: float32 [n, C]."""
    mean, std = run.settings["mean"], run.settings["std"]
    return predict(
        run, network, store, network.num_classes, lambda images: normalise(images, mean, std)
    )


def evaluate(run: Run, network: nn.Module, held_out: pd.DataFrame, names: Sequence[str]) -> None:
    """Predict held-out rows; write validation.csv, report.json and confusion.png; print the scores.

    names: CHALLENGE or BASIC, see evaluation.score_predictions.
    """
    logits = predict_logits(run, network, run.images(held_out))
    if run.main:
        save_validation(
            run.folder / "validation.csv",
            prediction_table(held_out, logits),
            names,
            threshold=LOSSES[run.settings["loss"]].threshold,
            settings=run.settings,
            say=run.say,
        )


def save_curves(run: Run, epochs: pd.DataFrame, title: str) -> None:
    """Draw the loss and the validation score of every epoch into curves.png."""
    if run.main:
        names = [name for name in ("loss", "val_macro_f1") if name in epochs]
        pictures.save_curves(run.folder / "curves.png", epochs, names, title)


def draw_order(
    rows: np.ndarray, classes: np.ndarray, balance: str, random: np.random.Generator
) -> np.ndarray:
    """Return the order in which an epoch shows the images `rows`, as many as there are.

    classes: [len(rows)]. balance: `sampling` shows every class equally often, its images in turn;
    otherwise each image is shown once.
    """
    if balance != "sampling":
        return random.permutation(rows)
    pools = [rows[classes == label] for label in np.unique(classes)]
    return in_even_turn(pools, len(rows), random)


def make_experiment(run: Run, network: nn.Module, *, rate: float, **own) -> Experiment:
    """Return an Experiment of 03 or 04. rate: highest learning rate. own: its further fields."""
    settings = run.settings
    affine = settings["rotation"] or settings["scale"] or settings["shift"]
    return Experiment(
        geometry=Geometry(settings["image_size"], crop_area=tuple(settings["crop_area"])),
        randoms=RANDOMS_WITH_AFFINE if affine else RANDOMS,
        optimizer=make_optimizer(
            network,
            rate,
            settings["weight_decay"],
            settings["layer_decay"],
            head_parameters(network) if settings["head_epochs"] else (),
            kind=settings["optimizer"],
        ),
        **own,
    )


def fit_phase(
    run: Run,
    network: nn.Module,
    split: Split,
    targets: np.ndarray,
    *,
    name: str,
    epochs: int,
    rate: float,
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    score: Callable[[np.ndarray], dict[str, float]],
    keep: Callable[[], None] | None = None,
    early: int = 0,
) -> pd.DataFrame:
    """Fit a phase of 03, validating as --validate-every says; return one row an epoch.

    targets: float32 [n, C], of the split's rows. score(logits of the held-out rows): the validation
    figures; `keep` stores the validated epoch with the best `val_macro_f1`. early: first epochs,
    whose scores --early-stop does not count.
    """
    settings = run.settings
    training = np.flatnonzero(split.training)
    store, checked = run.images(split.rows), run.images(split.rows[split.held_out])
    run.say(
        f"{name}: {len(training):,} images on {run.hardware} ({len(checked):,} held out for "
        f"validation{held_back(*split)})"
    )
    if has_fixed_scales(network):
        some = store.sample(training, settings["image_size"]).to(run.accelerator.device)
        settle(network, normalise(some, settings["mean"], settings["std"]))
        run.say(f"{name}: batch normalisation starts with the statistics of {len(some)} images")
    classes = targets[training].argmax(1)
    steps = -(-len(training) // settings["global_batch"])  # an epoch

    def plan(epoch: int) -> Plan:
        random = np.random.default_rng([settings["seed"], epoch])
        order = draw_order(training, classes, settings["balance"], random)
        return Plan(order, targets[order])

    def validate(epoch: int) -> dict[str, float]:
        due = len(checked) and is_validated(settings, epoch, epochs)
        return score(predict_logits(run, network, checked)) if due else {}

    experiment = make_experiment(
        run,
        network,
        rate=rate,
        name=name,
        epochs=epochs,
        plan=plan,
        loss=loss,
        head_steps=round(settings["head_epochs"] * steps),
        schedule=SCHEDULES[settings["schedule"]](
            epochs * steps, round(settings["warmup_epochs"] * steps)
        ),
        validate=validate,
        best="val_macro_f1" if keep else None,
        keep=keep,
        stop_early=no_better_for(settings["early_stop"], early),
    )
    return fit(run, network, store, experiment)


def is_validated(settings: dict, epoch: int, epochs: int) -> bool:
    """Tell whether an epoch (from 0, of so many) is validated: every Nth, and always the last."""
    return (epoch + 1) % settings["validate_every"] == 0 or epoch + 1 == epochs


def no_better_for(epochs: int | None, first: int = 0) -> Callable[[list[dict]], bool]:
    """Return a function that ends a training after `epochs` epochs without a better score.

    epochs: None for never. first: the epoch, from 0, from which scores count. The score is
    `val_macro_f1`; without validation there is nothing to stop by.
    """

    def stop(rows: list[dict]) -> bool:
        found = [row.get("val_macro_f1") for row in rows[first:]]
        scores = {epoch: score for epoch, score in enumerate(found) if score is not None}
        best = max(scores, key=scores.get, default=0)
        return bool(epochs and scores) and max(scores) - best >= epochs

    return stop

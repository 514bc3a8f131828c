"""Folds of 03 and 04: every labelled compound is judged once, by who was not trained on it.

`03 --folds 5` leaves the persons of each fold out in turn; `04 --folds 5` starts each fold from the
03 of that fold, where there is one, trains on the other folds, and validates on it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from accelerate import PartialState

from common.emotions import CHALLENGE, challenge_class
from common.manifest import SPLITS, folds, groups, hold_out, training_rows
from common.script.files import UserError
from common.training.runs import FREE_SETTINGS, init_facts
from common.training.validation import save_validation


def number_folds(manifest: pd.DataFrame, count: int) -> pd.Series:
    """Return the fold, 1..count, in which each row is judged, int64 [n]; 0 for none.

    Divided are the labelled compounds outside the owners' test splits, by person or video; the same
    way for every seed and every setting, so that runs can be compared and averaged; but not as
    hold_out divides, whose fifth would be a fold. Raises UserError where there is none, or fewer
    persons than folds.
    """
    divided = (manifest.kind == "compound") & (manifest.split != "test")
    if not divided.any():
        raise UserError(
            "--folds divides the labelled compounds, and outside test splits there is none; leave "
            "it out, or prepare a set that has some (01)."
        )
    fold_of = pd.Series(0, index=manifest.index)
    fold_of[divided] = 1 + folds(manifest[divided], count, seed=1)
    return fold_of


def asked_for(args: argparse.Namespace) -> list[int]:
    """Return the numbers of the folds to be trained: of --fold, or all of --folds."""
    return [args.fold] if args.fold else list(range(1, args.folds + 1))


def leave_persons_out(
    manifest: pd.DataFrame, training: pd.Series, held: pd.Series, left_out: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Take the persons (and the photographs) of some rows from those of 03.

    training, held: bool [n], what 03 trains and validates on. left_out: bool [n]. Returns training
    and held without the rows that show a person, or are the photograph, of a row left out.
    """
    others = training_rows(manifest.assign(split=""), left_out)
    return training & others, held & others


class Fold(NamedTuple):
    """A fold of 04: its number, first weights, facts for its record, and what is held out."""

    number: int
    init: str
    facts: dict
    held: pd.Series


def plan_folds(
    args: argparse.Namespace, manifest: pd.DataFrame, checked: pd.Series, facts: dict
) -> tuple[pd.DataFrame, list[Fold]]:
    """Lay out the folds of 04 that are asked for, and tell what one lacks before any is trained.

    checked: bool [n], the compounds that validate. facts: what the runs depend on beside settings
    and first weights. Returns also the manifest with each divided compound in the split train, for
    its fold holds it out. Raises UserError as number_folds does; for a fold without a compound to
    judge; and where first weights are missing.
    """
    fold_of = number_folds(manifest, args.folds)
    classes = manifest.labels.astype(str).map(challenge_class)
    judged = checked & (classes >= 0)
    for number in asked_for(args):
        if not (judged & (fold_of == number)).any():
            raise UserError(
                f"Fold {number} of {args.folds} has no compound of the challenge's seven to judge "
                f"(with --pairs {args.pairs} and --validate-on); choose fewer --folds, or none."
            )
    single, named = args.run_dir / "single", args.init
    if named and Path(named).is_dir():  # of another run: the same start for many seeds
        single, named = Path(named), None
    starts = {} if named else _starts(args, single, facts["manifest_sha256"])
    usual = named or str(single / "model.safetensors")
    if not starts and Path(usual).is_file():
        _warn_of_seen_persons(manifest, fold_of)
    facts = facts | ({"start_of_fold": True} if starts else {})
    planned = []
    for number in asked_for(args):
        init = starts.get(number, usual)
        planned.append(Fold(number, init, facts | init_facts(init), fold_of == number))
    split = manifest["split"].cat.set_categories(SPLITS)
    return manifest.assign(split=split.mask(fold_of > 0, "train")), planned


def _starts(args: argparse.Namespace, single: Path, manifest_digest: str) -> dict[int, str]:
    """Return the weights of 03 of each fold that is asked for; nothing where 03 has no folds.

    single: the folder of 03's run. Raises UserError where 03 divided other images, or into another
    number of folds, or has only some folds: a network that has seen the judged persons must not be
    taken unseen.
    """
    if not any(single.glob("fold-*/run.json")):
        return {}
    starts = {}
    for fold in asked_for(args):
        folder = single / f"fold-{fold}"
        try:
            settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
            made = settings.get("folds"), settings.get("manifest_sha256")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            made = None
        if made != (args.folds, manifest_digest):
            raise UserError(
                f"{folder} is no fold of 03 for --folds {args.folds} on these data; run "
                f"03_finetune_single.py --folds {args.folds} (it leaves each fold's persons out), "
                f"delete {single / 'fold-*'}, or name weights with --init."
            )
        starts[fold] = str(folder / "model.safetensors")
    return starts


def _warn_of_seen_persons(manifest: pd.DataFrame, fold_of: pd.Series) -> None:
    """Say how many compounds in folds show persons whom a 03 without folds trains on.

    manifest: as 03 reads it, with the owners' splits.
    """
    person = groups(manifest)
    trained = training_rows(manifest, hold_out(manifest)) & (manifest.kind == "single")
    divided = fold_of > 0
    seen = int(np.isin(person[divided], person[trained]).sum())
    if seen and PartialState().is_main_process:
        print(
            f"warning: {seen:,} of {divided.sum():,} compounds in folds show persons whose single "
            "expressions 03 trains on without --folds, so that these folds do not judge by unseen "
            "persons; 03_finetune_single.py --folds trains a start for each fold.",
            flush=True,
        )


def gather_folds(args: argparse.Namespace) -> None:
    """Score the out-of-fold predictions of 04 together, once every fold has its own.

    Raises UserError where the folds were trained with different settings.
    """
    folder = args.run_dir / "curriculum"
    paths = [folder / f"fold-{fold}" / "validation.csv" for fold in range(1, args.folds + 1)]
    if not PartialState().is_main_process or not all(path.is_file() for path in paths):
        return
    _refuse_other_settings(paths)
    tables = [pd.read_csv(path, keep_default_na=False) for path in paths]
    together = pd.concat(tables, keys=range(1, args.folds + 1), names=["fold", None])
    print(
        f"all {args.folds} folds, each image judged by the model that was not trained on it"
        + " (but which it helped to choose the epoch of; not so with --keep last)"
        * (args.keep == "best")
        + ":"
    )
    save_validation(
        folder / "folds" / "oof.csv", together.reset_index("fold"), CHALLENGE, args, say=print
    )


def _refuse_other_settings(paths: list[Path]) -> None:
    """Raise UserError where the runs of some folds are of different settings."""
    records = [json.loads(path.with_name("run.json").read_text())["settings"] for path in paths]
    for settings in records:
        settings["fold"] = None
        if "init_sha256" in settings:  # a file may be moved
            settings["init"] = None
        if settings.get("start_of_fold"):  # then the first weights differ as they must
            settings["init_sha256"] = None
    for path, settings in zip(paths, records, strict=True):
        names = sorted({*settings, *records[0]} - {*FREE_SETTINGS})
        if differing := [name for name in names if settings.get(name) != records[0].get(name)]:
            raise UserError(
                f"{path.parent} was trained with another {', '.join(differing)} than "
                f"{paths[0].parent}, so their predictions are not scored together; delete the "
                "folds that are of other settings."
            )

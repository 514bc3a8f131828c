"""Folds of 03 and 04: every labelled compound is judged once, by networks that know it not.

`03 --folds 5` leaves the persons of each fold out in turn; `04 --folds 5` starts each fold from the
03 of that fold, where there is one, trains on the other folds, and validates on it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import PartialState

from common.emotions import CHALLENGE
from common.files import UserError
from common.manifest import SPLITS, folds, groups, hold_out, training_rows
from common.runs import FREE_SETTINGS
from common.validation import save_validation


def number_folds(manifest: pd.DataFrame, count: int) -> pd.Series:
    """Return the fold, 1..count, in which each row is judged, int64 [n]; 0 for none.

    Divided are the labelled compounds outside the owners' test splits, by person or video; the same
    way for every seed and every setting, so that runs can be compared and averaged. Raises
    UserError where there is none, or fewer persons than folds.
    """
    divided = (manifest.kind == "compound") & (manifest.split != "test")
    if not divided.any():
        raise UserError(
            "--folds divides the labelled compounds, and outside test splits there is none; leave "
            "it out, or prepare a set that has some (01)."
        )
    fold_of = pd.Series(0, index=manifest.index)
    fold_of[divided] = 1 + folds(manifest[divided], count, seed=0)
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


def released_for_folds(manifest: pd.DataFrame, fold_of: pd.Series) -> pd.DataFrame:
    """Return the manifest with each divided compound in the split train: its fold holds it out."""
    split = manifest["split"].cat.set_categories(SPLITS)
    return manifest.assign(split=split.mask(fold_of > 0, "train"))


def starts_of_folds(args: argparse.Namespace, manifest_digest: str) -> dict[int, str]:
    """Return the weights of 03 of each fold that is asked for; nothing where 03 has no folds.

    Raises UserError where 03 divided other images, or into another number of folds, or has only
    some folds: a network that has seen the judged persons must not be taken unseen.
    """
    single = args.run_dir / "single"
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


def warn_of_seen_persons(manifest: pd.DataFrame, fold_of: pd.Series) -> None:
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
            "expressions 03 has trained on, so that these folds do not judge by unseen persons; "
            "03_finetune_single.py --folds trains a start for each fold.",
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
        if settings.get("start_of_fold"):  # then the first weights differ as they must
            settings["init_sha256"] = None
    free = {*FREE_SETTINGS, "init"}
    for path, settings in zip(paths, records, strict=True):
        names = [name for name in settings if settings[name] != records[0].get(name)]
        if differing := [name for name in names if name not in free]:
            raise UserError(
                f"{path.parent} was trained with another {', '.join(differing)} than "
                f"{paths[0].parent}, so their predictions are not scored together; delete the "
                "folds that are of other settings."
            )

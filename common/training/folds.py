"""What 03 and 04 train on and what they hold out: one split, or one a fold.

With folds, every labelled compound is judged once, by a model that was not trained on it.
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

from common.batches.targets import usable
from common.emotions import CHALLENGE, challenge_class
from common.manifest import SPLITS
from common.script.files import UserError, file_digest
from common.splits import folds, groups, hold_out, training_rows
from common.training import challenge
from common.training.evaluation import save_validation
from common.training.runs import FREE_SETTINGS, init_facts


class Split(NamedTuple):
    """Rows of the manifest, and which of them train and which validate, bool [n] each."""

    rows: pd.DataFrame
    training: pd.Series
    held_out: pd.Series


class Fold(NamedTuple):
    """One training of 03 or 04: its number, its own facts for run.json, and what it trains on.

    number: from 1; None without folds. facts: see runs.start_run. training, held_out: bool [n],
    aligned with the manifest: the rows that train and those that validate.
    """

    number: int | None
    facts: dict
    training: pd.Series
    held_out: pd.Series

    def folder(self, stage: str) -> str:
        """Return the folder of a stage, below that of the run."""
        return f"{stage}/fold-{self.number}" if self.number else stage

    def split(self, rows: pd.DataFrame) -> Split:
        """Return the split of some rows of the manifest."""
        return Split(rows, self.training[rows.index], self.held_out[rows.index])


def number_folds(manifest: pd.DataFrame, count: int) -> pd.Series:
    """Return the fold, 1..count, in which each row is judged, int64 [n]; 0 for none.

    The labelled compounds outside test splits are divided by person or video, in the same way for
    every seed and setting, so that runs can be compared and averaged. Where frames of the
    challenge's videos are among them, these alone are divided, as the other track's compounds all
    train. (The seed is not that of hold_out, or a fold would be what that holds out.) Raises
    UserError where there is none, or fewer persons than folds.
    """
    divided = (manifest.kind == "compound") & (manifest.split != "test")
    if (manifest.dataset == challenge.DATASET).any():
        divided &= manifest.dataset == challenge.DATASET
    if not divided.any():
        raise UserError(
            "--folds divides the labelled compounds, but none are outside test splits; leave "
            "it out, or prepare a set that has some (01)."
        )
    fold_of = pd.Series(0, index=manifest.index)
    fold_of[divided] = 1 + folds(manifest[divided], count, seed=1)
    return fold_of


def _asked_for(args: argparse.Namespace) -> list[int]:
    """Return the numbers of the folds to train: --fold, or all of --folds."""
    return [args.fold] if args.fold else list(range(1, args.folds + 1))


def leave_persons_out(
    manifest: pd.DataFrame, training: pd.Series, held_out: pd.Series, left_out: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Return what 03 trains on and holds out, less the persons and photographs of some rows.

    training, held_out, left_out: bool [n], as are the results.
    """
    others = training_rows(manifest.assign(split=""), left_out)
    return training & others, held_out & others


def plan_singles(args: argparse.Namespace, manifest: pd.DataFrame) -> list[Fold]:
    """Return what 03 is to train: one Fold without --folds, else those that are asked for.

    Raises UserError as number_folds does; where all folds would be the same; and where first
    weights are missing.
    """
    held_out = hold_out(manifest)
    training = training_rows(manifest, held_out)
    init = args.init or str(args.run_dir / "mae" / "model.safetensors")
    digest = file_digest(args.data_dir / "prepared" / "manifest.csv")
    if not args.folds:
        return [Fold(None, _facts(digest, init), training, held_out)]
    fold_of = number_folds(manifest, args.folds)
    others, _ = leave_persons_out(manifest, training, held_out, fold_of > 0)
    used = usable(manifest, args.loss)
    if others[used].equals(training[used]):
        raise UserError(
            "No compound in folds shows a person whose single expressions 03 would train on: "
            "leave --folds out, one run serves every fold of 04."
        )
    facts = _facts(digest, init)
    return [
        Fold(
            number,
            {**facts, "fold": number},
            *leave_persons_out(manifest, training, held_out, fold_of == number),
        )
        for number in _asked_for(args)
    ]


def plan_compounds(
    args: argparse.Namespace, manifest: pd.DataFrame, checked: pd.Series
) -> list[Fold]:
    """Return what 04 is to train: one Fold without --folds, else those that are asked for.

    checked: bool [n], the compounds that may validate; of these, a Fold holds out the challenge's
    seven. Raises UserError as number_folds does; for a fold without a compound to judge; and where
    first weights are missing.
    """
    judged = checked & (manifest.labels.astype(str).map(challenge_class) >= 0)
    single, named = args.run_dir / "single", args.init
    digest = file_digest(args.data_dir / "prepared" / "manifest.csv")
    if not args.folds:
        init = named or str(single / "model.safetensors")
        held_out = hold_out(manifest)
        training = training_rows(manifest, held_out)
        facts = _facts(digest, init) | challenge.facts_of(args, manifest, training, held_out, init)
        return [Fold(None, facts, training, held_out & judged)]
    fold_of = number_folds(manifest, args.folds)
    for number in _asked_for(args):
        if not (judged & (fold_of == number)).any():
            raise UserError(
                f"Fold {number} of {args.folds} has no compound of the challenge's seven to judge "
                f"(with --pairs {args.pairs} and --validate-on); choose fewer --folds, or none."
            )
    if named and Path(named).is_dir():  # of another run: the same start for many seeds
        single, named = Path(named), None
    # Folds of 03 divide other compounds than the challenge's frames, which 03 does not see.
    starts = {} if named or args.challenge_labels else _starts(args, single, digest)
    usual = named or str(single / "model.safetensors")
    if not starts and Path(usual).is_file():
        _warn_of_seen_persons(manifest, fold_of, args.loss)
    # Whatever its split, a divided compound trains in every fold but its own.
    split = manifest["split"].cat.set_categories(SPLITS).mask(fold_of > 0, "train")
    manifest, planned = manifest.assign(split=split), []
    for number in _asked_for(args):
        init, held_out = starts.get(number, usual), fold_of == number
        facts = {**_facts(digest, init), "fold": number}
        if starts:
            facts["start_of_fold"] = True
        training = training_rows(manifest, held_out)
        facts |= challenge.facts_of(args, manifest, training, held_out, init)
        planned.append(Fold(number, facts, training, held_out & judged))
    return planned


def _facts(digest: str, init: str) -> dict:
    """Return what a run depends on, for run.json. digest: of the manifest. init: first weights."""
    return {"init": init, "manifest_sha256": digest, **init_facts(init)}


def _starts(args: argparse.Namespace, single: Path, digest: str) -> dict[int, str]:
    """Return the weights of 03 for each fold that is asked for; none where 03 has no folds.

    single: the folder of 03's run. digest: of the manifest. Raises UserError where 03 divided other
    images, or into another number of folds, or has only some: a network that has seen the judged
    persons must not be used without notice.
    """
    if not any(single.glob("fold-*/run.json")):
        return {}
    starts = {}
    for fold in _asked_for(args):
        folder = single / f"fold-{fold}"
        try:
            settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
            made = settings.get("folds"), settings.get("manifest_sha256")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            made = None
        if made != (args.folds, digest):
            raise UserError(
                f"{folder} is not a fold of 03 for --folds {args.folds} on these data; run "
                f"03_finetune_single.py --folds {args.folds} (it leaves each fold's persons out), "
                f"delete {single / 'fold-*'}, or name weights with --init."
            )
        starts[fold] = str(folder / "model.safetensors")
    return starts


def _warn_of_seen_persons(manifest: pd.DataFrame, fold_of: pd.Series, loss: str) -> None:
    """Warn how many compounds in folds show persons whom 03 without folds trains on.

    manifest: as 03 reads it, with the owners' splits.
    """
    person = groups(manifest)
    trained = training_rows(manifest, hold_out(manifest)) & usable(manifest, loss)
    divided = fold_of > 0
    seen = int(np.isin(person[divided], person[trained]).sum())
    if seen and PartialState().is_main_process:
        print(
            f"warning: {seen:,} of {divided.sum():,} compounds in folds show persons on whom 03 "
            "trains without --folds, so these folds do not judge by unseen persons; "
            "03_finetune_single.py --folds trains a start for each fold.",
            flush=True,
        )


def gather_folds(args: argparse.Namespace, threshold: float) -> None:
    """Score the out-of-fold predictions of 04 together, once every fold has its own.

    They go to `<run-dir>/curriculum/folds/`. threshold: as for score_predictions. Raises UserError
    where the folds were trained with different settings.
    """
    folder = args.run_dir / "curriculum"
    paths = [folder / f"fold-{fold}" / "validation.csv" for fold in range(1, args.folds + 1)]
    if not PartialState().is_main_process or not all(path.is_file() for path in paths):
        return
    settings = _refuse_other_settings(paths)
    tables = [pd.read_csv(path, keep_default_na=False) for path in paths]
    together = pd.concat(tables, keys=range(1, args.folds + 1), names=["fold", None])
    print(
        f"all {args.folds} folds, each image judged by the model that was not trained on it"
        + " (but which it helped to choose the epoch of; not so with --keep last)"
        * (args.keep == "best")
        + ":"
    )
    save_validation(
        folder / "folds" / "oof.csv",
        together.reset_index("fold"),
        CHALLENGE,
        threshold=threshold,
        settings=settings,
        say=print,
    )


def _refuse_other_settings(paths: list[Path]) -> dict:
    """Return the folds' settings. Raises UserError where they differ."""
    records = [json.loads(path.with_name("run.json").read_text())["settings"] for path in paths]
    for settings in records:
        settings["fold"] = settings["challenge_videos"] = None  # each fold's own
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
                "folds that have other settings."
            )
    return records[0]

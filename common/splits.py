"""Who is held out: folds by person, the rows that validate, and those that training may see."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from common.script.files import UserError

# Hashes of pictures of a single gray (no bit, all bits, the mean's): such pictures may differ.
_FLAT = np.array([0, 2**64 - 1, 2**63], dtype=np.uint64)

# scikit-learn tries every fold for every subject, which takes about a millisecond a subject.
_EXACT_GROUPS = 2000


def folds(frame: pd.DataFrame, count: int, seed: int) -> np.ndarray:
    """Give each row one of `count` folds, int64 [n]: balanced by label, no subject in two folds.

    A row without a subject is a subject of its own. The same name in two data sets is two subjects.
    Up to 2,000 subjects are divided by StratifiedGroupKFold. More are dealt out like cards, by
    their commonest label and from the largest down, which takes seconds for millions. Raises
    UserError if there are fewer subjects than folds.
    """
    subjects = groups(frame)
    found = int(subjects.max(initial=-1)) + 1
    if found < count:
        raise UserError(f"Cannot make {count} folds of {found} subjects; more are needed.")
    if found > _EXACT_GROUPS:
        return _deal(subjects, pd.factorize(frame["labels"])[0], count, seed)
    # Imported here: it takes a second, and few runs make folds.
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    result = np.full(len(frame), -1, dtype=np.int64)
    labels = frame["labels"].astype("str").to_numpy()
    # Labels can be balanced only if one of them is frequent enough to be in every fold.
    rare = pd.Series(labels).value_counts().max() < count
    kind = GroupKFold if rare else StratifiedGroupKFold
    splitter = kind(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of a rare label among frequent ones
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, rows) in enumerate(splitter.split(subjects, labels, subjects)):
            result[rows] = fold
    return result


def _deal(subjects: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal subjects out to folds; subjects, labels: codes, int64 [n]; returns int64 [n]."""
    each, rows = np.unique(subjects * (labels.max() + 1) + labels, return_counts=True)
    group, label = np.divmod(each, labels.max() + 1)
    order = np.lexsort((-rows, group))
    first = np.unique(group[order], return_index=True)[1]
    commonest = label[order][first]
    sizes = np.bincount(subjects)
    chance = np.random.default_rng(seed).random(len(sizes))
    order = np.lexsort((chance, -sizes, commonest))
    # Back and forth, 0 1 2 2 1 0 0 1 ..., so that no fold gets the larger subject of every round;
    # each label continues where the one before it ended.
    turn = np.arange(len(order)) % (2 * count)
    fold = np.empty(len(sizes), dtype=np.int64)
    fold[order] = np.minimum(turn, 2 * count - 1 - turn)
    return fold[subjects]


def groups(frame: pd.DataFrame) -> np.ndarray:
    """Number the subjects, int64 [n] from 0; a row without a subject gets a number of its own."""
    dataset = frame["dataset"].astype("category").cat.codes.to_numpy(np.int64)
    subject = frame["subject"].astype("category").cat
    person = dataset * len(subject.categories) + subject.codes.to_numpy()
    unknown = (frame["subject"] == "").to_numpy()
    person[unknown] = -1 - np.arange(unknown.sum())
    return pd.factorize(person)[0]


def hold_out(frame: pd.DataFrame) -> pd.Series:
    """Choose the rows to validate on, bool [n].

    Of each labelled data set these are its `val` split, or else its `test` split, or else, for rows
    without a split, one of five folds by subject. Call it with the whole manifest, whatever a stage
    uses of it: all stages then hold out the same rows, whatever their seeds.
    """
    held_out = pd.Series(False, index=frame.index)
    for dataset in frame["dataset"].unique():
        rows = frame[frame["dataset"] == dataset]
        splits = set(rows["split"])
        name = next((split for split in ("val", "test") if split in splits), None)
        if name:
            held_out[rows.index[rows["split"] == name]] = True
        elif splits == {""} and (rows["kind"] != "unlabelled").any():
            count = min(5, int(groups(rows).max()) + 1)
            if count > 1:  # a single person cannot be held out
                held_out[rows.index[folds(rows, count, seed=0) == 0]] = True
    return held_out


def training_rows(frame: pd.DataFrame, held_out: pd.Series) -> pd.Series:
    """Choose the rows that training may see, bool [n], given the held-out ones of hold_out.

    These are rows of the split train or of no split that are not held out, and that share neither
    subject nor perceptual hash with a held-out row: data sets share photographs, and owners' splits
    share persons. 01 has already removed near-duplicates of the splits val and test; the hashes
    matter for the folds that hold_out makes, and after `--duplicates keep`.
    """
    chosen = frame["split"].isin(("train", "")) & ~held_out
    subjects, hashes = groups(frame), frame["hash"].to_numpy(np.uint64)
    pictures = np.setdiff1d(hashes[held_out], _FLAT)
    return chosen & ~np.isin(subjects, subjects[held_out]) & ~np.isin(hashes, pictures)


def held_back(frame: pd.DataFrame, training: pd.Series, held_out: pd.Series) -> str:
    """Return a note on the rows of train that training_rows left out, "" for none.

    training, held_out: bool [n]; of those held out, 04 names only what it validates on.
    """
    count = (frame["split"].isin(("train", "")) & ~training & ~held_out).sum()
    return f"; {count:,} left out, whose person or photograph is held out" if count else ""


def thin_out(frame: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Return `limit` evenly spaced rows, so that every data set keeps its share (`--limit`)."""
    if limit is None or limit >= len(frame):
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, limit).astype(np.int64)]

"""All data sets at once through 01_prepare_data.py, as a user has them."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.preparing import prepare, rows_of
from helpers.raw_trees import TREES
from torchvision.io import ImageReadMode, decode_image

from common.emotions import challenge_class
from common.manifest import read_manifest
from common.splits import folds

# One tree of each data set: two forms of one data set are refused, as they should be.
CHOSEN = [
    *("RAF-DB", "RAF-CE", "AffectNet original", "AffectNet+", "Aff-Wild2", "s-Aff-Wild2", "MAFW"),
    *(
        "FERPlus beside pixels",
        "ExpW",
        "CK+",
        "CelebA",
        "IMDB-WIKI",
        "RecordIO",
        "labelled table",
        "C-EXPR-DB",
    ),
    *("WebFace42M", "CASIA-WebFace"),
]
IMAGES = {
    "RAF-DB-basic": 3,
    "RAF-DB-compound": 3,
    "RAF-CE": 3,
    "AffectNet": 4,
    "AffectNet+": 3,
    "Aff-Wild2": 5,
    "s-Aff-Wild2": 4,
    "MAFW": 11,  # 8 frames with a face of one clip, and all 3 of another
    "FERPlus": 3,  # one without a majority, which has votes and no label
    "ExpW": 3,
    "CK+": 3,
    "CelebA": 3,
    "IMDB": 1,
    "WIKI": 1,
    "RecordIO": 3,
    "labelled table": 1,
    "WebFace42M": 2,
    "CASIA-WebFace": 6,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("together")
    for tree in CHOSEN:
        TREES[tree][0](data / "raw" / tree)
    (data / "raw" / "C-EXPR-DB" / "CER.txt").unlink()  # a list of one frame with one class
    return data


@pytest.fixture(scope="module")
def prepared(data):
    # The pictures of these trees are all alike: duplicates are to stay.
    return prepare(data, "--duplicates", "keep", "--min-sharpness", "0", "--min-face", "0")


def test_every_data_set_is_listed(data, capsys):
    prepare(data, "--list")
    listed = capsys.readouterr().out
    assert "1 videos" in listed
    for tree in CHOSEN:
        assert tree in listed or tree == "C-EXPR-DB", tree


def test_every_data_set_goes_into_one_manifest(prepared):
    manifest = read_manifest(prepared / "manifest.csv")
    assert Counter(manifest["dataset"].astype(str)) == IMAGES
    for name in manifest["image"]:
        assert min(decode_image(str(prepared / name), mode=ImageReadMode.RGB).shape[1:]) >= 16
    skipped = rows_of(prepared / "skipped.csv")
    assert all(row["reason"] and row["path"] for row in skipped)
    # Natural compounds of the challenge's classes, by data set.
    labels = manifest["labels"].astype(str)
    compounds = Counter(manifest["dataset"].astype(str)[labels.map(challenge_class) >= 0])
    assert compounds == {"RAF-DB-compound": 2, "RAF-CE": 1, "MAFW": 8}


def test_folds_split_no_person_and_no_video_of_any_data_set(prepared):
    manifest = read_manifest(prepared / "manifest.csv")
    fold = folds(manifest, 3, seed=0)
    known = manifest["subject"].astype(str) != ""
    people = manifest[known].assign(fold=fold[known]).groupby(["dataset", "subject"], observed=True)
    assert people["fold"].nunique().max() == 1 and people.ngroups > 10

"""03 and 04 learn what the images show, and nothing where the labels are shuffled."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.running import call
from helpers.toy_world import TINY, make_prepared

LEARNING = [*TINY, "--init", "none", "--lr", "0.02", "--batch-size", "60", "--warmup-epochs", "1"]
SCRIPTS = {
    "single": ["03_finetune_single.py", "--adapt-epochs", 0, "--epochs", 12],
    "curriculum": [
        *("04_curriculum.py", "--stage-epochs", 4, 8, "--compound-shares", 0, 0.7),
        *("--mixes", "cutmix", "--cutmix", "box", "--epoch-images", 100, "--keep", "last"),
    ],
}


def shuffle_labels(world):
    """Deal the labels of each kind out to its images at random."""
    path = world / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    for kind in ("single", "compound"):
        rows = table.kind == kind
        table.loc[rows, "labels"] = np.random.default_rng(1).permutation(table.labels[rows])
    table.to_csv(path, index=False)


@pytest.mark.parametrize("stage", SCRIPTS)
@pytest.mark.parametrize(("labels", "lowest", "highest"), [("true", 0.6, 1), ("shuffled", 0, 0.3)])
def test_a_stage_learns_what_the_images_show_and_nothing_else(
    tmp_path, capsys, stage, labels, lowest, highest
):
    world = make_prepared(tmp_path, singles=100, compounds=105)
    if labels == "shuffled":
        shuffle_labels(world)
    arguments = [*SCRIPTS[stage], "--data-dir", world, "--run-dir", tmp_path, *LEARNING]
    status, _, complaints = call(capsys)(*arguments)
    assert status == 0, complaints
    # By chance, a sixth of the emotions and a seventh of the compounds are right.
    assert lowest <= pd.read_csv(tmp_path / stage / "metrics.csv").val_macro_f1.max() <= highest


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_epoch_is_chosen_by_validation_or_by_nothing(tmp_path, capsys, keep):
    world = make_prepared(tmp_path, singles=100, compounds=5)
    arguments = [*SCRIPTS["single"], "--data-dir", world, "--run-dir", tmp_path, *LEARNING]
    # At a rate as high as this the last epoch is worse than the first.
    status, _, complaints = call(capsys)(*arguments, "--lr", "0.3", "--epochs", "3", "--keep", keep)
    assert status == 0, complaints
    scores = pd.read_csv(tmp_path / "single" / "metrics.csv").val_macro_f1
    assert scores.max() > scores.iloc[-1]
    report = json.loads((tmp_path / "single" / "report.json").read_text())
    wanted = scores.max() if keep == "best" else scores.iloc[-1]
    assert report["macro_f1"] == pytest.approx(wanted)

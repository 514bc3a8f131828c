"""Folds of 04: who is judged by whom, what is told of them, what is scored together."""

import json

import pandas as pd
import pytest
from finetuned import curriculum, train
from toy_world import make_prepared

from common.classifier import load_classifier


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("world"))


def test_folds_judge_every_compound_by_a_model_that_has_not_seen_it(world, tmp_path, capsys):
    # the share of the set with natural compounds alone: an epoch shows each of its compounds once
    options = ("--folds", 3, "--compound-share-of", "set", "--natural-share", 1)
    one = dict(stages=(1,), shares=(1,))
    curriculum(capsys, world, tmp_path, *options, "--fold", 2, **one)
    folder = tmp_path / "curriculum"
    assert [path.name for path in folder.iterdir()] == ["fold-2"]
    _, output, _ = curriculum(capsys, world, tmp_path, *options, **one)
    assert "finished already" in output
    together = pd.read_csv(folder / "oof.csv")
    manifest = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False)
    assert sorted(together.image) == sorted(manifest.image[manifest.kind == "compound"])
    for fold in (1, 2, 3):
        shown = pd.read_csv(folder / f"fold-{fold}" / "metrics.csv").natural
        assert shown.tolist() == [21 - (together.fold == fold).sum()]
        network, _ = load_classifier(folder / f"fold-{fold}" / "model.safetensors")
        assert network.num_classes == 6
    assert json.loads((folder / "report.json").read_text())["frames"] == 21


def test_folds_of_tables_without_a_split(tmp_path, capsys):
    world = make_prepared(tmp_path / "world")
    table = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False, dtype=str)
    table.assign(split="").to_csv(world / "prepared" / "manifest.csv", index=False)
    options = ("--folds", 3, "--fold", 1)
    _, output, _ = curriculum(capsys, world, tmp_path, *options, stages=(1,), shares=(1,))
    assert "persons" not in output.partition("validation macro-F1")[0]
    assert (tmp_path / "curriculum" / "fold-1" / "validation.csv").is_file()


def test_compounds_of_persons_that_03_has_seen_are_told_before_folds(tmp_path, capsys):
    world = make_prepared(tmp_path / "world")
    table = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False, dtype=str)
    # 21 persons of one set, each with singles and a compound; a fifth is held out by 03
    table["split"] = ""
    labelled = table.kind != "unlabelled"
    table.loc[labelled, "dataset"] = "Own"
    table.loc[labelled, "subject"] = [f"p{row % 21}" for row in range(labelled.sum())]
    table.to_csv(world / "prepared" / "manifest.csv", index=False)
    options = ("--folds", 3, "--fold", 1)
    _, output, _ = curriculum(capsys, world, tmp_path, *options, stages=(1,), shares=(1,))
    seen = int(output.partition("warning: ")[2].split()[0])
    assert 12 <= seen < 21


def test_folds_of_other_settings_are_not_scored_together(world, tmp_path, capsys):
    one = dict(stages=(1,), shares=(1,))
    curriculum(capsys, world, tmp_path, "--folds", 2, "--fold", 1, "--jitter", 0.1, **one)
    status, _, complaint = train(
        capsys, "04_curriculum.py", world, tmp_path, "--folds", 2, "--fold", 2,
        "--stage-epochs", 1, "--compound-shares", 1,
    )  # fmt: skip
    assert status == 2 and "fold-2 was trained with another jitter" in complaint
    assert not (tmp_path / "curriculum" / "oof.csv").exists()

"""Folds of 04: who is judged by whom, what is told of them, what is scored together."""

import json

import pandas as pd
import pytest
from helpers.finetuned import curriculum, train
from helpers.running import call
from helpers.toy_world import TINY, make_prepared

from common.manifest import read_manifest
from common.networks.classifier import load_classifier
from common.script.files import file_digest
from common.splits import hold_out, training_rows
from common.training.folds import leave_persons_out, number_folds


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
    together = pd.read_csv(folder / "folds" / "oof.csv")
    manifest = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False)
    assert sorted(together.image) == sorted(manifest.image[manifest.kind == "compound"])
    for fold in (1, 2, 3):
        shown = pd.read_csv(folder / f"fold-{fold}" / "metrics.csv").natural
        assert shown.tolist() == [21 - (together.fold == fold).sum()]
        network, _ = load_classifier(folder / f"fold-{fold}" / "model.safetensors")
        assert network.num_classes == 6
    assert json.loads((folder / "folds" / "report.json").read_text())["frames"] == 21


def test_folds_of_tables_without_a_split(tmp_path, capsys):
    world = make_prepared(tmp_path / "world")
    table = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False, dtype=str)
    table.assign(split="").to_csv(world / "prepared" / "manifest.csv", index=False)
    options = ("--folds", 3, "--fold", 1)
    _, output, _ = curriculum(capsys, world, tmp_path, *options, stages=(1,), shares=(1,))
    assert "persons" not in output.partition("validation macro-F1")[0]
    assert (tmp_path / "curriculum" / "fold-1" / "validation.csv").is_file()


def one_set(folder):
    """Make a world of 21 persons of one set without splits, each with singles and a compound."""
    world = make_prepared(folder / "world")
    table = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False, dtype=str)
    table["split"] = ""
    labelled = table.kind != "unlabelled"
    table.loc[labelled, "dataset"] = "Own"
    table.loc[labelled, "subject"] = [f"p{row % 21}" for row in range(labelled.sum())]
    table.to_csv(world / "prepared" / "manifest.csv", index=False)
    return world, table.set_index("image")


def usual(capsys, script, world, folder, *more):
    """Run a script on the toy world with the first weights that it takes by itself."""
    status, output, complaint = call(capsys)(
        script, "--data-dir", world, "--run-dir", folder, *TINY, *more
    )
    return status, output + complaint


SINGLE = ("03_finetune_single.py", "--adapt-epochs", 0, "--epochs", 1)
COMPOUND = ("04_curriculum.py", "--stage-epochs", 1, "--compound-shares", 1)


def test_compounds_of_persons_that_03_has_seen_are_told_before_folds(tmp_path, capsys):
    world, _ = one_set(tmp_path)
    script, *options = SINGLE
    assert usual(capsys, script, world, tmp_path, *options, "--init", "none")[0] == 0
    script, *options = COMPOUND
    status, output = usual(capsys, script, world, tmp_path, *options, "--folds", 3, "--fold", 1)
    assert status == 0
    seen = int(output.partition("warning: ")[2].split()[0])
    assert 12 <= seen < 21  # a fifth is held out by 03


def test_folds_of_04_start_from_those_of_03_which_have_seen_none_of_the_judged(tmp_path, capsys):
    world, table = one_set(tmp_path)
    script, *options = SINGLE
    status, _ = usual(capsys, script, world, tmp_path, *options, "--init", "none", "--folds", 3)
    assert status == 0
    script, *options = COMPOUND
    status, output = usual(capsys, script, world, tmp_path, *options, "--folds", 3)
    assert status == 0 and "show persons" not in output
    judged = pd.read_csv(tmp_path / "curriculum" / "folds" / "oof.csv")
    assert len(judged) == 21
    for fold in (1, 2, 3):
        single, compound = (tmp_path / part / f"fold-{fold}" for part in ("single", "curriculum"))
        record = json.loads((compound / "run.json").read_text())["settings"]
        assert record["init_sha256"] == file_digest(single / "model.safetensors")
        chosen_by = pd.read_csv(single / "validation.csv").image
        persons = set(table.subject[judged.image[judged.fold == fold]])
        assert persons and not persons & set(table.subject[chosen_by])


def test_no_person_of_a_fold_is_trained_or_validated_on_by_its_03(tmp_path):
    world, _ = one_set(tmp_path)
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    held = hold_out(manifest)
    fold_of = number_folds(manifest, 3)
    parts = [training_rows(manifest, held), held]
    for fold in (1, 2, 3):
        persons = set(manifest.subject[fold_of == fold])
        lessened = leave_persons_out(manifest, *parts, fold_of == fold)
        for rows, fewer in zip(parts, lessened, strict=True):
            others = ~manifest.subject.isin(persons)
            assert fewer.tolist() == (rows & others).tolist() and fewer.any()
    # nor the photograph, under another name
    double = manifest.index[parts[0] & (manifest.kind == "single")][0]
    own = fold_of[manifest.subject == manifest.subject[double]].max()
    other, third = sorted({1, 2, 3} - {own})
    manifest.loc[double, "hash"] = manifest.hash[fold_of == other].iloc[0]
    for fold, trained in ((other, False), (third, True)):
        assert leave_persons_out(manifest, *parts, fold_of == fold)[0][double] == trained


def test_03_refuses_folds_that_would_all_be_the_same(world, tmp_path, capsys):
    script, *options = SINGLE
    status, output = usual(
        capsys, script, world, tmp_path, *options, "--init", "none", "--folds", 3
    )
    assert status == 2 and "one run serves every fold of 04" in output


def test_04_refuses_folds_that_03_divided_otherwise(tmp_path, capsys):
    world, _ = one_set(tmp_path)
    script, *options = SINGLE
    usual(capsys, script, world, tmp_path, *options, "--init", "none", "--folds", 3, "--fold", 1)
    script, *options = COMPOUND
    for asked, named in ((("--folds", 4, "--fold", 1), "fold-1"), (("--folds", 3), "fold-2")):
        status, output = usual(capsys, script, world, tmp_path, *options, *asked)
        assert status == 2 and f"{named} is not a fold of 03" in output
    assert not (tmp_path / "curriculum").exists()


def test_folds_of_another_run_of_03_serve_other_seeds(tmp_path, capsys):
    world, _ = one_set(tmp_path)
    script, *options = SINGLE
    usual(capsys, script, world, tmp_path / "a", *options, "--init", "none", "--folds", 3)
    script, *options = COMPOUND
    more = ("--folds", 3, "--seed", 1, "--init", tmp_path / "a" / "single")
    status, output = usual(capsys, script, world, tmp_path / "b", *options, *more)
    assert status == 0 and "show persons" not in output
    assert len(pd.read_csv(tmp_path / "b" / "curriculum" / "folds" / "oof.csv")) == 21


def test_what_a_fold_lacks_is_told_before_the_first_is_trained(tmp_path, capsys):
    world, _ = one_set(tmp_path)
    script, *options = SINGLE
    usual(capsys, script, world, tmp_path, *options, "--init", "none", "--folds", 3)
    record = tmp_path / "single" / "fold-3" / "run.json"
    record.write_text(record.read_text().replace('"finished": true', '"finished": false'))
    script, *options = COMPOUND
    status, output = usual(capsys, script, world, tmp_path, *options, "--folds", 3)
    assert status == 2 and "has not ended" in output
    # nor is a fold trained that would judge nothing
    path = world / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    compounds = table.index[table.kind == "compound"]
    table.loc[compounds[1:], "labels"] = "Disgust Fear"
    table.to_csv(path, index=False)
    more = ("--init", "none", "--folds", 3)
    status, output = usual(capsys, script, world, tmp_path, *options, *more)
    assert status == 2 and "has no compound of the challenge's seven to judge" in output
    assert not (tmp_path / "curriculum").exists()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_03_has_someone_to_validate_on_in_every_fold(tmp_path, count):
    # laboratory sets: every person shows the same, so that two ways to divide may be one
    world, _ = one_set(tmp_path)
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    own = manifest[manifest.dataset == "Own"]
    lab = pd.concat([own.iloc[:13].assign(subject=f"p{number}") for number in range(20)])
    shown = ["Fear", "Anger", "Sadness", "Surprise", "Disgust", "Happiness"]
    pairs = ["Fear Surprise", "Happiness Surprise", "Sadness Surprise", "Disgust Surprise"]
    pairs += ["Anger Surprise", "Fear Sadness", "Anger Sadness"]
    lab["labels"], lab["kind"] = (shown + pairs) * 20, (["single"] * 6 + ["compound"] * 7) * 20
    lab["hash"] = range(1, len(lab) + 1)
    lab = lab.reset_index(drop=True)
    held = hold_out(lab)
    fold_of = number_folds(lab, count)
    for fold in range(1, count + 1):
        training, checking = leave_persons_out(lab, training_rows(lab, held), held, fold_of == fold)
        assert training.any() and checking.any()


def test_folds_of_other_settings_are_not_scored_together(world, tmp_path, capsys):
    one = dict(stages=(1,), shares=(1,))
    curriculum(capsys, world, tmp_path, "--folds", 2, "--fold", 1, "--jitter", 0.1, **one)
    status, _, complaint = train(
        capsys,
        "04_curriculum.py",
        world,
        tmp_path,
        "--folds",
        2,
        "--fold",
        2,
        "--stage-epochs",
        1,
        "--compound-shares",
        1,
    )
    assert status == 2 and "fold-2 was trained with another jitter" in complaint
    assert not (tmp_path / "curriculum" / "folds" / "oof.csv").exists()

"""What pretraining gains: with fewer labels, and in the same time."""

import json
import subprocess

import pandas as pd
import pytest
from helpers.running import call, forked_run
from helpers.toy_world import make_ferplus, make_prepared

from benchmarks.derived_data import keep_labels, training_singles
from benchmarks.pretraining_gain import epochs_for, seconds_of
from common.manifest import read_manifest
from common.script.files import file_digest
from common.splits import hold_out

RECIPE = """
[common]
model = "vit_tiny_patch16_224"
image_size = 16
global_batch = 12
batch_size = 12
workers = 0
mixed_precision = "no"
[common.model_options]
patch_size = 4
embed_dim = 16
depth = 1
num_heads = 2
[pretrain_mae]
epochs = 2
decoder_dim = 16
decoder_depth = 1
decoder_heads = 2
[finetune_single]
lr = 3e-3
"""


def test_a_share_of_the_persons_keeps_its_labels_and_all_faces_stay(tmp_path):
    world = make_ferplus(tmp_path / "world")
    path = world / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    bare = table.kind == "unlabelled"  # of FERPlus's, without a majority
    table.loc[bare, ["dataset", "split", "votes"]] = "FERPlus", "train", "4 3 3 0 0 0 0 0"
    table.to_csv(path, index=False)
    keep_labels(tmp_path / "part", world, 0.25, seed=1)
    whole = read_manifest(world / "prepared" / "manifest.csv")
    part = read_manifest(tmp_path / "part" / "prepared" / "manifest.csv")
    assert part.image.tolist() == whole.image.tolist()
    held_out = hold_out(whole)
    assert part[held_out].labels.tolist() == whole[held_out].labels.tolist()
    for kind in ("single", "compound"):
        rows = (whole.kind == kind) & (whole.dataset == "FERPlus") & ~held_out
        kept = part.kind[rows] == kind
        assert kept.sum() == pytest.approx(rows.sum() / 4, abs=3)
        assert (part[rows][kept].labels.astype(str) == whole[rows][kept].labels.astype(str)).all()
        bare = part[rows][~kept]
        assert set(bare.kind) == {"unlabelled"} and set(bare.labels) == set(bare.votes) == {""}
    undecided = (whole.kind == "unlabelled") & (whole.votes.astype(str) != "") & ~held_out
    left = part[undecided].votes.astype(str) != ""
    assert left.sum() == pytest.approx(undecided.sum() / 4, abs=2) and undecided.sum() > 8
    adaptation = whole.dataset == "AffectNet"
    assert part[adaptation].labels.tolist() == whole[adaptation].labels.tolist()
    # another seed keeps others
    keep_labels(tmp_path / "other", world, 0.25, seed=2)
    other = read_manifest(tmp_path / "other" / "prepared" / "manifest.csv")
    assert other.labels.tolist() != part.labels.tolist()


def test_a_share_of_a_set_without_splits_is_judged_by_whom_the_whole_is(tmp_path):
    path = make_ferplus(tmp_path / "world") / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    bare = table.kind == "unlabelled"  # votes without a majority
    table.loc[bare, ["dataset", "votes"]] = "FERPlus", "4 3 3 0 0 0 0 0"
    table.assign(split="").to_csv(path, index=False)
    keep_labels(tmp_path / "part", tmp_path / "world", 0.5, seed=0)
    whole, part = (
        read_manifest(tmp_path / x / "prepared" / "manifest.csv") for x in ("world", "part")
    )
    assert set(part.image[hold_out(part)]) == set(whole.image[hold_out(whole)])
    assert training_singles(part).sum() == pytest.approx(training_singles(whole).sum() / 2, abs=3)


def test_fewer_labels_train_as_many_steps_and_03_alone_as_long_as_both(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(subprocess, "run", forked_run(tmp_path / "log"))
    world = make_prepared(tmp_path / "world")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    flags = ["--data-dir", world, "--config", tmp_path / "recipe.toml", "--out", tmp_path / "out"]
    flags += ["--folds", 1, "--epochs", 2, "--label-shares", 0.5, 1, "--same-time"]
    benchmark = "benchmarks/pretraining_gain.py"
    status, output, complaints = call(capsys)(benchmark, *flags)
    assert status == 0, complaints
    table = pd.read_csv(tmp_path / "out" / "gain.csv").set_index(["share", "arm"])
    pretrained, alone = "from the masked autoencoder", "from random weights"
    assert table.epochs[0.5, pretrained] == table.epochs[0.5, alone] == 4
    assert table.epochs[1, pretrained] == table.epochs[1, alone] == 2
    assert 2 * table.images[0.5, alone] == pytest.approx(table.images[1, alone], abs=3)
    longer = f"{alone}, for the time of both"
    folder = tmp_path / "out" / "fold-0" / "mae"
    for share in (0.5, 1):
        both = table.seconds[share, pretrained] + seconds_of(folder, "mae")
        given = table.epochs[share, alone], table.seconds[share, alone]
        assert table.epochs[share, longer] == epochs_for(both, *given) >= given[0]
    assert epochs_for(90, 10, 30) == 30 and epochs_for(20, 10, 30) == 10 == epochs_for(9, 10, 0)
    assert (tmp_path / "out" / "gain.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "out" / "gain.md").read_text()
    assert text in output and "4 epochs of 03, labels of 50% of the persons**" in text
    status, _, complaints = call(capsys)(benchmark, *flags, "--label-shares", "0.3")
    assert status == 2 and "--label-shares 0.3" in complaints
    # One encoder for all folds, of a set whose splits it has respected.
    flags = ["--data-dir", world, "--config", tmp_path / "recipe.toml"]
    status, _, complaints = call(capsys)("02_pretrain_mae.py", *flags, "--run-dir", tmp_path)
    assert status == 0, complaints
    encoder = tmp_path / "mae" / "model.safetensors"
    flags += ["--out", tmp_path / "one", "--folds", 1, "--epochs", 2, "--same-time"]
    status, _, complaints = call(capsys)(benchmark, *flags, "--encoder", encoder)
    assert status == 0, complaints
    again = pd.read_csv(tmp_path / "one" / "gain.csv").set_index("arm").score
    assert again[pretrained] == table.score[1, pretrained]
    assert not (tmp_path / "one" / "fold-0" / "mae").exists() and longer in again
    status, _, complaints = call(capsys)(benchmark, *flags, "--encoder", "gone")
    assert status == 2 and "there is no such file" in complaints
    path = world / "prepared" / "manifest.csv"
    rows = pd.read_csv(path, keep_default_na=False, dtype=str)
    rows.assign(split="").to_csv(path, index=False)
    status, _, complaints = call(capsys)(benchmark, *flags, "--encoder", encoder)
    assert status == 2 and "its run.json does not name" in complaints
    record = encoder.with_name("run.json")
    made = json.loads(record.read_text())
    made["settings"]["manifest_sha256"] = file_digest(path)
    record.write_text(json.dumps(made))
    status, _, complaints = call(capsys)(benchmark, *flags, "--encoder", encoder)
    assert status == 2 and "no splits of its own" in complaints

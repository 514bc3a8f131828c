"""Training on the distributions of votes: 03, 04 and 05 with --loss softmax."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.finetuned import curriculum, train
from helpers.running import call
from helpers.toy_world import TINY, make_prepared
from sklearn.metrics import accuracy_score, f1_score

from common.emotions import ADAPTATION, BASIC, CHALLENGE_PAIRS, challenge_class, label_of
from common.manifest import read_manifest
from common.networks.classifier import expression_probabilities, load_classifier
from common.networks.formats import read_tensors
from common.script.files import UserError
from common.submission.ensemble import face_probabilities, load_ensemble
from common.training.evaluation import (
    describe_expressions,
    expression_scores,
    probabilities_of,
    say_score,
    score_predictions,
)
from common.training.folds import number_folds
from common.training.losses import label_prior, softmax_cross_entropy

SOFTMAX = ["--loss", "softmax", "--adapt-epochs", "0"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The toy world, its compounds with votes, some singles of Neutral and Contempt."""
    folder = make_prepared(tmp_path_factory.mktemp("votes"))
    path = folder / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    ballots = []
    for labels, kind in zip(table.labels, table.kind, strict=True):
        votes = {name: 5 for name in labels.split()} | {"Contempt": 1}
        text = " ".join(str(votes.get(name, 0)) for name in ADAPTATION)
        ballots.append(text if kind == "compound" else "")
    alone = table.index[table.dataset == "Toy"][::6]
    table.loc[alone, "labels"] = [("Neutral", "Contempt")[n % 2] for n in range(len(alone))]
    table.assign(votes=ballots).to_csv(path, index=False)
    return folder


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """The folder of a run of 03, with what it printed."""
    folder = tmp_path_factory.mktemp("run")

    def run(capsys):
        if not (folder / "single" / "run.json").exists():
            flags = [*SOFTMAX, "--epochs", "6", "--optimizer", "sgd", "--schedule", "one-cycle"]
            status, output, complaints = train(
                capsys, "03_finetune_single.py", world, folder, *flags, "--lr", "0.05"
            )
            assert status == 0, complaints
            (folder / "output.txt").write_text(output)
        return folder, (folder / "output.txt").read_text()

    return run


def test_cross_entropy_with_votes_is_its_formula():
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(5, 8)), random.dirichlet(np.ones(8), 5)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = softmax_cross_entropy(*map(torch.from_numpy, (logits, targets)))
    assert found.numpy() == pytest.approx(-(targets * np.log(shares)).sum(1))


def test_the_prior_of_a_softmax_is_that_of_exclusive_classes():
    settings = {"balance": "logit-adjustment", "balance_strength": 1.0, "loss": "softmax"}
    prior = label_prior(settings, np.array([[0.5, 0.5], [1.0, 0.0]]))
    assert prior.exp().tolist() == pytest.approx([0.75, 0.25])


def test_03_trains_on_every_single_and_every_image_with_votes(world, trained, capsys):
    folder, output = trained(capsys)
    manifest = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False)
    training = manifest[manifest.split == "train"]
    voted = (training.kind == "compound").sum()
    alone = ((training.kind == "single") & (training.dataset == "Toy")).sum()
    assert f"{voted} images with votes ({voted} of them compounds), {alone} with a label" in output
    report = json.loads((folder / "single" / "report.json").read_text())
    held_out = manifest[(manifest.split == "val") & manifest.dataset.isin(["Toy", "Toy-compound"])]
    scores = report["expressions"]
    assert scores["singles"] == held_out.labels.isin(ADAPTATION).sum()
    assert scores["basic"] == held_out.labels.isin(BASIC).sum() == report["frames"]
    assert scores["compounds"] == (held_out.kind == "compound").sum() == sum(scores["support"])
    assert f"eight expressions: accuracy {scores['accuracy']:.3f} over" in output
    epochs = pd.read_csv(folder / "single" / "metrics.csv")
    assert {"val_macro_f1", "val_accuracy", "val_compound_f1"} <= set(epochs)
    best = epochs.loc[epochs.val_macro_f1[::-1].idxmax()]  # of equals the last
    assert scores["six"] == pytest.approx(best.val_macro_f1) == pytest.approx(report["macro_f1"])
    assert scores["seven"] == pytest.approx(best.val_compound_f1)
    table = pd.read_csv(folder / "single" / "validation.csv")
    assert table[list(ADAPTATION)].to_numpy().sum(1) == pytest.approx(np.ones(len(table)), abs=1e-5)


def test_05_reads_eight_logits_as_the_shares_of_a_softmax(trained, capsys):
    folder, _ = trained(capsys)
    file = folder / "single" / "model.safetensors"
    ensemble = load_ensemble([file], "no", flip=False, shift=0.0)
    network, _ = load_classifier(file)
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    found = face_probabilities(ensemble, 16, images)
    assert found.shape == (3, 1, 1, 1, 6) and (found.sum(-1) < 1).all()
    logits = torch.randn(2, 8)
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    assert torch.allclose(expression_probabilities(logits), shares[:, :6])
    assert probabilities_of(logits.numpy()) == pytest.approx(shares.numpy(), abs=1e-6)
    assert torch.equal(expression_probabilities(logits[:, :6]), torch.sigmoid(logits[:, :6]))
    assert network.num_classes == 8


def test_weights_of_another_loss_are_refused(trained, tmp_path, capsys):
    folder, _ = trained(capsys)
    file = folder / "single" / "model.safetensors"
    record = json.loads(file.with_name("run.json").read_text())
    record["settings"]["loss"] = "bce"
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "model.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="has 8 logits, not the 6"):
        load_classifier(tmp_path / "model.safetensors")


def test_04_goes_on_with_eight_logits_from_03(world, trained, tmp_path, capsys):
    folder, _ = trained(capsys)
    init = folder / "single" / "model.safetensors"
    table = curriculum(capsys, world, tmp_path, *SOFTMAX[:2], "--init", init)
    assert table["single:Neutral"].min() > 0 and table["generated"].max() > 0
    tensors = read_tensors(tmp_path / "curriculum" / "model.safetensors")[0]
    assert tensors["head.weight"].shape[0] == 8
    common = ["--data-dir", world, "--run-dir", tmp_path / "other", "--init", init, *TINY]
    status, _, complaints = call(capsys)("04_curriculum.py", *common)
    assert status == 2 and "head.weight" in complaints


def test_04_may_go_from_certain_votes_to_mixed_ones(world, trained, tmp_path, capsys):
    folder, _ = trained(capsys)
    flags = [*SOFTMAX[:2], "--init", folder / "single" / "model.safetensors"]
    flags += ["--order", "entropy", "--mixes", "mixup", "--mixed-label", "soft"]
    table = curriculum(capsys, world, tmp_path, *flags, shares=(0, 0.5))
    # half of all, the most certain: no compound (each has votes for two); then all of them
    assert table.natural[0] == 0 < table.natural[1] and table.generated[0] == 0
    assert table.generated[1] == pytest.approx(table.loc[1, ["single", "natural"]].sum(), abs=1)
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    everything = (manifest.split == "train") & (manifest.dataset != "AffectNet")
    assert table.loc[0, ["single", "natural"]].sum() == everything.sum()


def test_folds_of_03_leave_out_their_compounds_with_votes(world, tmp_path, capsys):
    flags = [*SOFTMAX, "--epochs", "1", "--folds", "3", "--fold", "2"]
    status, output, complaints = train(capsys, "03_finetune_single.py", world, tmp_path, *flags)
    assert status == 0, complaints
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    fold_of = number_folds(manifest, 3)
    training = (manifest.split == "train") & (manifest.kind == "compound") & (fold_of != 2)
    assert f"{training.sum()} images with votes" in output
    held_out = (manifest.split == "val") & (manifest.kind == "compound") & (fold_of != 2)
    scores = json.loads((tmp_path / "single" / "fold-2" / "report.json").read_text())
    assert scores["expressions"]["compounds"] == held_out.sum()


def test_folds_of_04_warn_where_03_has_seen_their_compounds(world, trained, tmp_path, capsys):
    folder, _ = trained(capsys)
    (tmp_path / "single").symlink_to(folder / "single")
    flags = ["--loss", "softmax", "--folds", "3", "--fold", "1", "--stage-epochs", "1"]
    common = ["--data-dir", world, "--run-dir", tmp_path, *TINY]
    status, output, complaints = call(capsys)(
        "04_curriculum.py", *common, *flags, "--compound-shares", "0.5"
    )
    assert status == 0, complaints
    manifest = read_manifest(world / "prepared" / "manifest.csv")
    seen = (manifest.kind == "compound") & (manifest.split == "train")
    assert f"warning: {seen.sum()} of " in output


def test_scores_of_expressions_are_scikit_learns():
    random = np.random.default_rng(1)
    labels = [*random.choice(ADAPTATION, 200), "Anger Happiness"]
    labels += [label_of(CHALLENGE_PAIRS[n % 6]) for n in range(62)] + ["Anger Sadness"]
    probabilities = random.dirichlet(np.ones(8), len(labels))
    scores = expression_scores(labels, probabilities, "geometric")
    singles, basic = np.isin(labels, ADAPTATION), np.isin(labels, BASIC)
    names = np.array(labels, dtype=object)
    answers = np.array(ADAPTATION, dtype=object)[probabilities.argmax(1)]
    assert scores["accuracy"] == accuracy_score(list(names[singles]), list(answers[singles]))
    six = np.array(BASIC)[probabilities[basic, :6].argmax(1)]
    assert scores["six"] == pytest.approx(f1_score(list(names[basic]), six, average="macro"))
    seven = np.array([challenge_class(name) for name in labels])
    products = [probabilities[seven >= 0][:, list(pair)].prod(1) for pair in CHALLENGE_PAIRS]
    f1 = f1_score(
        seven[seven >= 0], np.argmax(products, 0), labels=range(7), average=None, zero_division=0
    )
    assert scores["f1"] == pytest.approx(f1) and scores["seven"] == pytest.approx(f1.mean())
    assert scores["support"] == [11, 11, 10, 10, 10, 10, 1] and scores["compounds"] == 63
    assert scores["five"] == pytest.approx(f1[:6].mean())
    assert scores["present"] == pytest.approx(f1.mean())
    assert "compounds" not in describe_expressions(expression_scores(["Fear"], np.eye(8)[:1]))
    nothing = expression_scores([], np.zeros((0, 8)))
    assert nothing["accuracy"] == nothing["seven"] == nothing["five"] == 0


def test_images_without_one_of_the_six_are_scored_by_the_eight_alone():
    everything = dict(zip(ADAPTATION, np.eye(8)[[6, 7]].T, strict=True))
    predictions = pd.DataFrame(
        {"image": "a.jpg", "labels": "Neutral", "group": ["a", "b"], **everything}
    )
    scores = score_predictions(predictions, BASIC, 0.3, seed=0)
    assert (scores["frames"], scores["macro_f1"], scores["interval"]) == (0, 0.0, None)
    assert scores["expressions"]["accuracy"] == 0.5
    said = []
    say_score(scores, said.append)
    assert "no interval" in said[0] and "accuracy 0.500 over 2 singles" in said[-1]

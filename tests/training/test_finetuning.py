"""Losses against their formulas, class balance, early ends; 03 and 04 as a user runs them."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from helpers.finetuned import curriculum, train
from helpers.running import call, record
from helpers.toy_world import make_prepared
from sklearn.metrics import average_precision_score, f1_score

from common.batches.batch import Batch
from common.emotions import ADAPTATION_SETS, BASIC, CHALLENGE_PAIRS
from common.script.flags import COMMON
from common.training import evaluation
from common.training.finetuning import choose_sets, draw_order, no_better_for
from common.training.losses import LOSSES, balanced_mse, expression_loss, label_prior, prior_logits

SETTINGS = dict.fromkeys(("jitter", "cutout", "rotation", "scale", "shift", "label_smoothing"), 0.0)
SETTINGS |= dict(mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("world"))


def weights(folder):
    return safetensors.torch.load_file(folder / "curriculum" / "model.safetensors")


def test_balanced_mse_is_minus_the_log_share_of_the_own_label_written_out():
    random = np.random.default_rng(0)
    logits, everyone = random.normal(size=(3, 6)), (random.random((8, 6)) < 0.3).astype(float)
    own = everyone[[0, 4, 5]]
    for sigma in (1.0, 0.5):
        expected = []
        for z, t in zip(logits, own, strict=True):
            likely = [math.exp(-sum((z - other) ** 2) / (2 * sigma**2)) for other in everyone]
            own_one = math.exp(-sum((z - t) ** 2) / (2 * sigma**2))
            expected.append(-2 * sigma**2 * math.log(own_one / sum(likely)))
        found = balanced_mse(*map(torch.from_numpy, (logits, own, everyone)), sigma)
        assert found.numpy() == pytest.approx(expected, rel=1e-12)


def test_balanced_mse_is_the_published_cross_entropy_over_a_multivariate_normal():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn((8, 6), generator=random)
    labels = (torch.rand((8, 6), generator=random) < 0.3).float()
    # Ren et al. 2022, bmc_loss_md: the batch's labels are the classes
    normal = torch.distributions.MultivariateNormal(logits.unsqueeze(1), torch.eye(6))
    published = torch.nn.functional.cross_entropy(
        normal.log_prob(labels.unsqueeze(0)), torch.arange(8), reduction="none"
    )
    assert torch.allclose(balanced_mse(logits, labels, labels, 1.0), 2 * published, atol=1e-5)


def batch_with(targets):
    """A batch of black images that are not mixed, as the loop hands it to a loss."""
    count = len(targets)
    images = torch.zeros((count, 3, 4, 4), dtype=torch.uint8)
    return Batch(
        images,
        images[:0],
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(count).byte(),
        torch.ones(count),
        torch.rand(count, 2),
        targets=targets,
        uniform=torch.rand(count, 8),
        valid=torch.ones(count).bool(),
        any_facs=False,
        step_targets=targets,
    )


@pytest.mark.parametrize(
    ("balance", "strength"), [("none", 1.0), ("logit-adjustment", 1.0), ("logit-adjustment", 0.2)]
)
def test_cross_entropy_is_equation_one_beside_the_prior(balance, strength):
    seen = np.eye(6)[[0] * 5 + [1] * 2 + [2, 3, 4]]  # Surprise half of all, Anger never
    settings = dict(loss="bce", balance=balance, balance_strength=strength, **SETTINGS)
    given = torch.linspace(-2, 2, 12).view(2, 6)
    batch = batch_with(torch.eye(6)[[1, 4]])
    found = expression_loss(settings, label_prior(settings, seen))(lambda images: given, batch)
    for row, emotion in enumerate((1, 4)):
        total = 0.0
        for k, z in enumerate(given[row].tolist()):
            share = min(max(seen[:, k].mean(), 1e-6), 1 - 1e-6)
            z = z + math.log(share / (1 - share)) * (balance != "none") * strength
            probability = 1 / (1 + math.exp(-z))
            total -= math.log(probability if k == emotion else 1 - probability)
        assert found[row].item() == pytest.approx(total, rel=1e-4)


def test_every_loss_that_the_flag_knows_is_one_to_train_with():
    assert set(COMMON["loss"]["choices"]) == set(LOSSES)
    batch = batch_with(torch.eye(6)[[1, 4]])
    for name in LOSSES:
        loss = expression_loss(dict(loss=name, **SETTINGS))
        near, far = batch.targets.clone().requires_grad_(), 1 - batch.targets
        right, wrong = (loss(lambda images, z=z: z, batch) for z in (near, far))
        assert right.shape == (2,) and (right < wrong).all(), name
        right.sum().backward()
        assert near.grad.isfinite().all(), name


def test_the_help_of_03_names_the_sets_it_adapts_on(capsys):
    _, output, _ = call(capsys)("03_finetune_single.py", "--help")
    assert f"(default: {', '.join(ADAPTATION_SETS)})" in " ".join(output.split())


def test_a_prior_of_exclusive_classes_is_their_logarithm():
    prior = prior_logits(np.eye(2)[[0, 0, 0, 1]], exclusive=True)
    assert prior.tolist() == pytest.approx([math.log(0.75), math.log(0.25)])


def test_balanced_sampling_shows_rare_emotions_as_often_as_frequent_ones():
    rows, classes = np.arange(100, 200), np.repeat([0, 1, 2], [80, 15, 5])
    order = draw_order(rows, classes, "sampling", np.random.default_rng(0))
    counts = np.bincount(classes[order - 100])
    assert len(order) == 100 and counts.max() - counts.min() <= 1
    for label in range(3):  # every image of an emotion before any once more
        seen = np.bincount(order - 100, minlength=100)[classes == label]
        assert seen.max() - seen.min() <= 1
    plain = draw_order(rows, classes, "none", np.random.default_rng(0))
    assert sorted(plain) == rows.tolist()


def test_training_stops_after_the_stated_epochs_without_a_better_score():
    rows = [{"val_macro_f1": score} for score in (0.9, 0.1, 0.3, 0.3, 0.2, 0.2)]
    assert [no_better_for(2)(rows[:n]) for n in (1, 2, 3, 4)] == [False, False, True, True]
    assert [no_better_for(2, first=1)(rows[:n]) for n in (3, 4, 5, 6)] == [False] * 2 + [True] * 2
    rows[2:4] = [{}, {}]  # not validated, and epochs all the same
    assert [no_better_for(3)(rows[:n]) for n in range(7)] == [False] * 5 + [True] * 2
    assert not no_better_for(None)(rows) and not no_better_for(1)([{"loss": 1.0}] * 5)


def test_the_account_in_the_metrics_is_what_was_asked_for(world, tmp_path, capsys):
    shares = (0, 0.25, 1)
    table = curriculum(
        capsys,
        world,
        tmp_path,
        "--epoch-images",
        40,
        "--natural-share",
        0.4,
        stages=(1, 2, 1),
        shares=shares,
    )
    assert table.stage.tolist() == [1, 2, 2, 3]
    for row in table.to_dict("records"):
        compounds = round(40 * shares[row["stage"] - 1])
        assert row["single"] == 40 - compounds
        assert row["natural"] == round(0.4 * compounds) == compounds - row["generated"]
        for kind in ("single", "natural", "generated"):
            classes = [n for key, n in row.items() if key.startswith(f"{kind}:")]
            assert sum(classes) == row[kind] and len(classes) == (6 if kind == "single" else 7)
            if kind == "generated":
                assert max(classes) - min(classes) <= 1


@pytest.mark.parametrize("more", [(), ("--loss", "bmc", "--cutmix", "facs", "--ema", "0.5")])
def test_the_result_does_not_depend_on_the_images_computed_at_once(world, tmp_path, capsys, more):
    for size in ("5", "12"):
        curriculum(capsys, world, tmp_path / size, "--batch-size", size, *more)
    small, large = weights(tmp_path / "5"), weights(tmp_path / "12")
    assert all(torch.allclose(small[key], large[key], atol=1e-4) for key in small)


def test_a_share_of_the_classifier_that_04_starts_from_may_be_kept(world, tmp_path, capsys):
    curriculum(capsys, world, tmp_path / "first")
    start = tmp_path / "first" / "curriculum" / "model.safetensors"
    flags = ["--init", start, "--keep", "last"]
    for share in ("0", "0.4"):
        curriculum(capsys, world, tmp_path / share, *flags, "--start-share", share)
    before = safetensors.torch.load_file(start)
    trained, mixed = (weights(tmp_path / share) for share in ("0", "0.4"))
    for key in before:
        assert torch.allclose(mixed[key], trained[key].lerp(before[key], 0.4), atol=1e-6)
    command = ["--start-share", "0.5", "--stage-epochs", "1", "--compound-shares", "0"]
    status, _, complaints = train(capsys, "04_curriculum.py", world, tmp_path / "n", *command)
    assert status == 2 and "--init none has none" in complaints


def test_the_classes_of_a_head_without_a_record_are_said(world, tmp_path, capsys):
    curriculum(capsys, world, tmp_path / "first")
    start = tmp_path / "alone.safetensors"
    start.write_bytes((tmp_path / "first" / "curriculum" / "model.safetensors").read_bytes())
    one = ["--init", start, "--stage-epochs", "1", "--compound-shares", "0", "--keep", "last"]
    status, output, _ = train(capsys, "04_curriculum.py", world, tmp_path / "next", *one)
    assert status == 0 and f"its classes are taken to be {', '.join(BASIC)}, in this" in output


def test_the_report_agrees_with_the_kept_predictions(world, tmp_path, capsys):
    curriculum(capsys, world, tmp_path)
    folder = tmp_path / "curriculum"
    report = json.loads((folder / "report.json").read_text())
    kept = pd.read_csv(folder / "validation.csv", keep_default_na=False)
    manifest = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False)
    held = manifest[(manifest.kind == "compound") & (manifest.split == "val")]
    assert kept.image.tolist() == held.image.tolist()
    probabilities = kept[list(BASIC)].to_numpy()
    sums = np.stack([probabilities[:, list(pair)].sum(1) for pair in CHALLENGE_PAIRS], axis=1)
    names = [" ".join(sorted(BASIC[i] for i in pair)) for pair in CHALLENGE_PAIRS]
    truth = kept.labels.map(names.index)
    expected = f1_score(truth, sums.argmax(1), labels=range(7), average="macro", zero_division=0)
    assert report["macro_f1"] == pytest.approx(expected)
    assert report["macro_f1"] == pytest.approx(record(folder)["phases"]["curriculum"]["best"])
    shown = np.array([[name in text.split() for name in BASIC] for text in kept.labels])
    for index in range(6):
        f1 = f1_score(shown[:, index], probabilities[:, index] >= 0.5, zero_division=0)
        assert report["emotions"]["f1"][index] == pytest.approx(f1)
        if shown[:, index].any():
            area = average_precision_score(shown[:, index], probabilities[:, index])
            assert report["emotions"]["average_precision"][index] == pytest.approx(area, abs=1e-4)


@pytest.mark.parametrize(
    ("subjects", "words"),
    [
        (["a", "a", "b", "b"], "4 images, of 2 persons or videos)"),
        (["a", "a", "b", ""], "4 images, of 2 persons or videos, 1 of unknown persons)"),
        (["", "", "", ""], "4 images, persons unknown)"),
    ],
)
def test_images_of_unknown_persons_are_not_counted_as_persons(subjects, words):
    images = [f"images/Mine/{letter}.jpg" for letter in "pqrs"]
    rows = pd.DataFrame({"image": images, "dataset": "Mine", "subject": subjects, "labels": "Fear"})
    table = evaluation.prediction_table(rows, np.zeros((4, 6)))
    score = evaluation.score_predictions(table, BASIC, 0.5, seed=0)
    lines = []
    evaluation.say_score(score, lines.append)
    assert words in lines[0] and score["persons_unknown"] == subjects.count("")


def test_the_papers_recipe_adapts_on_what_is_there(world, tmp_path, capsys):
    status, output, complaints = train(
        capsys,
        "03_finetune_single.py",
        world,
        tmp_path,
        "--config",
        "configs/paper.toml",
        "--adapt-epochs",
        1,
        "--epochs",
        1,
    )
    assert status == 0, complaints
    assert "adapt: 37 images" in output  # AffectNet alone; Aff-Wild2 is not prepared
    sets = ("AffectNet", "AffectNet+", "Aff-Wild2", "s-Aff-Wild2", "RAF-DB-basic")
    manifest = pd.DataFrame({"dataset": pd.Categorical(sets)})
    assert choose_sets(manifest, None, "").tolist() == [False] * 4 + [True]


def test_weights_of_the_last_epoch_are_kept_where_asked(world, tmp_path, capsys):
    scores = {}
    for kept in ("last", "best"):
        options = ("--keep", kept, "--lr", 0.02)
        table = curriculum(capsys, world, tmp_path / kept, *options, stages=(7, 1), shares=(1, 0))
        report = json.loads((tmp_path / kept / "curriculum" / "report.json").read_text())
        scores[kept] = report["macro_f1"]
    assert table.val_macro_f1.iloc[-1] < table.val_macro_f1.max()  # or this test says nothing
    assert scores["last"] == pytest.approx(table.val_macro_f1.iloc[-1], abs=1e-4)
    assert scores["best"] == pytest.approx(table.val_macro_f1.max(), abs=1e-4)


def test_singles_end_early_and_report_each_emotion(world, tmp_path, capsys):
    status, output, _ = train(
        capsys,
        "03_finetune_single.py",
        world,
        tmp_path,
        "--adapt-epochs",
        1,
        "--epochs",
        30,
        "--early-stop",
        1,
        "--balance",
        "sampling",
    )
    assert status == 0
    table = pd.read_csv(tmp_path / "single" / "metrics.csv")
    scores = table.val_macro_f1[table.phase == "single"].tolist()
    assert len(scores) < 30 and scores[-1] <= max(scores[:-1])
    report = json.loads((tmp_path / "single" / "report.json").read_text())
    assert report["classes"] == list(BASIC)
    assert report["macro_f1"] == pytest.approx(max(scores), abs=1e-4)
    assert "left out, not one of the six emotions: no image" in output
    assert all(f"  {name}" in output for name in BASIC)


def test_labels_that_are_none_of_the_six_are_counted(world, tmp_path, capsys):
    manifest = pd.read_csv(world / "prepared" / "manifest.csv", keep_default_na=False, dtype=str)
    manifest.loc[manifest.index[manifest.dataset == "Toy"][:3], "labels"] = "Neutral"
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "images").symlink_to(world / "prepared" / "images")
    manifest.to_csv(tmp_path / "prepared" / "manifest.csv", index=False)
    status, output, _ = train(
        capsys, "03_finetune_single.py", tmp_path, tmp_path, "--adapt-epochs", 0, "--epochs", 1
    )
    assert status == 0 and "left out, not one of the six emotions: 3 Neutral" in output
    assert "no training image shows" not in output


def test_an_emotion_without_an_image_is_told_in_training_and_in_the_score(tmp_path, capsys):
    world = make_prepared(tmp_path)
    path = world / "prepared" / "manifest.csv"
    manifest = pd.read_csv(path, keep_default_na=False, dtype=str)
    manifest[manifest.labels != "Fear"].to_csv(path, index=False)
    status, output, _ = train(
        capsys, "03_finetune_single.py", world, tmp_path, "--adapt-epochs", 0, "--epochs", 1
    )
    assert status == 0 and "no training image shows Fear, so it is not learnt" in output
    assert "at most 0.833, as a class without an image counts 0" in output


def test_04_tells_how_many_training_images_it_leaves_out(tmp_path, capsys):
    world = make_prepared(tmp_path)
    path = world / "prepared" / "manifest.csv"
    manifest = pd.read_csv(path, keep_default_na=False, dtype=str)
    held = manifest.subject[(manifest.kind == "compound") & (manifest.split == "val")].iloc[0]
    seen = manifest.index[(manifest.dataset == "Toy") & (manifest.split == "train")]
    short = ("--stage-epochs", 1, "--compound-shares", 0)
    _, output, _ = train(capsys, "04_curriculum.py", world, tmp_path / "whole", *short)
    assert f"{len(seen)} singles" in output and "left out" not in output
    manifest.loc[seen[:3], ["dataset", "subject"]] = ["Toy-compound", held]
    manifest.to_csv(path, index=False)
    _, output, _ = train(capsys, "04_curriculum.py", world, tmp_path / "shared", *short)
    assert f"{len(seen) - 3} singles" in output and "to validate; 3 left out, whose" in output


def test_04_with_the_network_of_another_model_is_told_what_03_was_trained_with(
    world, tmp_path, capsys
):
    short = ("--adapt-epochs", 0, "--epochs", 1, "--model-options", "depth=2")
    assert train(capsys, "03_finetune_single.py", world, tmp_path, *short)[0] == 0
    init = ("--init", tmp_path / "single" / "model.safetensors", "--stage-epochs", 1)
    init += ("--compound-shares", 0)
    status, _, complaint = train(capsys, "04_curriculum.py", world, tmp_path, *init)
    assert (
        status == 2 and "They were trained with --model vit_tiny_patch16_224 --image" in complaint
    )
    flags = complaint.partition("trained with ")[2].strip().rstrip(".").split()
    assert train(capsys, "04_curriculum.py", world, tmp_path, *init, *flags)[0] == 0


def test_an_epoch_chosen_on_a_test_split_is_told(tmp_path, capsys):
    world = make_prepared(tmp_path)
    path = world / "prepared" / "manifest.csv"
    short = {
        "03_finetune_single.py": ("--epochs", 1, "--adapt-epochs", 0),
        "04_curriculum.py": ("--stage-epochs", 1, "--compound-shares", 1),
    }
    for script, options in short.items():
        _, output, _ = train(capsys, script, world, tmp_path / "val", *options)
        assert "no test score" not in output
    path.write_text(path.read_text().replace(",val,", ",test,"))
    for script, options in short.items():
        _, output, _ = train(capsys, script, world, tmp_path / "test", *options)
        assert "the epoch is chosen on the test split of Toy" in output
    last = train(capsys, script, world, tmp_path / "last", *options, "--keep", "last")
    assert "no test score" not in last[1]


def test_without_natural_compounds_the_user_is_told(tmp_path, capsys):
    world = make_prepared(tmp_path, compounds=0)
    status, output, _ = train(
        capsys,
        "04_curriculum.py",
        world,
        tmp_path,
        *("--stage-epochs", 1, "--compound-shares", 1, "--epoch-images", 12),
    )
    assert status == 0
    assert "warning: there are no natural compounds" in output and "unvalidated" in output
    status, _, complaints = train(capsys, "04_curriculum.py", world, tmp_path, "--folds", 2)
    assert status == 2 and "--folds divides the labelled compounds" in complaints

"""What settings of fine-tuning do to the weights, the labels and the record of a run."""

import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.running import call, record
from helpers.toy_world import TINY

from common.batches.batch import RANDOMS, Batch
from common.batches.curriculum import Mixing, Stock, draw_epoch
from common.networks.classifier import create_classifier
from common.networks.formats import read_tensors
from common.script.files import UserError
from common.training import finetuning, losses
from common.training.optimization import Average, freeze, make_optimizer

TINY_VIT = (
    "vit_tiny_patch16_224",
    16,
    {"patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2},
)


@pytest.fixture
def single(squares, tmp_path, capsys):
    """Return a function that runs 03 on the squares from random weights."""

    def run(*settings, model=TINY, folder="run"):
        common = ["--data-dir", squares, "--run-dir", tmp_path / folder, "--adapt-epochs", "0"]
        arguments = [*common, "--init", "none", "--epochs", "2", "--lr", "3e-3", *model, *settings]
        status, output, complaints = call(capsys)("03_finetune_single.py", *arguments)
        assert status == 0, complaints
        return tmp_path / folder / "single", output

    return run


def test_gradients_above_a_norm_are_scaled_down_to_it(single):
    free, _ = single(folder="free")
    norms = pd.read_csv(free / "metrics.csv").gradient_norm
    assert (norms > 0.05).all()
    # AdamW divides by the gradient's size, so it shows in the weights through its epsilon alone:
    # a norm far below that stops learning.
    clipped, _ = single("--clip-grad", "1e-12", folder="clipped")
    loss = pd.read_csv(clipped / "metrics.csv").loss
    assert loss.iloc[1] == pytest.approx(loss.iloc[0], rel=0.02)
    assert pd.read_csv(free / "metrics.csv").loss.iloc[1] < 0.98 * loss.iloc[1]
    assert np.allclose(
        pd.read_csv(clipped / "metrics.csv").gradient_norm.iloc[0], norms.iloc[0], rtol=0.5
    )


def test_a_frozen_encoder_stays_bit_for_bit_and_the_head_learns(single):
    start, _ = single(folder="start")
    file = str(start / "model.safetensors")
    before = read_tensors(file)[0]
    frozen, output = single("--init", file, "--freeze", "encoder", folder="frozen")
    after = read_tensors(frozen / "model.safetensors")[0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"} and "frozen:" in output


def test_freezing_blocks_keeps_the_stem_and_the_first_of_them():
    network = create_classifier(*TINY_VIT)
    freeze(network, 2, ["head.weight", "head.bias"])
    still = {
        name.split(".")[0] + "." + name.split(".")[1]
        if name.startswith("blocks")
        else name.split(".")[0]
        for name, weight in network.named_parameters()
        if not weight.requires_grad
    }
    assert still == {"cls_token", "pos_embed", "patch_embed", "blocks.0", "blocks.1"}
    with pytest.raises(UserError, match="has 3 blocks"):
        freeze(network, 4, [])


def test_frozen_batch_normalisation_keeps_its_statistics():
    network = create_classifier("resnet18", 32)
    freeze(network, "encoder", ["fc.weight", "fc.bias"])
    before = network.bn1.running_mean.clone()
    network.train()
    network(torch.randn(4, 3, 32, 32))
    assert torch.equal(network.bn1.running_mean, before)


def test_the_head_learns_alone_in_its_first_epochs(single):
    start, _ = single(folder="start")
    file = str(start / "model.safetensors")
    before = read_tensors(file)[0]
    warmed, _ = single("--init", file, "--head-epochs", "2", folder="warmed")
    after = read_tensors(warmed / "model.safetensors")[0]
    encoder = [name for name in before if not name.startswith("head.")]
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    half, _ = single("--init", file, "--head-epochs", "0.5", folder="half")
    after = read_tensors(half / "model.safetensors")[0]
    assert not all(torch.equal(before[name], after[name]) for name in encoder)


def test_groups_of_the_head_hold_the_same_weights_with_the_same_decay():
    network = create_classifier(*TINY_VIT)
    head = finetuning.head_parameters(network)
    for decay in (1.0, 0.75):
        plain, apart = (make_optimizer(network, 1e-3, 0.05, decay, names) for names in ((), head))
        settings = [
            {
                id(w): (g["weight_decay"], g["base_lr"])
                for g in one.param_groups
                for w in g["params"]
            }
            for one in (plain, apart)
        ]
        assert settings[0] == settings[1]
        marked = {id(w) for g in apart.param_groups if g.get("head") for w in g["params"]}
        assert marked == {id(network.get_parameter(name)) for name in head}


def test_smoothed_labels_keep_their_sum():
    targets = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    smoothed = losses.smooth(targets, 0.2)
    expected = [[0.85, 0.05, 0.05, 0.05], [0.45, 0.45, 0.05, 0.05]]
    assert torch.allclose(smoothed, torch.tensor(expected))
    assert losses.smooth(targets, 0.0) is targets


def test_balanced_singles_of_the_curriculum_show_each_emotion_equally_often():
    targets = np.eye(6, dtype=np.float32)[[0] * 40 + [1] * 5 + [2] * 3]
    stock = Stock(targets, np.arange(48), np.arange(0))
    plan, account = draw_epoch(stock, 60, 0, Mixing(), np.random.default_rng(0), balanced=True)
    assert (plan.targets.sum(0) == [20, 20, 20, 0, 0, 0]).all()
    assert account["single"] == 60


def test_an_average_carries_the_statistics_of_batch_normalisation_too():
    network = create_classifier("resnet18", 32)
    average = Average(network, 0.5)
    network.bn1.running_mean.fill_(1.0)
    average.update(100)
    with average.applied():
        assert torch.allclose(network.bn1.running_mean, torch.tensor(0.5))
    assert torch.equal(network.bn1.running_mean, torch.ones(64))


# Small ones of each family; all others go the same way.
FAMILIES = [
    "resnet18",
    "efficientnet_b0",
    "convnext_atto",
    "mobilenetv3_small_050",
    "ghostnet_050",
]


@pytest.mark.parametrize("model", FAMILIES)
def test_networks_of_other_families_are_trained_and_come_back(single, model):
    small = ["--model", model, "--image-size", "32", "--global-batch", "46", "--batch-size", "46"]
    small += ["--workers", "0", "--mixed-precision", "no"]
    folder, _ = single("--layer-decay", "0.8", "--epochs", "1", model=small)
    other, report = finetuning.start_classifier(
        model, 32, {}, str(folder / "model.safetensors"), keep_head=True
    )
    assert report.taken == len(other.state_dict()) and not report.new


def test_trackers_get_every_epoch_at_its_own_step(squares, tmp_path, capsys, monkeypatch):
    from common.training import journal

    logged = []
    accelerator = types.SimpleNamespace(
        trackers=["one"], log=lambda values, step: logged.append((step, values))
    )
    run = types.SimpleNamespace(
        accelerator=accelerator, notes={"phases": {"adapt": {"epochs": 3}}}, say=print
    )
    row = {"phase": "single", "epoch": 2, "loss": 0.5, "learning_rate": 1e-3, "gradient_norm": 2.0}
    row |= {"images_per_s": 10.0, "data_wait": 0.0, "unreadable": 0}
    journal.report_epoch(run, row, 4, 0)
    step, values = logged[0]
    assert step == 5
    assert values["single/learning_rate"] == 1e-3 and values["single/gradient_norm"] == 2.0


def test_weights_and_colours_that_a_run_starts_from_stand_in_its_record(single):
    start, _ = single("--mean", "0.1", "0.2", "0.3", folder="start")
    file = str(start / "model.safetensors")
    after, output = single("--init", file, folder="after")
    settings = record(after)
    assert settings["settings"]["mean"] == [0.1, 0.2, 0.3]
    assert (
        settings["weights"][0]["source"] == file and "head.weight" in settings["weights"][0]["new"]
    )
    assert "tensors taken" in output


def test_the_first_epochs_show_smaller_images():
    sides = []

    class Network(torch.nn.Module):
        def forward(self, images):
            sides.append(tuple(images.shape[2:]))
            return images.mean((2, 3)).repeat(1, 2)

    settings = dict(loss="bce", small_size=12, label_smoothing=0.0, jitter=0.0, cutout=0.0)
    settings |= dict(mean=(0.5,) * 3, std=(0.2,) * 3, rotation=0.0, scale=0.0, shift=0.0)
    count, found = 4, {}
    batch = Batch(
        images=torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8),
        partners=torch.zeros(0, 3, 16, 16, dtype=torch.uint8),
        partner_rows=torch.zeros(0, dtype=torch.int64),
        form=torch.zeros(count, dtype=torch.uint8),
        extent=torch.ones(count),
        window=torch.tensor([[0.0, 1.0]]).repeat(count, 1),
        targets=torch.eye(count, 6),
        uniform=torch.rand(count, RANDOMS),
        valid=torch.ones(count, dtype=torch.bool),
        any_facs=False,
    )
    for small_epochs in (0, 2):
        loss = losses.expression_loss(settings, None, small_epochs)
        found[small_epochs] = [loss(Network(), replace(batch, epoch=epoch)) for epoch in range(3)]
    assert sides == [(16, 16)] * 3 + [(12, 12)] * 2 + [(16, 16)]
    # smaller images are the same images: their means are nearly alike
    assert torch.allclose(found[0][0], found[2][0], atol=0.05)
    assert torch.equal(found[0][2], found[2][2])


def test_validating_now_and_then_changes_no_weight(single):
    flags = ("--epochs", "5", "--keep", "last")
    often, _ = single(*flags, folder="often")
    rarely, _ = single(*flags, "--validate-every", "2", folder="rarely")
    scores = [pd.read_csv(folder / "metrics.csv").val_macro_f1 for folder in (often, rarely)]
    assert scores[1].isna().tolist() == [True, False, True, False, False]
    assert (scores[0] == scores[1])[[1, 3, 4]].all()
    files = [read_tensors(str(folder / "model.safetensors"))[0] for folder in (often, rarely)]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])


def test_the_best_of_the_validated_epochs_is_kept(single):
    folder, _ = single("--epochs", "4", "--validate-every", "3")
    scores = pd.read_csv(folder / "metrics.csv").val_macro_f1
    assert record(folder)["phases"]["single"]["best"] == pytest.approx(scores.max(), abs=1e-5)


def test_a_training_does_not_end_early_among_its_smaller_images(single):
    flags = ("--epochs", "6", "--small-epochs", "3", "--small-size", "8", "--early-stop", "1")
    still = ("--lr", "1e-12")  # never better
    folder, _ = single(*flags, *still, model=[*TINY, "dynamic_img_size=True"])
    assert len(pd.read_csv(folder / "metrics.csv")) == 3 + 2


def test_smaller_images_are_shown_by_03_to_networks_that_take_them(
    single, squares, tmp_path, capsys
):
    cnn = ["--model", "cnn_small", "--image-size", "16"]
    losses = []
    for small in ("0", "1", "2"):
        flags = ("--epochs", "3", "--small-epochs", small, "--small-size", "8")
        folder, _ = single(*flags, model=cnn, folder=small)
        losses.append(pd.read_csv(folder / "metrics.csv").loss)
    whole, one, two = losses
    assert whole[0] != one[0] == two[0] and one[1] != two[1]
    flags = ["--data-dir", squares, "--run-dir", tmp_path / "no", "--init", "none"]
    for more, complaint in (
        ([*TINY, "--small-epochs", "1", "--small-size", "8"], "does not take images of 8 px"),
        ([*cnn, "--epochs", "2", "--small-epochs", "2"], "leaves none of 2 epochs"),
        ([*cnn, "--small-epochs", "1", "--small-size", "16"], "is not smaller than --image-size"),
    ):
        status, _, complaints = call(capsys)("03_finetune_single.py", *flags, *more)
        assert status == 2 and complaint in complaints and not (tmp_path / "no").exists()

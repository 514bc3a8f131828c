"""What 03 and 04 refuse before they train, each in one sentence."""

import os

import pytest
from helpers.finetuned import train
from helpers.toy_world import make_prepared


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("world"))


def test_an_early_stop_that_could_never_come_is_refused(world, tmp_path, capsys):
    status, _, complaint = train(capsys, "04_curriculum.py", world, tmp_path, "--early-stop", 2)
    assert status == 2 and "could never end a run" in complaint and "N may be 1" in complaint
    stages = ("--stage-epochs", 1, 9, "--compound-shares", 0, 1, "--lr", 0.1)
    status, output, _ = train(
        capsys, "04_curriculum.py", world, tmp_path, "--early-stop", 1, *stages
    )
    assert status == 0 and "no better for a while" in output


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("04_curriculum.py", "--folds 1", "2 or more"),
        ("03_finetune_single.py", "--balance-strength 0.2", "--balance logit-adjustment"),
        ("04_curriculum.py", "--fold 2", "--folds"),
        ("04_curriculum.py", "--folds 3 --fold 4", "not one of 1 to 3"),
        ("04_curriculum.py", "--stage-epochs 5,5", "'5,5' is not a whole number"),
        ("04_curriculum.py", "--crop-area 1 0.5", "smallest share of the area"),
        ("04_curriculum.py", "--crop-area 0 1", "smallest share of the area"),
        ("04_curriculum.py", "--drop-path 1", "not from 0 to below 1"),
        ("04_curriculum.py", "--model-options patch_size=9", "multiple of patch_size"),
        (
            "04_curriculum.py",
            "--model vit_tony_patch16_224",
            "nearest known is vit_tiny_patch16_224",
        ),
        ("04_curriculum.py", "--folds 50", "21 subjects"),
        ("04_curriculum.py", "--mixup-beta 0", "--mixup-beta"),
        ("04_curriculum.py", "--pairs raf11 --cutmix facs", "seven"),
        ("04_curriculum.py", "--validate-on Toy-compond", "nearest known is Toy-compound"),
        ("04_curriculum.py", "--natural-share 1.5", "--natural-share"),
        ("04_curriculum.py", "--warmup-epochs -1", "--warmup-epochs"),
        ("03_finetune_single.py", "--loss bmc --balance logit-adjustment", "balanced by itself"),
        ("03_finetune_single.py", "--epochs 9 --validate-every 9", "choose --keep last"),
        ("03_finetune_single.py", "--epochs 9 --early-stop 8", "N may be 7"),
        ("03_finetune_single.py", f"--epochs 1{'0' * 15} --early-stop 1{'0' * 15}", "be 9999999"),
        ("03_finetune_single.py", "--model-options embed_dim=0", "with --model-options embed_dim"),
        ("03_finetune_single.py", "--model-options patch_size=0", "patch_size=0"),
        ("03_finetune_single.py", "--model-options img_size=32", "cannot set img_size"),
        ("04_curriculum.py", "--model-options num_classes=3", "cannot set num_classes"),
        (
            "04_curriculum.py",
            "--stage-epochs 4 5 --compound-shares 0 1 --validate-every 9",
            "choose --keep last",
        ),
        (
            "04_curriculum.py",
            "--stage-epochs 4 9 --compound-shares 0 1 --validate-every 3 --early-stop 7",
            "may be 6",
        ),
        ("04_curriculum.py", "--order none --balance sampling", "singles and compounds together"),
        ("04_curriculum.py", "--start-share 1", "nothing is learned"),
        ("04_curriculum.py", "--mixes mixup cutmix mixup", "one form twice"),
        ("04_curriculum.py", "--mixup-weight 0", "one of two faces"),
        (
            "04_curriculum.py",
            "--stage-epochs 4 1 --compound-shares 0 1 --early-stop 1 --keep last",
            "leave it out",
        ),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(
    world, tmp_path, capsys, script, arguments, expected
):
    status, _, complaints = train(capsys, script, world, tmp_path, *arguments.split())
    assert status == 2 and expected in complaints
    assert complaints.count("\n") == 1 and complaints.startswith("error: ")
    assert not list(tmp_path.rglob("model.safetensors"))


def test_weights_that_no_run_has_written_are_not_overwritten(world, tmp_path, capsys):
    mine = tmp_path / "single" / "model.safetensors"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    status, _, complaint = train(capsys, "03_finetune_single.py", world, tmp_path)
    assert status == 2 and f"{mine.parent} holds model.safetensors without" in complaint
    assert mine.read_bytes() == b"mine" and os.listdir(mine.parent) == [mine.name]


def test_compounds_that_nothing_can_make_are_refused(tmp_path, capsys):
    world = make_prepared(tmp_path, compounds=0)
    options = ("--compound-shares", 0.5, "--stage-epochs", 1, "--mixes")
    status, _, complaint = train(capsys, "04_curriculum.py", world, tmp_path, *options)
    assert status == 2 and "--mixes is empty" in complaint
    assert not (tmp_path / "curriculum").exists()
    options = ("--compound-shares", 0, "--stage-epochs", 1, "--mixes")
    assert train(capsys, "04_curriculum.py", world, tmp_path, *options)[0] == 0

"""Training as a user runs it: stages that join, survive interruption, and agree on any machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest
import safetensors.torch
import torch
from accelerate.commands.config.config_args import load_config_from_file
from helpers.running import ROOT, call, record, run_warm, start_warm, wait_for
from helpers.toy_world import TINY, make_prepared

from common.script.files import only_process

DECODER = ["--decoder-dim", "16", "--decoder-depth", "1", "--decoder-heads", "2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("world"))


def pretrain(world, folder, *more, start):
    flags = ("--data-dir", world, "--run-dir", folder, *TINY, *DECODER, "--warmup-epochs", "1")
    return start("02_pretrain_mae.py", *flags, *more)


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """All three stages, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    common = ["--data-dir", world, "--run-dir", folder, *TINY, "--lr", "3e-3"]
    finish = partial(run_warm, folder / "log")
    pretrain(world, folder, "--epochs", 4, start=finish)
    finish("03_finetune_single.py", *common, "--epochs", 3, "--adapt-epochs", 1)
    finish("04_curriculum.py", *common, "--stage-epochs", 1, 1, "--compound-shares", 0, 0.5)
    return folder


def test_the_three_stages_leave_what_the_next_one_needs(whole):
    for stage in ("mae", "single", "curriculum"):
        done = record(whole / stage)
        assert (
            done["finished"] and done["settings"]["manifest_sha256"] and done["versions"]["torch"]
        )
        assert not list((whole / stage / "state").iterdir())
    assert (whole / "mae" / "reconstructions.png").read_bytes()[:4] == b"\x89PNG"
    assert set(weights(whole / "curriculum")) == set(weights(whole / "single"))
    phases = pd.read_csv(whole / "single" / "metrics.csv").phase.tolist()
    assert phases == ["adapt", "single", "single", "single"]


def test_the_account_of_the_curriculum_adds_up(whole):
    table = pd.read_csv(whole / "curriculum" / "metrics.csv")
    assert (table.single + table.natural + table.generated).nunique() == 1
    assert table.natural[0] == table.generated[0] == 0
    compounds = table.natural[1] + table.generated[1]
    assert compounds == pytest.approx(table.single[1], abs=1)
    assert table.val_macro_f1.between(0, 1).all()


def test_a_finished_stage_is_not_run_again_and_other_settings_are_refused(world, whole, capsys):
    before = (whole / "mae" / "model.safetensors").stat().st_mtime_ns
    status, output, _ = pretrain(world, whole, "--epochs", 4, start=call(capsys))
    assert status == 0 and "finished already" in output
    status, _, complaints = pretrain(
        world, whole, "--epochs", 4, "--blr", "1e-3", start=call(capsys)
    )
    assert status == 2 and "blr was" in complaints
    assert (whole / "mae" / "model.safetensors").stat().st_mtime_ns == before


def test_a_record_from_before_a_flag_agrees_with_its_default(world, whole, tmp_path, capsys):
    shutil.copytree(whole / "mae", tmp_path / "mae")
    older = record(tmp_path / "mae")
    assert older["settings"].pop("ema") == 0
    (tmp_path / "mae" / "run.json").write_text(json.dumps(older))
    status, output, _ = pretrain(world, tmp_path, "--epochs", 4, start=call(capsys))
    assert status == 0 and "finished already" in output
    again = ("--epochs", 4, "--ema", "0.9")
    status, _, complaints = pretrain(world, tmp_path, *again, start=call(capsys))
    assert status == 2 and "ema was 0.0, now 0.9" in complaints


def test_a_killed_run_whose_newest_state_is_damaged_goes_on_from_the_one_before(
    world, whole, tmp_path
):
    arguments = (world, tmp_path, "--epochs", 4, "--save-minutes", "0.0001")
    log = tmp_path / "log"
    started = pretrain(*arguments, start=partial(start_warm, log))
    assert wait_for(lambda: len(list(tmp_path.glob("mae/state/*.pt"))) > 1, started), (
        log.read_text()
    )
    started.kill()
    started.join(60)
    assert not (tmp_path / "mae" / "model.safetensors").exists()
    newest = max(tmp_path.glob("mae/state/*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    output = pretrain(*arguments, start=partial(run_warm, log))
    assert re.search(r"resuming from epoch \d, step", output)
    assert "damaged" in output
    resumed, undisturbed = weights(tmp_path / "mae"), weights(whole / "mae")
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in undisturbed)


@pytest.mark.parametrize(
    ("script_name", "arguments", "expected"),
    [
        ("02_pretrain_mae.py", "--data-dir {empty}", "manifest.csv"),
        ("02_pretrain_mae.py", "--data-dir {world} --mask-ration 1", "--mask-ratio"),
        ("03_finetune_single.py", "--data-dir {world}", "mae/model.safetensors"),
        ("03_finetune_single.py", "--data-dir {world} --datasets Toi --init none", "Toi"),
        ("04_curriculum.py", "--data-dir {world} --stage-epochs 1", "sub-stages"),
        ("04_curriculum.py", "--data-dir {world} --datasets Faces --init none", "single"),
        ("04_curriculum.py", "--data-dir {world} --init {image}", "weights"),
        ("02_pretrain_mae.py", "--data-dir {world} --mask-ratio 1", "--mask-ratio"),
        ("02_pretrain_mae.py", "--data-dir {world} --decoder-dim 30", "--decoder-dim"),
        ("02_pretrain_mae.py", "--data-dir {world} --picture-every 0", "--picture-every"),
        ("02_pretrain_mae.py", "--data-dir {world} --report-to nosuch", "nosuch"),
        ("02_pretrain_mae.py", "--data-dir {world} --run-dir {image}", "Not a directory"),
        (
            "03_finetune_single.py",
            "--data-dir {world} --init none --adapt-datasets AfectNet",
            "the nearest known is AffectNet",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_no_result(
    world, tmp_path, capsys, script_name, arguments, expected
):
    image = next((world / "prepared").rglob("*.png"))
    filled = arguments.format(world=world, empty=tmp_path, image=image).split()
    status, _, complaints = call(capsys)(script_name, "--run-dir", tmp_path / "run", *TINY, *filled)
    assert status == 2
    assert expected in complaints
    assert complaints.count("\n") == 1 and complaints.startswith("error: ")
    assert not list(tmp_path.rglob("model.safetensors"))


def test_weights_that_do_not_suit_a_stage_are_refused(world, whole, tmp_path, capsys):
    arguments = ["--data-dir", world, "--run-dir", tmp_path / "run", *TINY, "--init"]
    encoder = whole / "mae" / "model.safetensors"
    status, _, complaints = call(capsys)("04_curriculum.py", *arguments, encoder)
    assert status == 2 and "without a head" in complaints
    shutil.copytree(whole / "single", tmp_path / "single")
    unfinished = json.dumps({**record(whole / "single"), "finished": False})
    (tmp_path / "single" / "run.json").write_text(unfinished)
    weights = tmp_path / "single" / "model.safetensors"
    status, _, complaints = call(capsys)("04_curriculum.py", *arguments, weights)
    assert status == 2 and "has not ended" in complaints


def test_a_run_folder_is_one_runs_alone(world, tmp_path, capsys):
    with only_process(tmp_path / "mae"):
        status, _, complaints = pretrain(world, tmp_path, "--epochs", 1, start=call(capsys))
    assert status == 2 and str(os.getpid()) in complaints


def test_every_switch_can_be_set_in_a_recipe(world, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[pretrain_mae]\nnorm_pix_loss = true\nepochs = 1\n")
    status, _, complaints = pretrain(
        world, tmp_path, "--config", recipe, "--limit", 12, start=call(capsys)
    )
    assert status == 0, complaints
    assert record(tmp_path / "mae")["settings"]["norm_pix_loss"] is True


def test_each_epoch_says_how_long_is_left(world, tmp_path):
    log = tmp_path / "log"
    started = pretrain(world, tmp_path, "--epochs", 2000, start=partial(start_warm, log))
    pattern = r"mae 3/2000.*  (\d+) img/s  about ([\d.]+) (s|min|h) left\n"
    found = partial(re.search, pattern)
    assert wait_for(lambda: log.exists() and found(log.read_text()), started), log.read_text()
    started.kill()
    started.join(60)
    speed, left, unit = found(log.read_text()).groups()
    by_speed = 1997 * 100 / int(speed)  # 100 images an epoch; validation comes on top
    whole = {"s": 1, "min": 60, "h": 3600}[unit]  # the time is rounded to one of these
    assert 0.9 * by_speed - whole / 2 < float(left) * whole < 3 * by_speed + whole / 2


def test_an_unreadable_image_is_replaced_and_named_but_many_stop_the_run(tmp_path, capsys):
    world = make_prepared(tmp_path / "world")
    images = sorted((world / "prepared/images/Faces").iterdir())
    images[0].unlink()
    status, output, complaints = pretrain(
        world, tmp_path / "run", "--epochs", 2, start=call(capsys)
    )
    assert status == 0, complaints
    assert f"1 images could not be read and were replaced: images/Faces/{images[0].name}" in output
    done = record(tmp_path / "run/mae")["phases"]["mae"]
    assert done["unreadable"] == [f"images/Faces/{images[0].name}"]
    assert pd.read_csv(tmp_path / "run/mae/metrics.csv").unreadable.tolist() == [1, 1]
    for number in range(0, 60, 4):
        (world / f"prepared/images/Toy/{number}.png").unlink(missing_ok=True)
    status, _, complaints = pretrain(world, tmp_path / "other", "--epochs", 2, start=call(capsys))
    assert status == 2 and "images/Toy/" in complaints and complaints.count("\n") == 1
    assert not (tmp_path / "other/mae/model.safetensors").exists()


def test_a_loss_that_is_not_finite_stops_with_its_step_and_images(world, tmp_path, capsys):
    status, _, complaints = pretrain(
        world, tmp_path, "--epochs", 30, "--blr", "1e30", start=call(capsys)
    )
    assert status == 2 and complaints.count("\n") == 1
    assert re.search(r"not finite in epoch 1, step \d, at learning rate \d\.\d+e\+2\d", complaints)
    assert (tmp_path / "mae/not_finite.txt").read_text().count("images/") == 12
    assert "images/" in complaints and not (tmp_path / "mae/model.safetensors").exists()


def test_an_average_of_the_weights_is_what_is_saved_and_survives_interruption(
    world, tmp_path, capsys
):
    flags = ("--epochs", 3, "--ema", 0.9, "--save-minutes", "0.0001")
    assert pretrain(world, tmp_path / "whole", *flags, start=call(capsys))[0] == 0
    assert pretrain(world, tmp_path / "plain", *flags[:2], start=call(capsys))[0] == 0
    log, states = tmp_path / "log", tmp_path / "cut" / "mae" / "state"
    started = pretrain(world, tmp_path / "cut", *flags, start=partial(start_warm, log))
    assert wait_for(lambda: len(list(states.glob("*.pt"))) > 1, started), log.read_text()
    started.terminate()
    started.join(60)
    assert started.exitcode == 143
    newest = max(tmp_path.glob("cut/mae/state/*.pt"))
    state = torch.load(newest, weights_only=True)
    assert state["average"]
    assert pretrain(world, tmp_path / "cut", *flags, start=call(capsys))[0] == 0
    kept, resumed, plain = (weights(tmp_path / name / "mae") for name in ("whole", "cut", "plain"))
    assert all(torch.equal(kept[key], resumed[key]) for key in kept)
    assert not torch.equal(kept["blocks.0.attn.qkv.weight"], plain["blocks.0.attn.qkv.weight"])


def test_a_probe_tells_whether_the_encoder_learns(world, tmp_path, capsys):
    flags = ("--epochs", 3, "--probe", 2)
    status, output, complaints = pretrain(world, tmp_path, *flags, start=call(capsys))
    assert status == 0, complaints
    table = pd.read_csv(tmp_path / "mae" / "metrics.csv")
    assert table.probe_accuracy.notna().tolist() == [False, True, True]  # the last epoch always
    assert "mae: 100 images on cpu, float32 (23 held out for validation)" in output
    assert re.search(r"img/s, \d+\.\d% of the time waiting for data", output)
    # the squares' colours tell their labels: even a random encoder's features do
    assert table.probe_macro_f1[1] > 0.9 and "probe_macro_f1" in output
    for row in ("probe_accuracy", "probe_macro_f1"):
        assert table[row].dropna().between(0, 1).all()


def test_help_does_not_wait_for_torch():
    code = (
        "import runpy, sys; sys.argv = ['02_pretrain_mae.py', '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--mask-ratio" in done.stdout, done.stderr


def test_training_needs_no_reader_of_videos():
    for room in ("training", "networks", "batches"):
        for path in (ROOT / "common" / room).glob("*.py"):
            heavy = re.findall(
                r"^(?:from|import) (?:common\.(?:raw|faces|submission)|av)\b.*",
                path.read_text(),
                re.M,
            )
            assert not heavy, f"{path.name}: {heavy}"


def test_pretraining_goes_on_from_an_autoencoder_decoder_and_all(world, whole, tmp_path, capsys):
    start = whole / "mae" / "autoencoder.safetensors"
    flags = ("--epochs", 1, "--init", start, "--blr", "1e-12")  # too slow to change anything
    status, output, complaints = pretrain(world, tmp_path, *flags, start=call(capsys))
    assert status == 0 and "the decoder: too" in output, complaints
    before, after = (
        safetensors.torch.load_file(folder / "mae" / "autoencoder.safetensors")
        for folder in (whole, tmp_path)
    )
    assert set(before) == set(after)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


@pytest.mark.parametrize(
    ("name", "machines", "processes"),
    [("one_gpu", 1, 1), ("eight_gpus", 1, 8), ("two_nodes", 2, 16)],
)
def test_accelerate_reads_its_configurations(name, machines, processes):
    path = ROOT / "configs" / "accelerate" / f"{name}.yaml"
    read = load_config_from_file(str(path))  # refuses keys that it does not know
    assert (read.num_machines, read.num_processes) == (machines, processes)

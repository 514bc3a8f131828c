"""One process and several give the same, together write once, and go on for each other."""

from __future__ import annotations

import os
import signal
import stat

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from toy_world import TINY, make_prepared, record, run_warm, start_two, wait_for

LONG = ["--lr", "3e-3"]
STAGES = {
    "mae": [
        *("02_pretrain_mae.py", "--decoder-dim", "16", "--decoder-depth", "1"),
        *("--decoder-heads", "2", "--warmup-epochs", "1", "--epochs", "3", "--ema", "0.9"),
    ],
    "single": ["03_finetune_single.py", *LONG, "--epochs", "3", "--adapt-epochs", "1"],
    "curriculum": [
        *("04_curriculum.py", *LONG, "--stage-epochs", "1", "2", "--compound-shares", "0", "0.5"),
    ],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory):
    """All three stages, on one process."""
    folder = tmp_path_factory.mktemp("alone")
    for stage in STAGES:
        run_warm(folder / "log", *command(stage, world, folder))
    return folder


def command(stage, world, folder):
    return [*STAGES[stage], "--data-dir", world, "--run-dir", folder, *TINY]


def inherit(alone, folder, stage):
    for name in STAGES:
        if name == stage:
            break
        (folder / name).symlink_to(alone / name)


def assert_alike(found, expected):
    """Compare the weights and the figures of all epochs to float error."""
    one, two = (safetensors.torch.load_file(f / "model.safetensors") for f in (found, expected))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=2e-4)
    one, two = (pd.read_csv(f / "metrics.csv") for f in (found, expected))
    assert np.allclose(one.loss, two.loss, rtol=1e-4)
    if "val_macro_f1" in one:
        assert np.allclose(one.val_macro_f1, two.val_macro_f1, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_give_what_one_gives(world, alone, tmp_path, stage):
    # 12 images a step in passes of 5, so 2 and 1 of them; the last step's 1 to 11 do not divide.
    inherit(alone, tmp_path, stage)
    both = start_two(tmp_path / "log", *command(stage, world, tmp_path))
    for process in both:
        process.join(60)
    text = (tmp_path / "log").read_text()
    assert [process.exitcode for process in both] == [0, 0], text
    assert record(tmp_path / stage)["processes"] == 2
    assert_alike(tmp_path / stage, alone / stage)
    # Only the first process speaks; torch itself may warn in each.
    lines = [line for line in text.splitlines() if line.startswith((stage, "adapt"))]
    assert len(lines) == len(set(lines)) > 3, text
    files = [path for path in (tmp_path / stage).rglob("*") if path.is_file()]
    assert files and all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in files)


@pytest.mark.parametrize("struck", [(0, 1), (1,)])
def test_one_process_goes_on_where_two_were_stopped(world, alone, tmp_path, struck):
    inherit(alone, tmp_path, "curriculum")
    arguments = [*command("curriculum", world, tmp_path), "--save-minutes", "0.0001"]
    both = start_two(tmp_path / "log", *arguments)
    assert wait_for(lambda: len(list(tmp_path.glob("*/state/*.pt"))) > 1, both[0])
    for rank in struck:
        os.kill(both[rank].pid, signal.SIGTERM)
    for process in both:
        process.join(30)
    text = (tmp_path / "log").read_text()
    assert [process.exitcode for process in both] == [143, 143], text
    assert text.count("Stopped by SIGTERM") == (0 in struck) and "Traceback" not in text
    assert "going on from" in run_warm(tmp_path / "log", *arguments)
    assert_alike(tmp_path / "curriculum", alone / "curriculum")


def test_the_seed_alone_decides(world, alone, tmp_path):
    again = tmp_path / "again"
    run_warm(tmp_path / "log", *command("mae", world, again), "--workers", "2")
    other = tmp_path / "other"
    run_warm(tmp_path / "log", *command("mae", world, other), "--seed", "1")
    results = [f / "mae" / "model.safetensors" for f in (alone, again, other)]
    first, same, different = (path.read_bytes() for path in results)
    assert first == same and first != different

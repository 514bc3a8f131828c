"""One process and several give the same, together write once, and go on for each other."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from helpers.running import ROOT, record, run_warm, start_two, wait_for
from helpers.toy_world import SAVE_ALWAYS, STAGES, command, inherit


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
def test_two_processes_give_what_one_gives(squares, trained, tmp_path, stage):
    # 12 images a step in passes of 5, so 2 and 1 of them; the last step's 1 to 11 do not divide.
    inherit(trained, tmp_path, stage)
    both = start_two(tmp_path / "log", *command(stage, squares, tmp_path))
    for process in both:
        process.join(60)
    text = (tmp_path / "log").read_text()
    assert [process.exitcode for process in both] == [0, 0], text
    assert record(tmp_path / stage)["processes"] == 2
    assert_alike(tmp_path / stage, trained / stage)
    # Only the first process speaks; torch itself may warn in each.
    lines = [line for line in text.splitlines() if line.startswith((stage, "adapt"))]
    assert len(lines) == len(set(lines)) > 3, text
    files = [path for path in (tmp_path / stage).rglob("*") if path.is_file()]
    assert files and all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in files)


@pytest.mark.parametrize("struck", [(0, 1), (1,)])
def test_one_process_goes_on_where_two_were_stopped(squares, trained, tmp_path, struck):
    inherit(trained, tmp_path, "curriculum")
    arguments = [*command("curriculum", squares, tmp_path), *SAVE_ALWAYS]
    both = start_two(tmp_path / "log", *arguments)
    assert wait_for(lambda: len(list(tmp_path.glob("*/state/*.pt"))) > 1, both[0])
    for rank in struck:
        os.kill(both[rank].pid, signal.SIGTERM)
    for process in both:
        process.join(30)
    text = (tmp_path / "log").read_text()
    assert [process.exitcode for process in both] == [143, 143], text
    assert text.count("Stopped by SIGTERM") == (0 in struck) and "Traceback" not in text
    assert "resuming from" in run_warm(tmp_path / "log", *arguments)
    assert_alike(tmp_path / "curriculum", trained / "curriculum")


# What stands for SLURM's own commands where both nodes are this machine.
SLURM = {
    "scontrol": "echo 127.0.0.1",
    "srun": 'for node in 0 1; do SLURM_NODEID=$node "$@" & done; wait -n && wait -n',
}


@pytest.mark.slow
def test_two_nodes_under_slurm_give_what_one_process_gives(squares, trained, tmp_path):
    for name, line in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    job = dict(SLURM_JOB_ID=os.getpid(), SLURM_NNODES=2, SLURM_GPUS_ON_NODE=1)
    job |= dict(SLURM_JOB_NODELIST="here[1-2]", ACCELERATE_USE_CPU="true", OMP_NUM_THREADS=1)
    job["PATH"] = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = ["bash", "configs/slurm/two_nodes.sh", *command("mae", squares, tmp_path)]
    found = subprocess.run(
        [*map(str, words)],
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in job.items()}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert record(tmp_path / "mae")["processes"] == 2
    assert_alike(tmp_path / "mae", trained / "mae")


def test_the_seed_alone_decides(squares, trained, tmp_path):
    again = tmp_path / "again"
    run_warm(tmp_path / "log", *command("mae", squares, again), "--workers", "2")
    other = tmp_path / "other"
    run_warm(tmp_path / "log", *command("mae", squares, other), "--seed", "1")
    results = [f / "mae" / "model.safetensors" for f in (trained, again, other)]
    first, same, different = (path.read_bytes() for path in results)
    assert first == same and first != different

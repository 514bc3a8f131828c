"""The measurement of GPUs: every part of it runs, at toy size, where there is no GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from helpers.running import ROOT

COMMAND = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]


@pytest.mark.slow
def test_every_part_runs_at_toy_size_without_a_gpu(tmp_path):
    words = [*COMMAND, "--cpu", "--minutes", "15", "--out", str(tmp_path)]
    found = subprocess.run(words, capture_output=True, text=True, timeout=1000)
    assert found.returncode == 0, found.stdout + found.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert not record["left_out"]
    assert {row["part"] for row in record["rows"]} == {
        *("steps", "runs", "tests", "loader", "predict")
    }
    for row in record["rows"]:
        assert row["part"] == "tests" or row["rate"] > 0, row
        assert "ran out" not in row.get("note", "") and "no time" not in row.get("note", "")
    (tests,) = (row for row in record["rows"] if row["part"] == "tests")
    assert tests["note"] == "11 skipped" or torch.cuda.is_available()
    table = (tmp_path / "gpu.md").read_text()
    assert "mean nothing" in table and all(row["what"] in table for row in record["rows"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    found = subprocess.run(COMMAND, capture_output=True, text=True, timeout=120)
    assert found.returncode == 2 and "no CUDA GPU" in found.stderr

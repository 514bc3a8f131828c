"""Runs read on data that they have never seen: which images, which answers, which interval."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.finetuned import train
from helpers.running import call
from helpers.toy_world import make_ferplus, make_prepared
from PIL import Image

from benchmarks.across import in_gray
from common.emotions import BASIC

BENCHMARK = "benchmarks/across.py"


def test_a_run_is_judged_on_its_held_out_images_and_on_all_of_another_set(tmp_path, capsys):
    own, other = make_prepared(tmp_path / "own"), make_ferplus(tmp_path / "other")
    path = other / "prepared" / "manifest.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    table.loc[table.split == "val", "split"] = "test"
    table.to_csv(path, index=False)
    status, *_ = train(capsys, "03_finetune_single.py", own, tmp_path / "run", "--epochs", "3")
    assert status == 0
    run = tmp_path / "run" / "single"
    report = json.loads((run / "report.json").read_text())
    flags = ["--runs", run, "--on", own, other, "--no-flip", "--out", tmp_path / "table.md"]
    status, output, complaints = call(capsys)(BENCHMARK, *flags)
    assert status == 0, complaints
    assert (tmp_path / "table.md").read_text() in output
    line = next(line for line in output.splitlines() if line.startswith(f"| {run}"))
    own_cell, other_cell = (cell.strip() for cell in line.strip("| ").split(" | ")[1:])
    # 03 keeps AffectNet for the adaptation; here all singles of the six count that it holds out
    held_out = pd.read_csv(own / "prepared" / "manifest.csv", dtype=str)
    held_out = held_out[(held_out.kind == "single") & (held_out.split == "val")]
    assert f"n = {len(held_out)}," in own_cell and own_cell.endswith("held out")
    assert report["frames"] <= len(held_out)
    seen = (table.kind == "single") & table.labels.isin(BASIC) & (table.split != "test")
    assert f"n = {seen.sum()}," in other_cell and "held out" not in other_cell
    assert 0 <= float(other_cell.split()[0]) <= 1
    # of data that have changed since, the training images are unknown
    manifest = own / "prepared" / "manifest.csv"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    status, _, complaints = call(capsys)(BENCHMARK, *flags)
    assert status == 2 and "was prepared anew" in complaints


def test_faces_without_colours_are_pillows_gray():
    faces = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    seen = []
    in_gray(lambda x: seen.append(x) or np.zeros((len(x), 8)))(faces)
    gray = np.asarray(Image.fromarray(faces[0].permute(1, 2, 0).numpy()).convert("L"), dtype=int)
    assert (seen[0][0] == seen[0][0, :1]).all()
    assert np.abs(seen[0][0, 0].int().numpy() - gray).max() <= 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--on", "."], "Nothing is judged"), (["--on", ".", "--runs", "nowhere"], "run.json")],
)
def test_what_cannot_be_judged_is_said(tmp_path, capsys, flags, message):
    world = make_prepared(tmp_path / "own")
    flags = [world if flag == "." else flag for flag in flags]
    status, _, complaints = call(capsys)(BENCHMARK, *flags)
    assert status == 2 and message in complaints and complaints.count("\n") == 1

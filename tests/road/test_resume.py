"""Whatever ends a training run, the same command goes on and ends with the same weights."""

from __future__ import annotations

import itertools
import os
import signal
import time
from contextlib import suppress

import pandas as pd
import pytest
import safetensors.torch
import torch
from helpers.running import record, run_warm, start_warm, wait_for
from helpers.toy_world import SAVE_ALWAYS, command, inherit

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGKILL: -9}
STATUS[signal.SIGUSR1] = 138
DROPS = {"mae": [], "single": [], "curriculum": ["--drop-path", "0.2"]}

# Each pass of a step moves the statistics of their batch normalisation.
CONVOLUTIONS = ["--model", "cnn_small", "--model-options", "--init", "none", "--adapt-epochs", "0"]
CONVOLUTIONS += ["--keep", "last"]


@pytest.fixture(scope="module")
def whole(squares, finetuned, tmp_path_factory):
    """All three stages, undisturbed, the last with dropped paths: a state keeps its dice too."""
    folder = tmp_path_factory.mktemp("whole")
    inherit(finetuned, folder, "curriculum")
    run_warm(folder / "log", *command("curriculum", squares, folder), *DROPS["curriculum"])
    return folder


def assert_same(found, expected):
    """Compare the weights bit for bit, and the figures of all epochs."""
    one, two = (safetensors.torch.load_file(f / "model.safetensors") for f in (found, expected))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    speeds = ["images_per_s", "data_wait"]
    one, two = (pd.read_csv(f / "metrics.csv").drop(columns=speeds) for f in (found, expected))
    pd.testing.assert_frame_equal(one, two)


def states(folder, stage):
    return sorted((folder / stage / "state").glob("*.pt"))


@pytest.mark.parametrize(
    ("stage", "workers", "more"),
    [("mae", 0, []), ("single", 1, []), ("curriculum", 1, []), ("single", 0, CONVOLUTIONS)],
)
def test_a_run_stopped_again_and_again_ends_with_the_same_weights(
    squares, whole, tmp_path, stage, workers, more
):
    if more:
        whole = tmp_path / "whole"
        run_warm(tmp_path / "log", *command(stage, squares, whole), *more)
    inherit(whole, tmp_path, stage)
    arguments = [*command(stage, squares, tmp_path), *DROPS[stage], *more, *SAVE_ALWAYS]
    arguments += ["--workers", workers]
    stops = 0
    for number in itertools.cycle(STATUS):
        before = states(tmp_path, stage)[-1:]
        process = start_warm(tmp_path / "log", *arguments)
        moved = wait_for(lambda: before != states(tmp_path, stage)[-1:], process)  # noqa: B023
        if not moved:
            break
        time.sleep(0.01 * (stops % 5))
        with suppress(ProcessLookupError):  # it was quicker
            # With workers, as a terminal or a scheduler does it.
            (os.killpg if workers else os.kill)(process.pid, number)
        process.join(20)
        if record(tmp_path / stage)["finished"]:  # struck when all was done
            assert process.exitcode in (0, STATUS[number], -number), (tmp_path / "log").read_text()
            break
        assert process.exitcode == STATUS[number], (tmp_path / "log").read_text()
        stops += 1
    process.join(20)
    text = run_warm(tmp_path / "log", *arguments)  # finished already, and says so
    assert stops >= 5
    assert text.count("the same command continues from here") == text.count("Stopped by")
    assert "Traceback" not in text and "Exception" not in text
    assert_same(tmp_path / stage, whole / stage)
    assert not list(tmp_path.rglob(".*.part"))

"""On a CUDA GPU: what the CPU computes, in each number format, compiled, and two processes on one.

`python -m pytest -m cuda` runs these and the tests of float16 in test_devices.py, on the GPU.
"""

from __future__ import annotations

import socket

import pandas as pd
import pytest
import safetensors.torch
import torch
from helpers.running import WARM, be_script, record, run_warm, start_warm
from helpers.toy_world import STAGES, command, inherit

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
# Without TF32, whose products have ten bits: then a GPU's float32 is that of a CPU.
GPU = dict(ACCELERATE_USE_CPU="false", NVIDIA_TF32_OVERRIDE="0")


def on_gpu(stage, squares, trained, folder, *more):
    """Run a stage on the GPU from the weights that the CPU's run started from; return its folder.

    more: flags, which come after those of the CPU's run.
    """
    folder.mkdir(exist_ok=True)
    inherit(trained, folder, stage)
    run_warm(folder / "log", *command(stage, squares, folder), *more, **GPU)
    assert record(folder / stage)["device"] == torch.cuda.get_device_name()
    return folder / stage


def losses(folder):
    return torch.tensor(pd.read_csv(folder / "metrics.csv").loss.to_numpy())


@pytest.mark.parametrize("stage", STAGES)
def test_a_gpu_gives_in_float32_what_a_cpu_gives(stage, squares, trained, tmp_path):
    found = on_gpu(stage, squares, trained, tmp_path, "--no-compile")
    torch.testing.assert_close(losses(found), losses(trained / stage), rtol=1e-3, atol=0)
    one, two = (
        safetensors.torch.load_file(f / "model.safetensors") for f in (found, trained / stage)
    )
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("stage", ["mae", "curriculum"])
def test_bfloat16_learns_like_float32(stage, squares, trained, tmp_path):
    found = on_gpu(stage, squares, trained, tmp_path, "--mixed-precision", "bf16", "--no-compile")
    torch.testing.assert_close(losses(found), losses(trained / stage), rtol=0.05, atol=0)


def test_float16_learns_like_float32(squares, trained, tmp_path):
    found = on_gpu("mae", squares, trained, tmp_path, "--mixed-precision", "fp16", "--no-compile")
    torch.testing.assert_close(losses(found), losses(trained / "mae"), rtol=0.05, atol=0)
    assert "skipped_steps" in pd.read_csv(found / "metrics.csv")


def share_a_gpu(log, words, environment):
    """Be a script that meets the others by gloo: NCCL takes no two processes on one GPU."""
    begin = torch.distributed.init_process_group

    def by_gloo(backend=None, **options):
        begin(backend="gloo", **options)

    torch.distributed.init_process_group = by_gloo
    be_script(log, words[0], words[1:], environment)


@pytest.mark.parametrize("stage", ["mae", "curriculum"])
def test_two_processes_on_one_gpu_give_what_one_gives(stage, squares, trained, tmp_path):
    inherit(trained, tmp_path, stage)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [*map(str, command(stage, squares, tmp_path)), "--no-compile"]
    group = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2", LOCAL_RANK="0", **GPU)
    both = [
        WARM.Process(target=share_a_gpu, args=(tmp_path / "log", words, {**group, "RANK": rank}))
        for rank in "01"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    text = (tmp_path / "log").read_text()
    assert [process.exitcode for process in both] == [0, 0], text
    assert record(tmp_path / stage)["processes"] == 2
    torch.testing.assert_close(losses(tmp_path / stage), losses(trained / stage), rtol=1e-3, atol=0)


def test_a_run_interrupted_on_the_gpu_goes_on(squares, trained, tmp_path):
    words = [*command("mae", squares, tmp_path), "--no-compile", "--save-minutes", "0.0001"]
    process = start_warm(tmp_path / "log", *words, **GPU)
    while process.is_alive() and not list(tmp_path.glob("mae/state/*.pt")):
        process.join(0.01)
    process.terminate()
    process.join(60)
    assert process.exitcode == 143, (tmp_path / "log").read_text()
    run_warm(tmp_path / "log", *words, **GPU)
    assert "resuming from" in (tmp_path / "log").read_text()
    torch.testing.assert_close(losses(tmp_path / "mae"), losses(trained / "mae"), rtol=1e-3, atol=0)


@pytest.mark.parametrize("stage", ["mae", "curriculum"])
def test_a_compiled_network_gives_the_same(stage, squares, trained, tmp_path):
    found = on_gpu(stage, squares, trained, tmp_path, "--compile")
    torch.testing.assert_close(losses(found), losses(trained / stage), rtol=1e-3, atol=0)

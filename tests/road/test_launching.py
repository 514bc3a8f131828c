"""Every launch file and documented command starts the processes it names, or says why not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from helpers.running import ROOT, call
from helpers.toy_world import TINY
from torch.distributed.run import get_args_parser

CONFIGS = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
# Prints which of how many processes it is, in one piece.
COUNTED = """import os
line = f"rank {os.environ.get('RANK', 0)} of {os.environ.get('WORLD_SIZE', 1)}.\\n"
os.write(1, line.encode())
"""


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_launch_file_starts_as_many_processes_as_it_says(config, tmp_path):
    settings, port = yaml.safe_load(config.read_text()), free_port()
    (tmp_path / "counted.py").write_text(COUNTED)
    machines, processes = settings["num_machines"], settings["num_processes"]
    started = []
    for machine in range(machines):
        command = [*LAUNCH, "--config_file", config, "--main_process_port", port]
        if machines > 1:
            command += ["--machine_rank", str(machine), "--main_process_ip", "127.0.0.1"]
        started.append(
            subprocess.Popen(
                [*map(str, command), str(tmp_path / "counted.py")],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    output = "".join(process.communicate(timeout=120)[0] for process in started)
    found = sorted(re.findall(r"rank (\d+) of (\d+)\.", output))
    assert found == sorted((str(rank), str(processes)) for rank in range(processes)), output


def documented() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("0*.py"), *CONFIGS]
    found = []
    for page in pages:
        text = page.read_text().replace("\\\n#", " ").replace("\\\n", " ")
        pattern = r"(?:accelerate launch|torchrun) [^\n`]*0\d_\w+\.py"
        found += [(page.name, command) for command in re.findall(pattern, text)]
    return found


def test_documented_launches_are_understood_and_name_files_that_exist():
    commands = documented()
    assert len(commands) > 10
    for page, command in commands:
        parser = launch_command_parser() if command.startswith("acc") else get_args_parser()
        words = command.replace("accelerate launch", "").replace("torchrun", "").split()
        read = parser.parse_args(words)
        assert (ROOT / read.training_script).is_file(), (page, command)
        if config := getattr(read, "config_file", None):
            assert (ROOT / config).is_file(), (page, command)


def pretraining(tmp_path):
    return "02_pretrain_mae.py", "--run-dir", tmp_path, *TINY


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        # What accelerate launch sets with a configuration of type MULTI_CPU.
        (
            dict(ACCELERATE_MIXED_PRECISION="no", ACCELERATE_USE_CPU="True", MASTER_ADDR="here"),
            "on CPUs it starts only one",
        ),
        (
            dict(WORLD_SIZE="2", RANK="1", LOCAL_RANK="1", ACCELERATE_USE_CPU="false"),
            "no GPU is visible",
        ),
        (dict(ACCELERATE_DYNAMO_BACKEND="INDUCTOR"), "--compile"),
        (dict(ACCELERATE_GRADIENT_ACCUMULATION_STEPS="2"), "--global-batch"),
        (dict(ACCELERATE_MIXED_PRECISION="fp8"), "--mixed-precision"),
        (dict(ACCELERATE_USE_DEEPSPEED="true"), "whole network"),
        (dict(ACCELERATE_USE_FSDP="true"), "whole network"),
        (dict(ACCELERATE_USE_MEGATRON_LM="true"), "whole network"),
        (dict(ACCELERATE_USE_PARALLELISM_CONFIG="true"), "whole network"),
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else "",
)
def test_a_launch_that_would_not_do_what_it_says_is_refused(
    environment, words, squares, tmp_path, monkeypatch, capsys
):
    from accelerate.state import AcceleratorState

    if words == "no GPU is visible" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = call(capsys)(*pretraining(tmp_path), "--data-dir", squares)
    assert found[0] == 2 and words in found[2] and "Traceback" not in found[2], found
    assert not (tmp_path / "mae" / "run.json").exists()


def test_what_the_launcher_sets_by_itself_is_no_wish(monkeypatch):
    from common.training.runs import _refuse_launcher_settings

    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    _refuse_launcher_settings("bf16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    _refuse_launcher_settings("bf16")


def test_half_precision_that_a_cpu_does_not_have_is_refused(squares, tmp_path, capsys):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    words = [*pretraining(tmp_path), "--data-dir", squares, "--mixed-precision", "fp16"]
    status, _, complaint = call(capsys)(*words)
    assert status == 2 and "fp16 needs a GPU" in complaint

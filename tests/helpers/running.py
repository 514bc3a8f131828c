"""Ways to run our scripts: as a user does, in this process, or forked with torch imported."""

import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_here(name: str, *arguments) -> None:
    """Run a script's main in this process; what it raises is its caller's to judge."""
    main = runpy.run_path(str(ROOT / name), run_name="tested")["main"]
    before, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        main()
    finally:
        sys.argv = before


def script(name: str, *arguments, processes: int = 1, **options) -> subprocess.Popen:
    """Start a script as a user would, on one or several CPU processes."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        command += [str(processes)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(ROOT / name), *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(name: str, *arguments, processes: int = 1) -> tuple[int, str, str]:
    """Run a script to its end; return its exit status, output and complaints."""
    started = script(name, *arguments, processes=processes)
    output, complaints = started.communicate(timeout=120)
    return started.returncode, output, complaints


def call(capsys):
    """Return a function like `run` that stays in this process: faster, for runs that end early."""

    def in_process(name: str, *arguments, processes: int = 1) -> tuple[int, str, str]:
        import torch  # which many tests do without

        before, sys.argv = sys.argv, [name, *map(str, arguments)]
        torch.set_num_threads(1)  # as in `script`: another number, other last digits
        capsys.readouterr()
        status = 0
        try:
            runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as left:
            status = left.code
        finally:
            sys.argv = before
        return status, *capsys.readouterr()

    return in_process


def record(folder: Path) -> dict:
    """Return the run.json of a run folder."""
    return json.loads((folder / "run.json").read_text())


WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(
    ["common.training.loop", "common.submission.inference", "common.prepare.images"]
    + ["matplotlib.backends.backend_agg", "sklearn.linear_model", "sklearn.model_selection"]
)


def start_warm(log: Path, name: str, *arguments, **environment) -> multiprocessing.Process:
    """Start a script in a process of its own that has torch imported: a tenth of a second.

    It is the script as a user runs it, to be signalled and killed. Its output goes to `log`.
    """
    words = list(map(str, arguments))
    process = WARM.Process(target=be_script, args=(log, name, words, environment))
    process.start()
    return process


def start_two(log: Path, name: str, *arguments) -> list[multiprocessing.Process]:
    """Start a script on two processes, as torchrun does. What the second writes has mode 0600."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    return [start_warm(log, name, *arguments, RANK=rank, LOCAL_RANK=rank, **group) for rank in "01"]


def be_script(log: Path, name: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Become a script, in PWD and on the CPU unless the environment says otherwise."""
    os.chdir(environment.get("PWD", ROOT))
    os.environ.update({"ACCELERATE_USE_CPU": "true", **environment})
    os.umask(0o077 if environment.get("RANK") == "1" else 0o022)
    os.setsid()  # a group of its own
    import torch

    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [name, *arguments]
    runpy.run_path(str(ROOT / name), run_name="__main__")


def run_warm(log: Path, name: str, *arguments, **environment) -> str:
    """Run a script so to its end, which must be good; return all that is in its log."""
    process = start_warm(log, name, *arguments, **environment)
    process.join(120)
    assert process.exitcode == 0, log.read_text()
    return log.read_text()


def forked_run(log: Path):
    """Return a subprocess.run for commands of our scripts that forks them, with torch imported."""

    def run_forked(command: list[str], **_) -> subprocess.CompletedProcess:
        process = start_warm(log, *command[1:])
        process.join(120)
        return subprocess.CompletedProcess(command, process.exitcode, stdout=log.read_text())

    return run_forked


def wait_for(condition, process, seconds: float = 30) -> bool:
    """Wait until the condition holds or the process has ended; say whether it held."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.exitcode is None:
        if condition():
            return True
        time.sleep(0.003)
    return False

"""How a script starts and ends: memory that is kept, and one sentence for what a user can mend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [[path.name] for path in sorted(ROOT.glob("0*.py"))] + [["-m", "common.demo"]]
NEEDED = {
    "01_prepare_data.py": ["--list"],
    "05_predict_submit.py": [],
    "common.demo": ["--out", "never"],
}

FAULTS = """
import resource
from common.script.main import prepare_process
{}
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def ended(code: str) -> tuple[int, str]:
    """Run a script whose main is `code`; return its exit status and complaints."""
    lines = ["from common.script.main import UserError, batch_is, run_script", "def main():"]
    lines += [f"    {line}" for line in code.splitlines()] + ["run_script(main)"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_not_mapped_anew():
    # A script that ran in this process before has left its own setting.
    own = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}

    def faults(call: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(call)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
        return int(ended.stdout)

    assert 10 * faults("prepare_process()") < faults("")


def test_threads_sleep_at_barriers_while_neighbours_are_busy_unless_the_user_says_otherwise(
    tmp_path,
):
    # What Linux counts is written here: to keep every core busy would starve the other tests.
    code = "import os, pathlib, sys; from common.script import main\n"
    code += "main.STAT = pathlib.Path(sys.argv[1]); main.prepare_process()\n"
    code += "print(os.environ.get('OMP_WAIT_POLICY'))"
    own = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP"))}

    def policy(running: int, given: dict[str, str]) -> str:
        (tmp_path / "stat").write_text(f"cpu 1 2 3\nprocs_running {running}\nprocs_blocked 0\n")
        command = [sys.executable, "-c", code, str(tmp_path / "stat")]
        return subprocess.check_output(command, text=True, env=own | given).strip()

    busy = 1 + 2 * os.cpu_count()
    assert policy(busy, {}) == "PASSIVE" and policy(1, {}) == "None"
    assert policy(busy, {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE"
    assert policy(busy, {"GOMP_SPINCOUNT": "9"}) == "None"


def test_mistakes_of_the_user_exit_2_without_a_traceback_and_ours_with_1():
    assert ended("raise UserError('No such list.')") == (2, "error: No such list.\n")
    status, complaint = ended("raise ZeroDivisionError")
    assert status == 1 and "Traceback" in complaint
    status, complaint = ended("import common.no_such_room")
    assert status == 1 and "Traceback" in complaint


def test_what_the_terminal_has_no_letters_for_is_printed_escaped():
    code = "from common.script.main import run_script; run_script(lambda: print('§ \\udce9'))"
    narrow = {**os.environ, "PYTHONIOENCODING": "ascii"}
    said = subprocess.check_output([sys.executable, "-c", code], env=narrow, cwd=ROOT)
    assert said == b"\\xa7 \\udce9\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda words: words[-1])
def test_a_missing_environment_is_one_sentence_that_says_what_makes_it(script, tmp_path):
    # -S: Python without installed packages.
    command = [sys.executable, "-S", *script, *NEEDED.get(script[-1], [])]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    data = [] if script[0] == "-m" else ["--data-dir", tmp_path]
    done = subprocess.run(
        [*command, *data], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: The Python package ")
    assert "`make demo`" in done.stderr or ".venv/bin/python" in done.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("batch_is(64)\nimport torch\ntorch.empty(1 << 50)", "the machine is too small; try "),
        ("batch_is(64)\nimport numpy\nnumpy.empty(1 << 50)", "the machine is too small; try "),
        ("import torch\ntorch.empty(1 << 50)", "the machine is too small; lower --batch-size.\n"),
        # As torch raises them where there is a GPU.
        (
            "batch_is(64)\nimport torch\nraise torch.OutOfMemoryError('CUDA out of memory.')",
            "the GPU is too small; try --batch-size 32.\n",
        ),
        (
            "batch_is(64)\nraise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling "
            "`cublasCreate(handle)`')",
            "the GPU is too small; try --batch-size 32.\n",
        ),
    ],
)
def test_a_batch_that_is_too_large_names_one_to_try(code, told):
    status, complaint = ended(code)
    assert status == 2 and complaint.startswith("error: The memory of "), complaint
    assert told in complaint and complaint.count("\n") == 1


def test_a_last_pass_too_small_for_batch_normalisation_is_a_sentence():
    status, complaint = ended("import torch\ntorch.nn.BatchNorm2d(2)(torch.zeros(1, 2, 1, 1))")
    assert status == 2 and complaint.count("\n") == 1
    assert "too little for batch normalisation. Choose another --global-batch" in complaint


def test_other_errors_of_torch_are_not_taken_for_memory():
    status, complaint = ended("import torch\ntorch.ones(2) @ torch.ones(3)")
    assert status == 1 and "Traceback" in complaint

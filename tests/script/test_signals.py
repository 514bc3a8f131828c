"""A signal is obeyed wherever it comes, also where Python would drop what its handler raises."""

import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, os, signal, time
from common.script.config import run_script

def strike():
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):  # the handler runs in here
        pass

class Falls:
    def __del__(self):
        strike()

def in_destructor():
    Falls()

def in_fork():
    os.register_at_fork(before=strike)
    multiprocessing.get_context("fork").Process(target=print, daemon=True).start()

def main():
    {}()
    time.sleep(20)
    print("was not told")

run_script(main)
"""


@pytest.mark.parametrize("place", ["strike", "in_destructor", "in_fork"])
def test_a_signal_is_told_once_and_obeyed(place):
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(place)], capture_output=True, text=True, timeout=15
    )
    assert ended.returncode == 143
    assert ended.stderr.startswith("Stopped by SIGTERM") and len(ended.stderr.splitlines()) == 1
    assert "was not told" not in ended.stdout

"""A signal is obeyed wherever it comes, also where Python would drop what its handler raises."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, os, signal, time
from common.script.main import run_script

def send():
    os.kill(os.getpid(), signal.{})
    for _ in range(1000):  # the handler runs in here
        pass

class Falls:
    def __del__(self):
        send()

def in_destructor():
    Falls()

def in_fork():
    os.register_at_fork(before=send)
    multiprocessing.get_context("fork").Process(target=print, daemon=True).start()

def main():
    {}()
    time.sleep(20)
    print("went on")

run_script(main)
"""


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("send", "SIGTERM"),
        ("in_destructor", "SIGTERM"),
        ("in_fork", "SIGTERM"),
        ("send", "SIGUSR1"),
    ],
)
def test_a_signal_is_reported_once_and_obeyed(place, name):
    script = SCRIPT.format(name, place)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=15
    )
    assert ended.returncode == 128 + signal.Signals[name]
    assert ended.stderr.startswith(f"Stopped by {name}") and len(ended.stderr.splitlines()) == 1
    assert "went on" not in ended.stdout

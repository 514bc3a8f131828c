"""What goes wrong in mid-run loses nothing: full disks, closed terminals, vanished files."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers.raw_files import image
from helpers.running import ROOT, record, run_warm, script, start_warm, wait_for
from helpers.toy_world import SAVE_ALWAYS, TINY, command
from PIL import Image

from common.script.files import UserError, only_process, whole_file


@pytest.fixture(scope="module")
def whole(pretrained):
    """The weights of an undisturbed run of 02."""
    return weights(pretrained)


def pretrain(prepared, folder):
    """Return the command of that run, in another folder, which saves its state at every step."""
    return [*command("mae", prepared, folder), *SAVE_ALWAYS]


def weights(folder):
    return safetensors.torch.load_file(folder / "mae" / "model.safetensors")


def assert_same(one, two):
    assert all(torch.equal(one[key], two[key]) for key in one)


@contextmanager
def mounted(place, size_kib: int):
    """Mount a small file system in memory, as root; skip where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_kib}k".encode()
    if libc.mount(b"none", str(place).encode(), b"tmpfs", 0, options):
        pytest.skip(f"cannot mount a small file system here ({os.strerror(ctypes.get_errno())})")

    def make_readonly():
        read_only, again = 1, 32  # MS_RDONLY, MS_REMOUNT
        assert not libc.mount(b"none", str(place).encode(), b"tmpfs", read_only | again, None)

    try:
        yield make_readonly
    finally:
        libc.umount2(str(place).encode(), 2)  # lazily


def ends(process, status, log, seconds=30):
    process.join(seconds)
    assert process.exitcode == status, log.read_text()
    return log.read_text()


def test_a_full_disk_ends_training_in_a_sentence_and_space_lets_it_go_on(squares, whole, tmp_path):
    disk, log = tmp_path / "disk", tmp_path / "log"
    arguments = pretrain(squares, disk)
    with mounted(disk, 1024):
        (disk / "ballast").write_bytes(bytes(850 << 10))  # room for the record and little more
        text = ends(start_warm(log, *arguments), 2, log)
        assert text.splitlines()[-1].startswith("error: ") and "No space left on device" in text
        assert str(disk / "mae") in text.splitlines()[-1] and "Traceback" not in text
        assert not [path for path in disk.rglob("*") if path.name.endswith(".part")]
        (disk / "ballast").unlink()
        run_warm(log, *arguments)
        assert_same(weights(disk), whole)


def test_a_full_disk_ends_preparation_in_a_sentence_and_space_lets_it_go_on(tmp_path):
    disk, log = tmp_path / "disk", tmp_path / "log"
    for number in range(40):
        image(tmp_path / "raw" / "Faces" / f"{number}.jpg", side=300)
    flags = ["--align", "never", "--workers", "0", "--duplicates", "keep", "--min-sharpness", "0"]
    arguments = ["01_prepare_data.py", "--data-dir", disk, *flags]
    with mounted(disk, 800):
        (disk / "raw").symlink_to(tmp_path / "raw")
        (disk / "ballast").write_bytes(bytes(740 << 10))
        text = ends(start_warm(log, *arguments), 2, log)
        assert "No space left on device" in text and "Traceback" not in text
        assert not (disk / "prepared" / "manifest.csv").exists()
        (disk / "ballast").unlink()
        run_warm(log, *arguments)
        assert (disk / "prepared" / "manifest.csv").read_text().count("\n") == 41


def test_read_only_output_is_refused_in_a_sentence(squares, tmp_path):
    disk, log = tmp_path / "disk", tmp_path / "log"
    with mounted(disk, 64) as make_readonly:
        (disk / "raw" / "Faces").mkdir(parents=True)
        image(disk / "raw" / "Faces" / "1.jpg")
        make_readonly()
        for arguments in (pretrain(squares, disk), ["01_prepare_data.py", "--data-dir", disk]):
            text = ends(start_warm(log, *arguments), 2, log)
            assert "Read-only file system" in text.splitlines()[-1] and "Traceback" not in text


def test_output_may_lie_on_another_file_system(tmp_path):
    image(tmp_path / "raw" / "Faces" / "1.jpg", side=40)
    with mounted(tmp_path / "data" / "prepared", 1024):
        (tmp_path / "data" / "raw").symlink_to(tmp_path / "raw")
        arguments = ["--data-dir", tmp_path / "data", "--align", "never", "--workers", "0"]
        run_warm(tmp_path / "log", "01_prepare_data.py", *arguments, "--min-sharpness", "0")
        prepared = tmp_path / "data" / "prepared" / "images" / "Faces" / "1.jpg"
        assert prepared.read_bytes() == (tmp_path / "raw" / "Faces" / "1.jpg").read_bytes()


def test_data_that_vanish_in_mid_run_stop_it_before_the_weights_are_spoilt(
    squares, whole, tmp_path
):
    data, log = tmp_path / "data", tmp_path / "log"
    shutil.copytree(squares, data)
    arguments = pretrain(data, tmp_path)
    process = start_warm(log, *arguments)
    assert wait_for(lambda: list(tmp_path.glob("mae/state/*.pt")), process)
    (data / "prepared" / "images").rename(data / "gone")
    text = ends(process, 2, log)
    assert "cannot be read" in text.splitlines()[-1] and "Traceback" not in text
    (data / "gone").rename(data / "prepared" / "images")
    run_warm(log, *arguments)
    assert_same(weights(tmp_path), whole)
    assert not record(tmp_path / "mae")["phases"]["mae"]["unreadable"]


def test_a_process_that_dies_at_once_leaves_no_lock_to_its_workers(squares, whole, tmp_path):
    log = tmp_path / "log"
    arguments = [*pretrain(squares, tmp_path), "--workers", "2"]
    process = start_warm(log, *arguments)
    assert wait_for(lambda: loaders(process), process)
    hung = loaders(process)[-1]
    os.kill(hung, signal.SIGSTOP)
    process.kill()
    process.join()
    run_warm(log, *arguments)
    assert_same(weights(tmp_path), whole)
    os.kill(hung, signal.SIGKILL)


def loaders(process) -> list[int]:
    """Return the loader processes that a process has started."""
    found = []
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
            if "pt_data" in Path(f"/proc/{child}/comm").read_text():
                found.append(int(child))
    return found


@pytest.mark.parametrize("kind", ["loader", "evaluation"])
def test_a_signal_is_obeyed_in_seconds_while_a_read_hangs(squares, tmp_path, kind):
    log = tmp_path / "log"
    arguments = ["03_finetune_single.py", *TINY, "--init", "none", "--adapt-epochs", "0"]
    arguments += ["--data-dir", squares, "--run-dir", tmp_path, "--workers", "1", "--epochs", "1"]
    process = start_warm(log, *arguments)
    assert wait_for(lambda: loaders(process), process)
    if kind == "evaluation":
        first = loaders(process)
        assert wait_for(lambda: set(loaders(process)) - set(first), process)
    hung = loaders(process)[-1]
    os.kill(hung, signal.SIGSTOP)  # as a read from a lost network disk
    time.sleep(1)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    text = ends(process, 143, log)
    assert time.monotonic() - began < 5
    assert text.count("Stopped by SIGTERM") == 1 and "Traceback" not in text
    state = torch.load(next(tmp_path.glob("single/state/*.pt")), weights_only=True)
    if kind == "evaluation":
        assert state["progress"]["step"] == state["progress"]["steps_done"] > 1
    assert not os.path.exists(f"/proc/{hung}/cwd"), "a worker was left"
    assert "resuming from" in run_warm(log, *arguments)


def test_a_second_run_names_the_first(tmp_path):
    with only_process(tmp_path):
        command = [sys.executable, "-m", "common.demo", "--out", tmp_path, "--scale", "0.01"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and f"(process {os.getpid()}) works in {tmp_path}" in done.stderr
    ask = "from common.script.files import only_process\nwith only_process('%s'): print(input())"
    (tmp_path / "common_like.py").write_text(ask % tmp_path)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    (tmp_path / "like_demo").mkdir()
    (tmp_path / "common_like.py").rename(tmp_path / "like_demo" / "__main__.py")
    command = [sys.executable, "-m", "like_demo"]
    first = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / ".lock").read_text().startswith(f"{first.pid} "):
            time.sleep(0.02)
        with pytest.raises(UserError, match=rf"Another like_demo \(process {first.pid}\)"):
            only_process(tmp_path).__enter__()
    finally:
        first.communicate("end")


@pytest.mark.parametrize("fetched", [True, False])  # by its parent; else it is a zombie
def test_what_a_dead_process_left_is_waited_for(tmp_path, fetched):
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | (0 if fetched else os.WNOWAIT))
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print(dead.pid, "02_pretrain_mae.py", file=file, flush=True)
        child = subprocess.Popen(["sleep", "0.5"], stdout=file)  # it has the lock from us
    with only_process(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} ")
        assert child.wait(10) == 0


@pytest.mark.parametrize("kind", ["closed", "full"])
def test_a_pipe_that_nobody_reads_costs_no_work(squares, whole, tmp_path, kind):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    arguments = pretrain(squares, tmp_path)
    if kind == "closed":
        os.close(reading)
    else:
        os.set_blocking(writing, False)
        while True:
            try:
                os.write(writing, bytes(4096))
            except BlockingIOError:
                break
        os.set_blocking(writing, True)
    process = start_warm(f"/proc/{os.getpid()}/fd/{writing}", *arguments)
    if kind == "full":
        time.sleep(2)  # it waits in its first line
        os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == (141 if kind == "closed" else 143)
    os.close(writing)
    run_warm(tmp_path / "log", *arguments)
    assert_same(weights(tmp_path), whole)


def test_a_closed_terminal_stops_a_run_like_sigterm(squares, whole, tmp_path):
    arguments = pretrain(squares, tmp_path)
    child, terminal = pty.fork()
    if not child:
        hear_hangup()
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(
            sys.executable, list(map(str, [sys.executable, ROOT / arguments[0], *arguments[1:]]))
        )
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    until = time.monotonic() + 60
    while not list(tmp_path.glob("mae/state/*.pt")) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(child, signal.SIGSTOP)
    os.close(os.dup(terminal))
    os.kill(child, signal.SIGHUP)
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    assert "resuming from" in run_warm(tmp_path / "log", *arguments)
    assert_same(weights(tmp_path), whole)


def hear_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which the tests may have been told to ignore


def drain(terminal):
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


def test_a_closed_terminal_ends_preparation_and_its_workers_in_a_sentence(tmp_path):
    for number in range(400):
        path = tmp_path / "raw" / "Faces" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (700, 700), (number % 250, 9, 9)).save(path, "PNG", compress_level=1)
    arguments = ["01_prepare_data.py", "--data-dir", tmp_path, "--workers", "2", "--align", "never"]
    process = script(*arguments, start_new_session=True, preexec_fn=hear_hangup)
    ledger = tmp_path / "prepared" / "state" / "images" / "Faces" / "current-0.csv"
    while not (ledger.exists() and ledger.read_bytes().count(b"\n") > 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGHUP)
    complaints = process.communicate(timeout=30)[1]
    assert process.returncode == 129
    assert complaints == "Stopped by SIGHUP; the same command continues from here.\n"


def test_a_clock_that_jumps_changes_nothing(squares, whole, tmp_path, monkeypatch):
    """The time of day, of files and of this process, goes back ten years in mid-run."""
    arguments = pretrain(squares, tmp_path)
    process = start_warm(tmp_path / "log", *arguments)
    assert wait_for(lambda: list(tmp_path.glob("mae/state/*.pt")), process)
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    for number, path in enumerate(sorted(tmp_path.glob("mae/state/*.pt"))):
        then = time.time() - 10 * 365 * 86400 - number  # the newest seems the oldest
        os.utime(path, (then, then))
    assert "resuming from" in run_warm(tmp_path / "log", *arguments)
    assert_same(weights(tmp_path), whole)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "x" / "result.csv", "w") as file:
        os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
        file.write("x")
    assert caught.value.filename == str(tmp_path / "x" / "result.csv")
    assert not list((tmp_path / "x").iterdir())

"""Signals that end a script: reported to the user at once, obeyed where nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# SIGUSR1 is what SLURM sends some time before the end (`--signal=USR1@300`); SIGHUP is a closed
# terminal.
_NAMES = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
    signal.SIGUSR1: "SIGUSR1",
}
# Launchers pass on what their whole group has received already: a signal that comes again within
# this time is not a user who insists.
_ECHO_S = 1.0

_process = 0  # the one that listens; a worker forked from it inherits its handlers
_deferred = 0
_caught = 0
_caught_at = 0.0


class Stopped(KeyboardInterrupt):
    """A signal that ends the script. Like Ctrl-C it passes every `except Exception`."""

    def __init__(self, number: int):
        super().__init__(_NAMES.get(number, number))
        self.status = 128 + number  # as a shell reports a process that a signal has ended


def listen() -> None:
    """Raise `Stopped` on Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 from now on.

    A signal that is ignored stays ignored: SIGHUP under nohup, Ctrl-C in a background job.
    """
    global _process
    _process = os.getpid()
    for number in _NAMES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _catch)


def listen_no_more() -> None:
    """Give these signals their default action again, as the process is ending anyway."""
    for number in _NAMES:
        if signal.getsignal(number) is _catch:
            signal.signal(number, signal.SIG_DFL)


def caught() -> bool:
    """Return whether a signal has come that ends this script."""
    return bool(_caught)


@contextmanager
def deferred() -> Iterator[None]:
    """Only note a signal inside, so that `caught` returns True, and obey it at the end.

    A second Ctrl-C is obeyed at once: the user insists.
    """
    yield from _change_deferral(1)
    if caught() and not _deferred:
        leave()


@contextmanager
def at_once() -> Iterator[None]:
    """Obey signals inside although `deferred` surrounds it: for a wait that may be long."""
    yield from _change_deferral(-1)


def _change_deferral(by: int) -> Iterator[None]:
    global _deferred
    _deferred += by
    try:
        if caught() and not _deferred:
            leave()
        yield
    finally:
        _deferred -= by


def leave() -> None:
    """Raise `Stopped` for the signal that was caught, or SIGTERM where another process got one."""
    raise Stopped(_caught or signal.SIGTERM)


def end_workers() -> None:
    """Kill this process's workers: they ignore signals, and one may hang in a read for ever.

    Nothing is lost: what they write appears whole, or is made again.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch's loader complains of their deaths
    for child in multiprocessing.active_children():
        child.kill()


@contextmanager
def blocked() -> Iterator[None]:
    """Block these signals inside, so that workers started there ignore them for life.

    A terminal or a scheduler signals the whole group, and the main process answers for all.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NAMES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _catch(number: int, frame: FrameType | None) -> None:
    global _caught, _caught_at
    now = time.monotonic()
    if os.getpid() != _process:
        return
    if _would_be_lost(frame):  # so it is sent again, a little later
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        return
    if _caught and now - _caught_at < _ECHO_S:
        return
    again, _caught, _caught_at = bool(_caught), _caught or number, now
    _drop_closed_outputs(number)
    if not again:
        _report(number)
    if not _deferred or (again and number == signal.SIGINT):
        leave()


def _would_be_lost(frame: FrameType | None) -> bool:
    """Return whether Python drops what is raised here: in a destructor, or in a hook of a fork.

    It gets there even inside `blocked`, which holds back the main thread only.
    """
    while frame and frame.f_code.co_name not in ("__del__", "_launch"):
        frame = frame.f_back
    return frame is not None


def _report(number: int) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # the first process speaks for all
    line = "\n" if sys.stderr.isatty() else ""  # below a progress bar
    command = "make command" if "MAKELEVEL" in os.environ else "command"
    line += f"Stopped by {_NAMES[number]}; the same {command} continues from here.\n"
    # Not by print, which a handler may interrupt and must not enter twice.
    with suppress(OSError):
        os.write(2, line.encode())


def _drop_closed_outputs(number: int) -> None:
    """Discard output that would fail or block: to a closed terminal, into a full pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):  # closed by the user
            terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            ready = select.select([], [descriptor], [], 0)[1]
            if not ready or (terminal and number == signal.SIGHUP):
                os.dup2(nowhere, descriptor)

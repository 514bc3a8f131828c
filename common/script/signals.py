"""Signals that end a script: told to the user at once, obeyed where nothing is lost."""

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

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
# Launchers pass on what their whole group got already: what comes again so soon is no insisting.
_ECHO_S = 1.0

_process = 0  # that listens: a worker forked from it has its handlers
_held = 0
_caught = 0
_caught_at = 0.0


class Stopped(KeyboardInterrupt):
    """A signal that ends the script; like Ctrl-C it passes every `except Exception`."""

    def __init__(self, number: int):
        super().__init__(_NAMES.get(number, number))
        self.status = 128 + number  # as a shell reports a process that a signal has ended


def listen() -> None:
    """Raise `Stopped` on SIGTERM, SIGHUP (a closed terminal) and Ctrl-C from now on.

    One that is ignored stays ignored: SIGHUP under nohup, Ctrl-C in a shell's background job.
    """
    global _process
    _process = os.getpid()
    for number in _NAMES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _catch)


def listen_no_more() -> None:
    """Let these signals end the process the default way: it is ending by itself."""
    for number in _NAMES:
        if signal.getsignal(number) is _catch:
            signal.signal(number, signal.SIG_DFL)


def caught() -> bool:
    """Tell whether a signal has come that ends this script."""
    return bool(_caught)


@contextmanager
def held() -> Iterator[None]:
    """Only note a signal inside, where `caught` tells of it, and obey it at the end.

    A second Ctrl-C is not held: the user insists.
    """
    yield from _change_hold(1)
    if caught() and not _held:
        leave()


@contextmanager
def released() -> Iterator[None]:
    """Let signals raise inside, in the midst of `held`: here is a wait that may be long."""
    yield from _change_hold(-1)


def _change_hold(by: int) -> Iterator[None]:
    global _held
    _held += by
    try:
        if caught() and not _held:
            leave()
        yield
    finally:
        _held -= by


def leave() -> None:
    """Raise `Stopped` for the signal that was caught, or for another process's SIGTERM."""
    raise Stopped(_caught or signal.SIGTERM)


def end_workers() -> None:
    """Kill this process's workers: they are deaf, and to wait for one could take for ever.

    What they write appears whole or is made again.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's loader would complain of their deaths
    for child in multiprocessing.active_children():
        child.kill()


@contextmanager
def blocked() -> Iterator[None]:
    """Start workers inside that are deaf to these signals for life, and inherit it by the mask.

    A terminal or a scheduler signals the whole group; the main process answers for all.
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
    if _would_be_lost(frame):  # it comes again, after that
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        return
    if _caught and now - _caught_at < _ECHO_S:
        return
    again, _caught, _caught_at = bool(_caught), _caught or number, now
    _forget_deaf_readers(number)
    if not again:
        _tell(number)
    if not _held or (again and number == signal.SIGINT):
        leave()


def _would_be_lost(frame: FrameType | None) -> bool:
    """Tell whether Python drops what is raised here: in a destructor, in what it calls at a fork.

    A signal comes there although `blocked` holds it off the main thread: another one receives it.
    """
    while frame and frame.f_code.co_name not in ("__del__", "_launch"):
        frame = frame.f_back
    return frame is not None


def _tell(number: int) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # one sentence is enough
    line = "\n" if sys.stderr.isatty() else ""  # below a progress bar
    command = "make command" if "MAKELEVEL" in os.environ else "command"
    line += f"Stopped by {_NAMES[number]}; the same {command} goes on from here.\n"
    # Not by print, which a handler may interrupt and must not enter twice.
    with suppress(OSError):
        os.write(2, line.encode())


def _forget_deaf_readers(number: int) -> None:
    """Print nowhere where it would fail or wait: to a closed terminal, into a full pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):  # closed by the user
            terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            ready = select.select([], [descriptor], [], 0)[1]
            if not ready or (terminal and number == signal.SIGHUP):
                os.dup2(nowhere, descriptor)

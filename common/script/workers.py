"""Worker processes, fed and emptied in order and with flat memory; processes of one launch."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from multiprocessing import get_context, parent_process, resource_tracker
from typing import NamedTuple, TypeVar

from common.script import signals
from common.script.files import UserError

_T = TypeVar("_T")
# How a user starts several processes on CPUs.
ON_CPUS = "ACCELERATE_USE_CPU=true torchrun --nproc-per-node N …"
APART_GIB = 4  # the largest table of any data set takes less than one


class Team(NamedTuple):
    """This process among those of one launch (`accelerate launch`, torchrun), on any machines."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that speaks, and writes what there is one of."""
        return self.rank == 0

    def total(self, number: int = 0) -> int:
        """Wait until all processes are here; return the sum of their numbers."""
        if self.count == 1:
            return number
        from accelerate.utils import gather_object

        try:
            return sum(gather_object([number]))
        except RuntimeError:  # of gloo, whose connection was closed
            raise UserError(
                f"Process {self.rank} stops, because another process of this run has ended."
            ) from None


def refuse_lone_process() -> None:
    """Raise UserError in the one process that `accelerate launch` starts of several on CPUs."""
    given = os.environ
    # Its launcher sets these for several processes, whom torchrun or MPI would also give a rank.
    launched = "ACCELERATE_MIXED_PRECISION" in given and "MASTER_ADDR" in given
    ranks = ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
    on_cpu = given.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if launched and on_cpu and not any(name in given for name in ranks):
        raise UserError(
            "`accelerate launch` was to start several processes, but on CPUs it starts only one. "
            f"Start them with `{ON_CPUS}`."
        )


@contextlib.contextmanager
def team() -> Iterator[Team]:
    """Join the processes of a launch, if this is one of several."""
    refuse_lone_process()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2:
        yield Team()
        return
    # Here, because a process alone has no need of torch.
    from accelerate import PartialState

    # Processes wait for the slowest, which may have days of work; GPUs have no part in it.
    state = PartialState(cpu=True, timeout=timedelta(days=30))
    try:
        yield Team(state.process_index, state.num_processes)
    finally:
        state.destroy_process_group()


@contextlib.contextmanager
def worker_pool(workers: int | None) -> Iterator[Executor | None]:
    """Start worker processes, or none for 0 or 1: this process then does the work itself."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of this machine
    if workers < 2:
        yield None
        return
    with signals.blocked():  # the pool's helper would die of a closed terminal's SIGHUP
        resource_tracker.ensure_running()
    # A fresh interpreter each: a fork would take over the locks of threads that it has not.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed, perhaps because memory ran out; rerun the command with "
            "fewer --workers: it continues where it stopped."
        ) from None
    except KeyboardInterrupt:
        signals.end_workers()  # one may be in the midst of a film
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def apart(function: Callable[..., _T], *arguments) -> _T:
    """Call a function in a process of its own, with at most APART_GIB of memory.

    For libraries that may crash on a stranger's file. Raises what the function raises, and
    BrokenProcessPool where it crashed.
    """
    with (
        ProcessPoolExecutor(1, get_context("spawn"), _start_apart) as pool,
        signals.blocked(),
    ):
        return pool.submit(function, *arguments).result()


def _start_apart() -> None:
    start_worker()
    resource.setrlimit(resource.RLIMIT_AS, (APART_GIB << 30, APART_GIB << 30))


def start_worker() -> None:
    """Die if the main process dies."""
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # A worker of a killed process would wait for work for ever: its queue never closes.
    parent_process().join()
    os._exit(1)


def batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    """Cut a stream into lists of `size`."""
    while batch := list(itertools.islice(items, size)):
        yield batch


def in_order(pool: Executor | None, calls: Iterable[tuple], ahead: int) -> Iterator:
    """Yield the results of calls (function, *arguments) in their order, `ahead` at work at once.

    Memory stays flat, because no more are taken from the stream than are at work. Without a pool
    the calls are made here; a call whose function is None has the result None, and costs nothing.
    """
    waiting: deque[Future] = deque()
    for function, *arguments in calls:
        if pool is None:
            yield function(*arguments) if function else None
            continue
        if function is None:
            future = Future()
            future.set_result(None)
        else:
            with signals.blocked():  # a call may start a worker
                future = pool.submit(function, *arguments)
        waiting.append(future)
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

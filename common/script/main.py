"""How a script starts and ends: what the process needs, and mistakes in one sentence."""

from __future__ import annotations

import ctypes
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.script import signals
from common.script.files import UserError

ROOT = Path(__file__).resolve().parents[2]

# Where Linux counts the processes that run.
STAT = Path("/proc/stat")

# Of glibc's malloc.h: below how much free memory at its end the heap is kept; how many blocks may
# be mapped on their own.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4

# What a RuntimeError of torch says where memory is short, and whose memory that is. There is a
# class for most of a GPU's, and none for these.
_SHORT_OF_MEMORY = {
    "DefaultCPUAllocator: can't allocate memory": "machine",
    "CUDA error: out of memory": "GPU",
    "CUBLAS_STATUS_ALLOC_FAILED": "GPU",
    "CUDNN_STATUS_ALLOC_FAILED": "GPU",
    "MPS backend out of memory": "GPU",
}

_batch_size = 0  # of this process


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main: what a user can fix becomes one sentence and exit status 2.

    A signal that ends the script exits with 128 and its number: 143 for SIGTERM, 130 for Ctrl-C.
    """
    prepare_process()
    signals.listen()
    try:
        _run(main)
    except signals.Stopped as stopped:  # also one that came while the script was ending
        sys.exit(stopped.status)
    finally:
        signals.listen_no_more()


def _run(main: Callable[[], None]) -> None:
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            with suppress(OSError):  # it flushes; a closed pipe shows at the first line
                sys.stdout.reconfigure(errors="backslashreplace")  # names that it cannot spell
        main()
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): not an error worth a traceback.
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        sys.exit(141)
    except Exception as error:
        sentence = _sentence(error)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)
    finally:
        signals.end_workers()  # Python would wait for them, and one may hang in a read


def _sentence(error: Exception) -> str:
    """Return what a user can do about an error, or "" where it is our own fault."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = str(error.name).partition(".")[0]
        return "" if package == "common" else _how_to_install(package)
    if isinstance(error, OSError):  # disk full, no permission, a folder that is a file
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}."
    if isinstance(error, MemoryError):
        return _too_large("machine")
    if isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error):
        return (
            "A pass holds one image, of which the network leaves one pixel: too little for batch "
            "normalisation. Choose another --global-batch or --batch-size, or a larger "
            "--image-size."
        )
    if isinstance(error, RuntimeError):
        torch = sys.modules.get("torch")  # whose import takes seconds
        if torch and isinstance(error, torch.OutOfMemoryError):
            return _too_large("GPU")
        for text, device in _SHORT_OF_MEMORY.items():
            if text in str(error):
                return _too_large(device)
        if "DataLoader worker" in str(error):  # torch's words for one that died
            return (
                "A loader process was killed, perhaps because memory ran out (shared memory, in a "
                "container). Rerun the same command with fewer --workers: it continues from the "
                "last saved state."
            )
    return ""


def _too_large(device: str) -> str:
    try_it = f"try --batch-size {_batch_size // 2}" if _batch_size > 1 else "lower --batch-size"
    return f"The memory of the {device} is too small; {try_it}."


def batch_is(size: int) -> None:
    """Note the batch that this process computes at once, for advice where memory is short."""
    global _batch_size
    _batch_size = size


def _how_to_install(package: str) -> str:
    where = f"The Python package {package} is not installed for {sys.executable}"
    if (ROOT / ".venv" / "installed").exists() and Path(sys.prefix) != ROOT / ".venv":
        return f"{where}; use {ROOT / '.venv' / 'bin' / 'python'}, which has it."
    return (
        f"{where}; in {ROOT}, `make demo` makes an environment and runs the demo, or run "
        "`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` and use "
        ".venv/bin/python."
    )


def prepare_process() -> None:
    """Set up memory and threads for this process; to be called before torch is imported.

    On the CPU every step asks for the same hundreds of megabytes. glibc gives each large block back
    to the system, and the next step waits while the pages are mapped and zeroed again. So what is
    freed is kept, in pages of 2 MiB, where the C library is glibc.

    OpenMP's threads spin while they wait for each other. That is fastest on a quiet machine; where
    neighbours take the cores, a thread spins while the one that it waits for cannot run. There
    they sleep instead. The results are the same in every bit.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ) and _busy():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then asks for large pages
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)


def _busy() -> bool:
    """Return whether others keep half of the cores or more busy, after 20 ms of watching.

    The load average would not do: it still counts the script that ended a second ago.
    """
    running = []
    with suppress(OSError, ValueError, IndexError):  # no Linux
        for _ in range(10):
            text = STAT.read_text(encoding="ascii")
            running.append(int(text.partition("procs_running ")[2].split()[0]))
            time.sleep(0.002)
    # The median; one of those that run is this process.
    return bool(running) and sorted(running)[len(running) // 2] - 1 >= (os.cpu_count() or 1) / 2

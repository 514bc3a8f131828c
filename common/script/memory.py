"""Memory that a training step frees and the next one asks for again."""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h: below how much free memory at its end the heap is kept; how many blocks may
# be mapped on their own.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Keep what this process frees, in pages of 2 MiB; to be called before torch is imported.

    On the CPU every step asks for the same hundreds of megabytes. glibc gives each large block back
    to the system, and the next step waits while the pages are mapped and zeroed anew. Does
    nothing where the C library is another.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then asks for large pages
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)

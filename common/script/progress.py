"""Progress: a bar on a terminal, a line a minute in a log file."""

from __future__ import annotations

import sys

from tqdm import tqdm

EVERY = 60.0  # seconds between lines in a log; what takes less prints none


class _Lines:
    """Writes what tqdm draws as lines of their own."""

    encoding = "ascii"  # of what tqdm draws: a log is read in many ways

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):  # else it only wipes a bar away
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(
    desc: str, unit: str, total: int | None = None, shown: bool = True, **more
) -> tqdm:
    """Return a tqdm bar; without a terminal, it prints a line every EVERY seconds.

    So a night's log shows how far a run is, and is not full of half-drawn bars. shown: False for
    the processes that say nothing.
    """
    if sys.stderr.isatty() or not shown:
        return tqdm(desc=desc, unit=unit, total=total, disable=not shown, **more)
    of, left = ("/{total_fmt}", ", {remaining} left") if total else ("", "")
    drawn = "{desc}: {n_fmt}" + of + " {unit}, {elapsed}" + left + ", {rate_fmt}"
    every = {"mininterval": EVERY, "maxinterval": EVERY, "miniters": 0, "delay": EVERY}
    return tqdm(desc=desc, unit=unit, total=total, file=_Lines(), bar_format=drawn, **every, **more)

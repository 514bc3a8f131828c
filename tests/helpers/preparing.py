"""Ways to run 01_prepare_data.py, and to look at what it leaves."""

from __future__ import annotations

import csv
import os

from helpers.drawn import scene, write_video
from helpers.raw_files import text
from helpers.running import run_here

from common.emotions import CHALLENGE

SCRIPT = "01_prepare_data.py"
HEADER = ",".join(("image_location", *CHALLENGE))


def prepare(data, *flags, accept=True):
    """Run the script in this process. accept: whatever share of these small trees is bad."""
    flags = [*flags, *["--accept-losses"] * accept]
    run_here(SCRIPT, "--data-dir", data, "--workers", 0, *flags)
    return data / "prepared"


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def skipped(prepared):
    return {os.path.basename(r["path"]): r["reason"] for r in rows_of(prepared / "skipped.csv")}


def state_of(folder):
    """Every file below a folder with its inode, time and content's length."""
    return {
        str(path.relative_to(folder)): (s.st_ino, s.st_mtime_ns, s.st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (s := path.stat())
    }


def videos_tree(place, lengths, extra=0):
    """Videos of a moving face and the list of their frames, `extra` longer than they are."""
    (place / "videos").mkdir(parents=True)
    lines = [HEADER]
    for video, length in lengths.items():
        pictures = [scene((90 + 4 * i, 120, 90)) for i in range(length)]
        pictures[1:2] = [scene()]
        write_video(place / "videos" / f"{video}.mp4", pictures)
        lines += [f"{video}/{frame:05d}.jpg," for frame in range(1, length + 1 + extra)]
    text(place / "CER.txt", "\r\n".join(lines))

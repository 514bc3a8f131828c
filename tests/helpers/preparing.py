"""Ways to run 01_prepare_data.py, and to look at what it leaves."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from helpers.drawn import scene, write_video
from helpers.raw_files import text

from common.emotions import CHALLENGE

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "01_prepare_data.py"
HEADER = ",".join(("image_location", *CHALLENGE))


def prepare(data, *flags, accept=True):
    """Run the script in this process. accept: whatever share of these small trees is bad."""
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    flags = [*flags, *["--accept-losses"] * accept]
    before, sys.argv = sys.argv, ["x", "--data-dir", str(data), "--workers", "0", *flags]
    try:
        module.main()
    finally:
        sys.argv = before
    return data / "prepared"


def run(data, *flags, **options):
    """Run the script as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, SCRIPT, "--data-dir", data, *flags],
        capture_output=True,
        text=True,
        **options,
    )


def launch(data, processes, *flags):
    """Run the script in several processes, as `accelerate launch` or torchrun does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), str(SCRIPT), "--data-dir", str(data)]
    command += ["--workers", "0", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


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

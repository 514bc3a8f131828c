#!/usr/bin/env python3
"""Every figure of docs/speed.md: ours beside a named alternative, in turns, in one run.

Each group is a function of a module beside this one, from `quick` to a list of Lines. A group that
fails is left out, and the table says why; most often its peer is not installed (pip install -r
benchmarks/requirements.txt).

Writes OUT/speed.json and OUT/speed.md.

Examples:
    python benchmarks/speed.py                         all groups, on a machine without other work
    python benchmarks/speed.py --quick                 fewer and smaller repetitions
    python benchmarks/speed.py --only encoder loader
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import Line, machine, short, spread
from common.script.files import whole_file, write_json
from common.script.main import prepare_process, run_script

# Group -> module below benchmarks/, and its function.
GROUPS = {
    "encoder": ("encoder_speed", "measure"),
    "loader": ("encoder_speed", "loader"),
    "convolutions": ("convolution_speed", "measure"),
    "curriculum": ("curriculum_speed", "measure"),
    "submission": ("submission_speed", "measure"),
    "prepare": ("prepare_speed", "measure"),
}


def main() -> None:
    """Run the chosen groups one after the other; what is measured is kept after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller repetitions")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="folder of results")
    arguments = parser.parse_args()
    record = {"machine": machine(), "quick": arguments.quick, "groups": {}, "left_out": {}}
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    record["machine"]["commit"] = commit or "unknown"
    for group in arguments.only:
        print(f"{group} …", flush=True)
        start = time.monotonic()
        try:
            # The memory of one group is not that of the next.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                lines = pool.submit(measure, group, arguments.quick).result()
        except Exception as error:  # the other groups' hour is not lost with it
            record["left_out"][group] = f"{type(error).__name__}: {error}"
            print(f"  left out: {record['left_out'][group]}", flush=True)
            write(arguments.out, record)
            continue
        record["groups"][group] = [{**asdict(line), "ratios": line.ratios} for line in lines]
        for line in lines:
            print("  " + describe(line), flush=True)
        print(f"  {time.monotonic() - start:.0f} s", flush=True)
        write(arguments.out, record)
    print(f"Results: {arguments.out}/speed.md, speed.json")


def measure(group: str, quick: bool) -> list[Line]:
    """Run one group, in a process of its own, under the allocator that the scripts run under."""
    prepare_process()
    module, function = GROUPS[group]
    return getattr(import_module(f"benchmarks.{module}"), function)(quick)


def describe(line: Line) -> str:
    """Return a line as one sentence."""
    text = f"{line.what}: {spread(line.ours)} {line.unit}"
    if line.theirs:
        text += f"; {line.peer}: {spread(line.theirs)}; ratio {spread(line.ratios)}"
    return text + "".join(f"; {name} {_text(value)}" for name, value in line.facts.items())


def write(out: Path, record: dict) -> None:
    """Write the record and its table."""
    write_json(out / "speed.json", record)
    with whole_file(out / "speed.md", "w") as file:
        file.write(markdown(record))


def markdown(record: dict) -> str:
    """Return the table of a record, with the machine under it."""
    rows = ["| what | ours | the alternative | times as fast |", "|---|---|---|---|"]
    notes = []
    for lines in record["groups"].values():
        for line in lines:
            theirs = f"{spread(line['theirs'])} {line['peer']}" if line["theirs"] else "–"
            rows.append(
                f"| {line['what']} | {spread(line['ours'])} {line['unit']} | {theirs} | "
                f"{spread(line['ratios'])} |"
            )
            if line["facts"]:
                facts = ", ".join(f"{name} {_text(v)}" for name, v in line["facts"].items())
                notes.append(f"- {line['what']}: {facts}")
    notes += [f"- left out, {group}: {why}" for group, why in record["left_out"].items()]
    quick = ", --quick: few and small ones" if record["quick"] else ""
    where = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    return "\n".join(
        [*rows, "", *notes, "", f"Median (least–most) of repetitions in turns{quick}; {where}."]
    )


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else short(value)


if __name__ == "__main__":
    run_script(main)

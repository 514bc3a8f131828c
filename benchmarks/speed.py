#!/usr/bin/env python3
"""Every figure of speed in the README: ours beside a named alternative, in turns, in one run.

Each group is a module beside this one with `measure(quick) -> list[Line]`. A group whose peer is
not installed says so and is left out (pip install -r benchmarks/requirements.txt).

Writes OUT/speed.json, OUT/speed.md and OUT/speed.png.

Examples:
    python benchmarks/speed.py                         all groups, an hour on two cores
    python benchmarks/speed.py --quick                 all groups, five minutes
    python benchmarks/speed.py --only encoder loader
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import Line, machine, spread
from common.config import run_script
from common.files import UserError, whole_file
from common.memory import keep_memory

# Group -> module below benchmarks/.
GROUPS = {
    "encoder": "encoder_speed",
    "curriculum": "curriculum_speed",
    "submission": "submission_speed",
    "prepare": "prepare_speed",
    "scaling": "scaling",
    "start": "start_speed",
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
    for group in arguments.only:
        print(f"{group} …", flush=True)
        start = time.monotonic()
        try:
            # The memory of one group is not that of the next.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                lines = pool.submit(measure, group, arguments.quick).result()
        except (ImportError, UserError) as error:
            record["left_out"][group] = str(error)
            print(f"  left out: {error}", flush=True)
            continue
        record["groups"][group] = [{**asdict(line), "ratios": line.ratios} for line in lines]
        for line in lines:
            print("  " + describe(line), flush=True)
        print(f"  {time.monotonic() - start:.0f} s", flush=True)
        write(arguments.out, record)
    print(f"Results: {arguments.out}/speed.md, speed.json, speed.png")


def measure(group: str, quick: bool) -> list[Line]:
    """Run one group, in a process of its own, under the allocator that the scripts run under."""
    keep_memory()
    return import_module(f"benchmarks.{GROUPS[group]}").measure(quick)


def describe(line: Line) -> str:
    """Return a line as one sentence."""
    text = f"{line.what}: {spread(line.ours, 1)} {line.unit}"
    if line.theirs:
        text += f"; {line.peer}: {spread(line.theirs, 1)}; ratio {spread(line.ratios)}"
    return text + "".join(f"; {name} {_short(value)}" for name, value in line.facts.items())


def write(out: Path, record: dict) -> None:
    """Write the record, its table and its plot."""
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "speed.json", "w") as file:
        json.dump(record, file, indent=1)
    with whole_file(out / "speed.md", "w") as file:
        file.write(markdown(record))
    plot(out / "speed.png", record)


def markdown(record: dict) -> str:
    """Return the table of a record, with the machine under it."""
    rows = ["| what | ours | the alternative | ratio | asked |", "|---|---|---|---|---|"]
    notes = []
    for lines in record["groups"].values():
        for line in lines:
            theirs = f"{spread(line['theirs'], 1)} {line['peer']}" if line["theirs"] else "–"
            goal = f"≥ {line['goal']:g}" if line["goal"] else "–"
            rows.append(
                f"| {line['what']} | {spread(line['ours'], 1)} {line['unit']} | {theirs} | "
                f"{spread(line['ratios'])} | {goal} |"
            )
            if line["facts"]:
                facts = ", ".join(f"{name} {_short(v)}" for name, v in line["facts"].items())
                notes.append(f"- {line['what']}: {facts}")
    notes += [f"- left out, {group}: {why}" for group, why in record["left_out"].items()]
    where = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    return "\n".join(
        [*rows, "", *notes, "", f"Median (least–most) of repetitions in turns; {where}."]
    )


def plot(path: Path, record: dict) -> None:
    """Draw each ratio with its spread beside the one asked for; on a log axis, 1 is the peer."""
    from common.pictures import BLUE, INK, RULE, new_figure, save_figure

    lines = [line for group in record["groups"].values() for line in group if line["ratios"]]
    if not lines:
        return
    figure, (axes,) = new_figure(9, 0.7 + 0.42 * len(lines), 1)
    for row, line in enumerate(lines):
        ratios = sorted(line["ratios"])
        axes.plot([ratios[0], ratios[-1]], [row, row], color=BLUE, alpha=0.4, linewidth=5)
        axes.plot(statistics.median(ratios), row, "o", color=BLUE)
        if line["goal"]:
            axes.plot(line["goal"], row, "|", color=INK, markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(lines)), [f"{x['what']}\nbeside {x['peer']}" for x in lines])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    marks = [mark for mark in (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12) if low <= mark <= high]
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
    axes.axvline(1, color=INK, linewidth=1)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("times as fast as the alternative (dot: median, band: spread, bar: asked for)")
    save_figure(figure, path)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    run_script(main)

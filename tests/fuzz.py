"""Hostile input: everything that 01 and 05 read, mutated; they must refuse it in a sentence.

python tests/fuzz.py --count 10000 --seed 0        about two minutes a thousand cases and core
python tests/fuzz.py --count 1 --first 4711        one case again

A case takes one file of a small valid input, damages it, and lets the code read it, beside good
neighbours. It fails by a traceback, by a crash or hang of its process, by more than MEMORY_MIB of
memory, by a file outside the output folder, and where a good neighbour is lost. Cases run in a
process of their own, which a watchdog ends and begins again behind the case that broke it. The
number of a case and the seed decide all of it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HANG_S = 60.0  # one case; the slowest takes a second or two on a free machine
MEMORY_MIB = 1024  # above what the process holds: the largest image that is allowed, decoded


def work(seeds: Path, box: Path, seed: int, first: int, end: int, report) -> None:
    """Run cases in this process, a line of JSON for each into `report`, before it and after it."""
    from helpers.fuzz_targets import TARGETS

    from common.script.files import UserError

    targets, shares = list(TARGETS), list(TARGETS.values())
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        for number in range(first, end):
            chance = random.Random(f"{seed} {number}")
            target = chance.choices(targets, shares)[0]
            _tell(report, case=number, target=target.__name__)
            outside = box.with_name("outside.txt")
            outside.write_text("of somebody else")
            box.mkdir()
            what, outcome, fault = "", "read", ""
            before, began = _peak_mib(reset=True), time.monotonic()
            try:
                what = target(box, seeds, chance)
            except UserError as error:
                outcome = "refused"
                if "\n" in str(error).strip() and target.__name__ != "table_case":
                    fault = f"more than a sentence: {error}"
            except BaseException:
                fault = traceback.format_exc(limit=-6)
            grown = _peak_mib() - before
            if grown > MEMORY_MIB:
                fault = fault or f"{grown} MiB of memory"
            strays = {path.name for path in box.parent.iterdir()} - {box.name, "outside.txt"}
            strays |= {p.name for p in box.iterdir()} - PLACES
            if strays or outside.read_text() != "of somebody else":
                fault = fault or f"files outside the output folder: {sorted(strays)}"
            shutil.rmtree(box)
            seconds = round(time.monotonic() - began, 3)
            _tell(
                report,
                done=number,
                target=target.__name__,
                what=what,
                outcome=outcome,
                fault=fault,
                mib=grown,
                seconds=seconds,
            )


# What a case may make in its box: its input and the output folders.
PLACES = {
    "raw",
    "prepared",
    "run",
    "model.safetensors",
    "model.pth",
    "run.json",
    "list.txt",
    "frames.csv",
    "truth.csv",
    "check.txt",
    "manifest.csv",
    "recipe.toml",
}


def _tell(report, **fields) -> None:
    report.write(json.dumps(fields) + "\n")
    report.flush()


def _peak_mib(reset: bool = False) -> int:
    """Return the most memory this process held since the last reset, MiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def watch(seed: int, first: int, count: int, seconds: float) -> dict:
    """Run cases in processes that may break; return counts, faults, and the largest figures."""
    result = {"cases": 0, "outcomes": Counter(), "targets": Counter(), "faults": []}
    result |= {"mib": 0, "slowest_s": 0.0}
    until = time.monotonic() + seconds
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=fast) as folder:
        place = Path(folder)
        seeds, number, end = place / "seeds", first, first + count
        while number < end and time.monotonic() < until:
            shutil.rmtree(place / "work", ignore_errors=True)
            (place / "work").mkdir()
            arguments = [place, seed, number, end]
            command = [sys.executable, __file__, "--worker", *map(str, arguments)]
            log = open(place / "log", "wb")  # noqa: SIM115 - closed below
            worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
            number = _follow(worker, place / "report", number, until, result)
            log.close()
            if worker.returncode not in (0, -9):
                print((place / "log").read_text()[-4000:], file=sys.stderr)
                if not seeds.is_dir():
                    raise RuntimeError("the seeds cannot be made")
    return result


def _follow(worker, report: Path, number: int, until: float, result: dict) -> int:
    """Read a worker's report until it ends; return the case to go on with."""
    began, line, target = time.monotonic(), b"", ""
    with open(report, "a+b") as lines:
        lines.seek(0)
        lines.truncate()
        while True:
            line += lines.readline()
            if not line.endswith(b"\n"):
                if worker.poll() is not None and not (more := lines.readline()):
                    break
                line += more if worker.returncode is not None else b""
                hung = time.monotonic() - began > HANG_S + (60 if not target else 0)
                if hung or time.monotonic() > until:
                    worker.kill()
                    worker.wait()
                    if hung:
                        result["faults"].append((number, target, f"hung for {HANG_S:.0f} s"))
                    return number + 1
                time.sleep(0.01)
                continue
            fields, line, began = json.loads(line), b"", time.monotonic()
            target = fields["target"]
            if "case" in fields:
                number = fields["case"]
                continue
            result["cases"] += 1
            result["outcomes"][fields["outcome"]] += 1
            result["targets"][f"{target} {fields['outcome']}"] += 1
            result["mib"] = max(result["mib"], fields["mib"])
            result["slowest_s"] = max(result["slowest_s"], fields["seconds"])
            if fields["fault"]:
                result["faults"].append((number, target, fields["fault"]))
            number, target = number + 1, ""
    if worker.returncode and target:
        result["faults"].append((number, target, f"the process ended with {worker.returncode}"))
        return number + 1
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so long")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
        faulthandler.enable()
        place, seed, first, end = Path(arguments.worker[0]), *map(int, arguments.worker[1:])
        if not (place / "seeds").is_dir():
            from helpers.fuzz_targets import make_seeds

            make_seeds(place / "new")
            (place / "new").rename(place / "seeds")
        with open(place / "report", "a") as report:
            work(place / "seeds", place / "work" / "box", seed, first, end, report)
        return 0
    result = watch(arguments.seed, arguments.first, arguments.count, arguments.seconds)
    for number, target, fault in result["faults"]:
        print(f"case {number}, {target}: {fault}")
    print(f"{result['cases']:,} cases, {len(result['faults'])} faults; {dict(result['outcomes'])}")
    for target, cases in sorted(result["targets"].items()):
        print(f"    {target}: {cases:,}")
    print(f"at most {result['mib']} MiB and {result['slowest_s']} s a case")
    return bool(result["faults"])


if __name__ == "__main__":
    sys.exit(main())

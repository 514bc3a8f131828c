#!/usr/bin/env python3
"""What a CUDA GPU makes of 02, 04 and 05, in one command of at most eight minutes.

  steps    training steps of ViT-S/B/L in 02 and 04, by batch, compiled or not: images/s, share of
           the card's bfloat16 peak, and memory beside the formula that chooses the batch
  runs     02 and 04 with ViT-B from JPEG files, loading included: images/s, time waiting for data
  tests    the tests marked `cuda`: losses as on the CPU, number formats, an overflow of float16, a
           resumed run, compiled or not, two processes on one GPU
  loader   images/s of the loader, and of decoding and resizing on the GPU instead
  predict  05 on drawn clips: frames/s

Writes OUT/gpu.md and OUT/gpu.json after each line, so that whatever ends it loses nothing. A part
that fails, or for which no time is left, is named with the reason. The figures of --cpu, which
runs every part at toy size without a GPU, mean nothing.

Examples:
    python benchmarks/gpu.py
    python benchmarks/gpu.py --only steps --minutes 3
    python benchmarks/gpu.py --cpu --out /tmp/gpu
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.script.files import UserError, whole_file, write_json
from common.script.flags import positive_float
from common.script.main import run_script

# In this order, and for at most so many seconds each; what one leaves, the later ones may take.
PARTS = {"steps": 150, "runs": 150, "tests": 130, "loader": 15, "predict": 30}


def main() -> None:
    """Run the parts; write the table after each line of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=positive_float, default=8.0, help="after which it ends (default: 8)")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    add("--cpu", action="store_true", help="every part at toy size, without a GPU: a dry run")
    add("--out", type=Path, default=Path("runs/gpu"), help="folder of results")
    arguments = parser.parse_args()
    import torch

    if not arguments.cpu and not torch.cuda.is_available():
        raise UserError("There is no CUDA GPU here; --cpu tries every part at toy size without.")
    from benchmarks import gpu_parts

    end = time.monotonic() + 60 * arguments.minutes
    peak, facts = gpu_parts.peak_of(arguments.cpu)
    record = {"machine": facts, "dry_run": arguments.cpu, "rows": [], "left_out": {}}
    with tempfile.TemporaryDirectory() as folder:
        allowed = 0.0
        for part in arguments.only:
            # Of the time that is left, its own and what those before it have not used.
            allowed = min(end, max(allowed, time.monotonic()) + PARTS[part])
            allowed = end if arguments.cpu else allowed  # a dry run has to see every part
            bench = gpu_parts.Bench(arguments.cpu, peak, Path(folder), allowed)
            print(f"{part} …", flush=True)
            try:
                if time.monotonic() > end:
                    raise TimeoutError("no time was left")
                for row in getattr(gpu_parts, part)(bench):
                    record["rows"].append({"part": part, **row})
                    print(f"  {line(row)}", flush=True)
                    write(arguments.out, record)
            except Exception as error:  # the other parts are not lost with it
                record["left_out"][part] = f"{type(error).__name__}: {error}"
                print(f"  left out: {record['left_out'][part]}", flush=True)
            write(arguments.out, record)
    print(f"Results: {arguments.out}/gpu.md, gpu.json")
    if arguments.cpu and record["left_out"]:
        raise SystemExit(1)


def line(row: dict) -> str:
    """Return a row of the table, as it is printed."""
    rate = "–" if row.get("rate") is None else f"{row['rate']:,.0f} {row['unit']}"
    share = "–" if row.get("share") is None else f"{row['share']:.1%}"
    return f"| {row['what']} | {rate} | {share} | {row.get('note', '')} |"


def write(out: Path, record: dict) -> None:
    """Write what there is so far."""
    write_json(out / "gpu.json", record)
    dry = ["**A dry run at toy size on a CPU: these figures mean nothing.**", ""]
    rows = ["| what | rate | share of the peak | |", "|---|---|---|---|"]
    rows += map(line, record["rows"])
    notes = [f"- left out, {part}: {why}" for part, why in record["left_out"].items()]
    where = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    with whole_file(out / "gpu.md", "w") as file:
        file.write("\n".join([*(dry * record["dry_run"]), *rows, "", *notes, "", where, ""]))


if __name__ == "__main__":
    run_script(main)

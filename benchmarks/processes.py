#!/usr/bin/env python3
"""The stages on 1, 2 and 4 processes of one CPU machine: is the result the same, how long it takes.

A small demo world is drawn. Each stage runs on every number of processes, connected by gloo, one
thread each, from the first weights that one process has made; and once more on the largest number.
The results are compared with those of one process, the repetition with the run before it:
  01          all prepared files but its own notes and times: byte for byte
  02, 03, 04  epochs, learning rates and what was drawn: exactly; weights, losses and the
              probabilities of held-out images: by their largest difference
  --folds     the same of every fold, and of the predictions of all folds together
A sum of floats depends on its order, so a training on another number of processes differs in its
last digits, and each step adds to that.

Writes OUT/processes.md and OUT/processes.json, after each stage. Ends with status 1 where
something differs that must be exact.

Examples:
    python benchmarks/processes.py                    on two cores without other work
    python benchmarks/processes.py --processes 1 2 --scale 0.1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.script.files import file_digest, whole_file, write_json
from common.script.flags import positive, positive_float
from common.script.main import run_script

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ["--config", "configs/demo.toml"]
TRAIN = [*RECIPE, "--data-dir", "{first}", "--run-dir", "{own}", "--mixed-precision", "no"]
TRAIN += ["--workers", "0", "--batch-size", "8"]
CURRICULUM = ["04_curriculum.py", *TRAIN, "--init", "{first}/single/model.safetensors"]
CURRICULUM += ["--stage-epochs", "2", "2", "--compound-shares", "0", "0.5"]
SINGLE = ["03_finetune_single.py", *TRAIN, "--init", "{first}/mae/model.safetensors"]
# Of each stage its command and the folder of its results. first: the folder of one process.
STAGES = {
    "01": (["01_prepare_data.py", *RECIPE, "--data-dir", "{own}", "--workers", "1"], "prepared"),
    "02": (["02_pretrain_mae.py", *TRAIN, "--epochs", "4"], "mae"),
    "03": ([*SINGLE, "--adapt-epochs", "2", "--epochs", "4"], "single"),
    "04": (CURRICULUM, "curriculum"),
    "04 --folds 2": ([*CURRICULUM, "--folds", "2", "--run-dir", "{own}/folds"], "folds/curriculum"),
}
COLUMNS = {
    "processes": "processes",
    "seconds": "wall time, s",
    "images_per_s": "images/s",
    "same_as": "compared with",
    "exact": "exact",
    "weights": "weights, at most",
    "loss": "loss, at most",
    "probabilities": "probabilities, at most",
}


def main() -> None:
    """Run the stages, each on every number of processes; write the table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=positive, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--scale", type=positive_float, default=0.05, help="of the demo world")
    parser.add_argument("--out", type=Path, default=Path("runs/processes"))
    arguments = parser.parse_args()
    from benchmarks.timing import machine

    counts = sorted({1, *arguments.processes})
    runs = {str(count): count for count in counts} | {f"{counts[-1]} again": counts[-1]}
    record = {"machine": machine(), "scale": arguments.scale, "stages": {}, "load": []}
    with tempfile.TemporaryDirectory() as work:
        world = Path(work) / "world"
        launch(["-m", "common.demo", "--out", world, "--scale", arguments.scale], 1)
        for stage, (command, results) in STAGES.items():
            rows = record["stages"][stage] = []
            for name, count in runs.items():
                own = Path(work) / name
                if not own.exists():
                    own.mkdir()
                    (own / "raw").symlink_to(world / "raw")
                words = [word.format(own=own, first=Path(work) / "1") for word in command]
                row = {"processes": name, "seconds": launch(words, count)}
                if name != "1":
                    row["same_as"] = before = str(count) if "again" in name else "1"
                    row |= compare(own / results, Path(work) / before / results)
                row["images_per_s"] = images_per_s(own / results)
                rows.append(row)
            record["load"].append(os.getloadavg()[0])
            write_json(arguments.out / "processes.json", record)
            with whole_file(arguments.out / "processes.md", "w") as file:
                file.write(markdown(record))
            print(f"{stage}: {rows}", flush=True)
    print(markdown(record))
    print(f"Results: {arguments.out}/processes.md, processes.json")
    if not all(row.get("exact", True) for rows in record["stages"].values() for row in rows):
        raise SystemExit(1)


def launch(words: list, processes: int) -> float:
    """Run a script on some processes; return its seconds, from the start of the launcher."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    ended = subprocess.run(
        [*command, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{words[0]} on {processes} ended so:\n{ended.stdout}")
    return time.monotonic() - begun


def compare(found: Path, expected: Path) -> dict:
    """Compare two folders of results: what must be exact, and how far the rest differs.

    loss: relative to the loss. weights, probabilities: absolute. A figure is left out where there
    is nothing of its kind.
    """
    if found.name == "prepared":
        return {"exact": digests(found) == digests(expected)}
    import numpy as np
    import pandas as pd
    from safetensors.numpy import load_file

    exact = names(found) == names(expected) != set()
    largest: dict[str, float] = {}

    def note(kind: str, differences) -> None:
        largest[kind] = max(
            largest.get(kind, 0.0), float(np.max(np.asarray(differences), initial=0.0))
        )

    for name in names(found) & names(expected):
        one, other = found / name, expected / name
        if name.endswith(".safetensors"):
            one, other = load_file(one), load_file(other)
            exact &= one.keys() == other.keys()
            for key in one:
                note("weights", np.abs(one[key] - other[key]))
            continue
        one, other = pd.read_csv(one), pd.read_csv(other)
        same = [column for column in one if not pd.api.types.is_float_dtype(one[column])]
        if "loss" in one:
            note("loss", np.abs(one.loss / other.loss - 1))
            same.append("learning_rate")
        else:
            numbers = one.columns.difference(same)
            note("probabilities", np.abs(one[numbers] - other[numbers]).to_numpy())
        exact &= one[same].equals(other[same])
    return {"exact": bool(exact), **largest}


def digests(prepared: Path) -> dict[str, str]:
    """Return the digest of each file that 01 prepared, without its notes and the times it took."""
    files = {p.relative_to(prepared): p for p in prepared.rglob("*") if p.is_file()}
    return {
        name.as_posix(): file_digest(path)
        for name, path in files.items()
        if name.parts[0] not in ("state", "summary.json", ".lock")
    }


def names(folder: Path) -> set[str]:
    """Return the files of a training that are compared: weights, epochs and predictions."""
    kinds = ("model.safetensors", "metrics.csv", "validation.csv", "oof.csv")
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name in kinds}


def images_per_s(folder: Path) -> float | None:
    """Return the median rate of a training's epochs; None of 01."""
    import pandas as pd

    rates = [pd.read_csv(path).images_per_s for path in folder.rglob("metrics.csv")]
    return float(pd.concat(rates).median()) if rates else None


def markdown(record: dict) -> str:
    """Return the table of a record, with the machine under it."""
    lines = ["| stage | " + " | ".join(COLUMNS.values()) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for stage, rows in record["stages"].items():
        for row in rows:
            cells = [stage, *(_text(row.get(column)) for column in COLUMNS)]
            lines.append("| " + " | ".join(cells) + " |")
    where = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    loads = ", ".join(f"{load:.1f}" for load in record["load"])
    note = f"Demo world at scale {record['scale']}, float32, one thread a process; {where}; "
    return "\n".join([*lines, "", f"{note}load after each stage {loads}.", ""])


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run_script(main)

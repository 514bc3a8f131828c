#!/usr/bin/env python3
"""Tables 1 and 2 of the paper, row by row, with the controls that the paper lacks.

Each row is 04_curriculum.py with other settings, from one classifier of single expressions (03),
under several seeds; then its score. A row is its network after the last epoch: no compound's label
chooses one, and a schedule is judged by what it ends in. On the demo the score is 05's, on the
challenge videos, whose labels nothing else reads; on real data the macro-F1 of the held-out
compounds of the chosen set.

In:  prepared data (01) and a classifier of single expressions (03), for every world
Out: OUT/paper_tables.md, paper_tables.png, results.csv; the runs by row, world and seed

Examples
  python benchmarks/paper_tables.py                                the demo, five seeds (hours)
  python benchmarks/paper_tables.py --quick                        the paper's rows, one seed, short
  python benchmarks/paper_tables.py --worlds data/demo:runs/demo data/demo-1:runs/demo-1 --seeds 0 1
  python benchmarks/paper_tables.py --data RAF-CE --worlds data:runs/paper --jobs 2
  python benchmarks/paper_tables.py --rows table2 controls -- --mixed-label soft
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import Section, markdown, save_plot
from benchmarks.derived_data import add_pseudo_labels, keep_part, training_singles
from benchmarks.paper_rows import DEFAULT, RUNS, SECTIONS, start_of
from common.emotions import challenge_class
from common.manifest import hold_out, read_manifest
from common.script.files import (
    UserError,
    file_digest,
    only_process,
    whole_file,
    write_csv,
    write_json,
)
from common.script.flags import count, positive
from common.script.main import run_script

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data",
        default="demo",
        metavar="demo|own|DATASET",
        help="what scores a row: demo, the "
        "videos of the demo's challenge; own, every held-out compound; or those of one prepared set"
        ", such as MAFW, RAF-DB-compound, RAF-CE",
    )
    add(
        "--worlds",
        nargs="+",
        metavar="DATA:RUN",
        help="data folder and folder of the run whose "
        "single/model.safetensors all rows start from (default: data/demo:runs/demo, or "
        "data:runs/paper)",
    )
    add("--config", type=Path, help="recipe (default: configs/demo.toml or configs/paper.toml)")
    add("--seeds", type=count, nargs="+", default=[0, 1, 2, 3, 4], help="training seeds")
    add("--rows", nargs="+", choices=SECTIONS, help=f"tables (default: {' '.join(DEFAULT)})")
    add("--quick", action="store_true", help="tables 1 and 2, one seed, 250 images an epoch")
    add("--jobs", type=positive, default=1, help="rows at once, which share the cores")
    add(
        "--out",
        type=Path,
        help="folder of results (default: runs/paper_tables, or runs/paper_tables-quick)",
    )
    own = sys.argv[1:]
    cut = own.index("--") if "--" in own else len(own)
    return parser.parse_args(own[:cut]), own[cut + 1 :]


def main() -> None:
    args, extra = arguments()
    demo = args.data == "demo"
    worlds = args.worlds or ["data/demo:runs/demo" if demo else "data:runs/paper"]
    config = args.config or ROOT / "configs" / ("demo.toml" if demo else "paper.toml")
    chosen = args.rows or (("table1", "table2") if args.quick else DEFAULT)
    seeds = list(dict.fromkeys(args.seeds))[: 1 if args.quick else None]
    args.out = args.out or Path("runs", "paper_tables" + "-quick" * args.quick)
    for name in {"beyond", "start"}.intersection(() if demo else chosen):
        raise UserError(f"--rows {name} needs the demo: its videos, or a network of its size.")
    if args.quick:
        extra = ["--epoch-images", "250", *extra]
    sections = [SECTIONS[name] for name in chosen]
    names = dict.fromkeys(run for section in sections for _, run, _ in section.rows)
    for world in worlds:
        check_world(world, args.data, {start_of(name) for name in names})
    if len({name_of(world) for world in worlds}) < len(worlds):
        raise UserError("--worlds: two data folders have the same name; rename one.")
    # A whole seed in every world before the next: what is there can be compared at any time.
    tasks = [(world, seed, name) for seed in seeds for world in worlds for name in names]
    args.out.mkdir(parents=True, exist_ok=True)
    threads = max(1, len(os.sched_getaffinity(0)) // args.jobs)
    done: list[dict] = []
    writing = Lock()
    # A row may be asked for twice: as such, and by one that builds on it.
    running = defaultdict(Lock)

    def run(world: str, seed: int, name: str) -> tuple[Path, float, float]:
        folder = args.out / name.replace(",", "").replace(" ", "-") / name_of(world) / f"{seed}"
        other = RUNS[name].other and run(world, seed, RUNS[name].other)[0]
        with running[folder]:
            row = Row(folder, world, seed, name, config, args.data, extra, other)
            return folder, *run_row(row, threads)

    def work(task) -> None:
        world, seed, name = task
        _, score, seconds = run(world, seed, name)
        with writing:  # one thread at a time
            done.append(
                {"row": name, "world": world, "seed": seed, "score": score, "seconds": seconds}
            )
            write_results(args, sections, done, tasks, extra)
        print(f"{len(done)}/{len(tasks)}  {name}, {world}, seed {seed}: {score:.4f}", flush=True)

    print(
        f"{len(tasks)} runs: {len(names)} rows, each in {len(worlds)} worlds under {len(seeds)} "
        f"seeds; those done already are in {args.out}",
        flush=True,
    )
    with only_process(args.out), ThreadPoolExecutor(args.jobs) as pool:
        for outcome in [pool.submit(work, task) for task in tasks]:
            try:
                outcome.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    print((args.out / "paper_tables.md").read_text(encoding="utf-8"))


def check_world(world: str, data: str, starts: set[str]) -> None:
    """Raise UserError, before anything is trained, where a world lacks what its rows need."""
    data_dir, _, run_dir = world.partition(":")
    needed = [Path(data_dir, "prepared", "manifest.csv")]
    needed += [Path(run_dir, start, "model.safetensors") for start in sorted(starts)]
    needed += [Path(data_dir, "truth.csv")] if data == "demo" else []
    for path in needed:
        if not run_dir or not path.is_file():
            raise UserError(f"--worlds {world}: there is no {path}; run `make demo` or 01 to 03.")
    if data == "demo":
        return
    manifest = read_manifest(needed[0])
    held = hold_out(manifest) & (manifest.kind == "compound")
    held &= (manifest.labels.astype(str).map(challenge_class) >= 0).to_numpy()
    sets = sorted(set(manifest.dataset[held]))
    if not sets or data not in ("own", *sets):
        raise UserError(
            f"--data {data}: {needed[0]} has no held-out compound of the challenge's seven"
            + (f" in it; it has some of {', '.join(sets)}." if sets else ".")
        )


def name_of(world: str) -> str:
    """Return the name of a world's data folder."""
    return Path(world.partition(":")[0]).name


class Row(NamedTuple):
    """A run of the tables: where its results go, and all that they depend on.

    other: folder of the run that it builds on (Variant.other).
    """

    folder: Path
    world: str
    seed: int
    name: str
    config: Path
    data: str
    extra: list[str]
    other: Path | None = None


def commands_of(row: Row) -> tuple[list[list[str]], Path]:
    """Return the commands that train and score a row, and the file that then holds its score."""
    folder, world, seed, name, config, data, extra, other = row
    variant = RUNS[name]
    data_dir, _, run_dir = world.partition(":")
    own_data = str(folder) if other or variant.parts > 1 else data_dir

    def common(data: str) -> list[str]:
        flags = "--config", config, "--data-dir", data, "--run-dir", folder, "--seed", seed
        return [str(flag) for flag in flags]

    commands, start = [], f"{run_dir}/single/model.safetensors"
    if variant.single is not None:
        command = ["03_finetune_single.py", *common(own_data)]
        command += ["--init", f"{run_dir}/mae/model.safetensors", *shlex.split(variant.single)]
        if variant.parts > 1:  # as many steps of 03 as there are for all
            recipe = tomllib.loads(config.read_text(encoding="utf-8"))
            epochs = recipe.get("finetune_single", {}).get("epochs", 20)
            command += ["--epochs", str(epochs * variant.parts)]
        commands, start = [command], f"{folder}/single/model.safetensors"
    train = ["04_curriculum.py", *common(own_data), "--init", start]
    if variant.parts > 1:  # as many images an epoch
        manifest = read_manifest(Path(data_dir) / "prepared" / "manifest.csv")
        train += ["--epoch-images", str(training_singles(manifest).sum())]
    train += [*extra, *shlex.split(variant.flags), "--keep", "last"]  # a row's own flags count
    if data == "demo":
        score = ["05_predict_submit.py", *common(data_dir), "--truth", f"{data_dir}/truth.csv"]
        score += ["--smooth", "none"]  # as in the paper: one frame at a time
        if variant.decision:
            weights = f"{other}/curriculum/model.safetensors"
            commands = [[*score, "--checkpoints", weights, *shlex.split(variant.decision)]]
            return commands, folder / "submission" / "score.json"
        return [*commands, train, score], folder / "submission" / "score.json"
    train += [] if data == "own" else ["--validate-on", data]
    return [*commands, train], folder / "curriculum" / "report.json"


def run_row(row: Row, threads: int) -> tuple[float, float]:
    """Train and score a row, unless that is done; return its macro-F1 and the seconds it took."""
    commands, result = commands_of(row)
    folder, variant = row.folder, RUNS[row.name]
    data_dir, _, run_dir = row.world.partition(":")
    record = folder / "row.json"
    before = json.loads(record.read_text()) if record.is_file() else None
    made_of = [f"{data_dir}/prepared/manifest.csv"]
    made_of += [f"{run_dir}/{start_of(row.name)}/model.safetensors"]
    made_of += [str(row.config), *([f"{data_dir}/truth.csv"] if row.data == "demo" else [])]
    inputs = {path: file_digest(path) for path in made_of if Path(path).is_file()}
    known = (before or {}).get("inputs", inputs)
    # Of other inputs it is another row: 04 then refuses the folder, or it is scored anew.
    same = all(known.get(path, digest) == digest for path, digest in inputs.items())
    if before and before["commands"] == commands and same:
        return before["macro_f1"], before["seconds"]
    started = time.monotonic()
    if row.other and not variant.decision:
        add_pseudo_labels(folder, Path(data_dir), row.other / "submission" / "probabilities.csv")
    elif variant.parts > 1:
        keep_part(folder, Path(data_dir), variant.parts, row.seed)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    for command in commands:
        ended = subprocess.run(
            [sys.executable, str(ROOT / command[0]), *command[1:]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ended.returncode:
            raise UserError(f"{shlex.join(command)} failed:\n{ended.stdout.strip()}")
    figure, seconds = json.loads(result.read_text())["macro_f1"], time.monotonic() - started
    made = {"commands": commands, "inputs": inputs, "macro_f1": figure, "seconds": seconds}
    write_json(record, made)
    return figure, seconds


def write_results(args, sections: list[Section], done: list[dict], tasks: list, extra) -> None:
    """Write what is there so far: results.csv, the tables as Markdown, the plot."""
    order = {task: number for number, task in enumerate(tasks)}
    done.sort(key=lambda row: order[row["world"], row["seed"], row["row"]])
    table = pd.DataFrame(done)
    write_csv(args.out / "results.csv", table)
    with whole_file(args.out / "paper_tables.md", "w") as file:
        settings = f" Flags beside the recipe: `{shlex.join(extra)}`." if extra else ""
        file.write(f"Macro-F1 over the seven compounds, scored on {args.data}.{settings}\n\n")
        file.write("\n".join(markdown(section, table) for section in sections))
    save_plot(args.out / "paper_tables.png", sections, table)


if __name__ == "__main__":
    run_script(main)

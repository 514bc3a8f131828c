#!/usr/bin/env python3
"""Tables 1 to 3 of the paper, row by row, with the controls that the paper lacks.

Each row is 04_curriculum.py with other settings, from one classifier of single expressions (03),
under several seeds; then its score. A row is its network after the last epoch: no compound's label
chooses one, and a schedule is judged by what it ends in. On the demo the score is 05's, on the
challenge videos, whose labels nothing else reads; on real data the macro-F1 of the held-out
compounds of the chosen set; on FER+ the scores of benchmarks/ferplus.py, on PublicTest, or out of
fold with --folds.

In:  prepared data (01) and a classifier of single expressions (03), for every world; a world that
     names no run has one trained for every seed
Out: OUT/paper_tables.md, paper_tables.png, results.csv; the runs by row, world and seed

Examples
  python benchmarks/paper_tables.py                                the demo, five seeds (hours)
  python benchmarks/paper_tables.py --quick                        the paper's rows, one seed, short
  python benchmarks/paper_tables.py --worlds data/demo:runs/demo data/demo-1:runs/demo-1 --seeds 0 1
  python benchmarks/paper_tables.py --data RAF-CE --worlds data:runs/paper --jobs 2
  python benchmarks/paper_tables.py --rows table2 controls -- --mixed-label soft
  python benchmarks/paper_tables.py --rows teams tracks            table 3: benchmarks/teams
  python benchmarks/paper_tables.py --data FERPlus --quick --rows order votes --seeds 0 1 2
  python benchmarks/paper_tables.py --data FERPlus --folds 5 --no-votes --rows table2 controls
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from threading import Lock

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import Section, differences, markdown, means, save_plot
from benchmarks.paper_rows import (
    DEFAULT,
    RUNS,
    SECTIONS,
    WITH_VOTES,
    WITHOUT_VOTES,
    without_votes,
)
from benchmarks.paper_runs import FERPLUS, MEASURES, ROOT, Row, run_row, start_of
from common.emotions import challenge_class
from common.manifest import read_manifest
from common.script.files import UserError, only_process, whole_file, write_csv
from common.script.flags import count, positive, several
from common.script.main import run_script
from common.splits import hold_out

# Flags of 03 and of 04 for a short look. On FER+ it is the small network of docs/ferplus.md, which
# trains some 600 images a second and core: three minutes for 03, one for a row of 04. Fewer steps
# need a shorter average of the weights.
SMALL = shlex.split("--model cnn_small --image-size 48 --global-batch 128 --batch-size 128")
SMALL += ["--ema", "0.99"]
QUICK = {
    "demo": ([], ["--epoch-images", "250"]),
    FERPLUS: (
        [*SMALL, *shlex.split("--init none --lr 3e-3 --epochs 4 --small-epochs 0")],
        [*SMALL, *shlex.split("--lr 6e-4 --epoch-images 2250")],
    ),
}


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data",
        default="demo",
        metavar="demo|own|DATASET",
        help="what scores a row: demo, the videos of the demo's challenge; own, every held-out "
        "compound; those of one prepared set, such as MAFW, RAF-DB-compound, RAF-CE; or FERPlus, "
        "by its protocol (docs/ferplus.md)",
    )
    add(
        "--worlds",
        nargs="+",
        metavar="DATA[:RUN]",
        help="data folder and folder of the run whose single/model.safetensors all rows start from "
        "(default: data/demo:runs/demo, data/ferplus, or data:runs/paper); without RUN, 03 is "
        "trained for every seed",
    )
    add("--config", type=Path, help="recipe (default: configs/demo.toml, ferplus.toml, paper.toml)")
    add("--seeds", type=count, nargs="+", help="training seeds (default: 0 to 4; --quick: 0)")
    add(
        "--rows",
        nargs="+",
        choices=SECTIONS,
        help=f"tables (default: {' '.join(DEFAULT)}; on FER+ {' '.join(WITH_VOTES)})",
    )
    add(
        "--no-votes",
        action="store_true",
        help="with FERPlus, 03 and 04 see the labels alone, as in the paper; for --rows "
        + ", ".join(WITHOUT_VOTES),
    )
    add("--folds", type=several, metavar="N", help="with FERPlus, 03 and 04 by N folds")
    add(
        "--quick",
        action="store_true",
        help="tables 1 and 2, 250 images an epoch; on FER+ 2,250, after 4 epochs of 03, with a "
        "small network",
    )
    add("--jobs", type=positive, default=1, help="rows at once, which share the cores")
    add(
        "--out",
        type=Path,
        help="folder of results (default: runs/paper_tables, with -ferplus, -labels and -quick)",
    )
    own = sys.argv[1:]
    cut = own.index("--") if "--" in own else len(own)
    return parser.parse_args(own[:cut]), own[cut + 1 :]


def main() -> None:
    args, extra = arguments()
    known = args.data if args.data in ("demo", FERPLUS) else "paper"
    world, default = {
        "demo": ("data/demo:runs/demo", DEFAULT),
        FERPLUS: ("data/ferplus", WITH_VOTES),
        "paper": ("data:runs/paper", DEFAULT),
    }[known]
    worlds = args.worlds or [world]
    config = args.config or ROOT / "configs" / f"{known.lower()}.toml"
    default = DEFAULT if args.no_votes else default
    chosen = args.rows or (("table1", "table2") if args.quick else default)
    seeds = list(dict.fromkeys(args.seeds or ([0] if args.quick else range(5))))
    args.out = args.out or Path(
        "runs",
        "paper_tables"
        + "-ferplus" * (known == FERPLUS)
        + "-labels" * args.no_votes
        + "-quick" * args.quick,
    )
    for name in {"beyond", "start", "transfer", "teams", "tracks"}.intersection(
        () if known == "demo" else chosen
    ):
        raise UserError(f"--rows {name} needs the demo: its videos, or a network of its size.")
    for flag in ("folds", "no_votes"):
        if getattr(args, flag) and known != FERPLUS:
            raise UserError(f"--{flag.replace('_', '-')} is for --data FERPlus.")
    if args.no_votes and (needing := set(chosen).difference(WITHOUT_VOTES)):
        tables = ", ".join(WITHOUT_VOTES)
        raise UserError(f"--no-votes is for --rows {tables}; {min(needing)} is not among them.")
    if args.no_votes and (named := [world for world in worlds if ":" in world]):
        raise UserError(
            f"--no-votes trains its own 03; name the data folder alone, not {named[0]}."
        )
    single, short = QUICK.get(known, QUICK["demo"]) if args.quick else ([], [])
    extra = [*short, *extra]
    sections = [without_votes(name) if args.no_votes else SECTIONS[name] for name in chosen]
    names = dict.fromkeys(run for section in sections for _, run, _ in section.rows)
    for world in worlds:
        check_world(world, args.data, {start_of(name) for name in names})
        if ":" not in world and (
            lacking := {"sizes", "start", "transfer", "beyond"}.intersection(chosen)
        ):
            raise UserError(f"--worlds {world}: --rows {lacking.pop()} needs a run, DATA:RUN.")
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

    def run(world: str, seed: int, name: str) -> tuple[Path, dict, float]:
        variant, end = RUNS[name], f"-folds-{args.folds}" if args.folds else ""
        folder = args.out / name.replace(",", "").replace(" ", "-") / name_of(world)
        folder /= f"{seed}{end}"
        other = variant.other and run(world, seed, variant.other)[0]
        own = variant.flags is not None and (":" not in world or not variant.votes)
        start = run(world, seed, variant.start)[0] if own else None
        with running[folder]:
            row = Row(folder, world, seed, name, config, args.data, extra)
            row = row._replace(other=other, start=start, single=tuple(single), folds=args.folds)
            return folder, *run_row(row, threads)

    def work(task) -> None:
        world, seed, name = task
        _, scores, seconds = run(world, seed, name)
        with writing:  # one thread at a time
            row = {"row": name, "world": world, "seed": seed, **scores, "seconds": seconds}
            done.append(row)
            write_results(args, sections, done, tasks, extra, single)
        shown = f"{name}, {world}, seed {seed}: {scores['score']:.4f}"
        print(f"{len(done)}/{len(tasks)}  {shown}", flush=True)

    print(
        f"{len(tasks)} runs: {len(names)} rows, each in {len(worlds)} worlds under {len(seeds)} "
        f"seeds; those done already are in {args.out}",
        flush=True,
    )
    with only_process(args.out), ThreadPoolExecutor(args.jobs) as pool:
        outcomes = [pool.submit(work, task) for task in tasks]
        try:
            for outcome in outcomes:
                outcome.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop([outcome for outcome in outcomes if outcome.running()])
            raise
    print((args.out / "paper_tables.md").read_text(encoding="utf-8"))


def stop(outcomes: list[Future]) -> None:
    """End the commands of the rows under way as SIGTERM does, so that they can go on later."""
    told = set()
    while wait(outcomes, timeout=0.5).not_done:
        for listed in Path("/proc/self/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # what has just ended
                for child in set(map(int, listed.read_text().split())) - told:
                    told.add(child)
                    os.kill(child, signal.SIGTERM)


def check_world(world: str, data: str, starts: set[str]) -> None:
    """Raise UserError, before anything is trained, where a world lacks what its rows need."""
    data_dir, _, run_dir = world.partition(":")
    needed = [Path(data_dir, "prepared", "manifest.csv")]
    if ":" in world:
        needed += [Path(run_dir, start, "model.safetensors") for start in sorted(starts)]
    elif data != FERPLUS:
        raise UserError(f"--worlds {world}: name its run too, DATA:RUN.")
    needed += [Path(data_dir, "truth.csv")] if data == "demo" else []
    for path in needed:
        if not path.is_file():
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


def write_results(
    args,
    sections: list[Section],
    done: list[dict],
    tasks: list,
    extra: list[str],
    single: list[str],
) -> None:
    """Write what is there so far: results.csv, the tables as Markdown, the plot.

    extra, single: the flags of 04 and of 03 beside the recipe.
    """
    order = {task: number for number, task in enumerate(tasks)}
    done.sort(key=lambda row: order[row["world"], row["seed"], row["row"]])
    table = pd.DataFrame(done)
    write_csv(args.out / "results.csv", table)
    with whole_file(args.out / "paper_tables.md", "w") as file:
        settings = f" Flags beside the recipe: `{shlex.join(extra)}`." if extra else ""
        settings += f" Of 03: `{shlex.join(single)}`." if single else ""
        if args.data == FERPLUS:
            where = f"out of fold ({args.folds} folds)" if args.folds else "on PublicTest"
            seen = " Labels alone, without votes." * args.no_votes
            file.write(f"Scores of benchmarks/ferplus.py, {where}.{seen}{settings}\n\n")
            for section in sections:
                file.write(means(section, table, MEASURES) + "\n")
                file.write(differences(section, table, MEASURES) + "\n")
        else:
            file.write(f"Macro-F1 over the seven compounds, scored on {args.data}.{settings}\n\n")
            file.write("\n".join(markdown(section, table) for section in sections))
    save_plot(args.out / "paper_tables.png", sections, table)


if __name__ == "__main__":
    run_script(main)

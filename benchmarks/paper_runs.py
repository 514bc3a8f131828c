"""A run of the tables of paper_tables.py: its commands, and their scores once they are done."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

from benchmarks import teams
from benchmarks.derived_data import add_pseudo_labels, drop_votes, keep_part, training_singles
from benchmarks.paper_rows import PAPER, RUNS
from benchmarks.timing import processor_seconds
from common.manifest import read_manifest
from common.script.files import UserError, file_digest, write_json

ROOT = Path(__file__).resolve().parents[1]
FERPLUS = "FERPlus"
MEASURES = ("accuracy", "six", "seven", "five")  # of benchmarks/ferplus.py


class Row(NamedTuple):
    """A run of the tables: where its results go, and all that they depend on.

    data: what scores it (--data). extra: flags of 04. single: flags of 03, where it is a start.
    other: folder of the run that it builds on (Variant.other). start: folder of the 03 that it
    starts from, in place of the world's. folds: number of --folds, or None.
    """

    folder: Path
    world: str
    seed: int
    name: str
    config: Path
    data: str
    extra: list[str]
    other: Path | None = None
    start: Path | None = None
    single: tuple[str, ...] = ()
    folds: int | None = None


def commands_of(row: Row) -> tuple[list[list[str]], Path]:
    """Return the commands that train and score a row, and the file that then holds its scores."""
    folder, config, variant = row.folder, row.config, RUNS[row.name]
    if variant.team:
        commands = teams.commands_of(row, variant.team, variant.flags)
        return commands, folder / "submission" / "score.json"
    data_dir, _, run_dir = row.world.partition(":")
    derived = row.other or variant.parts > 1 or not variant.votes
    own_data = str(folder) if derived else data_dir
    folds = ["--folds", str(row.folds)] if row.folds else []

    def common(data: str) -> list[str]:
        flags = "--config", config, "--data-dir", data, "--run-dir", folder, "--seed", row.seed
        return [str(flag) for flag in flags]

    def scored(stage: str) -> list[str]:
        command = ["benchmarks/ferplus.py", f"{folder}/{stage}", "--data-dir", data_dir]
        return [*command, "--scores", f"{folder}/scores.json"]

    if variant.flags is None:
        train = ["03_finetune_single.py", *common(own_data), *row.single, *folds]
        train += shlex.split(variant.single or "")
        return [train, scored("single")], folder / "scores.json"
    commands, start = [], f"{run_dir}/single/model.safetensors"
    if row.start:
        start = f"{row.start}/single" + "/model.safetensors" * (not folds)
    if variant.single is not None:
        command = ["03_finetune_single.py", *common(own_data)]
        command += ["--init", f"{run_dir}/mae/model.safetensors", *shlex.split(variant.single)]
        if variant.parts > 1:  # as many steps of 03 as there are for all
            recipe = tomllib.loads(config.read_text(encoding="utf-8"))
            epochs = recipe.get("finetune_single", {}).get("epochs", 20)
            command += ["--epochs", str(epochs * variant.parts)]
        commands, start = [command], f"{folder}/single/model.safetensors"
    train = ["04_curriculum.py", *common(own_data), "--init", start, *folds, *shlex.split(PAPER)]
    if variant.parts > 1:  # as many images an epoch
        manifest = read_manifest(Path(data_dir) / "prepared" / "manifest.csv")
        train += ["--epoch-images", str(training_singles(manifest).sum())]
    # A row's own flags count.
    train += [*row.extra, *shlex.split(variant.flags), "--keep", "last"]
    if row.data == "demo":
        score = ["05_predict_submit.py", *common(data_dir), "--truth", f"{data_dir}/truth.csv"]
        score += ["--smooth", "none"]  # as in the paper: one frame at a time
        if variant.decision:
            weights = f"{row.other}/curriculum/model.safetensors"
            commands = [[*score, "--checkpoints", weights, *shlex.split(variant.decision)]]
            return commands, folder / "submission" / "score.json"
        return [*commands, train, score], folder / "submission" / "score.json"
    train += [] if row.data == "own" else ["--validate-on", row.data]
    if row.data == FERPLUS:
        return [*commands, train, scored("curriculum")], folder / "scores.json"
    return [*commands, train], folder / "curriculum" / "report.json"


def run_row(row: Row, threads: int) -> tuple[dict[str, float | None], float]:
    """Train and score a row, unless that is done; return its scores and the seconds it took.

    The key `score` is the macro-F1 over the seven compounds; on FER+ there are also MEASURES.
    """
    commands, result = commands_of(row)
    folder, variant = row.folder, RUNS[row.name]
    data_dir, _, run_dir = row.world.partition(":")
    record = folder / "row.json"
    before = json.loads(record.read_text()) if record.is_file() else None
    made_of = [f"{data_dir}/prepared/manifest.csv", str(row.config)]
    if run_dir:
        made_of += [f"{run_dir}/{start_of(row.name)}/model.safetensors"]
    made_of += [f"{data_dir}/truth.csv"] if row.data == "demo" else []
    inputs = {path: file_digest(path) for path in made_of if Path(path).is_file()}
    known = (before or {}).get("inputs", inputs)
    # Of other inputs it is another row: 04 then refuses the folder, or it is scored anew.
    same = all(known.get(path, digest) == digest for path, digest in inputs.items())
    if before and "scores" in before and before["commands"] == commands and same:
        return before["scores"], before["seconds"]
    started = time.monotonic()
    if row.other and not (variant.decision or variant.team):
        add_pseudo_labels(folder, Path(data_dir), row.other / "submission" / "probabilities.csv")
    elif variant.parts > 1:
        keep_part(folder, Path(data_dir), variant.parts, row.seed)
    elif not variant.votes:
        drop_votes(folder, Path(data_dir))
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    steps = []  # of each command, seconds of processor; with --jobs other rows' are among them
    for command in commands:
        used = processor_seconds()
        ended = subprocess.run(
            [sys.executable, str(ROOT / command[0]), *command[1:]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ended.returncode:
            raise UserError(f"{shlex.join(command)} failed:\n{ended.stdout.strip()}")
        steps.append(round(processor_seconds() - used, 1))
    scores, seconds = scores_in(result), time.monotonic() - started
    made = {"commands": commands, "inputs": inputs, "scores": scores, "seconds": seconds}
    write_json(record, made | {"processor_s": steps})
    return scores, seconds


def scores_in(path: Path) -> dict[str, float | None]:
    """Return the scores in a file of 04, 05 or ferplus.py, as run_row does."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(found, list):
        return {"score": found[0]["seven"], **{name: found[0][name] for name in MEASURES}}
    return {"score": found["macro_f1"]}


def start_of(name: str) -> str:
    """Return the stage whose weights a row starts from: `single`, or `mae` with a 03 of its own."""
    return "single" if RUNS[name].single is None else "mae"

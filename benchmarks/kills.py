"""Kill the five scripts of a small demo at random moments; each road must end where it would have.

python benchmarks/kills.py --work /tmp/kills --rounds 5       may be stopped, and goes on

One undisturbed road first: the demo world (drawn small), 01 to 05. Then rounds: the same road in a
fresh folder, each command interrupted two or three times at a random moment of its run, by SIGTERM,
Ctrl-C, SIGHUP or SIGKILL, alone or with its whole group, and then run to its end. In the end
submission and weights must be the undisturbed ones, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.script.files import file_digest, write_json

ROOT = Path(__file__).resolve().parents[1]
STRIKES = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "SIGUSR1": 138, "SIGKILL": -9}
# A command that was not listening yet, because it was still importing, dies of the signal itself.
EARLY = {"SIGTERM": -15, "SIGINT": -2, "SIGHUP": -1, "SIGUSR1": -10, "SIGKILL": -9}
STEPS = {
    "common.demo": ["-m", "common.demo", "--out", "{data}", "--scale", "0.03", "--seed", "0"],
    "01": ["01_prepare_data.py", "--config", "configs/demo.toml", "--data-dir", "{data}"],
    "02": ["02_pretrain_mae.py", "{common}", "--epochs", "6", "--ema", "0.9"],
    "03": ["03_finetune_single.py", "{common}", "--epochs", "5", "--adapt-epochs", "3"],
    "04": [
        *("04_curriculum.py", "{common}", "--stage-epochs", "2", "2", "1", "1"),
        *("--drop-path", "0.1", "--batch-size", "10"),
    ],
    "05": [
        *("05_predict_submit.py", "--config", "configs/demo.toml", "--data-dir", "{data}"),
        *("--run-dir", "{run}"),
    ],
}
RESULTS = (
    *("runs/mae/model.safetensors", "runs/single/model.safetensors", "data/prepared/manifest.csv"),
    *("runs/curriculum/model.safetensors", "runs/submission/predictions.txt"),
    "runs/submission/probabilities.csv",
)


def command_of(step: str, folder: Path) -> list[str]:
    data, run = folder / "data", folder / "runs"
    common = ["--config", "configs/demo.toml", "--data-dir", data, "--run-dir", run]
    common += ["--mixed-precision", "no", "--save-minutes", "0.02"]
    command = [sys.executable]
    for word in STEPS[step]:
        command += common if word == "{common}" else [word.format(data=data, run=run)]
    return list(map(str, command))


def start(step: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command_of(step, folder),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A background job of a shell inherits that these are ignored.
        preexec_fn=lambda: [
            signal.signal(number, handler)
            for number, handler in (
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGHUP, signal.SIG_DFL),
            )
        ],
    )


def finish(step: str, folder: Path) -> float:
    """Run a command to its end; return its seconds."""
    began = time.monotonic()
    process = start(step, folder)
    output = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"{step} ended with {process.returncode}:\n{output}")
    return time.monotonic() - began


def digests(folder: Path) -> dict[str, str]:
    return {name: file_digest(folder / name) for name in RESULTS}


def strike(step: str, folder: Path, seconds: float, chance: random.Random) -> dict:
    """Start a command and strike it at a random moment of its usual time; say what came of it."""
    name, whole_group = chance.choice(list(STRIKES)), chance.random() < 0.5
    after = chance.uniform(0.1, 0.7) * seconds
    process = start(step, folder)
    try:
        process.wait(after)
        return {"step": step, "outcome": "had ended before"}
    except subprocess.TimeoutExpired:
        pass
    (os.killpg if whole_group else os.kill)(process.pid, getattr(signal, name))
    began = time.monotonic()
    output = process.communicate()[0]
    took = time.monotonic() - began
    if process.returncode == STRIKES[name]:
        outcome = "stopped"
    elif process.returncode == EARLY[name]:
        outcome = "stopped while importing"
    elif process.returncode == 0:
        outcome = "had ended before"
    else:
        outcome = f"ended with {process.returncode}: {output[-800:]}"
    if outcome == "stopped" and "Traceback" in output:
        outcome = f"a traceback: {output[-800:]}"
    return {"step": step, "signal": name, "group": whole_group, "took_s": took, "outcome": outcome}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder to work in")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    work, notes = arguments.work, arguments.work / "notes.json"
    work.mkdir(parents=True, exist_ok=True)
    record = json.loads(notes.read_text()) if notes.exists() else {"seconds": {}, "rounds": []}

    whole = work / "whole"
    for step in STEPS:
        if step not in record["seconds"]:
            record["seconds"][step] = finish(step, whole)
            write_json(notes, record, indent=1)
    while len(record["rounds"]) < arguments.rounds:
        number = len(record["rounds"])
        chance = random.Random(f"{arguments.seed} {number}")
        folder = work / "round"
        shutil.rmtree(folder, ignore_errors=True)
        strikes = []
        for step in STEPS:
            for _ in range(chance.choice((2, 3))):
                strikes.append(strike(step, folder, record["seconds"][step], chance))
                print(f"round {number}: {strikes[-1]}", flush=True)
            finish(step, folder)
        same = digests(folder) == digests(whole)
        left = [str(path) for path in folder.rglob(".*.part")]
        record["rounds"].append({"strikes": strikes, "same": same, "left": left})
        write_json(notes, record, indent=1)
        shutil.rmtree(folder)
    return table(record)


def table(record: dict) -> int:
    """Print the table: command, signal, how often, outcome; return 1 where one was not well."""
    counts: Counter = Counter()
    slowest: dict[tuple, float] = {}
    for round_ in record["rounds"]:
        for one in round_["strikes"]:
            key = one["step"], one.get("signal", "-"), one["outcome"].split(":")[0]
            counts[key] += 1
            slowest[key] = max(slowest.get(key, 0), one.get("took_s", 0))
    print("| command | signal | times | outcome | at most, s |\n|---|---|---|---|---|")
    for key, count in sorted(counts.items()):
        print(f"| {key[0]} | {key[1]} | {count} | {key[2]} | {slowest[key]:.2f} |")
    struck = sum(count for key, count in counts.items() if key[2].startswith("stopped"))
    same = sum(round_["same"] for round_ in record["rounds"])
    left = sum(len(round_["left"]) for round_ in record["rounds"])
    print(
        f"{struck} kills; {same} of {len(record['rounds'])} roads ended in the same submission, "
        f"weights and manifest; {left} files left half-written"
    )
    well = all(key[2].startswith(("stopped", "had ended")) for key in counts)
    return int(not well or same < len(record["rounds"]))


if __name__ == "__main__":
    sys.exit(main())

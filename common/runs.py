"""The run folder of a training stage: settings that must agree, record, saved states, signals."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import timm.layers
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm import tqdm

from common.config import settings_of
from common.files import UserError, file_digest, whole_file
from common.loading import default_workers

# Settings that change how a result is computed but not which result it is: a run may be resumed
# with other values of these.
FREE_SETTINGS = (
    "config",
    "data_dir",
    "run_dir",
    "workers",
    "batch_size",
    "report_to",
    "save_minutes",
)


def default_precision() -> str:
    """Return bf16 where the hardware multiplies it natively, else no.

    A CPU without AVX512-BF16 or AMX only emulates bf16: hundreds of times slower than float32.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in native) else "no"


@dataclass
class Run:
    """One stage of training: its folder, its settings, its processes."""

    folder: Path
    settings: dict
    accelerator: Accelerator
    batch_size: int
    workers: int
    save_minutes: float
    notes: dict = field(default_factory=dict)  # what finish_run adds to run.json

    @property
    def main(self) -> bool:
        """True in the one process that prints and writes."""
        return self.accelerator.is_main_process

    @property
    def precision(self) -> str:
        """The number format of matrix products: no (float32), bf16 or fp16."""
        return self.settings["mixed_precision"]

    def say(self, text: str) -> None:
        """Print a line once, above any progress bar."""
        if self.main:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()


def start_run(arguments, stage: str, facts: dict) -> Run | None:
    """Open `<run-dir>/<stage>/`, or return None where that stage is finished already.

    facts: what else the result depends on (digests of manifest and first weights). They join the
    settings that a resumed run must agree with. Raises UserError naming the differing keys.
    """
    folder = Path(arguments.run_dir) / stage
    settings = {**settings_of(arguments), **facts}
    settings["mixed_precision"] = settings["mixed_precision"] or default_precision()
    # Threads and kernels: a run on the CPU is reproducible bit for bit, on CUDA to float error.
    accelerator = Accelerator(
        mixed_precision=settings["mixed_precision"],
        log_with=arguments.report_to or None,
        project_dir=str(folder),
    )
    set_seed(arguments.seed)
    if accelerator.device.type == "cpu":
        # timm's fused attention trains slower than its plain form on CPUs.
        timm.layers.set_fused_attn(False)
    before = _read_record(folder)
    if before and not before.get("finished") and not list((folder / "state").glob("*.pt")):
        before = None  # it ended before anything was learned: there is nothing to agree with
    if before:
        _refuse_other_settings(folder, before["settings"], settings)
    if before and before.get("finished"):
        if accelerator.is_main_process:
            print(f"{stage}: finished already, in {folder}")
        return None
    run = Run(
        folder,
        settings,
        accelerator,
        batch_size=arguments.batch_size,
        workers=default_workers(accelerator.num_processes)
        if arguments.workers is None
        else arguments.workers,
        save_minutes=arguments.save_minutes,
    )
    if run.main:
        (folder / "state").mkdir(parents=True, exist_ok=True)
        if not before:
            _write_record(run, finished=False)
    if arguments.report_to:
        accelerator.init_trackers(stage, config={k: str(v) for k, v in settings.items()})
    accelerator.wait_for_everyone()
    return run


def _refuse_other_settings(folder: Path, before: dict, now: dict) -> None:
    now = json.loads(json.dumps(now))  # as the record would hold them
    free = {*FREE_SETTINGS, *(["init"] if "init_sha256" in now else [])}  # a file may be moved
    keys = sorted((set(before) | set(now)) - free)
    differing = [key for key in keys if before.get(key) != now.get(key)]
    if differing:
        shown = ", ".join(f"{k} was {before.get(k)!r}, now {now.get(k)!r}" for k in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UserError(
            f"{folder} holds a run with other settings ({shown}{more}); choose another --run-dir, "
            "or delete that folder to start anew."
        )


def _read_record(folder: Path) -> dict | None:
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is damaged; delete {folder} to start this stage anew.") from None


def _write_record(run: Run, finished: bool) -> None:
    record = {
        "settings": run.settings,
        "finished": finished,
        "processes": run.accelerator.num_processes,
        **provenance(run.accelerator.device),
        **run.notes,
    }
    with whole_file(run.folder / "run.json", "w") as file:
        json.dump(record, file, indent=2, default=str)


def provenance(device: torch.device) -> dict:
    """Return what made a result: command, git commit, device and versions, for run.json."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    return {
        "command": " ".join(sys.argv),
        "git_commit": commit or None,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm", "accelerate", "numpy")},
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def finish_run(run: Run) -> None:
    """Mark the stage as finished, delete its states (its result replaces them), close trackers."""
    if run.main:
        _write_record(run, finished=True)
        for state in (run.folder / "state").glob("*.pt"):
            state.unlink()
    if run.accelerator.trackers:
        run.accelerator.end_training()
    run.accelerator.wait_for_everyone()


class States:
    """The saved states of one phase: whole files, the last two kept."""

    def __init__(self, run: Run, name: str, network: nn.Module, optimizer):
        self.run, self.name = run, name
        self.network, self.optimizer = network, optimizer

    def save(self, progress: dict, since: float) -> float:
        """Write a state; `since` is when the one before was (time.monotonic); return the time."""
        now = time.monotonic()
        progress["seconds"] += now - since
        if self.run.main:
            content = {
                "progress": progress,
                "network": self.run.accelerator.unwrap_model(self.network).state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            if self.run.accelerator.scaler:  # of fp16
                content["scaler"] = self.run.accelerator.scaler.state_dict()
            path = self.run.folder / "state" / f"{self.name}-{progress['steps_done']:09d}.pt"
            with whole_file(path) as file:
                torch.save(content, file)
            for old in self._paths()[:-2]:
                old.unlink()
        self.run.accelerator.wait_for_everyone()
        return now

    def load(self) -> dict:
        """Put the last readable state into network and optimiser; return its progress."""
        for path in reversed(self._paths()):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                progress = content["progress"]
            except Exception as error:  # a damaged state, however it shows
                self.run.say(f"warning: {path} is damaged ({error}); going back to the one before")
                continue
            self.run.accelerator.unwrap_model(self.network).load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            if "scaler" in content:
                self.run.accelerator.scaler.load_state_dict(content["scaler"])
            self.run.say(
                f"{self.name}: going on from epoch {progress['epoch'] + 1}, step {progress['step']}"
            )
            return progress
        start = {"epoch": 0, "step": 0, "steps_done": 0, "sums": [0.0, 0.0]}
        return {**start, "rows": [], "best": None, "seconds": 0.0}

    def _paths(self) -> list[Path]:
        return sorted((self.run.folder / "state").glob(f"{self.name}-*.pt"))


class StopSignal:
    """Notes SIGTERM and the first Ctrl-C, so that the loop can write a state at its next step."""

    def __init__(self):
        self.caught = 0
        self._before = {
            number: signal.signal(number, self._catch) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def _catch(self, number: int, _) -> None:
        if self.caught == signal.SIGINT == number:
            raise KeyboardInterrupt  # the user insists
        self.caught = number

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Exit as a process ended by this signal does: 143 for SIGTERM, 130 for Ctrl-C."""
        number = self.caught or signal.SIGTERM  # another process may have caught it
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(128 + number)


def init_facts(init: str) -> dict[str, str]:
    """Return the digest of the weights a stage starts from, as a setting that must agree."""
    if init == "none" or init.startswith("timm:"):
        return {}
    if not Path(init).is_file():
        raise UserError(f"There is no file of weights {init}; run the stage before, or set --init.")
    return {"init_sha256": file_digest(init)}

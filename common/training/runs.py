"""The run folder of a training stage: settings that must agree, and the record of the run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import timm.layers
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from tqdm import tqdm

from common.batches.loading import default_batch_size, default_workers
from common.script.config import settings_of
from common.script.files import UserError, file_digest, only_process, whole_file

TRACKERS = [str(tracker.value) for tracker in get_available_trackers()]

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
    "compile",
    "grad_checkpointing",
    "probe",
    "picture_every",
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
    lock: ExitStack = field(default_factory=ExitStack)  # held until the process ends
    notes: dict = field(default_factory=dict)  # what finish_run adds to run.json

    @property
    def main(self) -> bool:
        """True in the one process that prints and writes."""
        return self.accelerator.is_main_process

    @property
    def hardware(self) -> str:
        """What computes, as users say it: `cpu, float32` or `8 × NVIDIA H100, bfloat16`."""
        device, count = self.accelerator.device, self.accelerator.num_processes
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        formats = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
        precision = formats[self.settings["mixed_precision"]]
        return f"{f'{count} × ' if count > 1 else ''}{name}, {precision}"

    def uncompiled(self) -> AbstractContextManager:
        """Let a compiled network run as written within the block: it is made for one shape."""
        compiled = self.settings.get("compile")
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

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
    for name in arguments.report_to:
        if name not in TRACKERS:
            raise UserError(
                f"--report-to {name}: Accelerate finds no such tracker here (it finds "
                f"{', '.join(TRACKERS) or 'none'}); install it, or leave the flag out."
            )
    accelerator = Accelerator(
        mixed_precision=settings["mixed_precision"],
        log_with=arguments.report_to or None,
        project_dir=str(folder),
    )
    if settings.get("compile", False) is None:
        settings["compile"] = accelerator.device.type == "cuda"
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
        if not (folder / "model.safetensors").is_file():
            raise UserError(
                f"{folder} is marked as finished, but its model.safetensors is gone; delete that "
                "folder to train this stage again."
            )
        if accelerator.is_main_process:
            print(f"{stage}: finished already, in {folder}")
        return None
    run = Run(
        folder,
        settings,
        accelerator,
        batch_size=arguments.batch_size or default_batch_size(),
        # Of this machine's processes alone: other nodes have their own cores.
        workers=default_workers(int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        if arguments.workers is None
        else arguments.workers,
        save_minutes=arguments.save_minutes,
    )
    if run.main:
        run.lock.enter_context(only_process(folder))
        (folder / "state").mkdir(exist_ok=True)
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
        shown = ", ".join(dict.fromkeys(_change(key, before, now) for key in differing[:4]))
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UserError(
            f"{folder} holds a run with other settings ({shown}{more}); choose another --run-dir, "
            "or delete that folder to start anew."
        )


def _change(key: str, before: dict, now: dict) -> str:
    """Say how a setting differs; digests as what they are of."""
    if key == "manifest_sha256":
        return "the prepared manifest was another"
    name = "init" if key == "init_sha256" else key
    if name != key and before.get("init") == now.get("init"):
        return f"{now['init']} had other weights"
    return f"{name} was {before.get(name)!r}, now {now.get(name)!r}"


def _read_record(folder: Path) -> dict | None:
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["settings"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; delete {folder} to start this stage anew.") from None
    return record


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


def finish_run(run: Run, last: bool = True) -> None:
    """Mark the stage as finished, delete its states (its result replaces them), close trackers.

    last: this process trains nothing more.
    """
    if run.main:
        _write_record(run, finished=True)
        for state in (run.folder / "state").glob("*.pt"):
            state.unlink()
    run.accelerator.wait_for_everyone()
    if not last:
        for tracker in run.accelerator.trackers:
            tracker.finish()
        return
    run.accelerator.end_training()  # also leaves the process group: none dies waiting for another


def init_facts(init: str) -> dict[str, str]:
    """Return the digest of the weights a stage starts from, as a setting that must agree.

    Raises UserError where the file is missing, or belongs to a run that has not ended.
    """
    if init == "none" or init.startswith("timm:"):
        return {}
    if not Path(init).is_file():
        raise UserError(f"There is no file of weights {init}; run the stage before, or set --init.")
    refuse_unfinished(init)
    return {"init_sha256": file_digest(init)}


def refuse_unfinished(weights: str | Path) -> None:
    """Raise UserError where weights lie in the folder of a run that has not ended."""
    folder = Path(weights).parent
    record = _read_record(folder)
    if record and record.get("finished") is False:
        raise UserError(
            f"{weights} is of a run that has not ended; run that stage to its end, or copy the "
            "file (and, for 05, its run.json without `finished`) elsewhere to use it as it is."
        )

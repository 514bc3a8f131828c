"""The run folder of a training stage: settings that must agree, and the record of the run."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import timm.layers
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import parse_flag_from_env, set_seed
from tqdm import tqdm

from common import hardware
from common.batches.images import ImageStore
from common.networks.formats import refuse_other_kinds, split_entry
from common.networks.weights import (
    colours_of,
    labelled_videos,
    read_record,
    refuse_unfinished,
    track_of,
)
from common.script.config import settings_of
from common.script.files import UserError, file_digest, only_process, some, write_json
from common.script.workers import ON_CPUS, refuse_lone_process

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
    "challenge_labels",  # their digest must agree
    "videos",
)


# What Accelerate's launcher, its configuration or the environment may ask for, against what a run
# does: the values that change nothing, and what to do in place of others.
_WHOLE = (
    "Every process must hold the whole network, which saved states and averaged weights need; "
    "choose multi-GPU training (MULTI_GPU) in `accelerate config`, and --grad-checkpointing where "
    "memory is short."
)
LAUNCHER_SETTINGS = {
    "ACCELERATE_DYNAMO_BACKEND": (("no",), "Use --compile or --no-compile instead."),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        ("1",),
        "Accumulation follows from --global-batch, --batch-size and the number of processes.",
    ),
    "ACCELERATE_MIXED_PRECISION": (("no",), "Use --mixed-precision instead."),
    "ACCELERATE_USE_DEEPSPEED": (("false", "0"), _WHOLE),
    "ACCELERATE_USE_FSDP": (("false", "0"), _WHOLE),
    "ACCELERATE_USE_MEGATRON_LM": (("false", "0"), _WHOLE),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (("false", "0"), _WHOLE),
}


@dataclass
class Run:
    """One stage of training: its folder, its settings, its processes.

    settings: what run.json records, by the names of the flags, and the facts of start_run.
    batch_size: most images a process computes at once; None until `fit` chooses. workers: loader
    processes of each. control: where processes agree without waiting for their GPUs; None for one.
    """

    folder: Path
    settings: dict
    accelerator: Accelerator
    batch_size: int | None
    workers: int
    save_minutes: float
    control: torch.distributed.ProcessGroup | None = None
    lock: ExitStack = field(default_factory=ExitStack)  # kept until the process ends
    notes: dict = field(default_factory=dict)  # what finish_run adds to run.json

    @property
    def main(self) -> bool:
        """True in the one process that prints and writes."""
        return self.accelerator.is_main_process

    @property
    def hardware(self) -> str:
        """What computes, such as `cpu, float32`."""
        device, processes = self.accelerator.device, self.accelerator.num_processes
        return hardware.describe(device, processes, self.settings["mixed_precision"])

    def images(self, rows: pd.DataFrame) -> ImageStore:
        """Return the images of some rows of the manifest."""
        return ImageStore(Path(self.settings["data_dir"]) / "prepared", rows.image)

    def any_process(self, here: bool) -> bool:
        """Return whether any process asks for it: all must save, or leave, at the same step."""
        if self.control is None:
            return bool(here)
        asked = torch.tensor(float(bool(here)))
        torch.distributed.all_reduce(asked, group=self.control)
        return bool(asked > 0)

    def uncompiled(self) -> AbstractContextManager:
        """Run a compiled network as written within the block: it is compiled for one shape."""
        compiled = self.settings.get("compile")
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

    def say(self, text: str) -> None:
        """Print a line once, above any progress bar."""
        if self.main:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()


def start_run(args: argparse.Namespace, stage: str, facts: dict) -> Run | None:
    """Open `<run-dir>/<stage>/`, or return None where that stage is finished already.

    facts: what else the result depends on (digests of manifest and first weights), and flags whose
    value differs in this run. They join the settings that a resumed run must agree with. Raises
    UserError naming the settings that differ, and for trackers that are not installed.
    """
    folder, settings = args.run_dir / stage, {**settings_of(args), **facts}
    settings["mixed_precision"] = settings["mixed_precision"] or hardware.default_precision()
    if seen := labelled_videos(settings["init"]) | set(facts.get("challenge_videos", ())):
        settings["challenge_videos"] = sorted(seen)  # what starts from such weights has seen them
    (mean, std), whose = colours_of(settings["init"])
    settings["mean"], settings["std"] = settings["mean"] or [*mean], settings["std"] or [*std]
    accelerator = _start_accelerate(folder, settings)
    if settings["compile"] is None:
        settings["compile"] = accelerator.device.type == "cuda"
    before = read_record(folder)
    if not before and (folder / "model.safetensors").exists():
        raise UserError(
            f"{folder} holds model.safetensors without the run.json of a run, and would lose it; "
            "move it away, or choose another --run-dir."
        )
    if before and not before.get("finished") and not list((folder / "state").glob("*.pt")):
        before = None  # it ended before anything was learned: there is nothing to agree with
    if before:
        # What a record does not name is a flag that came after it.
        _refuse_other_settings(folder, {**args.defaults, **before["settings"]}, settings)
    if before and before.get("finished"):
        if not (folder / "model.safetensors").is_file():
            raise UserError(
                f"{folder} is marked as finished, but its model.safetensors is gone; delete that "
                "folder to train this stage again."
            )
        if accelerator.is_main_process:
            print(f"{stage}: finished already, in {folder}")
        return None
    # Of this machine's processes alone: other nodes have their own cores.
    workers = hardware.default_workers(int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    run = Run(
        folder,
        settings,
        accelerator,
        batch_size=args.batch_size,
        workers=workers if args.workers is None else args.workers,
        save_minutes=args.save_minutes,
    )
    if accelerator.num_processes > 1:
        run.control = torch.distributed.new_group(backend="gloo")
    if run.main:
        run.lock.enter_context(only_process(folder))
        (folder / "state").mkdir(exist_ok=True)
        if not before:
            _write_record(run, finished=False)
    if args.report_to:
        accelerator.init_trackers(stage, config={k: str(v) for k, v in settings.items()})
    accelerator.wait_for_everyone()
    if not (args.mean and args.std):
        numbers = (" ".join(f"{value:.3f}" for value in settings[key]) for key in ("mean", "std"))
        run.say("colours of {}: mean {}, std {}".format(whose, *numbers))
    return run


def _start_accelerate(folder: Path, settings: dict) -> Accelerator:
    """Return Accelerate for a run, with random numbers and kernels set for reproducible results.

    A run on the CPU is reproducible bit for bit, on CUDA to float error.
    """
    for name in settings["report_to"]:
        if name not in TRACKERS:
            raise UserError(
                f"--report-to {name}: Accelerate finds no such tracker here (it finds "
                f"{', '.join(TRACKERS) or 'none'}); install it, or leave the flag out."
            )
    refuse_lone_process()
    _refuse_launcher_settings(settings["mixed_precision"])
    gpu = torch.cuda.is_available() or torch.xpu.is_available()
    if "RANK" in os.environ and not gpu and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        # Accelerate would let each of them train alone.
        raise UserError(
            f"{os.environ['WORLD_SIZE']} processes were started, one a GPU, but no GPU is visible. "
            f"To train on CPUs, start them with `{ON_CPUS}`."
        )
    accelerator = Accelerator(
        mixed_precision=settings["mixed_precision"],
        log_with=settings["report_to"] or None,
        project_dir=str(folder),
    )
    if settings["mixed_precision"] == "fp16" and accelerator.device.type == "cpu":
        raise UserError(
            "--mixed-precision fp16 needs a GPU: on a CPU the products would be float32. Choose "
            "no, or bf16 where the CPU has it."
        )
    set_seed(settings["seed"])
    if accelerator.device.type == "cpu":
        # timm's fused attention trains slower than its plain form on CPUs.
        timm.layers.set_fused_attn(False)
    return accelerator


def _refuse_launcher_settings(precision: str) -> None:
    """Raise UserError for settings of Accelerate's launcher that a run would not follow.

    precision: of the run, a value of --mixed-precision.
    """
    for name, (accepted, instead) in LAUNCHER_SETTINGS.items():
        value = os.environ.get(name, "").lower()
        if value not in ("", *accepted, *([precision] if "PRECISION" in name else [])):
            raise UserError(f"The launcher sets {name}={value}. {instead}")


def _refuse_other_settings(folder: Path, before: dict, now: dict) -> None:
    free = {*FREE_SETTINGS, *(["init"] if "init_sha256" in now else [])}  # a file may be moved
    keys = sorted((before.keys() | now) - free)
    differing = [key for key in keys if before.get(key) != now.get(key)]
    if differing:
        shown = some(list(dict.fromkeys(_change(key, before, now) for key in differing)), 4)
        raise UserError(
            f"{folder} holds a run with other settings ({shown}); choose another --run-dir, "
            "or delete that folder to start over."
        )


def _change(key: str, before: dict, now: dict) -> str:
    """Say how a setting differs; of a digest, what it is the digest of."""
    if key == "manifest_sha256":
        return "the prepared manifest was another"
    name = key.removesuffix("_sha256")
    if name != key and before.get(name) == now.get(name):
        return f"{now[name]} had other {'weights' if name == 'init' else 'labels'}"
    return f"{name} was {before.get(name)!r}, now {now.get(name)!r}"


def _write_record(run: Run, finished: bool) -> None:
    record = {
        "track": track_of(run.settings),
        "settings": run.settings,
        "finished": finished,
        "processes": run.accelerator.num_processes,
        **hardware.provenance(run.accelerator.device),
        **run.notes,
    }
    write_json(run.folder / "run.json", record)


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

    Raises UserError where there is no such file, or it belongs to a run that has not ended.
    """
    if init == "none" or init.startswith("timm:"):
        return {}
    path, _ = split_entry(init)
    refuse_other_kinds(Path(path))
    refuse_unfinished(path)
    return {"init_sha256": file_digest(path)}

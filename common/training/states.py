"""The saved states of a training stage, from which it resumes after an interruption."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from common.script.files import UserError, whole_file
from common.training.optimization import Average
from common.training.runs import Run


class States:
    """The saved states of one phase: whole files, of which the last two are kept."""

    def __init__(
        self, run: Run, name: str, network: nn.Module, optimizer, average: Average | None = None
    ):
        self.run, self.name = run, name
        self.network, self.optimizer, self.average = network, optimizer, average
        self._saved, self._buffers = time.monotonic(), {}

    @contextmanager
    def step(self, passes: int) -> Iterator[None]:
        """Let a state written within a step of several passes be the start of the step.

        Its first passes move the statistics of batch normalisation, and are repeated on resuming.
        A step that a signal ends keeps what it began with: it may be written then.
        """
        if passes > 1:
            network = self.run.accelerator.unwrap_model(self.network)
            self._buffers = {name: one.clone() for name, one in network.named_buffers()}
        yield
        self._buffers = {}

    @property
    def age_s(self) -> float:
        """Seconds since the last state was saved or loaded."""
        return time.monotonic() - self._saved

    def save(self, progress: dict) -> None:
        """Write a state, with all processes; add the time since the last one to its `seconds`."""
        progress["seconds"] += self.age_s
        self._saved = time.monotonic()
        if self.run.main:
            self.write(progress)
        self.run.accelerator.wait_for_everyone()

    def write(self, progress: dict) -> None:
        """Write a state in the main process, whatever the others do."""
        network = self.run.accelerator.unwrap_model(self.network).state_dict()
        content = {
            "progress": progress,
            "network": {name: self._buffers.get(name, one) for name, one in network.items()},
            "optimizer": self.optimizer.state_dict(),
        }
        if self.average:
            content["average"] = self.average.values
        if self.run.accelerator.scaler:  # of fp16
            content["scaler"] = self.run.accelerator.scaler.state_dict()
        folder = self.run.folder / "state"
        with whole_file(folder / f"{self.name}-{progress['steps_done']:09d}.pt") as file:
            torch.save(content, file)
        for old in [*self._paths()[:-2], *folder.glob(".*.part")]:  # of killed processes
            old.unlink()

    def load(self) -> dict:
        """Put the last readable state into network and optimiser; return its progress.

        Its keys: epoch and step to go on from, from 0; steps_done in all, and skipped of them by
        fp16; sums of that epoch (see Epoch); rows of metrics.csv; best figure; seconds
        of training; names of unreadable images.
        """
        for path in reversed(self._paths()):
            try:
                with zipfile.ZipFile(path) as archive:  # torch compares no checksum
                    if bad := archive.testzip():
                        raise ValueError(f"{bad} has another checksum")
                content = torch.load(path, map_location="cpu", weights_only=True)
                progress = content["progress"]
            except Exception as error:  # a damaged state, however it shows
                self.run.say(f"warning: {path} is damaged ({error}); using the one before it")
                continue
            self._agree(progress["steps_done"])
            self.run.accelerator.unwrap_model(self.network).load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.average:
                self.average.load(content["average"])
            if "scaler" in content:
                self.run.accelerator.scaler.load_state_dict(content["scaler"])
            self.run.say(
                f"{self.name}: resuming from epoch {progress['epoch'] + 1}, step {progress['step']}"
            )
            self._saved = time.monotonic()
            return progress
        self._agree(0)
        start = {"epoch": 0, "step": 0, "steps_done": 0, "skipped": 0, "sums": [0.0] * 3}
        return {**start, "rows": [], "best": None, "seconds": 0.0, "unreadable": []}

    def _agree(self, steps_done: int) -> None:
        """Raise UserError where nodes do not see the same states: they would train apart."""
        accelerator = self.run.accelerator
        steps = torch.tensor([steps_done], device=accelerator.device)
        if len(set(accelerator.gather(steps).tolist())) > 1:
            raise UserError(
                f"The processes find different states in {self.run.folder}; --run-dir must be a "
                "folder that all nodes share."
            )

    def _paths(self) -> list[Path]:
        return sorted((self.run.folder / "state").glob(f"{self.name}-*.pt"))

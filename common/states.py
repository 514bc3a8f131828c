"""What lets a training stage be interrupted: saved states, and signals that are waited for."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from common.files import UserError, whole_file
from common.optimization import Average
from common.runs import Run


class States:
    """The saved states of one phase: whole files, the last two kept."""

    def __init__(
        self, run: Run, name: str, network: nn.Module, optimizer, average: Average | None = None
    ):
        self.run, self.name = run, name
        self.network, self.optimizer, self.average = network, optimizer, average

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
            if self.average:
                content["average"] = self.average.values
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
            self._agree(progress["steps_done"])
            self.run.accelerator.unwrap_model(self.network).load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.average:
                self.average.load(content["average"])
            if "scaler" in content:
                self.run.accelerator.scaler.load_state_dict(content["scaler"])
            self.run.say(
                f"{self.name}: going on from epoch {progress['epoch'] + 1}, step {progress['step']}"
            )
            return progress
        self._agree(0)
        start = {"epoch": 0, "step": 0, "steps_done": 0, "sums": [0.0, 0.0]}
        return {**start, "rows": [], "best": None, "seconds": 0.0, "unreadable": []}

    def _agree(self, steps_done: int) -> None:
        """Refuse nodes that do not see the same states: they would train on different data."""
        accelerator = self.run.accelerator
        steps = torch.tensor([steps_done], device=accelerator.device)
        if len(set(accelerator.gather(steps).tolist())) > 1:
            raise UserError(
                f"The processes find different states in {self.run.folder}; --run-dir must be a "
                "folder that all nodes share."
            )

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

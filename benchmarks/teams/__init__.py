"""Other teams' systems of the challenge, each re-made on our own parts in a file of its own.

A module has `commands(row)`, the commands that train and score a row of paper_tables.py; the last
writes <folder>/submission/score.json. All rows of other teams start from one frame network
(frames.py), so that they differ by what a team does with its frames, not by its network.
"""

from __future__ import annotations

import shlex
from importlib import import_module


def commands_of(row, team: str, flags: str) -> list[list[str]]:
    """Return the commands of a row. team: a module, or module.function; flags: of 04, for ours."""
    module, _, function = team.partition(".")
    truth = row.world.partition(":")[0] + "/truth.csv"
    own = shlex.split(flags.format(truth=shlex.quote(truth)))
    return getattr(import_module(f"benchmarks.teams.{module}"), function or "commands")(row, *own)

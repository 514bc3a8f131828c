"""Netease Fuxi (the paper, 0.6063 in table 3): the curriculum, ours, in both tracks.

`without`: 04 from the world's classifier of single expressions (02, 03), as in tables 1 and 2.
`with`: the same, and labelled frames of the challenge's videos are compounds to train on, in five
folds by video, each video judged by the network of the fold that has not seen it. So the released
code has it switched on (`Data_Competition: True`); the paper does not say which its 0.6063 is.
`on_shared`: 04 from the frame network of the other teams, to tell the curriculum from the network.

Assumed: the last epoch is kept in both tracks, so that no label chooses one.
"""

from __future__ import annotations

from benchmarks.teams import frames, harness


def commands(row, *flags: str) -> list[list[str]]:
    """Return the commands of the row. flags: of 04, in the other track its labels."""
    start = row.world.partition(":")[2] + "/single/model.safetensors"
    train = ["04_curriculum.py", *harness.flags_of(row), "--init", start]
    return [[*train, *row.extra, *flags, "--keep", "last"], harness.score(row)]


def on_shared(row, *flags: str) -> list[list[str]]:
    """Return the commands of the row that starts from the shared frame network."""
    train, score = commands(row, *frames.NETWORK, *flags)
    train[train.index("--init") + 1] = str(harness.network_of(row))
    return [train, score]

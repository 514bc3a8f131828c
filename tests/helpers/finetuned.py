"""03 and 04 on the toy world, run as a user runs them."""

import pandas as pd
from helpers.running import call
from helpers.toy_world import TINY


def train(capsys, script, world, folder, *more):
    """Run 03 or 04 from random weights; return its exit status, output and complaints."""
    common = ["--data-dir", world, "--run-dir", folder, "--init", "none", *TINY, "--lr", "3e-3"]
    return call(capsys)(script, *common, *more)


def curriculum(capsys, world, folder, *more, stages=(1, 1), shares=(0, 0.5)):
    done = train(
        capsys,
        "04_curriculum.py",
        world,
        folder,
        *("--stage-epochs", *stages, "--compound-shares", *shares, *more),
    )
    assert done[0] == 0, done
    return pd.read_csv(folder / "curriculum" / "metrics.csv") if "--folds" not in more else done

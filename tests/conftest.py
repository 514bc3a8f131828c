"""Before all tests; and what several files of tests share, made once in each of their processes."""

import os
import sys

import pytest

# Scripts word their advice by it; those that tests start stand for a user's, also in `make test`.
os.environ.pop("MAKELEVEL", None)

# Processes run tests side by side; each with the threads of all cores would slow the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def torch_as_in_a_new_process():
    """Let no test meet the device, number format, attention or random state of one before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    yield
    if layers := sys.modules.get("timm.layers"):
        layers.set_fused_attn(True)  # as timm comes
    if accelerate := sys.modules.get("accelerate"):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """The prepared folder of toy_world, to be read; who changes it makes one for himself."""
    from helpers.toy_world import make_prepared  # imports torch, which many tests do without

    return make_prepared(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="session")
def pretrained(squares, tmp_path_factory):
    """A run folder after 02 on the squares: undisturbed, and on one process."""
    from helpers.running import run_warm
    from helpers.toy_world import command

    folder = tmp_path_factory.mktemp("undisturbed")
    run_warm(folder / "log", *command("mae", squares, folder))
    return folder


@pytest.fixture(scope="session")
def finetuned(squares, pretrained):
    """The same run folder, after 03 too."""
    from helpers.running import run_warm
    from helpers.toy_world import command

    run_warm(pretrained / "log", *command("single", squares, pretrained))
    return pretrained


@pytest.fixture(scope="session")
def trained(squares, finetuned):
    """The same run folder, after 04 too."""
    from helpers.running import run_warm
    from helpers.toy_world import command

    run_warm(finetuned / "log", *command("curriculum", squares, finetuned))
    return finetuned


@pytest.fixture(scope="session")
def crops(tmp_path_factory):
    """The prepared folder of predicting, with its networks and its truth, to be read."""
    from helpers.predicting import make_crops

    return make_crops(tmp_path_factory.mktemp("crops"))

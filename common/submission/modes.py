"""What 05 can do, and the flags that each mode uses: one that would be ignored is refused."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common.script.files import UserError

# Where and on what to work: of no mode's own, and welcome in all.
_EVERYWHERE = {"config", "data_dir", "run_dir", "seed", "mixed_precision", "detect_sides"}
_EVERYWHERE |= {"batch_size", "workers"}
_NETWORKS = {"checkpoints", "weights", "shifts", "flip", "rule"}
_DECISION = {"smooth", "smooth_width", "prior_correction"}
_FRAMES = {"videos", "frame_list", "faces", "fuse", *_NETWORKS, *_DECISION}

# The flag of a mode → the other flags that it uses. The first that is given counts.
MODES = {
    "check": {"frame_list"},
    "compare": set(),
    "images": _NETWORKS,
    "export": {"checkpoints"},
    "tune": {"tune_weights", *_FRAMES},
    "": {"truth", *_FRAMES},  # to predict
}


def mode_of(args: argparse.Namespace, argv: Sequence[str]) -> str:
    """Return the mode that 05's arguments ask for: a key of MODES.

    argv: the words of the command line. Raises UserError where one of its flags is not used; a
    recipe may hold more than a mode uses.
    """
    mode = next(name for name in MODES if not name or getattr(args, name))
    typed = dict.fromkeys(word.partition("=")[0] for word in argv if word.startswith("--"))
    used = {mode, *MODES[mode], *_EVERYWHERE}
    unused = [flag for flag in typed if flag[2:].removeprefix("no-").replace("-", "_") not in used]
    if unused:
        what = f"--{mode}" if mode else "Predicting without --tune"
        them = "it" if len(unused) == 1 else "them"
        raise UserError(f"{what} does not use {' and '.join(unused)}; leave {them} out.")
    return mode

"""Challenge frames that a first model is surest of, as compounds for a second one to learn from.

Nobody's labels are read: a frame's class is the first model's. It is a transductive setting, as
submissions to the challenge often use: the model has seen the images it is judged on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.emotions import BASIC, CHALLENGE, parts_of
from common.manifest import read_manifest, write_manifest

# Of the frames decided for a class, the share whose decision is taken for a label: those with the
# largest distance between the best and the second score.
SUREST = 0.5


def add_pseudo_labels(folder: Path, data: Path, predictions: Path) -> None:
    """Write `folder`/prepared: the images of `data`, and the surest challenge frames as compounds.

    predictions: probabilities.csv of 05 on the crops of `data`. The added rows belong to the data
    set `pseudo`, split train; images are links.
    """
    source, prepared = (data / "prepared").resolve(), folder / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    for name in ("images", "crops"):
        if not (prepared / name).is_symlink():
            (prepared / name).symlink_to(source / name)
    seen = pd.read_csv(predictions, dtype={"video": str})
    scores = np.sort(seen[list(CHALLENGE)].to_numpy(), axis=1)
    seen["margin"] = scores[:, -1] - scores[:, -2]
    crops = pd.read_csv(source / "frames.csv", dtype={"video": str}, keep_default_na=False)
    seen = seen.merge(crops[crops.image != ""], on=["video", "frame"])
    rank = seen.groupby("decision")["margin"].rank(pct=True, ascending=False)
    chosen = seen[rank <= SUREST]
    side = Image.open(source / chosen["image"].iloc[0]).width  # the same for all of 01's crops
    names = [" ".join(sorted(BASIC[i] for i in parts_of(name))) for name in CHALLENGE]
    rows = pd.DataFrame(
        {
            "image": chosen["image"],
            "dataset": "pseudo",
            "split": "train",
            "kind": "compound",
            "labels": [names[label] for label in chosen["decision"]],
            "subject": "challenge " + chosen["video"],
            "width": side,
            "height": side,
            "hash": np.uint64(0),
        }
    )
    plain = read_manifest(source / "manifest.csv")
    write_manifest(prepared / "manifest.csv", pd.concat([plain, rows], ignore_index=True))

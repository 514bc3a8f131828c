"""Networks that were trained on labels of the challenge's videos: who may judge which video.

`04 --challenge-labels` notes these videos in run.json. A score of a video by a network that has
seen its labels is no score, so each video is judged by the others, and left out where there are
none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from common.networks.weights import TRACKS, read_record
from common.script.files import UserError, some
from common.submission.ensemble import Ensemble
from common.submission.files import split_location
from common.submission.inference import Observed
from common.submission.truth import Truth


def track_and_seen(
    ensemble: Ensemble, tables: Iterable[Path], names: set[str]
) -> tuple[str, set[str]]:
    """Return the track of a fusion, and the videos whose labels nobody is left to judge without.

    These are the ones on whose labels every network was trained; also those that the submission
    which a table belongs to could not judge. tables: their files. names: the videos that are there.
    """
    track, seen = ensemble.track, set.intersection(*ensemble.labelled)
    for path in tables:
        record = _record_beside(path)
        if record.get("track") == TRACKS[1]:
            track = TRACKS[1]
            seen = seen | set(map(str, record.get("seen_videos") or ()))
    return track, seen & names


def _record_beside(table: Path) -> dict:
    """Return the run.json beside a table; beside probabilities-1.csv, that is run-1.json."""
    record = table.with_name(f"run{table.stem.removeprefix('probabilities')}.json")
    if not record.is_file():
        return read_record(table.parent) or {}
    try:
        return dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{record} is damaged; move {table} elsewhere to fuse it.") from None


def judge_by_unseen(observed: Observed, labelled: Sequence[set[str]]) -> None:
    """Give networks that have seen a video's labels the probabilities of those that have not.

    labelled: of each network, such videos. Where all have seen a video, nothing changes.
    """
    counts = np.diff([*observed.first, len(observed.probabilities)])
    video = np.repeat(observed.frames["video"].to_numpy(), counts)  # of each face
    for name in set().union(*labelled) & set(video):
        seen = np.array([name in videos for videos in labelled])
        if not seen.all():
            rows = np.flatnonzero(video == name)
            unseen = observed.probabilities[np.ix_(rows, ~seen)].mean(axis=1, keepdims=True)
            observed.probabilities[np.ix_(rows, seen)] = unseen


def leave_out(truth: dict[str, Truth], seen: set[str], path: Path) -> dict[str, Truth]:
    """Return the truth without the videos that nobody may judge, and say which these are.

    path: of the truth. Raises UserError where nothing is left.
    """
    left = {place: known for place, known in truth.items() if split_location(place)[0] not in seen}
    out = sorted({split_location(place)[0] for place in truth.keys() - left.keys()})
    if out:
        why = f"trained on the labels of {some(out)}"
        if not any(known.label >= 0 for known in left.values()):
            raise UserError(
                f"{path} cannot judge this run: all networks were {why}. Train with `04 "
                "--challenge-labels … --folds 5`, and name the folder of the folds."
            )
        print(f"not judged {len(out)} videos, as all networks were {why}")
    return left

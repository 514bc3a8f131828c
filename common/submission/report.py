"""The report of a submission as one HTML file, made from `report_template.html` beside this module.

It reads the same with every kind of colour vision: cividis for amounts, Okabe and Ito's colours for
classes, and two letters for each class.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from common.emotions import CHALLENGE
from common.metrics import divergence
from common.pictures import INK, pixels
from common.script.files import whole_file
from common.submission.decision import PUBLISHED
from common.submission.files import readable
from common.submission.scoring import NAMES, class_counts

TEMPLATE = Path(__file__).with_name("report_template.html")
CODES = tuple("".join(word[0] for word in name.split("_")) for name in CHALLENGE)  # FS, HS, …
# Okabe & Ito's palette without black: distinct with every kind of colour vision.
FILLS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
CIVIDIS = colormaps["cividis"](np.arange(256))[:, :3]  # [256, 3], 0..1
INKS = tuple("#fff" if fill == "#0072B2" else "#111" for fill in FILLS)
COLUMNS = 480  # of a timeline; longer videos are thinned to keep the file small
VIDEOS = 300  # shown; the tables beside the report hold all of them
PEAKS = 4  # faces shown below a video's timeline
LABELLED_RUN = 0.07  # of the width; shorter runs have no room for their two letters


def write_report(
    path: str | Path,
    table: pd.DataFrame,
    *,
    title: str,
    picture: Callable[[int], str] = lambda row: "",
    truth: np.ndarray | None = None,
    score: dict | None = None,
    record: dict | None = None,
) -> None:
    """Write the report of a submission: one HTML file that opens offline, without scripts.

    table: of `decision.decide`, N rows. picture: the face in a row as a data URL, or ""; called
    only for rows with a face. truth: int [N], class or -1. score: of `metrics.summarise`. record:
    as in run.json; settings, warnings and versions are shown.
    """
    record = record or {}
    scores = table[list(CHALLENGE)].to_numpy()
    top_score = float(scores.max())
    counts = class_counts(table)
    by_video = list(table.groupby("video", sort=False).indices.items())
    faceless = int((table["face"] == 0).sum())
    gap = divergence(counts, PUBLISHED)
    content = {
        "title": title,
        "subtitle": f"{len(table):,} frames of {len(by_video):,} video"
        f"{'s' if len(by_video) != 1 else ''}, each given one of seven compound expressions"
        + (f", {record['track']}." if "track" in record else "."),
        "cards": [
            {"name": "Frames", "value": f"{len(table):,}", "note": f"{len(by_video):,} videos"},
            {
                "name": "Without a face",
                "value": f"{faceless:,}",
                "note": f"{faceless / len(table):.1%} of frames, filled",
            },
            {"name": "KL divergence", "value": f"{gap:.3f}", "note": "nats, from published shares"},
        ],
        "classes": [
            {"name": name, "code": code, "fill": fill, "ink": ink}
            for name, code, fill, ink in zip(NAMES, CODES, FILLS, INKS, strict=True)
        ],
        "frames": len(table),
        "warnings": list(record.get("warnings", ())),
        "divergence": gap,
        "distribution": [
            {"name": name, "count": int(count), "share": count / len(table), "published": share}
            for name, count, share in zip(NAMES, counts, PUBLISHED, strict=True)
        ],
        "widest": float(max(counts.max() / len(table), PUBLISHED.max())),
        "has_truth": truth is not None,
        "videos": [
            _timeline(
                video,
                table.iloc[rows],
                scores[rows] / max(top_score, 1e-9),
                None if truth is None else truth[rows],
                lambda row, rows=rows: picture(int(rows[row])),
            )
            for video, rows in by_video[:VIDEOS]
        ],
        "more_videos": f"The first {VIDEOS} of {len(by_video):,} videos are shown."
        if len(by_video) > VIDEOS
        else "",
        "top_score": top_score,
        "ramp": ", ".join(to_hex(colormaps["cividis"](share)) for share in np.linspace(0, 1, 9)),
        "galleries": _galleries(table, scores, picture, truth),
        "records": _records(record),
        "score": score,
        **(_score_content(score) if score else {}),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)
    with whole_file(path, "w") as file:
        file.write(readable(page))


def _score_content(score: dict) -> dict:
    columns = ("f1", "precision", "recall", "support")
    matrix, constant = np.asarray(score["confusion"]), NAMES[score["constant_class"]]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return {
        "references": [
            {"name": name, "value": value, "interval": interval, "fill": fill}
            for name, value, interval, fill in (
                ("This submission", score["macro_f1"], score["interval"], "#56B4E9"),
                ("Random guessing", score["chance_f1"], None, "#aab4c0"),
                (f"Always {constant}", score["constant_f1"], None, "#aab4c0"),
            )
        ],
        "per_class": [
            {"name": name, **{key: score[key][index] for key in columns}}
            for index, name in enumerate(NAMES)
        ],
        "confusion": [
            [
                {
                    "share": f"{part:.0%}",
                    "count": f"{count:,}",
                    "fill": to_hex(colormaps["cividis"](part)),
                    "ink": "#111" if part > 0.55 else "#fff",
                }
                for part, count in zip(share[row], matrix[row], strict=True)
            ]
            for row in range(len(matrix))
        ],
    }


def _records(record: dict) -> dict[str, dict]:
    """Return what the page says about the run, by heading."""
    if not record:
        return {}
    made = {"weights": "; ".join(f"{k} {v}" for k, v in record["weights_sha256"].items())}
    made |= {key.replace("_", " "): record[key] for key in ("device", "git_commit", "command")}
    return {
        "Settings": {k: v for k, v in record["settings"].items() if v not in (None, [])},
        "Made by": made | record["versions"],
    }


def _timeline(
    video: str,
    table: pd.DataFrame,
    scores: np.ndarray,
    truth: np.ndarray | None,
    picture: Callable[[int], str],
) -> dict:
    """Return the pictures and labels of one video. scores: float [n, 7], 0..1 of the ramp."""
    count = len(table)
    decision, face = table["decision"].to_numpy(), table["face"].to_numpy() == 1
    starts = np.linspace(0, count, min(count, COLUMNS) + 1).astype(int)[:-1]  # of each column
    widths = np.diff(np.append(starts, count))
    mean = np.add.reduceat(scores, starts, axis=0) / widths[:, None]  # [columns, 7]
    strips = [_strip("decision", decision[starts])]
    marks = []
    note = f"{count:,} frames"
    if not face.all():
        note += f" · {int((~face).sum()):,} without a face"
    if truth is not None:
        strips.append(_strip("truth", truth[starts]))
        scored = truth >= 0
        wrong = scored & (truth != decision)
        marks.append(_marks("differs", np.logical_or.reduceat(wrong, starts)))
        if scored.any():
            note += f" · {1 - wrong.sum() / scored.sum():.0%} right"
    marks.append(_marks("no face", np.logical_or.reduceat(~face, starts)))
    return {
        "name": video,
        "note": note,
        "heat": pixels((mean.T * 255).round(), CIVIDIS),
        "strips": strips,
        "marks": marks,
        "peaks": _peaks(table, scores, picture),
        "first": int(table["frame"].iloc[0]),
        "last": int(table["frame"].iloc[-1]),
    }


def _peaks(table: pd.DataFrame, scores: np.ndarray, picture: Callable[[int], str]) -> list[dict]:
    """Return the face at the highest score of each class decided in a video, in order of time.

    Of the PEAKS classes with most frames; a class that has no frame with a face has no peak.
    """
    decision, frame = table["decision"].to_numpy(), table["frame"].to_numpy()
    face = table["face"].to_numpy() == 1
    classes, counts = np.unique(decision[face], return_counts=True)
    peaks = []
    for index in classes[np.argsort(-counts, kind="stable")][:PEAKS]:
        rows = np.flatnonzero(face & (decision == index))
        row = int(rows[scores[rows, index].argmax()])
        if address := picture(row):
            place = 100 * (row + 0.5) / len(table)
            peaks.append({"picture": address, "frame": int(frame[row]), "place": round(place, 2)})
            peaks[-1] |= {"class": int(index), "at": row}
    return sorted(peaks, key=lambda peak: peak["at"])


def _strip(name: str, classes: np.ndarray) -> dict:
    """Return a band of class colours, with the class's letters in every run that has room."""
    edges = np.flatnonzero(np.diff(classes, prepend=-2, append=-2))
    runs = [
        {
            "left": round(100 * start / len(classes), 2),
            "width": round(100 * (end - start) / len(classes), 2),
            "code": CODES[classes[start]],
            "ink": INKS[classes[start]],
        }
        for start, end in pairwise(edges)
        if classes[start] >= 0 and end - start >= LABELLED_RUN * len(classes)
    ]
    palette = [to_rgb(colour) for colour in ("#eef1f4", *FILLS)]  # the first: no class
    return {"name": name, "picture": pixels(classes[None] + 1, palette), "runs": runs}


def _marks(name: str, marked: np.ndarray) -> dict:
    """Return a band that is dark at the marked places, or nothing where there are none."""
    palette = [to_rgb("#eef1f4"), to_rgb(INK)]
    return {"name": name, "picture": pixels(marked[None], palette) if marked.any() else None}


def _galleries(
    table: pd.DataFrame,
    scores: np.ndarray,
    picture: Callable[[int], str],
    truth: np.ndarray | None,
) -> dict[str, list[dict]]:
    """Choose the frames with the largest margins of each class, and those with the smallest."""
    ordered = np.sort(scores, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    decision, video = table["decision"].to_numpy(), table["video"].to_numpy()
    seen = np.flatnonzero(table["face"] == 1)
    pairs = [
        _of_different_videos(rows[np.argsort(-margin[rows], kind="stable")], video, 2)
        for rows in (seen[decision[seen] == index] for index in range(len(CHALLENGE)))
    ]
    # Seven in a row on a wide page: the most certain of each class, then the next.
    most_certain = [pair[rank] for rank in range(2) for pair in pairs if len(pair) > rank]
    least_certain = _of_different_videos(seen[np.argsort(margin[seen], kind="stable")], video, 14)
    galleries = {"most_certain": most_certain, "least_certain": least_certain}
    return {
        name: [
            {
                "picture": address,
                "location": table["image_location"].iloc[row],
                "decision": int(decision[row]),
                "margin": margin[row],
                "truth": int(truth[row]) if truth is not None and truth[row] >= 0 else None,
            }
            for row in rows
            if (address := picture(row))
        ]
        for name, rows in galleries.items()
    }


def _of_different_videos(rows: np.ndarray, video: np.ndarray, count: int) -> list[int]:
    chosen: dict[str, int] = {}
    for row in rows:
        chosen.setdefault(video[row], int(row))
        if len(chosen) == count:
            break
    return list(chosen.values())

"""Predict the challenge's frames, write the submission, score it where the truth is known.

Six probabilities for each face crop (mean over checkpoints and mirror images), interpolated in
time where no face was found; the compound with the highest rule (paper §3.4: the sum of its two
emotions) is the frame's class. Exactly the listed frames, each once, in the list's order.

In:  <data-dir>/prepared/{frames.csv,crops/,frame_list.txt} (01), or --videos
     <run-dir>/curriculum/model.safetensors (04), or --checkpoints
Out: <run-dir>/submission/predictions.txt    the file to hand in
                          probabilities.csv  of every listed frame, with scores and decision
                          report.html        one page that opens offline
                          run.json, and score.json where --truth is given

Examples
  python 05_predict_submit.py --run-dir runs/paper
  python 05_predict_submit.py --config configs/demo.toml --truth data/demo/truth.csv
  python 05_predict_submit.py --check their_file.txt --frame-list CER.txt
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from common import submission
from common.checking import check_submission, is_valid
from common.classifier import load_classifier
from common.config import make_parser, parse_arguments, run_script, settings_of
from common.emotions import CHALLENGE
from common.files import UserError, file_digest, whole_file
from common.images import ImageStore
from common.inference import best_device, crop_videos, predict_probabilities
from common.loading import default_batch_size, default_workers
from common.metrics import divergence, summarise
from common.report import write_report
from common.runs import default_precision, provenance, refuse_unfinished


def arguments() -> argparse.Namespace:
    parser = make_parser(
        __doc__, "data_dir", "run_dir", "seed", "batch_size", "workers", "mixed_precision"
    )
    add = parser.add_argument
    add("--checkpoints", type=Path, nargs="+", metavar="FILE",
        help="model.safetensors of one or more runs; their probabilities are averaged "
        "(default: <run-dir>/curriculum/model.safetensors)")  # fmt: skip
    add("--frame-list", type=Path, help="the challenge's list (default: <data-dir>/prepared/"
        "frame_list.txt; without one, every frame that decodes)")  # fmt: skip
    add("--videos", type=Path, metavar="DIR", help="read these videos instead of prepared crops")
    add("--truth", type=Path, help="table image_location,label to score the result with")
    add("--check", type=Path, metavar="FILE", help="only say what is wrong with this submission")
    add("--rule", choices=("sum", "geometric", "harmonic"), default="sum",
        help="how two emotions' probabilities make a compound's score")  # fmt: skip
    add("--smooth", choices=submission.SMOOTHING, default="none",
        help="smoothing of the probabilities in time, within a video")  # fmt: skip
    add("--smooth-frames", type=int, default=9, help="width of the smoothing, frames")
    add("--flip-tta", action=argparse.BooleanOptionalAction, default=True,
        help="average the image and its mirror image")  # fmt: skip
    return parse_arguments(parser, "predict_submit")


def main() -> None:
    args = arguments()
    prepared, folder = args.data_dir / "prepared", args.run_dir / "submission"
    if args.check:
        check(args.check, args.frame_list or prepared / "frame_list.txt")
    started = time.time()
    if args.smooth_frames < 1:
        raise UserError(f"--smooth-frames is {args.smooth_frames}; it must be 1 or more.")
    if args.truth and not args.truth.is_file():  # not opened before the submission is written
        raise UserError(f"There is no truth table {args.truth}.")
    device = best_device()
    checkpoints = args.checkpoints or [args.run_dir / "curriculum" / "model.safetensors"]
    for path in checkpoints:
        refuse_unfinished(path)
    models = [load_classifier(path) for path in checkpoints]

    if args.videos:
        list_path, root = args.frame_list or find_list(args.videos), folder
        frame_list = submission.read_frame_list(list_path) if list_path else None
        frames, warnings = crop_videos(args.videos, folder, frame_list)
    else:
        own = prepared / "frame_list.txt"
        list_path, root = args.frame_list or (own if own.is_file() else None), prepared
        frame_list = submission.read_frame_list(list_path) if list_path else None
        frames, warnings = submission.read_frames(prepared), []
    header, locations = frame_list or (submission.HEADER, all_locations(frames))
    frames, absent = only_listed(frames, locations)
    if frames.empty:
        raise UserError(f"{list_path} names none of the videos in {args.videos or prepared}.")

    crops = frames[frames["image"] != ""].reset_index(drop=True)
    store = ImageStore(root, crops["image"].tolist())
    precision = args.mixed_precision or default_precision()
    begun = time.time()
    probabilities, readable = predict_probabilities(
        models,
        store,
        device,
        flip=args.flip_tta,
        precision=precision,
        batch_size=args.batch_size or default_batch_size(),
        workers=default_workers() if args.workers is None else args.workers,
    )
    images_per_s = len(crops) / (time.time() - begun)
    crops = crops[readable].reset_index(drop=True)
    aligned, face, faceless = submission.align(
        locations, crops, probabilities[readable], args.smooth, args.smooth_frames
    )
    warnings += [f"The list names video {name}, which is not among the videos." for name in absent]
    if not readable.all():
        lost = store.path(int(np.flatnonzero(~readable)[0]))
        warnings.append(
            f"{(~readable).sum():,} crops cannot be read and count as frames without a face, "
            f"the first is {lost}."
        )
    warnings += [
        f"Video {name} has no frame with a face: its frames get the mean of all others."
        for name in faceless
    ]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)

    table = submission.prediction_table(locations, aligned, face, args.rule)
    (folder / "score.json").unlink(missing_ok=True)  # that of an earlier submission
    submission.write_submission(folder / "predictions.txt", header, locations, table["decision"])
    write_table(folder / "probabilities.csv", table)

    # Only now may anything look at the truth.
    truth, score, complaint = None, None, None
    if args.truth:
        try:
            truth = np.array(
                list(map(submission.read_truth(args.truth).get, locations, [-1] * len(locations)))
            )
            score = score_of(args, truth, table)
        except UserError as error:
            truth, complaint = None, error
    record = {
        "settings": {
            **settings_of(args),
            "checkpoints": list(map(str, checkpoints)),
            "frame_list": str(list_path) if list_path else None,
            "mixed_precision": precision,
        },
        "weights_sha256": {str(path): file_digest(path) for path in checkpoints},
        "frame_list_sha256": file_digest(list_path) if list_path else None,
        "frames": len(table),
        "frames_without_face": int((~face).sum()),
        "divergence_nats": divergence(class_counts(table), submission.DATABASE_COUNTS),
        "warnings": warnings,
        "images_per_s": round(images_per_s, 1),
        "wall_s": round(time.time() - started, 1),
        **provenance(device),
    }
    images = crops.set_index(["video", "frame"])["image"]
    images = images.reindex(pd.MultiIndex.from_frame(table[["video", "frame"]])).fillna("")
    write_report(
        folder / "report.html",
        table,
        title=f"Submission {args.run_dir}",
        images=[str(root / image) if image else "" for image in images],
        truth=truth,
        score=score,
        warnings=warnings,
        records={
            "Settings": {k: v for k, v in record["settings"].items() if v not in (None, [])},
            "Made by": {
                "weights": "; ".join(f"{k} {v}" for k, v in record["weights_sha256"].items()),
                "device": record["device"],
                "git commit": record["git_commit"],
                "command": record["command"],
                **record["versions"],
            },
        },
    )
    write_json(folder / "run.json", record)
    if complaint:
        raise UserError(f"{complaint} The submission {folder / 'predictions.txt'} is not scored.")
    print(
        f"predicted {len(table):,} frames, {(~face).sum():,} of them without a face, at "
        f"{images_per_s:.0f} img/s; divergence from the published class frequencies "
        f"{record['divergence_nats']:.3f} nats"
    )
    if score:
        write_json(folder / "score.json", score)
        print(f"macro-F1 {score['macro_f1']:.4f} ({interval_of(score)})")
    print(f"submission {folder / 'predictions.txt'}\nreport     {folder / 'report.html'}")


def find_list(videos: Path) -> Path | None:
    from common.raw.challenge import find_frame_list

    if not videos.is_dir():
        raise UserError(f"There is no folder of videos {videos}.")
    return find_frame_list(videos)


def check(path: Path, frame_list: Path) -> None:
    """Print what is wrong with a submission and exit: 0 where it is valid, else 1."""
    if not frame_list.is_file():
        raise UserError(f"There is no frame list {frame_list}; name the challenge's --frame-list.")
    findings = check_submission(path, frame_list)
    for finding in findings:
        print(finding)
    valid = is_valid(findings)
    print(f"{path} is {'valid' if valid else 'NOT valid'} against {frame_list}")
    sys.exit(0 if valid else 1)


def all_locations(frames: pd.DataFrame) -> list[str]:
    """Return every frame of the table, by video and number: the list where there is none."""
    rows = frames.sort_values(["video", "frame"])
    return list(map(submission.locate, rows["video"], rows["frame"]))


def only_listed(frames: pd.DataFrame, locations: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of listed videos, and the listed videos that have no row."""
    listed = dict.fromkeys(submission.split_location(location)[0] for location in locations)
    known = set(frames["video"])
    rows = frames[frames["video"].isin(listed)].reset_index(drop=True)
    return rows, [video for video in listed if video not in known]


def score_of(args: argparse.Namespace, truth: np.ndarray, table: pd.DataFrame) -> dict:
    """Score the frames whose truth is known. Raises UserError where it is known of none."""
    scored = truth >= 0
    if not scored.any():
        raise UserError(f"{args.truth} has a label for none of the predicted frames.")
    decision, videos = table["decision"].to_numpy()[scored], table["video"].to_numpy()[scored]
    return summarise(truth[scored], decision, videos, len(CHALLENGE), seed=args.seed)


def interval_of(score: dict) -> str:
    over = f"{score['frames']:,} frames of {score['groups']} videos"
    if not score["interval"]:
        return f"no interval: {score['frames']:,} frames of one video"
    return "95 % interval {:.4f} to {:.4f}, {}".format(*score["interval"], over)


def class_counts(table: pd.DataFrame) -> np.ndarray:
    return np.bincount(table["decision"], minlength=len(CHALLENGE))


def write_json(path: Path, content: dict) -> None:
    with whole_file(path, "w") as file:
        json.dump(content, file, indent=2)


def write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path, "w") as file:
        table.to_csv(file, index=False, float_format="%.6f")


if __name__ == "__main__":
    run_script(main)

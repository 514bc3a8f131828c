"""Predict the challenge's frames, write the submission, and score it where the truth is known.

The networks give each face six probabilities, averaged over checkpoints and mirror images. Frames
without a face are interpolated, tables of other models are added, then each video is smoothed in
time. The class of a frame is the compound with the highest score: the sum of its two emotions
(paper §3.4). --weights are those of the networks, then of the tables, in their order.

In:  <data-dir>/prepared/{frames.csv,crops/} of 01, or --videos
     <run-dir>/curriculum/model.safetensors of 04, or --checkpoints
     --fuse: tables of other models, with a row a frame or a stretch of time: docs/submission.md
     the frame list beside the videos, or prepared/frame_list.txt; without one, all decoded frames
Out: <run-dir>/submission/predictions.txt    the file to hand in: the frames of the list, in order
                          probabilities.csv  class, probabilities and scores of each frame
                          report.html        one page that opens offline
                          frame_list.txt     a copy of the list, or all frames
                          run.json, score.json of --truth, tuned.toml of --tune
     <run-dir>/images.csv  probabilities and compound of each of --images

Examples
  python 05_predict_submit.py --config configs/demo.toml --truth data/demo/truth.csv
  python 05_predict_submit.py --videos clips --checkpoints runs/paper runs/vit_l
  python 05_predict_submit.py --videos clips --checkpoints runs/paper b0.onnx --fuse sound.csv
  python 05_predict_submit.py --images photographs a.jpg --checkpoints runs/paper
  python 05_predict_submit.py --check theirs.txt --frame-list CER.txt
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from common.script import config, files, flags
from common.script.main import run_script


def arguments() -> argparse.Namespace:
    from common import emotions
    from common.submission import decision

    shared = ("data_dir", "detect_sides", "run_dir", "seed", "mixed_precision")
    parser = config.make_parser(__doc__, *shared)
    add = parser.group("data").add_argument
    add("--videos", type=Path, metavar="DIR", help="predict these videos: a folder, or one file")
    add("--images", type=Path, nargs="+", metavar="PATH", help="or images, or folders of them")
    add("--frame-list", type=Path, metavar="FILE", help="the challenge's list (default: see In)")
    add("--truth", type=Path, metavar="PATH", help="table, or folder of segments, to score with")
    add(
        "--faces",
        choices=("main", "max"),
        default="main",
        help="with --videos: a frame's main face, or the maximum over all its faces",
    )
    add = parser.group("model").add_argument
    add(
        "--checkpoints",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="weights to average: files, runs, or folders of folds (default: <run-dir>/curriculum)",
    )
    add("--fuse", type=Path, nargs="+", metavar="TABLE", help="other models' probabilities to fuse")
    add("--weights", type=flags.not_negative, nargs="+", help="one a member, or six, for emotions")
    add("--flip", action=argparse.BooleanOptionalAction, default=True, help="average mirror images")
    add(
        "--shifts",
        type=flags.fraction,
        default=0.0,
        metavar="SHARE",
        help="average also faces moved in four directions by this share of their side, e.g. 0.03",
    )
    add = parser.group("decision").add_argument
    add("--rule", choices=tuple(emotions.RULES), default="sum", help="score of two emotions")
    # The paper does not smooth. These were chosen by --tune on drawn videos: docs/submission.md.
    add(
        "--smooth",
        choices=tuple(decision.SMOOTHINGS),
        default="median",
        help="smoothing of the probabilities in time, within each video",
    )
    add("--smooth-width", type=flags.positive, default=25, metavar="FRAMES", help="of the window")
    add(
        "--prior-correction",
        type=flags.fraction,
        default=0.0,
        metavar="STRENGTH",
        help="0 to 1: how far to move the predicted class shares to the published ones",
    )
    add = parser.group("hardware").add_argument
    add("--batch-size", type=flags.positive, metavar="N", help="faces at once (default: by memory)")
    add("--workers", type=flags.count, metavar="N", help="readers of faces (default: by cores)")
    add = parser.group("instead of predicting").add_argument
    add("--tune", type=Path, metavar="TRUTH", help="choose the decision on labels, for --config")
    add("--tune-weights", choices=("member", "class"), default="member", help="weights to search")
    add("--export", type=Path, metavar="FILE", help="write the network as FILE.onnx")
    add("--check", type=Path, metavar="FILE", help="list all faults; exit status 1 if not valid")
    add("--compare", type=Path, nargs="+", metavar="FILE", help="show how submissions differ")
    return config.parse_arguments(parser, "predict_submit")


def main() -> None:
    from common.submission import checking, modes

    args = arguments()
    mode = modes.mode_of(args, sys.argv[1:])
    if mode == "check":
        sys.exit(checking.print_check(args.check, args.frame_list, args.data_dir / "prepared"))
    elif mode == "compare":
        checking.print_comparison(args.compare, args.run_dir)
    elif mode in ("images", "export"):
        from common.submission import ensemble, images  # imports torch

        (images.print_images if mode == "images" else ensemble.print_export)(args)
    else:
        (tune if mode == "tune" else predict)(args)


def predict(args: argparse.Namespace) -> None:
    """Faces → probabilities → classes → submission → score → report."""
    from common.submission import decision, report, scoring, sources, truth
    from common.submission import files as submission

    started, folder = time.time(), args.run_dir / "submission"
    truth.check_truth(args.truth, args.videos)
    inputs = sources.open_inputs(args, args.flip)
    source, record, weights = inputs.source, inputs.record, inputs.weights

    with files.only_process(folder):
        observed = inputs.observe(folder, args)
        locations, warnings = sources.frames_to_decide(source, observed)
        sources.print_tables(inputs.tables, locations)
        timelines = decision.Timelines(locations, observed.frames, inputs.tables)
        how, faces = (
            decision.among(vars(args)),
            observed.mean(weights[: len(inputs.ensemble.networks)]),
        )
        table = decision.decide(timelines, faces, how, weights)
        undecoded = sources.undecoded(locations, observed)
        warnings += [*observed.warnings, *scoring.warnings_of(table, timelines, undecoded)]
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)

        new = source.header, locations, table["decision"], source.listing
        kept = submission.replace_submission(folder, *new, args.fuse or [])
        scoring.write_probabilities(folder / "probabilities.csv", table)

        # The truth is opened only now: nothing above can depend on it.
        known, score, complaint = scoring.score(
            args.truth, source.videos, table, args.seed, inputs.seen
        )
        record |= scoring.summary_of(table, undecoded, warnings, time.time() - started)
        report.write_report(
            folder / "report.html",
            table,
            title=f"Submission {args.run_dir}",
            picture=lambda row: observed.picture(timelines.face_of[row]),
            truth=known,
            score=score,
            record=record,
        )
        files.write_json(folder / "run.json", record)
        if score:
            files.write_json(folder / "score.json", {"track": record["track"], **score})
        else:
            kept = submission.set_aside(folder / "score.json") or kept

    print(scoring.summary_text(table, record, sources.unseen_videos(source, observed), kept))
    if complaint:
        raise files.UserError(f"{complaint} {folder / 'predictions.txt'} is not scored.")
    if score:
        print(scoring.score_text(score))
    print(f"submission {folder / 'predictions.txt'}\nreport     {folder / 'report.html'}")


def tune(args: argparse.Namespace) -> None:
    """Labelled frames → probabilities → all settings of the grid → the best, and its gain."""
    from common.submission import decision, sources, truth, tuning

    folder = args.run_dir / "submission"
    truth.check_truth(args.tune, args.videos)
    inputs = sources.open_inputs(args, flip=True)
    inputs.source, labels = sources.labelled_part(inputs.source, args.tune, inputs.seen)
    given, members = decision.among(vars(args)), inputs.members

    with files.only_process(folder):
        observed = inputs.observe(folder, args)
        sources.print_tables(inputs.tables, list(labels))
        timelines = decision.Timelines(list(labels), observed.frames, inputs.tables)
        classes, by = list(labels.values()), args.tune_weights
        tuned = tuning.tune(timelines, observed, classes, given, members, by, args.seed)
        on = f"{len(labels):,} frames of {len(inputs.source.names)} videos labelled in {args.tune}"
        kept = tuning.write_tuned(folder / "tuned.toml", tuned, on, inputs.record)
    print(tuning.describe(tuned, on), *[kept] * bool(kept), sep="\n")
    print(f"settings   {folder / 'tuned.toml'}, for --config or to copy into your recipe")


if __name__ == "__main__":
    run_script(main)

"""Predict the challenge's frames, write the submission, score it where the truth is known.

Six probabilities for each face (mean over checkpoints and mirror images), interpolated in time
where no face was found, smoothed within a video; the compound with the highest rule (paper §3.4:
the sum of its two emotions) is the frame's class. Exactly the listed frames, each once, in the
list's order. A video without any face gets the database's most frequent class, and a warning.

In:  <data-dir>/prepared/{frames.csv,crops/,frame_list.txt} (01), or --videos
     <run-dir>/curriculum/model.safetensors (04), or --checkpoints
Out: <run-dir>/submission/predictions.txt    the file to hand in
                          probabilities.csv  of every listed frame, with scores and decision
                          report.html        one page that opens offline
                          run.json, score.json where --truth is given, frame_list.txt where no
                          list was, tuned.toml of --tune

A frame list is a header and a line for each frame, with nothing after the comma:
  image_location,Fearfully_Surprised,Happily_Surprised,…   (all seven, as the challenge has them)
  01/00001.jpg,

Examples
  python 05_predict_submit.py --run-dir runs/paper
  python 05_predict_submit.py --config configs/demo.toml --truth data/demo/truth.csv
  python 05_predict_submit.py --videos clips --checkpoints runs/paper runs/vit_l
  python 05_predict_submit.py --data-dir data/mafw --tune data/mafw/truth.csv
  python 05_predict_submit.py --check their_file.txt --frame-list CER.txt
  python 05_predict_submit.py --compare ours.txt theirs.txt
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from common.script.config import make_parser, parse_arguments, run_script, settings_of
from common.script.files import UserError, file_digest, only_process
from common.script.flags import COMMON, count, fraction, positive

# Beyond argparse and the files' own forms, modules are imported where they are used: torch takes
# seconds, and --check, --compare and --help need none of it.


# fmt: off
def arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, "data_dir", "run_dir", "seed", "mixed_precision")
    add = parser.add_argument_group("what is predicted").add_argument
    add("--videos", type=Path, metavar="DIR",
        help="read the videos of this folder, or one video, instead of prepared crops")
    add("--frame-list", type=Path, metavar="FILE",
        help="the challenge's list, for predicting and for --check (default: the one beside "
        "--videos, else <data-dir>/prepared/frame_list.txt; with neither, every decoded frame)")
    add("--faces", choices=("main", "max"), default="main",
        help="the main face, by size and persistence, or the maximum over all faces of a frame "
        "(with --videos)")
    add("--truth", type=Path, metavar="FILE",
        help="table image_location,label to score the result with")
    add = parser.add_argument_group("by what").add_argument
    add("--checkpoints", type=Path, nargs="+", metavar="FILE",
        help="model.safetensors, or folders of runs or folds that hold them: their probabilities "
        "are averaged (default: <run-dir>/curriculum)")
    add("--flip", action=argparse.BooleanOptionalAction, default=True,
        help="average each face and its mirror image")
    add("--shifts", type=fraction, default=0.0, metavar="SHARE",
        help="average also the face moved left, right, up and down by this share of its side, "
        "such as 0.03; five times the work")
    add("--batch-size", type=positive, metavar="N",
        help="faces that a network sees at once; the result does not depend on it (default: 32, "
        "or by the GPU's memory)")
    add("--workers", type=count, metavar="N",
        help="processes that read crops, or threads that read videos (default: by cores)")
    add = parser.add_argument_group("how it is decided").add_argument
    add("--rule", choices=("sum", "geometric", "harmonic"), default="sum",
        help="how two emotions' probabilities make a compound's score")
    # The paper is silent; chosen by --tune on drawn videos, see docs/submission.md.
    add("--smooth", choices=("none", "box", "gaussian", "median"), default="median",
        help="smoothing of the probabilities in time, within a video")
    add("--smooth-width", type=positive, default=25, metavar="FRAMES",
        help="width of the smoothing; the Gaussian's deviation is that of the box, width / √12")
    add("--prior-correction", type=fraction, default=0.0, metavar="STRENGTH",
        help="from 0 to 1, how far the predicted class shares are drawn to the published ones")
    add = parser.add_argument_group("instead of predicting").add_argument
    add("--tune", type=Path, metavar="TRUTH",
        help="choose smoothing, rule, prior correction and flip on labelled frames (image_location,"
        "label and, for frames of the list, split), and write tuned.toml for --config")
    add("--check", type=Path, metavar="FILE",
        help="say all that is wrong with a submission; its list is --frame-list, or frame_list.txt "
        "beside it or in the prepared folder; exit status 1 where it is not valid")
    add("--compare", type=Path, nargs=2, metavar=("A", "B"),
        help="say how two submissions differ, by video and class; with --run-dir also in "
        "compare.csv there")
    return parse_arguments(parser, "predict_submit")
# fmt: on


def main() -> None:
    args = arguments()
    if args.check:
        sys.exit(check(args))
    elif args.compare:
        compare(args)
    elif args.tune:
        tune(args)
    else:
        predict(args)


def predict(args: argparse.Namespace) -> None:
    """Frames → faces → probabilities → classes → files."""
    from common.submission import decision, outcome, sources
    from common.submission import files as submission
    from common.submission.report import write_report

    started, folder = time.time(), args.run_dir / "submission"
    if args.truth and not args.truth.is_file():  # not opened before the submission is written
        raise UserError(f"There is no truth table {args.truth}.")
    source, ensemble, record = prepare(args, args.flip)

    with only_process(folder):  # and so we know that something can be written there
        observed = observe(args, source, ensemble, folder)
        locations, warnings = sources.frames_to_decide(source, observed)
        timelines = decision.Timelines(locations, observed.frames)
        table = decision.decide(timelines, observed.mean(), decision_of(args))
        warnings = [*observed.warnings, *warnings, *outcome.warnings_of(table, timelines)]
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)

        earlier = outcome.keep_earlier(folder)
        outcome.clear(folder)
        classes = table["decision"].tolist()
        submission.write_submission(folder / "predictions.txt", source.header, locations, classes)
        kept = outcome.settle(earlier, folder / "predictions.txt")
        if source.list_path is None:
            submission.write_frame_list(folder / "frame_list.txt", locations)
        outcome.write_table(folder / "probabilities.csv", table)

        # Only now may anything look at the truth.
        truth, score, complaint = outcome.score(args.truth, locations, table, args.seed)
        record |= outcome.summary_of(table) | {
            "warnings": warnings,
            "wall_s": round(time.time() - started, 1),
            "frames_per_s": round(len(table) / (time.time() - started), 1),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        write_report(
            folder / "report.html",
            table,
            title=f"Submission {args.run_dir}",
            picture=lambda row: observed.picture(timelines.face_of[row]),
            truth=truth,
            score=score,
            record=record,
        )
        outcome.write_json(folder / "run.json", record)
        if score:
            outcome.write_json(folder / "score.json", score)

    print(outcome.distribution_text(outcome.class_counts(table)))
    print(
        f"predicted {len(table):,} frames of {table['video'].nunique():,} videos, "
        f"{record['frames_without_face']:,} of them without a face, at "
        f"{record['frames_per_s']:.3g} frames/s with start-up and report"
    )
    if lost := outcome.unseen_text(sources.unseen_videos(source, observed), table):
        print(lost)
    if kept:
        print(kept)
    if complaint:
        raise UserError(f"{complaint} The submission {folder / 'predictions.txt'} is not scored.")
    if score:
        print(outcome.score_text(score))
    print(f"submission {folder / 'predictions.txt'}\nreport     {folder / 'report.html'}")


def tune(args: argparse.Namespace) -> None:
    """Labelled frames → probabilities → every setting of the grid → the best, and its worth."""
    import numpy as np

    from common.submission import decision, sources, tuning
    from common.submission import files as submission

    folder = args.run_dir / "submission"
    truth = submission.read_truth(args.tune)
    source, ensemble, record = prepare(args, flip=True)
    # A video that is not there would count as one without a face: wrong under every setting.
    absent = source.absent(list(truth))
    for name in absent:
        print(f"warning: {args.tune} labels {name}, which is not among the videos: left out.",
              file=sys.stderr)  # fmt: skip
    truth = {k: v for k, v in truth.items() if submission.split_location(k)[0] not in absent}
    usable = tuning.tuning_frames(truth, source.locations, args.tune)
    source = source.only(set(sources.listed_videos(list(usable))))

    with only_process(folder):
        observed = observe(args, source, ensemble, folder)
        timelines = decision.Timelines(list(usable), observed.frames)
        given = tuning.Setting(decision_of(args), args.flip)
        looks = observed.probabilities.mean(axis=2)  # over shifts: [K, F, 6]
        labels = np.array(list(usable.values()))
        tuned = tuning.tune(timelines, looks, labels, given, args.seed)
        on = f"{len(usable):,} frames of {len(source.names)} videos labelled in {args.tune}"
        tuning.write_tuned(folder / "tuned.toml", tuned, on, record)
    print(tuning.describe(tuned, on))
    print(f"settings   {folder / 'tuned.toml'}, for --config or to be copied into your recipe")


def prepare(args: argparse.Namespace, flip: bool):
    """Return the source, the networks, and what run.json will say of both."""
    from common.hardware import default_precision, provenance
    from common.submission import inference, sources

    if args.faces == "max" and not args.videos:
        raise UserError("--faces max needs --videos: crops are prepared of the main face alone.")
    checkpoints = inference.find_checkpoints(args.checkpoints or [args.run_dir / "curriculum"])
    source = sources.open_source(args.data_dir / "prepared", args.videos, args.frame_list)
    precision = args.mixed_precision or default_precision()
    ensemble = inference.load_ensemble(checkpoints, precision, flip, args.shifts)
    print(f"networks   {inference.named(checkpoints)}")
    settings = settings_of(args) | {
        "checkpoints": list(map(str, checkpoints)),
        "frame_list": str(source.list_path) if source.list_path else None,
        "mixed_precision": precision,
    }
    record = {
        "settings": settings,
        "weights_sha256": {str(path): file_digest(path) for path in checkpoints},
        "frame_list_sha256": file_digest(source.list_path) if source.list_path else None,
        **provenance(ensemble.device),
    }
    return source, ensemble, record


def observe(args: argparse.Namespace, source, ensemble, folder: Path):
    """Find every face of the source and its probabilities."""
    from common.submission import sources

    return sources.observe(
        source,
        ensemble,
        folder,
        batch_size=args.batch_size,
        workers=args.workers,
        everyone=args.faces == "max",
    )


def decision_of(args: argparse.Namespace):
    """Return the flags that say how probabilities become classes."""
    from common.submission.decision import Decision

    return Decision(args.smooth, args.smooth_width, args.rule, args.prior_correction)


def check(args: argparse.Namespace) -> int:
    """Print what is wrong with a submission; return the exit status, 0 where it is valid."""
    from common.submission.checking import check_submission, find_list, is_valid

    frame_list = args.frame_list or find_list(args.check, args.data_dir / "prepared")
    findings = check_submission(args.check, frame_list)
    for finding in findings:
        print(finding)
    valid = is_valid(findings)
    print(f"{args.check} is {'valid' if valid else 'NOT valid'} against {frame_list}")
    return 0 if valid else 1


def compare(args: argparse.Namespace) -> None:
    """Print how two submissions differ; where a run folder is named, write that there too."""
    from common.submission.checking import compare_submissions, comparison_text, write_comparison

    comparison = compare_submissions(*args.compare)
    print(comparison_text(comparison))
    if args.run_dir != COMMON["run_dir"]["default"]:
        write_comparison(args.run_dir / "compare.csv", comparison)
        print(f"table      {args.run_dir / 'compare.csv'}")


if __name__ == "__main__":
    run_script(main)

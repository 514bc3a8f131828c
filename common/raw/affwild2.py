"""Aff-Wild2, expressions (Kollias & Zafeiriou 2019, ibug.doc.ic.ac.uk/resources/aff-wild2).

    EXPR_Recognition_Challenge/{Train,Validation}_Set/<video>.txt   header of names, a line a frame
    cropped_aligned/<video>/00001.jpg                               112 x 112 pixels
    cropped_aligned_new_50_vids/<video>/...                         a second batch

The root is EXPR_Recognition_Challenge (6th edition on), EXPR_Classification_Challenge (3rd, 5th)
or EXPR_Set (2nd, 7 classes). Data line i, from 1, belongs to frame i. Traps: frames without a face
have no file; a line may be blank; label counts may be off by one; -1 is no label; Other is none of
our expressions, so that its frames are kept without a label; `<video>_left` and `_right` are two
persons of one video.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import parse_labels
from common.files import UserError
from common.raw.layout import Item, Skip, entries, labelled, prepared_name, subfolder, text_lines

ALIGNED = True

_DATASET = "Aff-Wild2"
_ROOTS = ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge", "EXPR_Set")
_SETS = {"Train_Set": "train", "Validation_Set": "val"}
_CROPS = ("cropped_aligned", "cropped_aligned_new_50_vids")

OFFICIAL = {_DATASET: {"train": 585_317, "val": 280_532}}  # 6th edition, labelled and with a crop


def recognises(folder: Path) -> bool:
    """A folder with one of the annotation roots or with the crops, or one named Aff-Wild2."""
    return (
        folder.name.lower().replace("-", "") == "affwild2"
        or subfolder(folder, *_ROOTS, *_CROPS, depth=2) is not None
    )


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the labelled frames; see common.raw."""
    root = subfolder(folder, *_ROOTS, depth=2)
    crops = [place for name in _CROPS if (place := subfolder(folder, name, depth=2))]
    if root is None:
        raise UserError(
            f"{_DATASET} in {folder} lacks its annotations ({', '.join(_ROOTS)}); "
            "unpack the owners' archive there."
        )
    if not crops:
        raise UserError(
            f"{_DATASET} in {folder} lacks the folder cropped_aligned of face crops; "
            "unpack the owners' archive there."
        )
    sets = {name: subfolder(root, name) for name in _SETS}
    if not any(sets.values()):
        raise UserError(f"{root} has neither Train_Set/ nor Validation_Set/; unpack it again.")
    annotations = [
        (Path(entry.path), split)
        for name, split in _SETS.items()
        for entry in (entries(sets[name]) if sets[name] else ())
        if entry.name.endswith(".txt")
    ]
    return itertools.chain.from_iterable(
        _read_video(path, split, crops, counts) for path, split in annotations
    )


def _read_video(
    annotations: Path, split: str, crops: list[Path], counts: Counter
) -> Iterator[Item | Skip]:
    video = annotations.stem
    folders = [place / video for place in crops if (place / video).is_dir()]
    if not folders:
        yield Skip(str(annotations), _DATASET, "no folder of face crops for this video")
        return
    lines = text_lines(annotations)
    head, header = next(lines, (1, ""))
    names = _classes(annotations, header)
    labels = {number - head: text for number, text in lines}  # by frame; a blank line is a frame
    last = max(labels, default=0)
    subject = video.removesuffix("_left").removesuffix("_right")
    files = {e.name: e for folder in folders for e in entries(folder) if e.is_file()}
    frames = {int(Path(n).stem): e for n, e in sorted(files.items()) if Path(n).stem.isdecimal()}
    for frame, entry in frames.items():
        if frame > last:
            # One frame more than labels is known of the official files, and no fault.
            if frame == last + 1:
                counts["frames one beyond the last label"] += 1
            yield Skip(entry.path, _DATASET, "beyond the last label of its video")
            continue
        if frame not in labels:
            yield Skip(entry.path, _DATASET, "no label")
            continue
        text = labels[frame]
        try:
            label = int(text)
        except ValueError:
            label = len(names)
        if label == -1:
            yield Skip(entry.path, _DATASET, "label -1: not annotated")
        elif not 0 <= label < len(names):
            detail = f"{text[:20]!r} in {annotations.name}, line {head + frame}"
            yield Skip(entry.path, _DATASET, "unknown label", detail)
        else:
            name = prepared_name(f"{video}/{entry.name}")
            yield Item(entry.path, name, _DATASET, split, subject=subject, **labelled(names[label]))
    counts["labelled frames without a face crop"] += len(labels.keys() - frames.keys())


def _classes(path: Path, header: str) -> list[tuple[str, ...]]:
    """Return the label names of a header; `Other` becomes no label."""
    try:
        words = [word.strip() for word in header.split(",")]
        return [() if word.lower().startswith("other") else parse_labels(word) for word in words]
    except ValueError as error:
        raise UserError(
            f"{path}, line 1: {error}; expected the header Neutral,Anger,Disgust,Fear,Happiness,"
            "Sadness,Surprise,Other."
        ) from None

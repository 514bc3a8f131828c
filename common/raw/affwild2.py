"""Aff-Wild2, expressions (Kollias & Zafeiriou 2019, ibug.doc.ic.ac.uk/resources/aff-wild2).

EXPR, the data set Aff-Wild2:
    EXPR_Recognition_Challenge/{Train,Validation}_Set/<video>.txt   header of names, a line a frame
    cropped_aligned/<video>/00001.jpg                               112 x 112 pixels
    cropped_aligned_new_50_vids/<video>/...                         a second batch
MTL, the data set s-Aff-Wild2:
    {training,validation}_set_annotations.txt     `341/00001.jpg,-0.0023,0.0,7,0,0,...`: image,
                                                  valence, arousal, expression, 12 action units

up to two levels down. The root of EXPR is EXPR_Recognition_Challenge (6th edition on),
EXPR_Classification_Challenge (3rd, 5th) or EXPR_Set (2nd, 7 classes). Data line i, from 1, belongs
to frame i. Traps: frames without a face have no file; a line may be blank; label counts may be off
by one; -1 is no label; Other is none of our expressions, so that its frames are kept without a
label; `<video>_left` and `_right` are two persons of one video, and one subject here, so that
folds never split a video. Of MTL: the header has 5 names over 16 fields; -5 is an invalid valence
and says nothing of the expression; lines come twice; its videos are also in EXPR, perhaps in the
other split, so that those which EXPR annotates here are read from there alone.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import parse_labels
from common.raw.layout import Item, Skip, entries, file_in, labelled, prepared_name, subfolder
from common.raw.lists import check_text, text_lines, whole_number
from common.script.files import UserError, inside

ALIGNED = True
FRAMES = True

_DATASET, _MTL = "Aff-Wild2", "s-Aff-Wild2"
_ROOTS = ("EXPR_Recognition_Challenge", "EXPR_Classification_Challenge", "EXPR_Set")
_SETS = {"Train_Set": "train", "Training_Set": "train", "Validation_Set": "val"}
_LISTS = {"training_set_annotations.txt": "train", "validation_set_annotations.txt": "val"}
_CROPS = ("cropped_aligned", "cropped_aligned_new_50_vids")
_MTL_FIELDS = 16
_MTL_CLASSES = tuple(
    () if name == "Other" else (name,)
    for name in ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
)

OFFICIAL = {_DATASET: {"train": 585_317, "val": 280_532}}  # 6th edition, labelled and with a crop


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    root = subfolder(folder, *_ROOTS, depth=3)
    return ", ".join(filter(None, (root and root.name, "MTL lists" if _lists(folder) else "")))


def recognises(folder: Path) -> bool:
    """A folder with annotations or crops of Aff-Wild2, or one named so."""
    named = folder.name.lower().replace("-", "") in ("affwild2", "saffwild2")
    return named or bool(subfolder(folder, *_ROOTS, *_CROPS, depth=3)) or bool(_lists(folder))


def _lists(folder: Path) -> dict[Path, str]:
    """Return the lists of MTL with their splits."""
    found = {file_in(folder, name, depth=3): split for name, split in _LISTS.items()}
    return {path: split for path, split in found.items() if path}


def _crop_folders(folder: Path) -> list[Path]:
    """Return the folders of crops; an archive unpacked in a folder of its name nests them."""
    found = []
    for name in _CROPS:
        if place := subfolder(folder, name, depth=3):
            nested = [subfolder(place, inner) for inner in _CROPS]
            found += [path for path in nested if path] or [place]
    return list(dict.fromkeys(found))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the labelled frames; see common.raw."""
    root = subfolder(folder, *_ROOTS, depth=3)
    lists = _lists(folder)
    crops = _crop_folders(folder)
    if root is None and not lists:
        raise UserError(
            f"{_DATASET} in {folder} lacks its annotations ({', '.join(_ROOTS)}, or "
            f"{' and '.join(_LISTS)}); unpack the owners' archive there."
        )
    if not crops:
        raise UserError(
            f"{_DATASET} in {folder} lacks the folder cropped_aligned of face crops; "
            "unpack the owners' archive there."
        )
    sets = {name: subfolder(root, name) for name in _SETS} if root else {}
    if root and not any(sets.values()):
        raise UserError(f"{root} has neither Train_Set/ nor Validation_Set/; unpack it again.")
    annotations = [
        (Path(entry.path), _SETS[name])
        for name, place in sets.items()
        for entry in (entries(place) if place else ())
        if entry.name.endswith(".txt")
    ]
    check_text(*lists)
    videos = frozenset(_subject(path.stem) for path, _ in annotations)
    return itertools.chain(
        *(_read_video(path, split, crops, counts) for path, split in annotations),
        *(_read_list(path, split, crops, videos, counts) for path, split in lists.items()),
    )


def _subject(video: str) -> str:
    """Return the video that a person of a video is in."""
    return re.sub(r"(_left|_right)+$", "", video, flags=re.IGNORECASE)


def _read_video(
    annotations: Path, split: str, crops: list[Path], counts: Counter
) -> Iterator[Item | Skip]:
    video = annotations.stem
    folders = [place / video for place in crops if (place / video).is_dir()]
    if not folders:
        yield Skip(str(annotations), _DATASET, "no folder of face crops for this video")
        return
    lines = text_lines(annotations)
    try:
        head, header = next(lines, (1, ""))
    except UserError as error:  # of this video alone
        yield Skip(str(annotations), _DATASET, "no text", str(error))
        return
    names = _classes(header)
    if names is None:
        yield Skip(f"{annotations}:{head}", _DATASET, "no header of expressions", header[:80])
        return
    labels = {number - head: text for number, text in lines}  # by frame; a blank line is a frame
    last = max(labels, default=0)
    files = {e.name: e for folder in folders for e in entries(folder) if e.is_file()}
    frames = {int(Path(n).stem): e for n, e in sorted(files.items()) if Path(n).stem.isdecimal()}
    for frame, entry in frames.items():
        if frame > last:
            # One frame more than labels is known of the official files, and no fault.
            counts["frames one beyond the last label"] += frame == last + 1
            reason = "beyond the last label of its video"
            yield Skip(entry.path, _DATASET, reason, fault=frame > last + 1)
        elif frame not in labels:
            yield Skip(entry.path, _DATASET, "no label", fault=False)
        else:
            name = prepared_name(f"{video}/{entry.name}")
            item = Item(entry.path, name, _DATASET, split, subject=_subject(video))
            where = f"{annotations.name}, line {head + frame}"
            yield _item_or_skip(item, labels[frame], names, where)
    counts["labelled frames without a face crop"] += len(labels.keys() - frames.keys())


def _item_or_skip(item: Item, text: str, names, where: str) -> Item | Skip:
    label = whole_number(text)
    if label == -1:
        return Skip(item.path, item.dataset, "label -1: not annotated", fault=False)
    if label is None or not 0 <= label < len(names):
        return Skip(item.path, item.dataset, "unknown label", f"{text[:20]!r} in {where}")
    return item._replace(**labelled(names[label]))


def _classes(header: str) -> list[tuple[str, ...]] | None:
    """Return the label names of a header, None for another line; `Other` becomes no label."""
    words = [word.strip() for word in header.split(",")]
    try:
        return [() if word.lower() == "other" else parse_labels(word) for word in words]
    except ValueError:
        return None


def _read_list(
    listing: Path, split: str, crops: list[Path], videos: frozenset[str], counts: Counter
) -> Iterator[Item | Skip]:
    seen: dict[str, str] = {}
    for number, line in text_lines(listing):
        fields = [field.strip() for field in line.split(",")]
        if number == 1 and whole_number(fields[-1]) is None:
            continue  # the header
        where = f"{listing}:{number}"
        if len(fields) != _MTL_FIELDS:
            yield Skip(where, _MTL, f"not a row of {_MTL_FIELDS} fields", line[:80])
            continue
        image, text = fields[0], fields[3]
        if image in seen:
            known = seen[image] == text
            reason = "image is in an earlier line" + ("" if known else ", otherwise labelled")
            yield Skip(where, _MTL, reason, image, fault=not known)
            continue
        seen[image] = text
        video = os.path.dirname(image)
        if _subject(video) in videos:
            yield Skip(where, _MTL, "its video is read from EXPR", image, fault=False)
            continue
        try:
            path = next(filter(os.path.isfile, (str(inside(place, image)) for place in crops)), "")
        except UserError:
            yield Skip(where, _MTL, "image points outside its folder", image[:80])
            continue
        if not path:
            counts["labelled frames without a face crop"] += 1
            continue
        item = Item(path, prepared_name(image), _MTL, split, subject=_subject(video))
        yield _item_or_skip(item, text, _MTL_CLASSES, f"{listing.name}, line {number}")

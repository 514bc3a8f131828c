"""CK+, the extended Cohn-Kanade data set (Lucey et al. 2010).

    cohn-kanade-images/S005/001/S005_001_00000011.png
    Emotion/S005/001/S005_001_00000011_emotion.txt       `   3.0000000e+00`

A sequence begins neutral and ends at its peak. Its three last frames are read, with the label; the
first frames are not, for no one labelled them, nor are sequences without a label (the owners gave
one to 327 of 593). Labels: 0 neutral, 1 anger, 2 contempt, 3 disgust, 4 fear, 5 happy, 6 sadness,
7 surprise. Traps: the label is a number like 3.0000000e+00; folders hold .DS_Store files, and many
folders of Emotion/ are empty. The subject is the person, S005. There is no official split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.raw.layout import (
    IMAGE_SUFFIXES,
    Item,
    Skip,
    entries,
    labelled,
    prepared_name,
    subfolder,
    walk_files,
)
from common.raw.lists import text_lines, whole_number
from common.script.files import UserError

ALIGNED = False
FRAMES = True

_DATASET = "CK+"
_CLASSES = (
    "Neutral",
    "Anger",
    "Contempt",
    "Disgust",
    "Fear",
    "Happiness",
    "Sadness",
    "Surprise",
)
_PEAK_FRAMES = 3


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "sequences"


def recognises(folder: Path) -> bool:
    """A folder with the sequences."""
    return subfolder(folder, "cohn-kanade-images", depth=2) is not None


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the peak frames of labelled sequences; see common.raw."""
    images = subfolder(folder, "cohn-kanade-images", depth=2)
    labels = subfolder(folder, "Emotion", "Emotion_labels", depth=2)
    if labels and (nested := subfolder(labels, "Emotion")):
        labels = nested
    if labels is None:
        raise UserError(
            f"{_DATASET} in {folder} lacks Emotion/; unpack the owners' Emotion_labels.zip there."
        )
    return _read(images, labels, counts)


def _read(images: Path, labels: Path, counts: Counter) -> Iterator[Item | Skip]:
    for person in entries(images):
        for sequence in entries(Path(person.path)) if person.is_dir() else ():
            if not sequence.is_dir():
                continue
            place = labels / person.name / sequence.name
            texts = list(walk_files(place, frozenset({".txt"}))) if place.is_dir() else []
            if not texts:
                counts["sequences without a label"] += 1
                continue
            try:
                text = next(text_lines(Path(texts[0])), (1, ""))[1]
            except UserError as error:
                yield Skip(texts[0], _DATASET, "no text", str(error))
                continue
            label = whole_number(text)
            if label is None or not 0 <= label < len(_CLASSES):
                detail = f"{text[:20]!r} (known: 0 to 7)"
                yield Skip(f"{texts[0]}:1", _DATASET, "unknown label", detail)
                continue
            for path in list(walk_files(sequence.path, IMAGE_SUFFIXES))[-_PEAK_FRAMES:]:
                name = prepared_name(f"{person.name}/{sequence.name}/{Path(path).name}")
                yield Item(
                    path, name, _DATASET, **labelled((_CLASSES[label],)), subject=person.name
                )

"""Which pictures stand where: the raw layouts of RAF-DB, AffectNet, Aff-Wild2 and plain folders.

Each function returns a `Layout`: the stills to draw and the small files that hold their labels,
in the owners' own spelling and form.

Class orders, file names and headers stand here and in videos.py although common.raw and
common.submission.files know them too: the demo world is an independent witness for those readers.
With one constant for both sides a wrong order would be written, read back and never be noticed.
Only the compounds' names are common.emotions' for everybody.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np

from common.demo.expressions import PROTOTYPES, key_of
from common.demo.settings import Settings, generator
from common.demo.stills import Still
from common.emotions import CHALLENGE, RAF11

# RAF-DB basic counts its classes from 1 in this order.
RAF_BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
AFFECTNET = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
AFFWILD = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
# Expressions that Aff-Wild2's annotators would call Other.
OTHER = ("Disgust Happiness", "Anger Fear", "Contempt", "Disgust Sadness")
# Mean valence and arousal of an expression, after Russell's circumplex.
AFFECT = {
    "Neutral": (0.0, 0.0),
    "Happiness": (0.7, 0.3),
    "Sadness": (-0.6, -0.3),
    "Surprise": (0.1, 0.7),
    "Fear": (-0.5, 0.7),
    "Disgust": (-0.6, 0.4),
    "Anger": (-0.5, 0.7),
    "Contempt": (-0.5, 0.3),
}


@dataclass
class Layout:
    """Stills to draw, and files to write as they are: path below the raw folder → bytes."""

    stills: list[Still] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


def _noisy(rng: np.random.Generator, label: int, classes: int, noise: float) -> int:
    """Return the label, or in a share `noise` of the calls another one."""
    if rng.random() < noise:
        return int((label + rng.integers(1, classes)) % classes)
    return label


def _raf(settings: Settings, part: str, classes: tuple[str, ...], counts: dict) -> Layout:
    """Return one half of RAF-DB; `counts` gives the number of pictures by split and class."""
    layout, lines = Layout(), []
    root = f"RAF-DB/{part}"
    for split, numbers in counts.items():
        rng = generator(settings.seed, root, split)
        truths = rng.permutation(np.repeat(np.arange(len(classes)), numbers))
        # Basic numbers its training pictures with five digits, everything else has four.
        digits = 5 if (part, split) == ("basic", "train") else 4
        # One group for basic and compound, so that nobody is on both sides of the split.
        people = max(1, int(sum(numbers) * 0.6))
        for index, truth in enumerate(truths):
            name = f"{split}_{index + 1:0{digits}d}"
            path = f"{root}/Image/aligned/{name}_aligned.jpg"
            person = (f"RAF-DB {split}", int(rng.integers(people)))
            layout.stills.append(Still(path, person, key_of(classes[truth]), "raf", 100))
            label = _noisy(rng, int(truth), len(classes), settings.raf.label_noise)
            lines.append(f"{name}.jpg {label + 1}\n")
    layout.files[f"{root}/EmoLabel/list_patition_label.txt"] = "".join(lines).encode()
    return layout


def raf_basic(settings: Settings) -> Layout:
    """Return RAF-DB basic: seven classes, numbered from 1."""
    counts = settings.counts
    return _raf(
        settings,
        "basic",
        RAF_BASIC,
        {"train": counts.raf_basic_train, "test": counts.raf_basic_test},
    )


def raf_compound(settings: Settings) -> Layout:
    """Return RAF-DB compound: eleven classes; its file names collide with basic's, as they do."""
    counts = settings.counts
    wanted = {key_of(name) for name in CHALLENGE}
    chosen = [key_of(name) in wanted for name in RAF11]
    train = [counts.raf_compound_train if c else counts.raf_compound_train_other for c in chosen]
    test = [counts.raf_compound_test if c else counts.raf_compound_test_other for c in chosen]
    return _raf(settings, "compound", RAF11, {"train": train, "test": test})


def affectnet(settings: Settings) -> Layout:
    """Return AffectNet-8 in its npy form: scalars stored as strings, one file a value."""
    layout, counts = Layout(), settings.counts
    for split, each in (("train_set", counts.affectnet_train), ("val_set", counts.affectnet_val)):
        rng = generator(settings.seed, "AffectNet", split)
        for index, truth in enumerate(rng.permutation(np.repeat(np.arange(8), each))):
            root, expression = f"AffectNet/{split}", AFFECTNET[truth]
            person = (f"AffectNet {split}", int(rng.integers(max(1, each * 5))))
            path = f"{root}/images/{index}.jpg"
            layout.stills.append(Still(path, person, expression, "affectnet", 224, 112))
            label = _noisy(rng, int(truth), 8, settings.affectnet.label_noise)
            valence, arousal = np.clip(AFFECT[AFFECTNET[label]] + rng.normal(0, 0.15, 2), -1, 1)
            values = {"exp": str(label), "val": f"{valence:.6f}", "aro": f"{arousal:.6f}"}
            for name, value in values.items():
                buffer = io.BytesIO()
                np.save(buffer, np.array(value))
                layout.files[f"{root}/annotations/{index}_{name}.npy"] = buffer.getvalue()
    return layout


def affwild_names(count: int) -> list[str]:
    """Return `count` names as Aff-Wild2 has them; two persons of one video come second."""
    fixed = ["1-30-1280x720", "24-30-1920x1080_left", "24-30-1920x1080_right", "video7"]
    return (fixed + [str(100 + 13 * k) for k in range(count)])[:count]


def affwild(settings: Settings) -> Layout:
    """Return Aff-Wild2's expression track: one label a frame, crops apart from labels.

    Some labels are -1, some frames have no file, and one video has a label too many.
    """
    layout, counts, frames = Layout(), settings.counts, settings.counts.affwild_frames
    names = affwild_names(counts.affwild_train_videos + counts.affwild_val_videos)
    for number, name in enumerate(names):
        split = "Train_Set" if number < counts.affwild_train_videos else "Validation_Set"
        rng = generator(settings.seed, "Aff-Wild2", name)
        length = max(4, frames // 5)
        order = rng.permutation(8)[: -(-frames // length)]
        # Every class must come up in training, so each video starts at another one.
        order[0] = number % 8
        labels = [int(order[k // length]) for k in range(frames)]
        other = OTHER[rng.integers(len(OTHER))]
        rows = []
        for k, truth in enumerate(labels):
            label = _noisy(rng, truth, 8, settings.affwild.label_noise)
            rows.append(-1 if rng.random() < 0.04 else label)
            if rng.random() < 0.04:  # no face was found in this frame
                continue
            expression = other if AFFWILD[truth] == "Other" else AFFWILD[truth]
            swing = np.sin(np.pi * (k % length + 0.5) / length)
            low, high = settings.affwild.intensity
            path = f"Aff-Wild2/cropped_aligned/{name}/{k + 1:05d}.jpg"
            layout.stills.append(
                Still(
                    path,
                    (f"Aff-Wild2 {name}", 0),
                    expression,
                    "affwild",
                    112,
                    scene=name,
                    intensity=float(low + (high - low) * swing),
                )
            )
        if number == 0:
            rows.append(rows[-1])
        text = ",".join(AFFWILD) + "\n" + "".join(f"{row}\n" for row in rows)
        folder = f"Aff-Wild2/EXPR_Recognition_Challenge/{split}"
        layout.files[f"{folder}/{name}.txt"] = text.encode()
    return layout


def faces(settings: Settings) -> Layout:
    """Return an unlabelled collection: folders of several depths, pictures of several sizes."""
    layout = Layout()
    rng = generator(settings.seed, "Faces")
    for index in range(settings.counts.faces):
        person = int(rng.integers(max(1, settings.counts.faces * 2 // 3)))
        folder = ("", f"{person % 10}/", f"{person % 10}/{person:05d}/")[index % 3]
        expression = list(PROTOTYPES)[rng.integers(len(PROTOTYPES))]
        size = int(rng.choice([96, 112, 112, 128]))
        path = f"Faces/{folder}{index:06d}.jpg"
        layout.stills.append(Still(path, ("Faces", person), expression, "faces", size))
    return layout


def all_layouts(settings: Settings) -> Layout:
    """Return every data set of stills in one layout."""
    whole = Layout()
    for make in (raf_basic, raf_compound, affectnet, affwild, faces):
        part = make(settings)
        whole.stills += part.stills
        whole.files |= part.files
    return whole

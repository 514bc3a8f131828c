"""MAFW, film clips with single and compound expressions (Liu et al. 2022,
https://mafw-database.github.io/MAFW).

    data/clips/00151.mp4
    Train & Test Set/{single,compound}/no_caption/set_{1..5}/{train,test}.txt   `02820.mp4 fear`
    Train & Test Set/{single,compound}/with_caption/...    clip, label, captions, tab-separated

The natural validation set for the challenge: 880 clips show one of its seven compounds. A clip is
read once, with its compound label if it has one: the compound lists hold 8,996 clips, some of them
with one expression, the single lists 176 more. with_caption is read where no_caption is not there.
Of each clip 8 frames are taken, evenly spread, and their main face is aligned; frames without one
are refused. The split is that of one of the owners' five folds, four fifths for training. Tables in
place of the lists are read by common.raw.mafw_tables.

Traps: lines end in CRLF; captions are GBK; anxiety, helplessness and disappointment, as parts too,
are none of our expressions, nor are three together: such frames are kept without a label. The
subject is the clip; which clips are of one film is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.emotions import CHALLENGE, challenge_class, parse_labels
from common.raw.clips import frames_of
from common.raw.layout import Item, Skip, entries, file_in, labelled, look, subfolder
from common.raw.lists import check_text, text_lines
from common.script.files import UserError

ALIGNED = False
FRAMES = True
SETTINGS = ("owners_fold",)

_DATASET = "MAFW"
_KINDS = ("compound", "single")  # in this order: the first label of a clip counts
_OFFICIAL_CLIPS = (392, 206, 26, 37, 33, 96, 90)  # of the challenge's classes, in its order


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "lists of " + " and ".join(place.parents[1].name for place in _folds(folder, 1))


def _folds(folder: Path, fold: int) -> list[Path]:
    """Return the folders of one of the owners' folds, of compound and of single labels."""
    roots = [folder, *(Path(e.path) for e in look(folder)[:50] if e.is_dir())]
    roots += [p for root in roots[1:] if (p := subfolder(root, "Train & Test Set"))]
    found = []
    for kind in _KINDS:
        places = (subfolder(root, kind) for root in roots)
        place = next((p for p in places if p and _captions(p)), None)
        if place:
            found.append(_captions(place) / f"set_{fold}")
    return [path for path in found if path.is_dir()]


def _captions(place: Path) -> Path | None:
    return subfolder(place, "no_caption") or subfolder(place, "with_caption")


def has_lists(folder: Path) -> bool:
    """Say whether a folder has the owners' lists."""
    return bool(_folds(folder, 1))


def recognises(folder: Path) -> bool:
    """A folder with the owners' lists, or one named MAFW."""
    return folder.name.lower() == "mafw" or has_lists(folder)


def read(folder: Path, counts: Counter, owners_fold: int = 1) -> Iterator[Item | Skip]:
    """Return frames of the listed clips; see common.raw."""
    folds = _folds(folder, owners_fold)
    clips = subfolder(folder, "clips", depth=3)
    if not folds or clips is None:
        raise UserError(
            f"{_DATASET} in {folder} lacks "
            + (
                "data/clips/"
                if folds
                else f"Train & Test Set/compound/no_caption/set_{owners_fold}/"
            )
            + "; unpack the owners' archives there."
        )
    lists = [
        (path, split)
        for place in folds
        for split in ("train", "test")
        if (path := file_in(place, f"{split}.txt"))
    ]
    if len(lists) < 2 * len(folds):
        raise UserError(f"{_DATASET} lacks train.txt or test.txt in {folds[0]}; unpack it again.")
    check_text(*(path for path, _ in lists))
    return _read(lists, clips, counts)


def _read(lists: list[tuple[Path, str]], clips: Path, counts: Counter) -> Iterator[Item | Skip]:
    seen: dict[str, Path] = {}
    there = {entry.name for entry in entries(clips)}
    by_class = Counter()
    for listing, split in lists:
        for number, line in text_lines(listing):
            where = f"{listing}:{number}"
            clip, label, *_ = *line.split(maxsplit=2), "", ""  # what follows is captions
            if not label or not clip.lower().endswith(".mp4"):
                yield Skip(where, _DATASET, "not a line `clip label`", line[:80])
            elif clip in seen:
                if seen[clip].parents[2] == listing.parents[2]:  # not once compound, once single
                    yield Skip(where, _DATASET, "clip is in an earlier line", clip)
            elif clip not in there:
                yield Skip(where, _DATASET, "listed clip is missing", clip)
            else:
                names = _labels(label)
                by_class[challenge_class(" ".join(names))] += 1
                stem = Path(clip).stem
                item = Item(str(clips / clip), stem, _DATASET, split, subject=stem)
                yield from frames_of(item._replace(**labelled(names)))
            seen.setdefault(clip, listing)
    for index, official in enumerate(_OFFICIAL_CLIPS):
        counts[f"clips of {CHALLENGE[index]} (official {official})"] = by_class[index]


def _labels(text: str) -> tuple[str, ...]:
    try:
        return parse_labels(text)
    except ValueError:
        return ()

"""All images of a data set into the prepared folder, by all processes, resumable."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from statistics import median
from types import ModuleType

from common.faces.alignment import ALIGNED_WITHIN
from common.prepare import ledger, results
from common.prepare.decoding import TRY_AGAIN
from common.prepare.ingest import (
    VERSION,
    Options,
    Record,
    detection_settings,
    ingest,
    is_written,
    place_of,
    prepared_image,
    stamp_of,
    template_distances,
    votes_text,
)
from common.prepare.ledger import BLOCK, Ledger, plain_text
from common.raw import RawFolder, challenge, matching, reader_of
from common.raw.layout import Item, Skip, entries
from common.script.files import UserError
from common.script.progress import progress_bar
from common.script.workers import Team, batches, in_order

SAMPLE = 64  # images by which to tell whether a data set comes aligned


def find_folders(raw: Path, only: list[str] | None) -> tuple[list[Path], list[Path]]:
    """Return the folders below raw/ that are to be read, and the others, by name.

    Raises UserError where there are none, or none of a name in `only`.
    """
    if not raw.is_dir():
        raise UserError(
            f"There is no folder {raw}; put each data set in a folder of its own below it, or name "
            "another place with --data-dir."
        )
    known = {entry.name: Path(entry.path) for entry in entries(raw) if entry.is_dir()}
    if not known:
        raise UserError(f"{raw} has no folders; put each data set in a folder of its own below it.")
    for name in only or ():
        if name not in known:
            raise UserError(f"There is no folder {name!r} in {raw}; it has {', '.join(known)}.")
    named = [folder for name, folder in known.items() if not only or name in only]
    return named, [folder for folder in known.values() if folder not in named]


def open_folders(
    folders: Sequence[Path], arguments: argparse.Namespace
) -> tuple[list[RawFolder], list[Path]]:
    """Open the data sets among folders; also return the folders of the challenge.

    Raises UserError for a folder that no reader recognises, or that lacks a file it needs.
    """
    for name in arguments.unlabelled:
        if name not in {folder.name for folder in folders}:
            raise UserError(f"--unlabelled names {name!r}, which is no folder that is read.")
    opened, of_challenge = [], []
    for folder in folders:
        reader = reader_of(folder, folder.name in arguments.unlabelled)
        if reader is challenge:
            of_challenge.append(folder)
        else:
            remarks: Counter = Counter()
            chosen = {name: getattr(arguments, name) for name in getattr(reader, "SETTINGS", ())}
            inputs, seen = reader.read(folder, remarks, **chosen), array("q")
            opened.append(RawFolder(folder, reader, _noted(inputs, folder, seen), remarks, seen))
    return opened, of_challenge


def _noted(inputs: Iterable[Item | Skip], folder: Path, seen: array[int]) -> Iterator[Item | Skip]:
    """Pass inputs on; note their files, and say of a missing one which file may be meant."""
    files = matching.Files(folder)
    for item in inputs:
        seen.append(hash(item.path))
        if isinstance(item, Skip):
            seen.append(hash(re.sub(r"(:\d+|#.*)$", "", item.path)))
            seen.append(hash(item.file))
            if item.reason in matching.MISSING and (meant := files.explain(item.detail)):
                item = item._replace(detail=f"{item.detail} {meant}")
        yield item


def ledger_of(folder: Path, prepared: Path) -> Path:
    """Return the folder of the ledger of a folder below raw/."""
    return prepared / "state" / "images" / folder.name


def prepare_images(
    folder: RawFolder,
    owners: dict[str, Path],
    arguments,
    options: Options,
    pool: Executor | None,
    team: Team,
) -> int:
    """Prepare this process's share of a folder's images and record them in its ledger.

    Blocks of inputs go to the processes in turn. What earlier runs did, on any number of processes,
    is kept. Returns how many images were new.
    """
    inputs = _claim(itertools.islice(folder.inputs, arguments.limit), folder.path, owners)
    align, inputs = _to_align(folder.reader, inputs, arguments.align, options, pool)
    settings = {
        "version": VERSION,
        "frames": getattr(folder.reader, "FRAMES", False),
        "align": align,
        "min_side": options.min_side_px,
    }
    if align:
        settings |= detection_settings(options)
    place = ledger_of(folder.path, Path(options.prepared))
    book = Ledger(place, settings, Record._fields, team.rank, arguments.limit)
    done = 0
    with contextlib.closing(book):
        under_way: deque[tuple[list, list]] = deque()

        def calls() -> Iterator[tuple]:
            for number, block in enumerate(batches(inputs, BLOCK)):
                if number % team.count == team.rank:
                    old = [_still_holding(book, item, options) for item in block]
                    todo = [item for item, row in zip(block, old, strict=True) if row is None]
                    under_way.append((block, old))
                    yield (ingest if todo else None), todo, align, options

        bar = progress_bar(folder.path.name, "image", shown=team.main)
        with bar:
            for new in in_order(pool, calls(), ahead=4 * (os.cpu_count() or 1)):
                block, old = under_way.popleft()
                fresh = iter(new or ())
                rows = [row or next(fresh) for row in old]
                book.append(
                    (*_key_of(item, options), row) for item, row in zip(block, rows, strict=True)
                )
                done += len(new or ())
                bar.update(len(block) * team.count)
    return done


def _claim(
    inputs: Iterable[Item | Skip], folder: Path, owners: dict[str, Path]
) -> Iterator[Item | Skip]:
    """Pass inputs on, unless another folder has the same data set: its images would collide."""
    for item in inputs:
        _own(item.dataset, folder, owners)
        yield item


def _own(dataset: str, folder: Path, owners: dict[str, Path]) -> None:
    """Record that a folder holds a data set. Raises UserError where another folder does."""
    if owners.setdefault(dataset, folder) != folder:
        raise UserError(f"{folder} and {owners[dataset]} both hold {dataset}; keep one of them.")


def _to_align(
    reader: ModuleType, inputs: Iterator, choice: str, options: Options, pool: Executor | None
) -> tuple[bool, Iterator]:
    """Decide whether to align faces: as asked, or by where they lie in the first images."""
    if choice != "auto" or reader.ALIGNED:
        return choice == "always", inputs
    first = list(itertools.islice(inputs, SAMPLE))
    items = [item for item in first if isinstance(item, Item)]
    # In a worker, so that this process loads neither detector nor decoder.
    measure = in_order(pool, [(template_distances, items, options)], ahead=1)
    distances = next(measure)
    come_aligned = bool(distances) and median(distances) < ALIGNED_WITHIN
    return not come_aligned, itertools.chain(first, inputs)


def _key_of(item: Item | Skip, options: Options) -> tuple[str, str]:
    """Return what identifies an input: where it is, and which image is made of it."""
    return place_of(item.source, options), prepared_image(item) if isinstance(item, Item) else ""


def _still_holding(book: Ledger, item: Item | Skip, options: Options) -> list[str] | None:
    """Return an earlier run's record if this run would write the same for the input."""
    place, image = _key_of(item, options)
    stamp = None
    for row in book.find(place, image):
        if len(row) != len(Record._fields):
            continue
        old = Record(*row)
        if old.path != plain_text(place) or old.dataset != item.dataset:
            continue
        if isinstance(item, Skip):
            new = (item.reason, plain_text(item.detail), "1" if item.fault else "")
            if (old.reason, old.detail, old.fault) == new:
                return row
            continue
        stamp = stamp_of(item.path) if stamp is None else stamp
        # A disk can be fixed, or a library installed, without changing the file.
        if old.stamp != stamp or (stamp and old.reason in TRY_AGAIN):
            continue
        if old.reason:
            return row
        same = (old.image, old.split, old.kind, old.labels, old.subject, old.votes) == (
            *(image, item.split, item.kind, item.labels, item.subject, votes_text(item)),
        )
        if same and is_written(os.path.join(options.prepared, old.image), old.size):
            return row
    return None


def close_ledger(folder: RawFolder, arguments, options: Options, team: Team) -> results.Images:
    """Join what all processes recorded of a folder, after the last has finished."""
    place = ledger_of(folder.path, Path(options.prepared))
    path = ledger.finish(place, team.count, limited=arguments.limit is not None)
    frames = getattr(folder.reader, "FRAMES", False)
    return results.Images(folder.path.name, path, folder.official, folder.remarks, frames)


def earlier_images(
    folders: list[Path], prepared: Path, owners: dict[str, Path], say: bool
) -> list[results.Images]:
    """Return what earlier runs prepared of the folders that `--only` does not name."""
    before = results.earlier_summary(prepared)["datasets"]
    images = []
    for folder in folders:
        path = ledger.newest(ledger_of(folder, prepared))
        settings = ledger.settings_of(path) if path else {}
        if settings.get("version") != VERSION:
            if say and not challenge.recognises(folder):
                print(f"{folder.name} is not prepared yet and not named by --only: left out")
            continue
        blocks = ledger.load(path)
        official, remarks = {}, Counter()
        for dataset in sorted({name for block in blocks for name in block["dataset"].split("\n")}):
            _own(dataset, folder, owners)
            part = before.get(dataset, {})
            official[dataset] = part.get("official", {})
            remarks |= part.get("remarks", {})
        frames = bool(settings.get("frames"))
        images.append(results.Images(folder.name, path, official, remarks, frames, blocks))
    return images

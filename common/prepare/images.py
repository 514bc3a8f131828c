"""From a reader to the prepared folder: all images of a data set, by all processes, resumable."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import NamedTuple

from common.prepare import ledger, results
from common.prepare.decoding import UNREADABLE
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
from common.raw import challenge
from common.raw.layout import Item, Skip
from common.script.files import UserError
from common.script.progress import progress_bar
from common.script.workers import Team, batches, in_order

SAMPLE = 64  # images by which to tell whether a data set comes aligned
ALIGNED_WITHIN = 0.035  # mean distance of landmarks from the template, in sides of the image


class Source(NamedTuple):
    """A data set's folder below raw/, its reader, its inputs, and what the reader counts."""

    folder: Path
    reader: ModuleType
    inputs: Iterable[Item | Skip]
    counts: Counter


def ledger_of(folder: Path, prepared: Path) -> Path:
    """Return the folder of the ledger of a folder below raw/."""
    return prepared / "state" / "images" / folder.name


def prepare_images(
    source: Source,
    owners: dict[str, Path],
    arguments,
    options: Options,
    pool: Executor | None,
    team: Team,
) -> int:
    """Prepare this process's share of a folder's images and note them in its ledger.

    Blocks of inputs go to the processes in turn. What earlier runs have done, on whatever number
    of processes, is taken over. Returns how many images were new.
    """
    inputs = claim(itertools.islice(source.inputs, arguments.limit), source.folder, owners)
    align, inputs = _to_align(source.reader, inputs, arguments.align, options, pool)
    settings = {
        "version": VERSION,
        "frames": getattr(source.reader, "FRAMES", False),
        "align": align,
        "min_side": options.min_side_px,
    }
    if align:
        settings |= detection_settings(options)
    place = ledger_of(source.folder, Path(options.prepared))
    book = Ledger(place, settings, Record._fields, team.rank, arguments.limit)
    done = 0
    with contextlib.closing(book):
        shares: deque[tuple[list, list]] = deque()

        def calls() -> Iterator[tuple]:
            for number, block in enumerate(batches(inputs, BLOCK)):
                if number % team.count == team.rank:
                    old = [_still_holding(book, item, options) for item in block]
                    todo = [item for item, row in zip(block, old, strict=True) if row is None]
                    shares.append((block, old))
                    yield (ingest if todo else None), todo, align, options

        bar = progress_bar(source.folder.name, "image", shown=team.main)
        with bar:
            for new in in_order(pool, calls(), ahead=4 * (os.cpu_count() or 1)):
                block, old = shares.popleft()
                fresh = iter(new or ())
                rows = [row or next(fresh) for row in old]
                book.append(
                    (*_key_of(item, options), row) for item, row in zip(block, rows, strict=True)
                )
                done += len(new or ())
                bar.update(len(block) * team.count)
    return done


def claim(
    inputs: Iterable[Item | Skip], folder: Path, owners: dict[str, Path]
) -> Iterator[Item | Skip]:
    """Pass inputs on, unless another folder has the same data set: its images would collide."""
    for item in inputs:
        own(item.dataset, folder, owners)
        yield item


def own(dataset: str, folder: Path, owners: dict[str, Path]) -> None:
    """Note that a folder holds a data set. Raises UserError where another folder does."""
    if owners.setdefault(dataset, folder) != folder:
        raise UserError(f"{folder} and {owners[dataset]} both hold {dataset}; keep one of them.")


def _to_align(
    reader: ModuleType, inputs: Iterator, choice: str, options: Options, pool: Executor | None
) -> tuple[bool, Iterator]:
    """Say whether faces are to be aligned: as asked, else by where they lie in the first images."""
    if choice != "auto" or reader.ALIGNED:
        return choice == "always", inputs
    first = list(itertools.islice(inputs, SAMPLE))
    items = [item for item in first if isinstance(item, Item)]
    # In a worker, so that this process needs neither detector nor decoder.
    measure = in_order(pool, [(template_distances, items, options)], ahead=1)
    distances = next(measure)
    come_aligned = bool(distances) and median(distances) < ALIGNED_WITHIN
    return not come_aligned, itertools.chain(first, inputs)


def _key_of(item: Item | Skip, options: Options) -> tuple[str, str]:
    """Return what tells an input from all others: where it is, and what becomes of it."""
    return place_of(item.source, options), prepared_image(item) if isinstance(item, Item) else ""


def _still_holding(book: Ledger, item: Item | Skip, options: Options) -> list[str] | None:
    """Return an earlier run's record if it is what this run would write for the same input."""
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
        # A disk or a permission may have been mended without a trace on the file.
        if old.stamp != stamp or (stamp and old.reason == UNREADABLE):
            continue
        if old.reason:
            return row
        same = (old.image, old.split, old.kind, old.labels, old.subject, old.votes) == (
            *(image, item.split, item.kind, item.labels, item.subject, votes_text(item)),
        )
        if same and is_written(os.path.join(options.prepared, old.image), old.size):
            return row
    return None


def close_ledger(source: Source, arguments, options: Options, team: Team) -> results.Images:
    """Join what all processes noted of a folder, after the last has done so."""
    place = ledger_of(source.folder, Path(options.prepared))
    path = ledger.finish(place, team.count, limited=arguments.limit is not None)
    official = getattr(source.reader, "OFFICIAL", {})
    return results.Images(source.folder.name, path, official, source.counts, _frames(path))


def earlier_images(
    folders: list[Path], prepared: Path, owners: dict[str, Path], say: bool
) -> list[results.Images]:
    """Return what earlier runs prepared of the folders that `--only` does not name."""
    before = results.earlier_summary(prepared)["datasets"]
    images = []
    for folder in folders:
        path = ledger.newest(ledger_of(folder, prepared))
        if path is None or ledger.settings_of(path).get("version") != VERSION:
            if say and not challenge.recognises(folder):
                print(f"{folder.name} is not prepared yet and not named by --only: left out")
            continue
        official, remarks = {}, Counter()
        for dataset in _datasets(path):
            own(dataset, folder, owners)
            part = before.get(dataset, {})
            official[dataset] = part.get("official", {})
            remarks |= part.get("remarks", {})
        images.append(results.Images(folder.name, path, official, remarks, _frames(path)))
    return images


def _frames(path: Path) -> bool:
    """Say whether a ledger is one of frames of videos."""
    return bool(ledger.settings_of(path).get("frames"))


def _datasets(path: Path) -> list[str]:
    """Return the data sets of a ledger."""
    at = Record._fields.index("dataset")
    return sorted({row[at] for rows in ledger.rows_of(path) for row in rows})

"""From data sets as their owners ship them to one stream of images with labels.

A reader is a module with these names:
    ALIGNED                 True where the images come as aligned face crops
    recognises(folder)      says whether a folder below raw/ belongs to this family; looks into some
                            200 folders at most, however many files there are
    form(folder)            names the layout of a folder in a few words
    read(folder, counts)    returns an iterator of an `Item` for each usable image and a `Skip` for
                            input that is not used, in the same order in every run. Adds to `counts`
                            what the user should know and no single image shows. Raises UserError
                            before the first image if the folder lacks a file that it needs. A bad
                            row of a list is a Skip. No image is opened, so a stream is cheap.
                            Memory holds the annotation, never all Items
and, where it is so,
    OFFICIAL                images by data set, split and label, as their owners publish them
    SETTINGS                names of settings of 01 that read() also takes, as keywords
    FRAMES = True           the images are frames of videos, each with its video or person as
                            subject: neighbours look alike and are no duplicates
To add a data set, write such a module, add a line to READERS, and a section to docs/datasets.md.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from common.raw.layout import Item, Skip
from common.script.files import UserError

# Family -> module, in the order of sniffing: the particular first, any folder of images last.
READERS = {
    "RAF-DB": "common.raw.rafdb",
    "RAF-CE": "common.raw.rafce",
    "AffectNet, original": "common.raw.affectnet_lists",
    "AffectNet, YOLO": "common.raw.affectnet_yolo",
    "AffectNet, folders": "common.raw.affectnet_folders",
    "AffectNet": "common.raw.affectnet",
    "Aff-Wild2": "common.raw.affwild2",
    "MAFW, tables": "common.raw.mafw_tables",
    "MAFW": "common.raw.mafw",
    "DFEW": "common.raw.dfew",
    "FERV39k": "common.raw.ferv39k",
    "BLEMORE": "common.raw.blemore",
    "EmotioNet": "common.raw.emotionet",
    "FERPlus": "common.raw.ferplus",
    "CK+, faces": "common.raw.ckplus_faces",
    "FER2013": "common.raw.fer2013",
    "FER2013, folders": "common.raw.fer2013_folders",
    "ExpW": "common.raw.expw",
    "CK+": "common.raw.ckplus",
    "SFEW": "common.raw.sfew",
    "JAFFE or KDEF": "common.raw.posed",
    "CelebA": "common.raw.celeba",
    "IMDB-WIKI": "common.raw.imdbwiki",
    "RecordIO": "common.raw.recordio",
    "table of clips": "common.raw.table_clips",
    "labelled table": "common.raw.table",
    "challenge videos": "common.raw.challenge",
    "class folders": "common.raw.classes",
    "folder of images": "common.raw.folder",
}


class RawFolder(NamedTuple):
    """A data set's folder below raw/, its reader, its inputs, and what the reader remarks.

    seen: hashes of the paths of the files that the inputs come from, complete when these have been
    read to their end.
    """

    path: Path
    reader: ModuleType
    inputs: Iterator[Item | Skip]
    remarks: Counter
    seen: array[int]

    @property
    def official(self) -> dict:
        """Official counts by data set, split and label."""
        return getattr(self.reader, "OFFICIAL", {})

    @property
    def form(self) -> str:
        """Which family of data sets the folder belongs to, and in which layout."""
        family = next(name for name, module in READERS.items() if module == self.reader.__name__)
        return ", ".join(filter(None, (family, self.reader.form(self.path))))


def reader_of(folder: Path, unlabelled: bool = False) -> ModuleType:
    """Return the reader of a folder below raw/.

    unlabelled: the user says that there are no labels, whatever it looks like. Raises UserError
    where no reader recognises the folder, or where it looks labelled and no reader knows how.
    """
    from common.raw import challenge, signs
    from common.raw import folder as images

    without_labels = (challenge, images)
    readers = without_labels if unlabelled else map(import_module, READERS.values())
    for reader in readers:
        if reader.recognises(folder):
            if reader in without_labels and not unlabelled:
                signs.refuse_labels(folder, videos=reader is challenge)
            return reader
    raise UserError(
        f"{folder} holds no images, no videos and no data set that is known; fill it or remove it."
    )

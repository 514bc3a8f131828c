"""Further forms in which data sets are passed on: small trees, and what is to be read of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helpers.drawn import scene, write_video
from helpers.raw_files import image, text


class Form(NamedTuple):
    """A tree and what a reader makes of it.

    reader: name of the module in common.raw. found: by path of an image or a clip, its (data set,
    split, labels, subject), the reason why it is not used, or "" where nothing is said of it.
    texts: by path, the contents of lists. sheets: by path, the rows of tables in .xlsx.
    form: what --list says of it.
    """

    reader: str
    form: str
    found: dict[str, tuple[str, str, str, str] | str]
    texts: dict[str, str] = {}  # noqa: RUF012 - never changed
    sheets: dict[str, list] = {}  # noqa: RUF012
    after: Callable[[Path], None] | None = None

    def build(self, root: Path) -> Path:
        """Make the tree at root."""
        for name in self.found:
            path = root / name
            if path.suffix in (".mp4", ".avi", ".mov"):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, [scene((100 + n, 120, 90)) for n in range(9)], codec_of(path))
            else:
                image(path, side=48)
        for name, content in self.texts.items():
            text(root / name, content)
        for name, rows in self.sheets.items():
            write_sheet(root / name, rows)
        if self.after:
            self.after(root)
        return root


def codec_of(path: Path) -> str:
    return "mpeg4" if path.suffix == ".avi" else "libx264"


def write_sheet(path: Path, rows: list) -> None:
    """Write rows as the first sheet of an .xlsx."""
    from openpyxl import Workbook

    path.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


BASIC, COMPOUND = "RAF-DB-basic", "RAF-DB-compound"
FORMS = {
    "RAF-DB without its level": Form(
        "rafdb",
        "owners' lists",
        {
            "Image/aligned/train_00001_aligned.jpg": (BASIC, "train", "Sadness", ""),
            "Image/aligned/test_0001_aligned.jpg": (BASIC, "test", "Neutral", ""),
            "Image/original/test_0001.jpg": "",
        },
        {"EmoLabel/list_patition_label.txt": "train_00001.jpg 5\ntest_0001.jpg 7\n"},
    ),
    "RAF-DB compound without its level": Form(
        "rafdb",
        "owners' lists",
        {
            "Image/aligned/train_0001_aligned.jpg": (COMPOUND, "train", "Happiness Surprise", ""),
            "Image/aligned/test_0001_aligned.jpg": (COMPOUND, "test", "Disgust Surprise", ""),
        },
        {"EmoLabel/list_patition_label.txt": "train_0001.jpg 1\ntest_0001.jpg 11\n"},
    ),
    "RAF-DB, aligned twice": Form(
        "rafdb",
        "owners' lists",
        {"basic/Image/aligned/aligned/train_00001_aligned.jpg": (BASIC, "train", "Fear", "")},
        {"basic/EmoLabel/list_patition_label.txt": "train_00001.jpg 2\n"},
    ),
    "RAF-DB, train and valid": Form(
        "rafdb",
        "numbered folders",
        {
            "train/1/train_00001_aligned.jpg": (BASIC, "train", "Surprise", ""),
            "train/7/train_00002_aligned.jpg": (BASIC, "train", "Neutral", ""),
            "train/7/test_0007_aligned.jpg": "its name does not start with its split",
            "valid/3/train_00003_aligned.jpg": (BASIC, "val", "Disgust", ""),
            "valid/5/test_0004_aligned.jpg": (BASIC, "test", "Sadness", ""),
        },
    ),
    "RAF-DB, train_set and val_set": Form(
        "rafdb",
        "numbered folders",
        {
            "RAF_DB/train_set/1/a.jpg": (BASIC, "train", "Surprise", ""),
            "RAF_DB/train_set/4/a.jpg": (BASIC, "train", "Happiness", ""),
            "RAF_DB/val_set/6/a.jpg": (BASIC, "val", "Anger", ""),
        },
    ),
    "RAF-DB below splits by name": Form(
        "rafdb",
        "class folders",
        {
            "train/happy/train_00001_aligned.jpg": (BASIC, "train", "Happiness", ""),
            "train/angry/train_00002_aligned.jpg": (BASIC, "train", "Anger", ""),
            "test/surprise/test_0001_aligned.jpg": (BASIC, "test", "Surprise", ""),
        },
    ),
    "RAF-CE in RAF-AU": Form(
        "rafce",
        "owners' lists",
        {"RAF-AU/aligned/aligned/0001_aligned.jpg": ("RAF-CE", "val", "Happiness Sadness", "")},
        {"RAFCE_emolabel.txt": "0001.jpg 13", "RAFCE_partition.txt": "0001.jpg 2"},
    ),
}

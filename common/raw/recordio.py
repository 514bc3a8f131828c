"""Face recognition sets packed as MXNet RecordIO, as CASIA-WebFace is passed on (InsightFace).

    train.rec        records, each a header and the bytes of a JPEG
    train.idx, property, *.lst and *.bin beside it are not read

The records are read in the order of the file. Each is the magic number 0xced7230a, a word with the
part (3 bits) and the length (29 bits), the payload, and zeros up to a multiple of 4; a payload that
holds the magic number itself is split there into parts 1, 2, ..., 3. The payload starts with
MXNet's IRHeader: flag (uint32), label (float32), two ids (uint64), and `flag` further labels
(float32). The first record and one for each person, at the end, hold labels alone. The subject is
the label, of several the first: some sets write two with every image. Traps: images are 112 x 112
and already aligned; those of other RecordIO files need not.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.raw.layout import Item, Skip, look

ALIGNED = False

_MAGIC = struct.pack("<I", 0xCED7230A)
_HEADER = struct.Struct("<IfQQ")
_LABEL = struct.Struct("<f")
_RECORD_BYTES = 1 << 26  # no image of a face is larger


def form(folder: Path) -> str:
    """Say how the folder is laid out."""
    return "RecordIO"


def _files(folder: Path) -> list[Path]:
    """Return the files in a folder, or right below it, that start as RecordIO does."""
    some = look(folder)
    some += [entry for place in some[:20] if place.is_dir() for entry in look(Path(place.path))]
    found = [Path(e.path) for e in some if e.name.lower().endswith(".rec") and e.is_file()]
    return [path for path in found if _start_of(path) == _MAGIC]


def _start_of(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4)
    except OSError:
        return b""


def recognises(folder: Path) -> bool:
    """A folder with a RecordIO file."""
    return bool(_files(folder))


def read(folder: Path, counts: Counter) -> Iterator[Item | Skip]:
    """Return the images of all files; see common.raw."""
    for path in _files(folder):
        yield from _read_file(path, folder.name)


def _read_file(path: Path, dataset: str) -> Iterator[Item | Skip]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while (offset := file.tell()) < size:
            part = f"{path}#{offset}"
            try:
                head, length = _skip_record(file, size)
            except ValueError as error:
                yield Skip(
                    part, dataset, "damaged record: the rest of the file is lost", str(error)
                )
                return
            if len(head) < _HEADER.size:
                yield Skip(part, dataset, "record without a header")
                continue
            flag, label, *_ = _HEADER.unpack_from(head)
            if flag and length <= _HEADER.size + 4 * flag:  # of a person or of the file
                continue
            if flag:
                label = _LABEL.unpack_from(head, _HEADER.size)[0]
            person = f"{label:.0f}"
            name = f"{path.stem}/{person}/{offset}.jpg"
            yield Item(
                str(path), name, dataset, subject=person, part=str(offset), opener=open_record
            )


def _parts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the length of each part of a record, with the file at the start of its bytes."""
    while True:
        head = file.read(8)
        if len(head) < 8 or head[:4] != _MAGIC:
            raise ValueError("no record starts here")
        word = struct.unpack("<I", head[4:])[0]
        part, length = word >> 29, word & (1 << 29) - 1
        start = file.tell()
        if start + length > size or length > _RECORD_BYTES:
            raise ValueError(f"a record of {length} bytes does not fit")
        yield length
        file.seek(start + length + -length % 4)
        if part in (0, 3):
            return


def _skip_record(file: BinaryIO, size: int) -> tuple[bytes, int]:
    """Move to the next record; return the first bytes of this one, and its length."""
    head, total = b"", -len(_MAGIC)
    for length in _parts(file, size):
        head = head or file.read(min(length, _HEADER.size + _LABEL.size))
        total += len(_MAGIC) + length
    return head, total


def open_record(path: str, part: str) -> bytes:
    """Return the image file in the record at an offset."""
    with open(path, "rb") as file:
        file.seek(int(part))
        content = _MAGIC.join(file.read(n) for n in _parts(file, os.path.getsize(path)))
    labels = int.from_bytes(content[:4], "little")  # flag
    return content[_HEADER.size + 4 * labels :]

"""The manifest as arrays, beside the table: what is read of millions of rows within seconds.

manifest.csv is the manifest; manifest.npz holds the same as NumPy arrays and the digest of the
table that it was made of. Where the table has been changed since, the arrays are not used.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from common.script.files import whole_file

FORMAT = 1


def path_of(manifest: str | Path) -> Path:
    """Return where the arrays of a manifest lie."""
    return Path(manifest).with_suffix(".npz")


class Collector:
    """Gathers the columns of a manifest, part by part.

    texts: columns of which every row differs. categorical: columns whose values repeat. numbers:
    columns of numbers, as they are.
    """

    def __init__(self, texts: tuple[str, ...], categorical: tuple[str, ...], numbers: dict):
        self._texts = {name: [] for name in texts}
        self._known = {name: {} for name in categorical}
        self._codes = {name: [np.zeros(0, np.int32)] for name in categorical}
        self._numbers = {name: [np.zeros(0, kind)] for name, kind in numbers.items()}
        self._rows = 0

    def add(self, part: pd.DataFrame) -> None:
        """Add the rows of a part of the manifest."""
        self._rows += len(part)
        for name, blobs in self._texts.items():
            blobs += ["".join(f"{value}\n" for value in part[name]).encode()]
        for name, known in self._known.items():
            codes = [known.setdefault(value, len(known)) for value in part[name]]
            self._codes[name].append(np.array(codes, dtype=np.int32))
        for name, arrays in self._numbers.items():
            arrays.append(part[name].to_numpy(arrays[0].dtype))

    def save(self, path: Path, digest: str) -> None:
        """Write the arrays whole. digest: SHA-256 of the manifest, 64 hex digits."""
        arrays = {
            "format": np.array([FORMAT, self._rows]),
            "digest": np.frombuffer(bytes.fromhex(digest), dtype=np.uint8),
        }
        for name, blobs in self._texts.items():
            arrays[name] = np.frombuffer(b"".join(blobs), dtype=np.uint8)
        for name, known in self._known.items():
            categories = sorted(known)
            place = np.zeros(max(1, len(known)), dtype=np.int32)
            for number, value in enumerate(categories):
                place[known[value]] = number
            arrays[name] = place[np.concatenate(self._codes[name])]
            text = "".join(f"{value}\n" for value in categories).encode()
            arrays[f"{name}.categories"] = np.frombuffer(text, dtype=np.uint8)
        for name, parts in self._numbers.items():
            arrays[name] = np.concatenate(parts)
        with whole_file(path) as file:
            np.savez(file, **arrays)


def load(path: Path, digest: str, like: Collector) -> pd.DataFrame | None:
    """Return the manifest of this digest, or None where there is none that is whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            form, rows = arrays["format"].tolist()
            if form != FORMAT or arrays["digest"].tobytes().hex() != digest:
                return None
            frame = {}
            for name in like._texts:
                frame[name] = pd.Series(_lines(arrays[name]), dtype="str")
            for name in like._known:
                categories = pd.Index(_lines(arrays[f"{name}.categories"]), dtype="str")
                codes = arrays[name]
                frame[name] = pd.Categorical.from_codes(codes, categories=categories)
            for name in like._numbers:
                frame[name] = arrays[name]
            frame = pd.DataFrame(frame)
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
    return frame if len(frame) == rows else None


def _lines(blob: np.ndarray) -> list[str]:
    return blob.tobytes().decode().split("\n")[:-1]

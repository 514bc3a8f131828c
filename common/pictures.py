"""Figures as PNG files, and small pictures to embed in a page.

Readable without colour: cividis rises evenly from dark to light with every kind of colour vision,
each cell shows its number, each curve has a panel and a title of its own.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from common.script.files import whole_file

INK, BLUE, RULE = "#1c2430", "#0072B2", "#d7dce3"


def save_confusion(
    path: str | Path, matrix: np.ndarray, names: Sequence[str], title: str = ""
) -> None:
    """Write a confusion matrix as PNG: int [c, c], rows are truth, shaded by share of the row."""
    matrix = np.asarray(matrix)
    names = [str(name).replace("_", "\n").replace(" ", "\n") for name in names]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 1.9 + 0.72 * len(names)
    figure, axes = new_figure(side + 0.6, side, 1)
    axes[0].imshow(share, cmap="cividis", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        text = f"{share[row, column]:.0%}\n{count:,}"
        ink = "black" if share[row, column] > 0.55 else "white"
        axes[0].text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes[0].set_xticks(range(len(names)), names, fontsize=7)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].tick_params(length=0)
    axes[0].set_xlabel("predicted")
    axes[0].set_ylabel("truth")
    axes[0].set_title(title, loc="left", fontweight="bold")
    save_figure(figure, path)


def save_curves(
    path: str | Path, table: pd.DataFrame, columns: Sequence[str], title: str = ""
) -> None:
    """Write curves by epoch as PNG, one panel a column; a missing value is passed over.

    table: has `epoch` and these columns. Rows of several phases follow one another. Where it has
    `stage`, the sub-stage from 1, and counts of `single`, `natural` and `generated` images, lines
    part the sub-stages, and steps show the share of compounds behind the scores.
    """
    figure, axes = new_figure(4.2 * max(1, len(columns)), 3.2, max(1, len(columns)))
    staged = {"stage", "single", "natural", "generated"} <= set(table)
    # Each phase counts its epochs from 1; the figure counts them all.
    again = table["epoch"].duplicated().any()
    epochs = np.arange(1, len(table) + 1) if again else table["epoch"].to_numpy()
    for axis, column in zip(axes, columns, strict=False):
        known = table[column].notna().to_numpy()
        line = dict(color=BLUE, marker="o", markersize=3.5, linewidth=1.5)
        axis.plot(epochs[known], table[column][known], **line)
        axis.set_title(column.replace("_", " "), loc="left", fontsize=10)
        if staged:
            for start in np.flatnonzero(np.diff(table["stage"])):
                axis.axvline(epochs[start] + 0.5, color=INK, linestyle=":", linewidth=1)
        if staged and column.endswith("f1"):
            compounds = table["natural"] + table["generated"]
            share = compounds / (table["single"] + compounds + table.get("no_majority", 0))
            axis.bar(epochs, share, width=1, color=RULE, zorder=0)
            axis.set_title(
                f"{column.replace('_', ' ')}; bars: share of compounds", loc="left", fontsize=10
            )
            axis.set_ylim(0, 1.02)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(color=RULE, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    save_figure(figure, path)


def save_examples(
    path: str | Path, examples: dict[str, np.ndarray], title: str = "", side: int = 104
) -> None:
    """Write images by name as PNG, a row a name: uint8 [n, k, 3, S, S], n groups of k each.

    side: of an image there, pixels.
    """
    rows = {name.replace("_", "\n"): np.asarray(pictures) for name, pictures in examples.items()}
    rows = {name: pictures for name, pictures in rows.items() if len(pictures)}
    font, gap, top = ImageFont.load_default(13), 12, 30  # pixels
    words = [font.getlength(word) for name in rows for word in name.split("\n")]
    left = int(max(words, default=0)) + 3 * gap
    groups = max((len(pictures) for pictures in rows.values()), default=0)
    width = max((pictures.shape[1] for pictures in rows.values()), default=0) * side + gap
    across = max(left + groups * width, int(font.getlength(title)) + 2 * gap)
    sheet = Image.new("RGB", (across, top + len(rows) * (side + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((gap, top / 2), title, INK, font, "lm")
    for row, (name, pictures) in enumerate(rows.items()):
        above = top + row * (side + gap)
        middle = left - gap, above + side / 2
        pen.multiline_text(middle, name, INK, font, "rm", align="right")
        for group, number in np.ndindex(pictures.shape[:2]):
            picture = Image.fromarray(pictures[group, number].transpose(1, 2, 0))
            corner = left + group * width + number * side, above
            sheet.paste(picture.resize((side, side), Image.Resampling.BILINEAR), corner)
    with whole_file(path) as file:
        sheet.save(file, format="PNG")


def new_figure(
    width: float, height: float, panels: int, heights: Sequence[float] | None = None
) -> tuple[Figure, np.ndarray]:
    """Return a figure of a size in inches and its panels: side by side, or in rows by `heights`."""
    # Not pyplot's figure, which may need a display and stays in memory.
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if heights:
        axes = figure.subplots(panels, 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    else:
        axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.tick_params(colors=INK, labelsize=8)
    return figure, axes


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    # Here, once: savefig would draw everything to lay it out, and again to keep it.
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    with whole_file(path) as file:
        figure.savefig(file, format="png")


def thumbnail(image: str | Path) -> str:
    """Return a face crop as the data URL of a small JPEG, or "" where it cannot be read."""
    try:
        with Image.open(image) as picture:
            return data_url(small_jpeg(np.asarray(picture.convert("RGB"))))
    except OSError:
        return ""


def small_jpeg(image: np.ndarray) -> bytes:
    """Return a face crop, uint8 [H, W, 3], as a JPEG of 128 x 128 pixels."""
    small = Image.fromarray(image).resize((128, 128), Image.Resampling.BILINEAR, reducing_gap=2)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()


def data_url(image: bytes, kind: str = "jpeg") -> str:
    """Return an encoded image as a URL that embeds it in a page."""
    return f"data:image/{kind};base64," + base64.b64encode(image).decode()


class PictureFile:
    """Small pictures of all faces, on disk until the report has chosen a few of them.

    The file has no name, so it disappears with the process.
    """

    def __init__(self, folder: str | Path):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this

    def add(self, jpeg: bytes) -> tuple[int, int]:
        """Store a picture; return its place."""
        start = self._file.seek(0, io.SEEK_END)
        self._file.write(jpeg)
        return start, len(jpeg)

    def read(self, place: tuple[int, int]) -> bytes:
        """Return the picture at a place."""
        self._file.seek(place[0])
        return self._file.read(place[1])


def pixels(indices: np.ndarray, palette: Sequence[tuple[float, float, float]]) -> str:
    """Return a PNG of one pixel a value, int [rows, columns], as a data URL."""
    picture = Image.fromarray(np.asarray(indices).astype(np.uint8), mode="L")
    picture.putpalette((np.asarray(palette) * 255).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return data_url(buffer.getvalue(), "png")

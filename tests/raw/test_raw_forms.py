"""Each further form of a data set is read, by its own reader, with its labels and its splits."""

from __future__ import annotations

import importlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.preparing import prepare
from helpers.raw_forms import FORMS, Form

from common.raw import reader_of
from common.raw.layout import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Item


def is_picture(path: str | Path) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_read_with_its_labels_and_splits(tmp_path, name):
    check_read(FORMS[name], FORMS[name].build(tmp_path / "data"))


@pytest.mark.parametrize(
    "name", [name for name in FORMS if any(map(is_picture, FORMS[name].found))]
)
def test_an_odd_first_file_in_each_folder_hides_no_data_set(tmp_path, name):
    place = FORMS[name].build(tmp_path / "data")
    firsts = {path.parent: path for path in place.rglob("*") if is_picture(path)}
    odd = [path.with_name(f"!{path.suffix}") for path in firsts.values()]
    for path, other in zip(firsts.values(), odd, strict=True):
        shutil.copy(path, other)
    check_read(FORMS[name], place, odd)


def check_read(form: Form, place: Path, odd: Sequence[Path] = ()) -> None:
    """Compare what is read with what the form says. odd: files of which it says nothing."""
    reader = reader_of(place)
    assert reader is importlib.import_module(f"common.raw.{form.reader}")
    assert reader.form(place) == form.form
    found: dict[str, object] = dict.fromkeys(form.found, "")
    for row in reader.read(place, Counter()):
        is_item = isinstance(row, Item)
        what = (row.dataset, row.split, row.labels, row.subject) if is_item else row.reason
        path = os.path.relpath(row.path, place)
        if Path(row.path) in odd:
            continue
        paths = [name for name in found if f"{name}/".startswith(f"{path}/")]  # a clip's folder
        assert paths and {found[name] for name in paths} <= {"", what}, path
        found |= dict.fromkeys(paths, what)
    assert found == form.found


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_listed(tmp_path, capsys, name):
    form = FORMS[name]
    form.build(tmp_path / "raw" / "data")
    prepare(tmp_path, "--list")
    listed = capsys.readouterr().out
    assert f", {form.form}\n" in listed.splitlines(keepends=True)[0]
    for what in form.found.values():
        if isinstance(what, tuple):
            assert any(
                line.startswith(f"{what[0]:<20} {what[1] or '-'}") for line in listed.splitlines()
            )

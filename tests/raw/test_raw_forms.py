"""Each further form of a data set is read, by its own reader, with its labels and its splits."""

from __future__ import annotations

import importlib
import os
from collections import Counter

import pytest
from helpers.preparing import prepare
from helpers.raw_forms import FORMS

from common.raw import reader_of
from common.raw.layout import Item


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_read_with_its_labels_and_splits(tmp_path, name):
    form = FORMS[name]
    place = form.build(tmp_path / "data")
    reader = reader_of(place)
    assert reader is importlib.import_module(f"common.raw.{form.reader}")
    assert reader.form(place) == form.form
    found: dict[str, object] = dict.fromkeys(form.found, "")
    for row in reader.read(place, Counter()):
        is_item = isinstance(row, Item)
        what = (row.dataset, row.split, row.labels, row.subject) if is_item else row.reason
        path = os.path.relpath(row.path, place)
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

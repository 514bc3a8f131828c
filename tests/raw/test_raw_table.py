"""Tables that users write: nothing of their columns, fields and labels is lost in silence."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from helpers.raw_files import image, read, text

from common.raw import classes, table
from common.raw.lists import table_rows
from common.script.files import UserError


def test_labels_beyond_the_last_column_are_read_or_refused(tmp_path):
    for name in "abcd":
        image(tmp_path / "Mine" / f"{name}.jpg")
    rows = ["image,label", "a.jpg,happy,surprised", "b.jpg,happy,xyz", "c.jpg,happy,,", "d.jpg,sad"]
    text(tmp_path / "Mine" / "labels.csv", "\n".join(rows))
    items, skips, _ = read(table, tmp_path / "Mine")
    assert {name: item.labels for name, item in items.items()} == {
        "Mine/a.jpg": "Happiness Surprise",
        "Mine/c.jpg": "Happiness",
        "Mine/d.jpg": "Sadness",
    }
    assert skips == [("labels.csv:3", "unknown label")]


def test_a_second_label_before_another_column_is_refused(tmp_path):
    image(tmp_path / "Mine" / "a.jpg")
    image(tmp_path / "Mine" / "b.jpg")
    rows = ["image,label,subject", "a.jpg,happy,sad,p1", "b.jpg,sad,p2"]
    text(tmp_path / "Mine" / "labels.csv", "\n".join(rows))
    items, skips, _ = read(table, tmp_path / "Mine")
    assert list(items) == ["Mine/b.jpg"] and skips == [("labels.csv:2", "unknown label")]


def test_a_row_that_is_too_long_gives_its_rest_to_the_last_needed_column(tmp_path):
    text(tmp_path / "t.csv", "image;label;split\na.jpg;happy;sad;train\nb.jpg;happy;train;;\n")
    rows = [row for _, row in table_rows(tmp_path / "t.csv", ("image", "label"), ("split",))]
    assert [(row["label"], row["split"]) for row in rows] == [
        ("happy;sad;train", "sad"),
        ("happy", "train"),
    ]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep={}\r\n", '"SEP={}"\n'])
def test_tables_are_read_with_any_separator_and_with_the_line_of_spreadsheets(
    tmp_path, sign, first
):
    lines = (f"image{sign}Label", f"a.jpg{sign}happy", f"b.jpg{sign}sad{sign}{sign}")
    text(tmp_path / "t.csv", first.format(sign) + "\n".join(lines))
    rows = [tuple(row.values()) for _, row in table_rows(tmp_path / "t.csv", ("image", "label"))]
    assert rows == [("a.jpg", "happy"), ("b.jpg", "sad")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "# mine\nimage,label",
            "no column 'image' in '# mine'; .*commas, semicolons, tabs or bars",
        ),
        ("image:label", "no column 'image' in 'image:label'"),
        ("image,label\ra.jpg,happy\r", "lines end in CR alone"),
        ("image,label,Label", "the column 'label' stands twice"),
        ("image,label,split,split", "the column 'split' stands twice"),
    ],
)
def test_a_header_that_cannot_be_meant_is_a_user_error(tmp_path, header, words):
    image(tmp_path / "Mine" / "a.jpg")
    text(tmp_path / "Mine" / "labels.csv", f"{header}\na.jpg,happy,sad,train\n")
    with pytest.raises(UserError, match=f"labels.csv, line 1: .*{words}"):
        read(table, tmp_path / "Mine")


def test_columns_and_times_that_are_not_read_are_counted(tmp_path):
    image(tmp_path / "Mine" / "sad" / "a.jpg")
    header = "image,label,spilt,person,,begin"
    text(tmp_path / "Mine" / "labels.csv", f"{header}\nsad/a.jpg,sad,test,p1,,2.5\n")
    assert read(table, tmp_path / "Mine")[2] == {
        "columns of labels.csv that are not read, 'spilt' (like 'split'?), 'person'": 2,
        "begin or end of an image, which only a video has: not read": 1,
    }
    text(tmp_path / "Mine" / "classes.csv", "folder,label,note\nsad,sad,x\n")
    counts = Counter()
    classes.read(tmp_path / "Mine", counts)
    assert counts == {"columns of classes.csv that are not read, 'note'": 1}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("3", "'3' is a number, and which expression .* differs .*; write names"),
        ("happy+happy", "'happy\\+happy' names Happiness twice"),
        ("Happy joy", "'Happy joy' names Happiness twice"),
    ],
)
def test_a_label_that_a_user_cannot_mean_is_refused_with_its_reason(tmp_path, label, words):
    for name in "ab":
        image(tmp_path / "Mine" / "sad" / f"{name}.jpg")
    rows = f"image,label\nsad/a.jpg,sad\nsad/b.jpg,{label}\n"
    text(tmp_path / "Mine" / "labels.csv", rows)
    (skip,) = list(table.read(tmp_path / "Mine", Counter()))[1:]
    assert skip.reason == "unknown label" and re.search(words, skip.detail)
    text(tmp_path / "Mine" / "classes.csv", f"folder,label\nsad,{label}\n")
    with pytest.raises(UserError, match=f"classes.csv, line 2: {words}"):
        classes.read(tmp_path / "Mine", Counter())

"""Rows of tables that have more fields than columns: nothing of them is lost in silence."""

from helpers.raw_files import image, read, text

from common.raw import table
from common.raw.lists import table_rows


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

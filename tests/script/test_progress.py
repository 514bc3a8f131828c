"""Progress: what a log file gets, where there is no terminal."""

import sys

from tqdm import tqdm

from common.script import progress


def told(capsys, count=12, **options):
    bar = progress.progress_bar("mae 1/3", "img", **options)
    for number in range(count):
        bar.update()
        if number == 5:
            tqdm.write("a message", file=sys.stdout)
    bar.close()
    return capsys.readouterr()


def test_a_log_gets_whole_lines_and_nothing_half_drawn(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 1e-9)
    out, lines = told(capsys, total=12, leave=False)
    assert out == "a message\n"
    lines = lines.split("\n")
    assert lines[0].startswith("mae 1/3: 1/12 img, 00:00, 00:")
    assert lines[11].startswith("mae 1/3: 12/12 img, ") and "\r" not in "".join(lines)
    _, lines = told(capsys)
    assert lines.startswith("mae 1/3: 1 img, 00:00, ")


def test_what_takes_less_than_a_minute_is_not_told(capsys):
    assert told(capsys, total=12) == ("a message\n", "")


def test_a_process_that_says_nothing_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 1e-9)
    assert told(capsys, total=12, shown=False).err == ""

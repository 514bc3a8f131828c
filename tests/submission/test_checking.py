"""Comparing submissions: agreement as scikit-learn computes it, told by video and class."""

import numpy as np
import pandas as pd
import pytest
from helpers.predicting import predict
from helpers.running import call
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from common.emotions import CHALLENGE
from common.submission import checking
from common.submission.files import write_submission


@limits(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40))
def test_agreement_of_every_pair_is_scikit_learns(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("compare")
    places = [f"{i % 3}/{i // 3 + 1:05d}.jpg" for i in range(len(rows))]
    classes = dict(zip("ABC", np.array(rows).T, strict=True))
    for letter, column in classes.items():
        write_submission(folder / letter, "image_location", places, column)
    read = checking.read_submissions([folder / letter for letter in "ABC"])
    found = checking.compare_submissions(read)
    assert [one.names for one in found] == [("A", "B"), ("A", "C"), ("B", "C")]
    for one in found:
        a, b = (classes[letter] for letter in one.names)
        assert one.agreement == pytest.approx((a == b).mean())
        assert one.macro_f1 == pytest.approx(f1_score(a, b, average="macro"))
        if len(set(a) | set(b)) > 1:
            assert one.kappa == pytest.approx(cohen_kappa_score(a, b))
        assert one.moves.total() == (a != b).sum() and one.videos.total() == len(rows)


def test_comparison_is_printed_by_video_and_class_and_written_as_a_table(crops, tmp_path, capsys):
    start = call(capsys)
    assert predict(start, crops, tmp_path)[0] == 0
    ours, other = tmp_path / "submission" / "predictions.txt", tmp_path / "other.txt"
    lines = ours.read_text().splitlines()
    was = int(lines[1][-1])
    lines[1] = lines[1][:-1] + str((was + 1) % 7)
    other.write_text("\n".join(lines[:-1]) + "\n")
    compare = ["05_predict_submit.py", "--run-dir", tmp_path, "--compare", ours, other]
    status, output, _ = start(*compare)
    assert status == 0 and f"A {ours}: 12 frames\nB {other}: 11 frames\n" in output
    assert "A B          11        1    90.9%" in output
    lost = lines[-1].split(",")[0]
    assert f"only in A, not in B: 1 ({lost})\n" in output and "only in B" not in output
    changed_to = CHALLENGE[(was + 1) % 7].replace("_", " ")
    assert f"  {changed_to} 1\n" in output and "01                             6        1" in output
    table = pd.read_csv(tmp_path / "compare.csv", dtype={"video": str}).set_index("video")
    assert table["frames"].to_dict() == {"01": 6, "02": 3, "10": 2}
    assert table["changed"].to_dict() == {"01": 1, "02": 0, "10": 0}
    frames = pd.read_csv(tmp_path / "changed.csv").to_dict("records")
    place, names = lines[1].split(",")[0], (CHALLENGE[was], CHALLENGE[(was + 1) % 7])
    row = {"image_location": place, "class_a": names[0], "class_b": names[1]}
    assert frames == [{"a": "A", "b": "B"} | row]
    # of three, every pair; by class only how many
    status, output, _ = start(*compare, ours)
    assert status == 0 and "A C          12        0   100.0%    1.0000   1.000" in output
    table = pd.read_csv(tmp_path / "compare.csv")
    pairs = table.groupby(["a", "b"])["changed"].sum().to_dict()
    assert pairs == {("A", "B"): 1, ("A", "C"): 0, ("B", "C"): 1}
    counts = np.zeros(7, dtype=int)
    for line in ours.read_text().splitlines()[1:]:
        counts[int(line[-1])] += 1
    for name, count in zip(CHALLENGE, counts, strict=True):
        row = next(line for line in output.splitlines() if line.startswith(name.replace("_", " ")))
        assert row.split()[2] == row.split()[4] == str(count)


def test_frames_of_only_one_submission_are_counted_and_the_first_are_named(tmp_path, capsys):
    for name, frames in {"a": range(1, 5), "b": range(4, 30)}.items():
        (tmp_path / name).write_text("".join(f"01/{frame:05d}.jpg,3\n" for frame in frames))
    start = call(capsys)
    status, output, _ = start("05_predict_submit.py", "--compare", tmp_path / "a", tmp_path / "b")
    assert status == 0
    assert "only in A, not in B: 3 (01/00001.jpg, 01/00002.jpg, 01/00003.jpg)\n" in output
    assert "only in B, not in A: 25 (01/00005.jpg, 01/00006.jpg, " in output
    assert "01/00014.jpg and 15 more)\n" in output and "00015" not in output


def test_what_cannot_be_compared_is_one_sentence(crops, tmp_path, capsys):
    start, one, other = call(capsys), tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("01/00001.jpg,3\n01/00002.jpg,3\n01/00003.jpg,8\n")
    other.write_text("02/00001.jpg,3\n")
    for named, words in [
        ([one, other], ["line 3", "6 Sadly_Angry"]),
        ([other], ["--compare takes 2 to 26 submissions"]),
    ]:
        status, _, complaints = start("05_predict_submit.py", "--compare", *named)
        assert status == 2 and all(word in complaints for word in words)
    one.write_text("01/00001.jpg,3\n")
    status, _, complaints = start("05_predict_submit.py", "--compare", one, other)
    assert status == 2 and "A and B have no frame in common" in complaints

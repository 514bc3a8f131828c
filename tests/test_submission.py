"""The submission: every listed frame once, gaps filled as promised, every flaw of a file found."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import submission
from common.checking import check_submission, is_valid
from common.emotions import BASIC, CHALLENGE
from common.files import UserError

HEADER = (
    "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
    "Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
)
LOCATIONS = [f"{video}/{frame:05d}.jpg" for video in ("01", "02", "10") for frame in range(1, 6)]


def write_list(path: Path, rows=LOCATIONS, header=HEADER, dummy="") -> Path:
    path.write_text(header + "\n" + "".join(f"{row},{dummy}\n" for row in rows))
    return path


# ---------------------------------------------------------------- the frame list


@pytest.mark.parametrize("dummy", ["", "0", "-1"])
def test_list_gives_header_verbatim_and_frames_in_its_order(tmp_path, dummy):
    rows = LOCATIONS[::-1]
    header, locations = submission.read_frame_list(write_list(tmp_path / "l", rows, dummy=dummy))
    assert (header, locations) == (HEADER, rows)


def test_list_from_windows_reads_like_the_official_one(tmp_path):
    path = tmp_path / "list.txt"
    text = HEADER + "\n" + "".join(f"{row} , 0\n" for row in LOCATIONS)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()[:-2])
    assert submission.read_frame_list(path) == (HEADER, LOCATIONS)


def test_the_official_header_is_the_one_we_write_without_a_list():
    assert submission.HEADER == HEADER


@pytest.mark.parametrize(
    "row, line",
    [
        ("01/00001.jpg,", 4),  # a duplicate
        ("01/1.jpg,", 4),
        ("01/00000.jpg,", 4),
        ("01/000007.jpg,", 4),
        ("01/00007.png,", 4),
        ("../00007.jpg,", 4),
        ("/etc/00007.jpg,", 4),
        ("01/../02/00001.jpg,", 4),
        ("01\\00007.jpg,", 4),
        ("01/00007.jpg", 4),
        ("01/00007.jpg,0,0", 4),
        ("01/00007.jpg,x", 4),
        ("\x00/00007.jpg,", 4),
        ("", 4),
    ],
)
def test_list_of_wrong_form_is_refused_with_its_line(tmp_path, row, line):
    path = tmp_path / "list.txt"
    path.write_text(f"{HEADER}\n01/00001.jpg,\n01/00002.jpg,\n{row}\n01/00003.jpg,\n")
    with pytest.raises(UserError, match=f"line {line}"):
        submission.read_frame_list(path)


def test_list_with_classes_in_another_order_is_refused(tmp_path):
    names = HEADER.split(",")
    names[1], names[2] = names[2], names[1]
    with pytest.raises(UserError, match="line 1"):
        submission.read_frame_list(write_list(tmp_path / "l", header=",".join(names)))


@pytest.mark.parametrize("content", [b"", HEADER.encode(), b"\x00\xff" * 5000])
def test_file_that_is_no_list_is_refused(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(UserError):
        submission.read_frame_list(path)
    with pytest.raises(UserError):
        submission.read_frame_list(tmp_path / "absent.txt")
    with pytest.raises(UserError):
        submission.read_frame_list(tmp_path)


# ---------------------------------------------------------------- frames.csv


def test_prepared_frames_keep_video_names_as_text(tmp_path):
    rows = "video,frame,image,box,score\n01,1,crops/01/00001.jpg,1 2 3 4,0.9\n01,2,,,\nNA,1,,,\n"
    (tmp_path / "frames.csv").write_text(rows)
    table = submission.read_frames(tmp_path)
    assert table["video"].tolist() == ["01", "01", "NA"]
    assert table["image"].tolist() == ["crops/01/00001.jpg", "", ""]


@pytest.mark.parametrize(
    "rows",
    [
        None,
        "",
        "video,frame,image\n",
        "video,image\n01,a.jpg\n",
        "video,frame,image\n01,1,a.jpg\n01,1,b.jpg\n",
        "video,frame,image\n01,one,a.jpg\n",
        "video,frame,image\n01,0,a.jpg\n",
        "video,frame,image\n01,1,../../etc/passwd\n",
    ],
)
def test_missing_or_damaged_frames_table_is_one_sentence(tmp_path, rows):
    if rows is not None:
        (tmp_path / "frames.csv").write_text(rows)
    with pytest.raises(UserError):
        submission.read_frames(tmp_path)


# ---------------------------------------------------------------- gaps and smoothing


def test_gap_is_a_straight_line_between_neighbours_and_held_at_the_ends():
    frames, values = np.array([3, 7]), np.array([[0.0, 1.0], [0.8, 0.2]])
    filled = submission.fill_gaps(frames, values, np.arange(1, 10))
    np.testing.assert_allclose(filled[:, 0], [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(filled[:, 1], [1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_interpolation_keeps_observed_frames_and_stays_between_neighbours(data):
    frames = np.array(sorted(data.draw(st.sets(st.integers(1, 300), min_size=1, max_size=20))))
    flat = st.floats(0, 1, width=32)
    values = np.array(
        data.draw(st.lists(flat, min_size=6 * len(frames), max_size=6 * len(frames)))
    ).reshape(-1, 6)
    wanted = np.arange(1, 321)
    filled = submission.fill_gaps(frames, values, wanted)
    np.testing.assert_array_equal(filled[frames - 1], values)
    after = np.searchsorted(frames, wanted)  # index of the next observed frame
    before = values[np.maximum(after - 1, 0)]
    after = values[np.minimum(after, len(frames) - 1)]
    missing = ~np.isin(wanted, frames)
    assert (filled >= np.minimum(before, after) - 1e-12)[missing].all()
    assert (filled <= np.maximum(before, after) + 1e-12)[missing].all()


@pytest.mark.parametrize("kind", ["box", "gaussian", "median"])
def test_smoothing_keeps_constants_and_removes_a_flicker(kind):
    steady = np.full((40, 6), 0.3)
    np.testing.assert_allclose(submission.smooth(steady, kind, 9), steady)
    flicker = steady.copy()
    flicker[20] = 1.0
    assert submission.smooth(flicker, kind, 9).max() < 0.5
    np.testing.assert_array_equal(submission.smooth(flicker, kind, 1), flicker)
    np.testing.assert_array_equal(submission.smooth(flicker, "none", 9), flicker)
    assert submission.smooth(flicker[:2], kind, 9).shape == (2, 6)


def test_box_is_the_mean_of_its_window_and_median_its_median():
    values = np.random.default_rng(0).random((30, 6))
    np.testing.assert_allclose(submission.smooth(values, "box", 5)[10], values[8:13].mean(0))
    np.testing.assert_allclose(
        submission.smooth(values, "median", 5)[10], np.median(values[8:13], axis=0)
    )


def test_gaussian_is_as_wide_as_the_box_of_the_same_width():
    impulse = np.zeros((101, 6))
    impulse[50] = 1.0
    distance = np.arange(-50, 51)
    for kind in ("box", "gaussian"):
        weights = submission.smooth(impulse, kind, 9)[:, 0]
        deviation = np.sqrt((weights * distance**2).sum())
        assert deviation == pytest.approx(9 / 12**0.5, rel=0.02)


# ---------------------------------------------------------------- listed frames


def observed(*rows: tuple[str, int]) -> tuple[pd.DataFrame, np.ndarray]:
    table = pd.DataFrame(rows, columns=["video", "frame"])
    return table, np.random.default_rng(len(rows)).random((len(rows), 6))


def test_every_listed_frame_gets_its_own_video_and_frame_whatever_the_order():
    rows = [submission.split_location(location) for location in LOCATIONS]
    table, values = observed(*rows)
    shuffled = np.random.default_rng(1).permutation(len(rows))
    listed = [LOCATIONS[i] for i in (14, 0, 7, 3, 9)]
    aligned, face, faceless = submission.align(
        listed, table.iloc[shuffled].reset_index(drop=True), values[shuffled]
    )
    np.testing.assert_array_equal(aligned, values[[14, 0, 7, 3, 9]])
    assert face.all() and faceless == []


def test_frames_beyond_the_decoder_and_without_a_face_are_held_or_interpolated():
    table, values = observed(("01", 2), ("01", 4))
    aligned, face, _ = submission.align(LOCATIONS[:5], table, values)
    expected = [values[0], values[0], values.mean(0), values[1], values[1]]
    np.testing.assert_allclose(aligned, expected)
    assert face.tolist() == [False, True, False, True, False]


def test_an_unlisted_frame_still_helps_its_neighbours():
    table, values = observed(("01", 1), ("01", 2), ("01", 3))
    listed = ["01/00001.jpg", "01/00003.jpg"]
    aligned, _, _ = submission.align(listed, table, values, "box", 3)
    np.testing.assert_allclose(aligned[1], (values[1] + 2 * values[2]) / 3)


def test_video_without_a_face_gets_the_mean_of_all_other_frames():
    table, values = observed(("01", 1), ("01", 2), ("02", 3))
    aligned, face, faceless = submission.align(LOCATIONS, table, values)
    assert faceless == ["10"] and not face[10:].any()
    np.testing.assert_allclose(aligned[10:], np.tile(values.mean(0), (5, 1)))


def test_without_any_face_all_emotions_are_alike():
    table, values = observed()
    aligned, _, faceless = submission.align(LOCATIONS, table, values.reshape(0, 6))
    assert faceless == ["01", "02", "10"]
    np.testing.assert_array_equal(aligned, np.full((15, 6), 1 / 6))


def test_smoothing_never_mixes_two_videos():
    rows = [submission.split_location(location) for location in LOCATIONS]
    table, _ = observed(*rows)
    values = np.repeat([[0.1] * 6, [0.5] * 6, [0.9] * 6], 5, axis=0)
    aligned, _, _ = submission.align(LOCATIONS, table, values, "gaussian", 9)
    np.testing.assert_allclose(aligned, values)


def test_table_of_predictions_holds_scores_and_decision():
    values = np.zeros((2, 6))
    values[0, [BASIC.index("Sadness"), BASIC.index("Anger")]] = 0.9, 0.6
    values[1, [BASIC.index("Happiness"), BASIC.index("Surprise")]] = 0.5, 0.3
    table = submission.prediction_table(LOCATIONS[:2], values, np.array([True, False]), "sum")
    assert table["decision"].tolist() == [6, 1]
    assert table["Sadly_Angry"].tolist() == pytest.approx([1.5, 0.0])
    assert table["p_Happiness"].tolist() == [0.0, 0.5]
    assert list(table.columns[3:9]) == [f"p_{name}" for name in BASIC]
    assert list(table.columns[9:16]) == list(CHALLENGE)
    assert table[["video", "frame", "face"]].to_numpy().tolist() == [["01", 1, 1], ["01", 2, 0]]


# ---------------------------------------------------------------- the file, and its check


def test_submission_covers_every_listed_frame_and_passes_its_own_check(tmp_path):
    classes = np.arange(15) % 7
    listing, path = write_list(tmp_path / "list.txt"), tmp_path / "predictions.txt"
    submission.write_submission(path, HEADER, LOCATIONS, classes)
    expected = (
        HEADER + "\n" + "".join(f"{a},{b}\n" for a, b in zip(LOCATIONS, classes, strict=True))
    )
    assert path.read_bytes() == expected.encode()
    assert check_submission(path, listing) == []


@pytest.mark.parametrize("classes", [[0] * 14, [7] * 15, [-1] * 15])
def test_classes_that_do_not_fit_are_never_written(tmp_path, classes):
    with pytest.raises(ValueError):
        submission.write_submission(tmp_path / "p", HEADER, LOCATIONS, classes)
    assert not (tmp_path / "p").exists()


VALID = (HEADER + "\n" + "".join(f"{row},{i % 7}\n" for i, row in enumerate(LOCATIONS))).encode()
ORACLE = re.compile(
    re.escape(HEADER.encode())
    + b"".join(b"\n" + re.escape(row.encode()) + b",[0-6]" for row in LOCATIONS)
    + b"\n?"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    return write_list(folder / "list.txt"), folder / "predictions.txt"


@settings(max_examples=400, deadline=None)
@given(
    at=st.integers(0, len(VALID)),
    remove=st.sampled_from([0, 1, 1, 2, 15]),
    insert=st.one_of(
        st.binary(max_size=2),
        st.sampled_from([b"\r", b" ", b"\n", b",", b"7", b"\xef\xbb\xbf", "٣".encode()]),
    ),
)
def test_check_finds_any_single_change_of_a_valid_file(bench, at, remove, insert):
    listing, path = bench
    changed = VALID[:at] + insert + VALID[at + remove :]
    path.write_bytes(changed)
    assert is_valid(check_submission(path, listing)) == bool(ORACLE.fullmatch(changed))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_check_finds_any_moved_lost_or_doubled_row(bench, data):
    listing, path = bench
    rows = VALID.splitlines(keepends=True)
    a, b = data.draw(st.permutations(range(len(rows))))[:2]
    kind = data.draw(st.sampled_from(["swap", "lose", "double"]))
    if kind == "swap":
        rows[a], rows[b] = rows[b], rows[a]
    elif kind == "lose":
        del rows[a]
    else:
        rows.insert(b, rows[a])
    path.write_bytes(b"".join(rows))
    assert not is_valid(check_submission(path, listing))


@pytest.mark.parametrize(
    "change, what, example",
    [
        (lambda t: t.replace(b"01/00002.jpg,1\n", b""), "missing", "01/00002.jpg"),
        (lambda t: t + b"99/00001.jpg,1\n", "does not have", "line 17"),
        (lambda t: t + b"01/00001.jpg,1\n", "more than once", "line 17: 01/00001.jpg, first in"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg,7"), "whole number", "line 3: '7'"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg,1.0"), "whole number", "line 3"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg,"), "whole number", "line 3"),
        (lambda t: t.replace(b"Fearfully", b"Fearful", 1), "header", "line 1"),
        (lambda t: t.split(b"\n", 1)[1], "header", "line 1"),
        (
            lambda t: t.replace(
                b"01/00001.jpg,0\n01/00002.jpg,1", b"01/00002.jpg,1\n01/00001.jpg,0"
            ),
            "order",
            "line 3: 01/00001.jpg after 01/00002.jpg",
        ),
        (lambda t: b"\xef\xbb\xbf" + t, "byte order mark", "line 1"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg, 1"), "blanks", "line 3"),
        (lambda t: t.replace(b"\n", b"\r\n"), "CRLF", "line 1"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg;1"), "not like", "line 3"),
        (lambda t: b"", "empty", "expected"),
    ],
)
def test_check_names_the_fault_and_its_line(bench, change, what, example):
    listing, path = bench
    path.write_bytes(change(VALID))
    findings = check_submission(path, listing)
    named = [finding for finding in findings if what in finding.what]
    assert named and example in str(named[0]) and not is_valid(findings)
    if what not in ("empty", "not like"):  # those imply missing frames; else nothing is blamed
        assert len(findings) == 1


def test_missing_last_newline_is_only_a_note(bench):
    listing, path = bench
    path.write_bytes(VALID[:-1])
    findings = check_submission(path, listing)
    assert [finding.note for finding in findings] == [True] and is_valid(findings)


def test_check_shows_the_first_ten_and_counts_the_rest(bench):
    listing, path = bench
    path.write_bytes(re.sub(rb",[0-6]\n", b",9\n", VALID))
    (finding,) = check_submission(path, listing)
    assert finding.count == 15 and len(finding.examples) == 10
    assert "line 2" in str(finding) and "and 5 more" in str(finding)


def test_check_of_a_film_or_nothing_does_not_break(bench, tmp_path):
    listing, path = bench
    path.write_bytes(np.random.default_rng(0).bytes(200_000))
    assert not is_valid(check_submission(path, listing))
    with pytest.raises(UserError, match="Cannot read"):
        check_submission(tmp_path / "absent.txt", listing)


# ---------------------------------------------------------------- truth


def test_truth_reads_numbers_names_and_frames_not_scored(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text(
        "image_location,label\n01/00001.jpg,6\n01/00002.jpg,Sadly Angry\n01/00003.jpg,-1\n"
        "01/00004.jpg,\n01/00005.jpg,Happily_Surprised\r\n02/00001.jpg,fear+surprise"
    )
    assert list(submission.read_truth(path).values()) == [6, 6, -1, -1, 1, 0]


@pytest.mark.parametrize(
    "row",
    [
        "01/00001.jpg,7",
        "01/00001.jpg,joy",
        "01/00001.jpg,happy",
        "01/00001.jpg,Happily Disgusted",
        "01/1.jpg,1",
        "01/00001.jpg",
        "01/00009.jpg,2",
    ],
)
def test_truth_of_wrong_form_is_refused_with_its_line(tmp_path, row):
    path = tmp_path / "truth.csv"
    path.write_text(f"image_location,label\n01/00009.jpg,1\n{row}\n")
    with pytest.raises(UserError, match="line 3"):
        submission.read_truth(path)

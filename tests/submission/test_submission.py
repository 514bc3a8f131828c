"""The submission: every listed frame once, gaps filled as promised, every flaw of a file found."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.script.files import UserError
from common.submission import files as submission
from common.submission.checking import check_submission, is_valid
from common.submission.truth import read_truth

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
    difference = "line 1: .* column 2 is 'happily_surprised', not 'fearfully_surprised'"
    with pytest.raises(UserError, match=difference):
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
        (lambda t: t + b"99/00001.jpg,1\n", "not in the list", "line 17"),
        (lambda t: t + b"01/00001.jpg,1\n", "more than once", "line 17: 01/00001.jpg, first in"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg,7"), "whole number", "line 3: '7'"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg,1.0"), "whole number", "line 3"),
        (lambda t: t.replace(b"01/00002.jpg,1", b"01/00002.jpg,"), "whole number", "line 3"),
        (
            lambda t: t.replace(b"Sadly_Angry", b"Sad_Angry"),
            "header",
            "line 1: column 8 is 'Sad_Angry', not 'Sadly_Angry'",
        ),
        (lambda t: t.replace(b",Sadly_Angry", b""), "header", "it has 7 columns, not 8"),
        (lambda t: t.split(b"\n", 1)[1], "header", "line 1: column 1 is '01/00001.jpg', not"),
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
    assert "the file is empty" in {one.what for one in check_submission("/dev/null", listing)}
    with pytest.raises(UserError, match="Cannot read"):
        check_submission(tmp_path / "absent.txt", listing)


# ---------------------------------------------------------------- truth


def test_truth_reads_numbers_names_and_frames_not_scored(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text(
        "image_location,label\n01/00001.jpg,6\n01/00002.jpg,Sadly Angry\n01/00003.jpg,-1\n"
        "01/00004.jpg,\n01/00005.jpg,Happily_Surprised\r\n02/00001.jpg,fear+surprise"
    )
    labels = [known.label for known in read_truth(path).values()]
    assert labels == [6, 6, -1, -1, 1, 0]


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
        read_truth(path)


@pytest.mark.parametrize("name", ["a,b", " a", "a ", "a\nb", 'a"b', "a\\b", "a\udcff"], ids=ascii)
def test_names_of_videos_that_cannot_stand_in_a_submission_are_refused(name):
    submission.check_video_names({"01": Path("01.mp4"), "ein Clip (2)": Path("b.mp4")})
    with pytest.raises(UserError, match="cannot stand in a submission"):
        submission.check_video_names({"01": Path("01.mp4"), name: Path(f"{name}.mp4")})

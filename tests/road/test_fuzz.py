"""Nothing that a stranger's file holds breaks the toolkit; `tests/fuzz.py` tries thousands."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from fuzz import watch
from helpers.raw_trees_emotions import affectnet_tree, expw_tree, rafce_tree, rafdb_tree, table_tree
from helpers.raw_trees_videos import affwild2_tree, mafw_tree
from helpers.running import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.emotions import CHALLENGE
from common.faces.video import pictures
from common.prepare.ledger import Ledger
from common.raw import reader_of
from common.raw.layout import Item, Skip
from common.script.config import make_parser, parse_arguments
from common.script.files import UserError
from common.script.flags import COMMON
from common.submission.checking import check_submission, is_valid
from common.submission.files import read_frame_list, read_submission
from common.submission.sources import read_frames
from common.submission.truth import read_truth

SHARED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Words that lists are made of, and anything else.
WORDS = st.one_of(
    st.sampled_from([*CHALLENGE, "image_location", "01/00001.jpg", "01/00002.jpg", "0", "6", "-1"]),
    st.sampled_from(["image", "label", "train_00001.jpg", "²", "٣", "../x.jpg", "/x", "", '"']),
    st.text(max_size=12),
)
LINES = st.lists(st.lists(WORDS, max_size=9), max_size=6)
SEPARATOR = st.sampled_from([",", " ", "\t", ";"])
END = st.sampled_from(["\n", "\r\n", "\r"])


def write(path: Path, lines, separator, end) -> Path:
    content = end.join(separator.join(line) for line in lines)
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    return path


def test_damaged_input_of_every_kind_is_refused_in_a_sentence():
    result = watch(seed=1, first=0, count=200, seconds=120)
    assert not result["faults"], "\n".join(map(str, result["faults"]))
    # On a busy machine not all of the 200 are reached.
    assert result["outcomes"]["refused"] and result["outcomes"]["read"]


def test_the_harness_sees_what_it_looks_for(tmp_path):
    """A crash, a traceback, a stray file, too much memory: each is reported, with its case."""
    faulty = {
        "crash": "import os; os.kill(os.getpid(), 11)",
        "trace": "1 / 0",
        "stray": "(box.parent / 'stray').touch()",
        "large": "import numpy; numpy.ones(300_000_000)",
    }
    copy = tmp_path / "tests"
    copy.mkdir()
    (copy / "fuzz.py").write_bytes((ROOT / "tests" / "fuzz.py").read_bytes())
    (copy / "helpers").mkdir()
    (tmp_path / "common").symlink_to(ROOT / "common")
    for name, code in faulty.items():
        (copy / "helpers" / "fuzz_targets.py").write_text(
            f"def case(box, seeds, chance):\n    {code}\nTARGETS = {{case: 1}}\n"
            "def make_seeds(place):\n    place.mkdir()\n"
        )
        command = [sys.executable, copy / "fuzz.py", "--count", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "case 0, case" in done.stdout, name


@SHARED
@given(lines=LINES, separator=SEPARATOR, end=END)
def test_lists_are_read_or_refused(tmp_path, lines, separator, end):
    path = write(tmp_path / "list.txt", lines, separator, end)
    whole = tmp_path / "whole.txt"
    whole.write_text(",".join(("image_location", *CHALLENGE)) + "\n01/00001.jpg,\n")
    for read in (read_frame_list, read_truth, read_submission):
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error)
    assert not is_valid(check_submission(path, whole))


@SHARED
@given(
    lines=LINES,
    separator=SEPARATOR,
    at=st.integers(1, 3),
    tree=st.sampled_from(["rafdb", "rafce", "affwild2", "mafw", "expw", "table"]),
)
def test_a_bad_row_of_an_annotation_costs_only_itself(tmp_path_factory, tree, lines, separator, at):
    build, name = {
        "rafdb": (rafdb_tree, "basic/EmoLabel/list_patition_label.txt"),
        "rafce": (rafce_tree, "RAFCE_emolabel.txt"),
        "affwild2": (affwild2_tree, "EXPR_Recognition_Challenge/Train_Set/1-30-1280x720.txt"),
        "mafw": (mafw_tree, "Train & Test Set/compound/no_caption/set_1/train.txt"),
        "expw": (expw_tree, "label/label.lst"),
        "table": (table_tree, "labels.csv"),
    }[tree]
    place = tmp_path_factory.getbasetemp() / f"fuzz-{tree}"
    if not place.exists():
        build(place)
        (place / "whole").write_bytes((place / name).read_bytes())
    whole = (place / "whole").read_text()
    good = whole.splitlines()
    head = good[: at if tree != "table" else 1]
    # A NUL says that the file is no text at all.
    bad = [re.sub("[\0\r\n]", "", separator.join(line)) for line in lines]
    found = []
    for text in ("\n".join([*head, *bad, *good[len(head) :]]), whole):
        (place / name).write_bytes(text.encode("utf-8", "replace"))
        items = reader_of(place).read(place, Counter())
        found.append({item.path for item in items if isinstance(item, Item)})
    # A bad row may name an image of a good one; and Aff-Wild2's rows are its frames, of which one
    # more shifts those behind it.
    named = {path for path in found[1] if Path(path).stem[:9] in "".join(bad)}
    assert tree == "affwild2" or not found[1] - found[0] - named


@SHARED
@given(
    content=st.one_of(
        st.text(max_size=200),
        st.builds(
            "[{}]\n{} = {}\n".format,
            st.sampled_from(["common", "curriculum", "curriculun", "a.b"]),
            st.sampled_from(["epochs", "model", "std", "model_options", "seed", "x"]),
            st.sampled_from(["1", "-1", "1e400", "nan", '"a"', "[1]", "[[1]]", "{a=1}", "true"]),
        ),
    )
)
def test_a_recipe_is_read_or_refused(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content.encode("utf-8", "replace"))
    try:
        parse_arguments(make_parser("x", *COMMON), "curriculum", ["--config", str(path)])
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("shape", ["(99999999999,)", f"({'1,' * 70})", "(-1,)", "()"])
def test_a_label_file_that_claims_a_giant_array_is_refused(tmp_path, shape):
    place = affectnet_tree(tmp_path / "AffectNet")
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    path = place / "train_set" / "annotations" / "0_exp.npy"
    path.write_bytes(np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header)
    found = list(reader_of(place).read(place, Counter()))
    refused = {skip.path for skip in found if isinstance(skip, Skip)}
    assert str(place / "train_set/images/0.jpg") in refused and len(found) == 11


# What the harness found first, kept.
def test_an_endless_file_name_costs_its_row_alone(tmp_path):
    place = table_tree(tmp_path / "Mine", [f"{'a' * 5000}.jpg,happy", "Ann_Lee_0001.jpg,happy"])
    found = list(reader_of(place).read(place, Counter()))
    assert [type(row) for row in found] == [Skip, Item]


def test_a_giant_frame_number_is_a_damaged_table(tmp_path):
    (tmp_path / "frames.csv").write_text(f"video,frame,image,decoded\n01,{'9' * 400},,1\n")
    with pytest.raises(UserError, match="damaged"):
        read_frames(tmp_path)


def test_a_film_with_a_title_in_another_encoding_is_read(tmp_path):
    path = tmp_path / "film.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf\u00e9 noir"
        stream = container.add_stream("mpeg4", rate=25)
        stream.height = stream.width = 32
        for packet in stream.encode(av.VideoFrame(32, 32, "yuv420p")):
            container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    content = path.read_bytes()
    assert "caf\u00e9".encode() in content
    path.write_bytes(content.replace("caf\u00e9".encode(), b"caf\xe9 "))
    assert len(list(pictures(path))) == 1


def test_a_damaged_line_of_the_ledger_is_as_if_it_were_not_there(tmp_path):
    with contextlib.closing(Ledger(tmp_path, {}, ["path", "hash"], 0, None)) as book:
        book.append([("a.jpg", "", ["a.jpg", "0f"]), ("b.jpg", "", ["b.jpg", "1f"])])
    path = tmp_path / "current-0.csv"
    path.rename(tmp_path / "done.csv")
    (tmp_path / "done.csv").write_bytes((tmp_path / "done.csv").read_bytes().replace(b"0f", b"<b>"))
    with contextlib.closing(Ledger(tmp_path, {}, ["path", "hash"], 0, None)) as book:
        assert list(book.find("a.jpg", "")) == []
        assert list(book.find("b.jpg", "")) == [["b.jpg", "1f"]]

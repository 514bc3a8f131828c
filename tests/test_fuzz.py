"""Nothing that a stranger's file holds breaks the toolkit; `tests/fuzz.py` tries thousands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fuzz import watch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_trees import (
    affectnet_tree,
    affwild2_tree,
    expw_tree,
    mafw_tree,
    rafce_tree,
    rafdb_tree,
    table_tree,
)
from toy_world import ROOT

from common.checking import check_submission, is_valid
from common.config import make_parser, parse_arguments
from common.emotions import CHALLENGE
from common.files import UserError
from common.flags import COMMON
from common.raw import reader_of
from common.raw.layout import Item, Skip
from common.submission import read_frame_list, read_submission, read_truth

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
    assert result["cases"] > 100  # all of them, but on a machine that is very busy
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
    (tmp_path / "common").symlink_to(ROOT / "common")
    for name, code in faulty.items():
        (copy / "fuzz_targets.py").write_text(
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
@given(content=st.one_of(st.text(max_size=200), st.builds(
    "[{}]\n{} = {}\n".format,
    st.sampled_from(["common", "curriculum", "curriculun", "a.b"]),
    st.sampled_from(["epochs", "model", "std", "model_options", "seed", "x"]),
    st.sampled_from(["1", "-1", "1e400", "nan", '"a"', "[1]", "[[1]]", "{a=1}", "true"]),
)))  # fmt: skip
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

"""The manifest: what is written is read, and every fault is named with its line."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from common.manifest import COLUMNS, check_manifest, read_manifest, votes, write_manifest
from common.script.files import UserError
from common.splits import folds, held_back, hold_out, thin_out, training_rows


def manifest(count=6, **columns):
    """A sound manifest; columns override."""
    frame = pd.DataFrame(
        {
            "image": [f"images/A, B/{i:03d}é.jpg" for i in range(count)],
            "dataset": "A, B",
            "split": ["train", "val", "test", "", "train", "train"][:count],
            "kind": ["single", "compound", "unlabelled", "single", "single", "compound"][:count],
            "labels": ["Fear", "Fear Surprise", "", "Neutral", "Contempt", "Anger Disgust"][:count],
            "subject": ["x", "", "NA", "null", "1", "1"][:count],
            "width": 100,
            "height": range(16, 16 + count),
            "hash": np.array([0, 1, 2**64 - 1, 2**63, 255, 7][:count], dtype=np.uint64),
        }
    )
    return frame.assign(**columns)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "manifest.csv"
    before = manifest()
    write_manifest(path, before)
    after = read_manifest(path)
    assert tuple(after.columns) == COLUMNS
    for name in COLUMNS:
        assert after[name].tolist() == before[name].tolist(), name
    for name in ("dataset", "split", "kind", "labels", "subject"):
        assert isinstance(after[name].dtype, pd.CategoricalDtype)
    assert after["hash"].dtype == np.uint64
    assert after["width"].dtype == after["height"].dtype == np.int32
    assert path.read_text(encoding="utf-8").splitlines()[3].endswith(",ffffffffffffffff")
    write_manifest(path, after)
    assert read_manifest(path).equals(after)


def test_parts_make_the_same_files_as_the_whole(tmp_path):
    frame = manifest()
    write_manifest(tmp_path / "whole.csv", frame)
    write_manifest(tmp_path / "parts.csv", (frame[at : at + 4] for at in (0, 4)))
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
    assert read_manifest(tmp_path / "whole.csv").equals(read_manifest(tmp_path / "parts.csv"))
    with pytest.raises(UserError, match="line 6: the split 'dev'"):
        write_manifest(tmp_path / "bad.csv", (frame[:4], frame[4:].assign(split="dev")))
    assert not (tmp_path / "bad.csv").exists()


COUNTS, SALIENCE = "6 0 0 1 0 0 3 0", "0 0.7 0 0 0 0.3 0 0"


def test_votes_are_a_distribution_and_cost_no_column_where_there_are_none(tmp_path):
    path, plain = tmp_path / "manifest.csv", tmp_path / "plain.csv"
    texts = [COUNTS, "", SALIENCE, "", "", COUNTS]
    write_manifest(path, manifest(votes=texts))
    write_manifest(plain, manifest())
    lines = plain.read_text("utf-8").splitlines()
    assert lines[0] == ",".join(COLUMNS)
    expected = [f"{line},{text}" for line, text in zip(lines, ["votes", *texts], strict=True)]
    assert path.read_text("utf-8").splitlines() == expected
    frame = read_manifest(path)
    assert tuple(frame.columns) == (*COLUMNS, "votes") and frame.votes.tolist() == texts
    found = votes(frame)
    assert found.dtype == np.float32 and np.isnan(found[[1, 3, 4]]).all()
    assert found[[0, 5]] == pytest.approx(np.array([[0.6, 0, 0, 0.1, 0, 0, 0.3, 0]] * 2))
    assert found[2] == pytest.approx([0, 0.7, 0, 0, 0, 0.3, 0, 0])
    assert votes(read_manifest(plain)).shape == (6, 8) and np.isnan(votes(manifest())).all()
    assert votes(frame[:0]).shape == votes(manifest()[:0]).shape == (0, 8)


def test_an_empty_manifest_is_one(tmp_path):
    write_manifest(tmp_path / "manifest.csv", manifest(0))
    assert len(read_manifest(tmp_path / "manifest.csv")) == 0


@pytest.mark.parametrize(
    ("column", "row", "value", "words"),
    [
        ("split", 2, "dev", "line 4: the split 'dev'"),
        ("kind", 0, "double", "line 2: the kind 'double'"),
        ("labels", 0, "Joy", "line 2: the labels 'Joy'"),
        ("labels", 0, "Anger Fear", "kind single"),
        ("labels", 1, "Surprise Fear", "line 3"),  # not alphabetical
        ("labels", 1, "Fear Neutral", "line 3"),
        ("labels", 2, "Fear", "kind unlabelled"),
        ("image", 4, "images/A, B/000é.jpg", "line 6: .* earlier line"),
        ("image", 5, "../x.jpg", "line 7: .* outside"),
        ("image", 5, "a/../../x.jpg", "outside"),
        ("image", 5, "/etc/passwd", "outside"),
        ("image", 5, r"C:\x.jpg", "outside"),
        ("image", 5, "", "outside"),
        ("width", 3, 0, "line 5: the width"),
        ("votes", 3, "1 2 3", "line 5: the votes '1 2 3' are not 8 numbers"),
        ("votes", 0, COUNTS + " 1", "line 2"),
        ("votes", 0, COUNTS.replace("6", "-6"), "line 2"),
        ("votes", 0, COUNTS.replace("6", "many"), "line 2"),
        ("votes", 0, COUNTS.replace("6", "nan"), "line 2"),
        ("votes", 0, COUNTS.replace("6", "inf"), "line 2"),
        ("votes", 0, COUNTS.replace(" ", "  "), "line 2"),
        ("votes", 0, "0 0 0 0 0 0 0 0", "line 2"),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path, column, row, value, words):
    frame = manifest(votes=[COUNTS, "", SALIENCE, "", "", ""])
    frame.loc[row, column] = value
    with pytest.raises(UserError, match=words):
        check_manifest(frame, tmp_path / "manifest.csv")
    with pytest.raises(UserError, match=words):
        write_manifest(tmp_path / "manifest.csv", frame)
    assert not list(tmp_path.iterdir())


def test_two_dots_in_a_name_are_no_escape():
    check_manifest(manifest(image=[f"images/a..b/..{i}.jpg" for i in range(6)]))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text.replace("image,", "picture,", 1), "line 1"),
        (lambda text: text.replace(",100,16,", ",wide,16,", 1), r"line \d: the width is 'wide'"),
        (lambda text: text.replace(",100,16,", ",100,,", 1), r"line \d: the height is ''"),
        (lambda text: text.rstrip()[:-17], "line 7 has 8 columns, not 9"),
        (lambda text: text.replace("ffffffffffffffff", "ffff"), "damaged.*line 4"),
        (lambda text: text.replace("ffffffffffffffff", "zzzzzzzzzzzzzzzz"), "damaged"),
        (lambda text: text.replace("ffffffffffffffff", "f" * 17), "damaged.*line 4"),
        (lambda text: text.replace("ffffffffffffffff", "ffffffff ffffffff"[:16]), "line 4"),
        (lambda text: text + "a,b,c,d,e,f,g,h,i,j,k,l\n", "line 8 has 12 columns"),
    ],
)
def test_a_damaged_file_is_a_user_error(tmp_path, edit, words):
    path = tmp_path / "manifest.csv"
    write_manifest(path, manifest())
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_manifest(path)


def test_a_missing_manifest_names_the_script_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"01_prepare_data\.py"):
        read_manifest(tmp_path / "manifest.csv")


def test_what_is_read_is_checked(tmp_path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, manifest())
    path.write_text(path.read_text(encoding="utf-8").replace("images/A, B/001", "../001"), "utf-8")
    with pytest.raises(UserError, match=r"manifest\.csv, line 3: the image .* points outside"):
        read_manifest(path)


def test_folds_never_split_a_person_and_balance_the_labels():
    random = np.random.default_rng(0)
    person = random.integers(0, 60, 1200)
    frame = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(1200)],
            "dataset": np.where(person % 2, "A", "B"),
            "labels": random.choice(["Fear", "Anger", "Anger Fear"], 1200, p=[0.6, 0.3, 0.1]),
            "subject": [f"p{p // 2}" for p in person],  # p0 of A is not p0 of B
        }
    )
    result = folds(frame, 5, seed=3)
    assert result.dtype == np.int64 and set(result) == set(range(5))
    assert (frame.assign(fold=result).groupby(["dataset", "subject"])["fold"].nunique() == 1).all()
    shares = frame.assign(fold=result).groupby("fold")["labels"].value_counts(normalize=True)
    assert (abs(shares.unstack()["Fear"] - 0.6) < 0.08).all()
    assert (result == folds(frame, 5, seed=3)).all()
    assert (result != folds(frame, 5, seed=4)).any()


def test_folds_of_very_many_people_are_made_at_once_and_are_as_good():
    random = np.random.default_rng(0)
    person = random.zipf(1.4, 200_000) % 50_000
    labels = random.choice(["Fear", "Anger", "Anger Fear", ""], 200_000, p=[0.6, 0.3, 0.01, 0.09])
    frame = pd.DataFrame({"image": np.arange(200_000).astype(str), "dataset": "A"})
    frame = frame.assign(labels=labels, subject=np.where(person < 40_000, person.astype(str), ""))
    started = time.process_time()
    result = folds(frame, 5, seed=3)
    assert time.process_time() - started < 5  # by scikit-learn it takes more than a minute
    frame["fold"] = result
    known = frame[frame.subject != ""]
    assert (known.groupby("subject")["fold"].nunique() == 1).all()
    # The largest person has a third of all rows, which no fold can share.
    sizes = frame[frame.subject != frame.subject.mode()[0]].groupby("labels")["fold"]
    for _, rows in sizes:
        if len(rows) > 5000:
            assert rows.value_counts(normalize=True).std() < 0.12
    assert (result == folds(frame, 5, seed=3)).all() and (result != folds(frame, 5, seed=4)).any()
    alone = frame.assign(subject="")
    shares = alone.assign(fold=folds(alone, 5, seed=0)).groupby(["labels", "fold"]).size()
    assert (shares.groupby("labels").max() - shares.groupby("labels").min()).max() <= 2


def test_images_without_a_subject_stand_for_themselves():
    frame = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(100)],
            "dataset": "A",
            "labels": "Fear",
            "subject": "",
        }
    )
    assert np.bincount(folds(frame, 4, seed=0)).tolist() == [25] * 4
    with pytest.raises(UserError, match="more are needed"):
        folds(frame.assign(subject="one"), 4, seed=0)


def datasets():
    """Owners' splits (A: train, val, test; B: train, test), a table without splits, and faces."""
    parts = []
    for name, splits in {"A": ["train", "val", "test"], "B": ["train", "test"], "C": [""]}.items():
        part = manifest(6, dataset=name, kind="single", labels=["Fear", "Anger"] * 3)
        parts += [part.assign(split=split, subject=list("uvwxyz")) for split in splits]
    parts.append(manifest(6, dataset="Faces", split="", kind="unlabelled", labels=""))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(image=[f"{row}.jpg" for row in range(len(frame))])


def test_held_out_rows_are_the_owners_or_one_of_five_folds():
    frame = datasets()
    held = hold_out(frame)
    assert frame[held & (frame.dataset == "A")].split.unique().tolist() == ["val"]
    assert frame[held & (frame.dataset == "B")].split.unique().tolist() == ["test"]
    assert held[frame.split.isin(["val"])].all() and not held[frame.split == "train"].any()
    assert 1 <= held[frame.dataset == "C"].sum() <= 2
    assert not held[frame.dataset == "Faces"].any()


def test_nobody_is_on_both_sides_of_a_split_that_we_make():
    random = np.random.default_rng(0)
    people = random.integers(0, 30, 200).astype(str)
    labels = random.choice(["Fear", "Anger", "Happiness"], 200)
    names = [f"{row}.jpg" for row in range(200)]
    frame = pd.DataFrame(
        {"image": names, "dataset": "C", "split": "", "kind": "single", "labels": labels}
    ).assign(subject=people)
    held = hold_out(frame)
    assert 20 <= held.sum() <= 60
    assert not set(people[held]) & set(people[~held])


@pytest.mark.parametrize("categorical", [True, False])
def test_training_sees_no_held_person_and_no_held_picture(categorical):
    rows = [
        # dataset, split, subject, hash, held, may be seen by training
        ("A", "val", "ann", 5, True, False),
        ("A", "train", "ann", 6, False, False),
        ("B", "train", "ann", 7, False, True),  # another ann
        ("A", "train", "bob", 5, False, False),
        ("B", "", "", 5, False, False),
        ("B", "", "", 8, False, True),
        ("A", "val", "", 0, True, False),
        ("A", "val", "", 2**64 - 1, True, False),
        ("A", "train", "", 0, False, True),  # flat pictures are not the same picture
        ("A", "train", "", 2**64 - 1, False, True),
        ("A", "test", "eve", 9, False, False),
        ("A", "train", "eve", 10, False, True),
        ("B", "train", "", 2**64 - 2, False, True),
        ("B", "", "", 2**64 - 3, True, False),
        ("B", "train", "", 2**64 - 3, False, False),
    ]
    columns = dict(
        zip(("dataset", "split", "subject", "hash"), zip(*rows, strict=True), strict=False)
    )
    frame = pd.DataFrame(columns | {"hash": np.array(columns["hash"], dtype=np.uint64)})
    if categorical:
        frame = frame.astype({name: "category" for name in ("dataset", "split", "subject")})
    frame.index += 100
    held = pd.Series([row[4] for row in rows], index=frame.index)
    seen = training_rows(frame, held)
    assert seen.dtype == bool and seen.index.equals(frame.index)
    assert seen.tolist() == [row[5] for row in rows]
    lost = sum(row[1] in ("train", "") and not (row[4] or row[5]) for row in rows)
    note = f"; {lost} left out, whose person or photograph is held out"
    assert lost and held_back(frame, seen, held) == note
    assert held_back(frame[seen | held], seen[seen | held], held[seen | held]) == ""


def test_a_limit_keeps_every_data_set():
    frame = datasets()
    few = thin_out(frame, 12)
    assert len(few) == 12 and set(few.dataset) == {"A", "B", "C", "Faces"}
    assert thin_out(frame, None) is frame
    assert thin_out(frame, 10**6) is frame


@pytest.mark.parametrize("people", [1, 2, 3])
def test_a_table_of_few_people_is_divided_as_far_as_it_goes(people):
    frame = manifest(6, dataset="C", split="", kind="single", labels=["Fear", "Anger"] * 3)
    held = hold_out(frame.assign(subject=[str(row % people) for row in range(6)]))
    assert held.sum() == (0 if people == 1 else 6 // people)

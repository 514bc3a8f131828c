"""Votes: what the rule makes of them, FERPlus with them, and their way through 01."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.preparing import prepare, rows_of
from helpers.raw_files import REAL, faults, read
from helpers.raw_trees_emotions import fer2013_tree, ferplus_tree

from common.emotions import ADAPTATION
from common.raw import fer2013, ferplus, votes
from common.script.files import UserError


def ballot(**given):
    return [given.get(name.lower(), 0) for name in ADAPTATION]


@pytest.mark.parametrize(
    ("given", "rule", "labels"),
    [
        (dict(surprise=4, fear=3), (3, 7), ("Fear", "Surprise")),
        (dict(surprise=5, fear=5), (3, 7), ("Fear", "Surprise")),
        (dict(surprise=8, fear=2), (3, 7), ("Surprise",)),  # the second too weak
        (dict(anger=3, sadness=3, neutral=4), (3, 7), ()),  # together too weak, no majority
        (dict(anger=3, sadness=3, neutral=4), (3, 6), ("Anger", "Sadness")),
        (dict(happiness=7, surprise=3), (4, 7), ("Happiness",)),
        (dict(neutral=6, sadness=4), (3, 7), ("Neutral",)),  # Neutral is no part of a compound
        (dict(contempt=6, disgust=4), (3, 7), ("Contempt",)),
        (dict(happiness=4, surprise=3, fear=3), (3, 7), ("Happiness", "Surprise")),  # a tie
        (dict(happiness=5, neutral=4, fear=1), (3, 7), ("Happiness",)),  # 5 of 9: one alone is none
        (dict(happiness=5, neutral=3, fear=2), (3, 7), ()),
        (dict(), (3, 7), ()),
    ],
)
def test_votes_make_a_compound_or_the_majoritys_single(given, rule, labels):
    assert votes.labels_of(ballot(**given), rule) == labels


def test_ferplus_of_the_owners_script_has_singles_compounds_and_votes(tmp_path):
    place = ferplus_tree(tmp_path / "data")
    items, skips, counts = read(ferplus, place)
    found = {name: (i.split, i.kind, i.labels) for name, i in items.items()}
    assert found == {
        "FERPlus/train/fer0000000.png.jpg": ("train", "single", "Anger"),
        "FERPlus/train/fer0000002.png.jpg": ("train", "compound", "Fear Surprise"),
        "FERPlus/train/fer0000003.png.jpg": ("train", "single", "Surprise"),
        "FERPlus/train/fer0000004.png.jpg": ("train", "unlabelled", ""),  # no majority
        "FERPlus/val/fer0028638.png.jpg": ("val", "single", "Contempt"),
        "FERPlus/test/fer0032220.png.jpg": ("test", "compound", "Anger Sadness"),
    }
    # Surprise, Fear, Disgust, Happiness, Sadness, Anger, Neutral, Contempt.
    assert items["FERPlus/train/fer0000000.png.jpg"].votes == (0, 0, 0, 0, 1, 5, 4, 0)
    assert items["FERPlus/train/fer0000003.png.jpg"].votes == (5, 2, 0, 0, 1, 0, 0, 2)
    assert skips == [
        ("label.csv:5", "not a row of 12 fields"),
        ("fer0000777.png", "no votes in its list"),
        ("label.csv:6", "listed image is missing"),
        ("fer0028639.png", "the majority says unknown"),
        ("fer0032221.png", "the majority says NF"),
    ]
    assert faults(ferplus, place) == ["label.csv:5", "fer0000777.png", "label.csv:6"]
    assert counts == {
        "compounds by votes, 3 or more each and 7 or more together": 2,
        "singles by the majority of votes": 3,
        "votes without a majority, which make no label": 1,
    }
    strict = Counter()
    list(ferplus.read(place, strict, votes_rule=(4, 8)))
    assert strict == {
        "singles by the majority of votes": 4,
        "votes without a majority, which make no label": 2,
    }  # 7 of sadness to 3 of anger; 4 of surprise and 3 of fear


def test_ferplus_takes_the_newer_votes_where_they_are(tmp_path):
    place = ferplus_tree(tmp_path / "data", newer=True)
    items, skips, _ = read(ferplus, place)
    assert {name.split("/")[1]: i.labels for name, i in items.items()} == {
        "train": "Happiness",
        "val": "Happiness Surprise",
    }
    assert [reason for _, reason in skips] == ["no votes in its list"] * 7


def test_ferplus_without_its_votes_says_so(tmp_path):
    place = ferplus_tree(tmp_path / "data")
    (place / "data" / "FER2013Valid" / "label.csv").unlink()
    with pytest.raises(UserError, match=r"lacks its votes .*FER2013Valid/label\.csv"):
        ferplus.read(place, Counter())


def test_ferplus_beside_the_pixels_has_the_same_votes(tmp_path):
    place = fer2013_tree(tmp_path / "data", votes=True)
    items, _, _ = read(fer2013, place)
    assert items["FERPlus/train/fer0000000.jpg"].votes == (0, 0, 0, 0, 1, 5, 4, 0)
    plain = fer2013_tree(tmp_path / "plain")
    assert {i.votes for i in read(fer2013, plain)[0].values()} == {()}


def test_votes_reach_the_manifest_and_a_changed_rule_relabels(tmp_path, capsys):
    ferplus_tree(tmp_path / "raw" / "FER")
    flags = ("--duplicates", "keep", "--min-sharpness", "0", "--accept-losses")
    prepared = prepare(tmp_path, *flags)
    assert "compounds by votes, 3 or more each and 7 or more together: 2" in capsys.readouterr().out
    rows = rows_of(prepared / "manifest.csv")
    before = {r["image"]: r["labels"] for r in rows}
    noted = {r["image"].rpartition("/")[2]: r["votes"] for r in rows}
    assert noted["fer0000002.png.jpg"] == "4 3 0 0 0 0 0 0"
    given = {r["image"].rpartition("/")[2]: r["votes"] for r in rows_of(prepared / "manifest.csv")}
    assert given == {name: noted[name] for name in given} and len(given) == 6
    prepare(tmp_path, *flags, "--votes-rule", "4", "8")
    after = {r["image"]: r["labels"] for r in rows_of(prepared / "manifest.csv")}
    assert before["images/FERPlus/test/fer0032220.png.jpg"] == "Anger Sadness"
    assert after["images/FERPlus/test/fer0032220.png.jpg"] == "Sadness"


# Of fer2013new.csv, independently counted; the challenge's seven in its order.
COMPOUNDS = {
    "train": (590, 411, 32, 1, 199, 120, 165),
    "val": (66, 49, 3, 0, 21, 13, 19),
}


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/real: the real votes are not here")
def test_the_real_votes_make_the_known_numbers_of_compounds():
    from common.emotions import challenge_class
    from common.raw.lists import table_rows

    found = {split: [0] * 7 for split in COMPOUNDS}
    usages = {"Training": "train", "PublicTest": "val"}
    for _, row in table_rows(REAL / "ferplus" / ferplus.TABLE, ("Usage", *ferplus.CHOICES)):
        if row["Usage"] in usages:
            given = {name: int(row[name]) for name in ferplus.CHOICES[:8]}
            number = challenge_class(" ".join(votes.labels_of(ballot(**given), votes.RULE)))
            if number >= 0:
                found[usages[row["Usage"]]][number] += 1
    assert {split: tuple(numbers) for split, numbers in found.items()} == COMPOUNDS

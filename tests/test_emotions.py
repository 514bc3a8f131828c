"""Names and numbers are those of each data set's owners; the decision is the paper's."""

import numpy as np
import pytest

from common import emotions
from common.emotions import BASIC, CHALLENGE, RAF11, RAFCE14


def test_logits_are_in_the_order_of_the_authors_code():
    assert BASIC == ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger")


def test_challenge_classes_are_the_official_header():
    header = (
        "Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
        "Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
    )
    assert ",".join(CHALLENGE) == header


# Typed from the owners' documentation: RAF-DB counts from 1, RAF-CE from 0 in another order.
RAF_DB = """1 Happily Surprised 2 Happily Disgusted 3 Sadly Fearful 4 Sadly Angry 5 Sadly Surprised
6 Sadly Disgusted 7 Fearfully Angry 8 Fearfully Surprised 9 Angrily Surprised 10 Angrily Disgusted
11 Disgustedly Surprised"""
RAF_CE = """0 Happily surprised 1 Happily disgusted 2 Sadly fearful 3 Sadly angry 4 Sadly surprised
5 Sadly disgusted 6 Fearfully angry 7 Fearfully surprised 8 Fearfully disgusted 9 Angrily surprised
10 Angrily disgusted 11 Disgustedly surprised 12 Happily fearful 13 Happily sad"""


@pytest.mark.parametrize("names, first, facts", [(RAF11, 1, RAF_DB), (RAFCE14, 0, RAF_CE)])
def test_compound_numbers_are_the_owners(names, first, facts):
    words = facts.split()
    official = {int(words[i]): " ".join(words[i + 1 : i + 3]) for i in range(0, len(words), 3)}
    assert {i: name.lower() for i, name in enumerate(names, first)} == {
        number: name.lower() for number, name in official.items()
    }


@pytest.mark.parametrize("names", [CHALLENGE, RAF11, RAFCE14])
def test_every_compound_name_has_two_emotions_of_its_own(names):
    pairs = [emotions.parse_labels(name) for name in names]
    assert len(set(pairs)) == len(names)
    for name, pair in zip(names, pairs, strict=True):
        first, second = emotions.parts_of(name)
        assert first != second and sorted((BASIC[first], BASIC[second])) == list(pair)


def test_challenge_pairs_are_the_right_emotions():
    named = [(BASIC[a], BASIC[b]) for a, b in emotions.CHALLENGE_PAIRS]
    assert named == [
        ("Fear", "Surprise"),
        ("Happiness", "Surprise"),
        ("Sadness", "Surprise"),
        ("Disgust", "Surprise"),
        ("Anger", "Surprise"),
        ("Sadness", "Fear"),
        ("Sadness", "Anger"),
    ]


# MAFW's challenge subset: class 0..6 and its spelling in the owners' lists.
@pytest.mark.parametrize(
    "number, text",
    [
        (0, "fear_surprise"),
        (1, "happiness_surprise"),
        (2, "sadness_surprise"),
        (3, "disgust_surprise"),
        (4, "anger_surprise"),
        (5, "fear_sadness"),
        (6, "anger_sadness"),
    ],
)
def test_mafw_labels_become_challenge_classes(number, text):
    assert emotions.challenge_class(" ".join(emotions.parse_labels(text))) == number
    assert emotions.challenge_class(" ".join(reversed(emotions.parse_labels(text)))) == number


@pytest.mark.parametrize("labels", ["", "Fear", "Neutral", "Disgust Happiness", "Anger Fear"])
def test_what_is_none_of_the_seven_has_no_class(labels):
    assert emotions.challenge_class(labels) == -1


@pytest.mark.parametrize(
    "text, names",
    [
        ("happy", ("Happiness",)),
        ("SADNESS", ("Sadness",)),
        (" Surprised\r\n", ("Surprise",)),
        ("afraid", ("Fear",)),
        ("angry", ("Anger",)),
        ("disgusted", ("Disgust",)),
        ("Neutral", ("Neutral",)),
        ("contempt", ("Contempt",)),
        ("Sadly Angry", ("Anger", "Sadness")),
        ("Angrily_Surprised", ("Anger", "Surprise")),
        ("fear+surprise", ("Fear", "Surprise")),
        ("fear|surprise", ("Fear", "Surprise")),
        ("fear;surprise", ("Fear", "Surprise")),
        ("happy happiness", ("Happiness",)),
    ],
)
def test_labels_are_read_as_people_write_them(text, names):
    assert emotions.parse_labels(text) == names


@pytest.mark.parametrize(
    "text", ["", "  ", "3", "bored", "happy sad angry", "neutral happy", "contempt_anger"]
)
def test_a_label_that_says_nothing_certain_is_refused(text):
    with pytest.raises(ValueError):
        emotions.parse_labels(text)


def test_multi_hot_marks_each_emotion_of_a_label():
    assert emotions.multi_hot("Fear Surprise").tolist() == [1, 1, 0, 0, 0, 0]
    assert emotions.multi_hot("Anger").tolist() == [0, 0, 0, 0, 0, 1]
    assert emotions.multi_hot("Neutral").sum() == emotions.multi_hot("").sum() == 0
    assert emotions.multi_hot("Anger").dtype == np.float32
    with pytest.raises(ValueError):
        emotions.multi_hot("anger")


def test_decision_rules_by_hand():
    # Surprise 0.9, Fear 0.1, Disgust 0.4, Happiness 0.0, Sadness 0.8, Anger 0.6
    probabilities = np.array([[0.9, 0.1, 0.4, 0.0, 0.8, 0.6]])
    expected = {
        "sum": [1.0, 0.9, 1.7, 1.3, 1.5, 0.9, 1.4],
        "geometric": [0.3, 0.0, 0.72**0.5, 0.6, 0.54**0.5, 0.08**0.5, 0.48**0.5],
        "harmonic": [0.18, 0.0, 1.44 / 1.7, 0.72 / 1.3, 1.08 / 1.5, 0.16 / 0.9, 0.96 / 1.4],
    }
    assert expected.keys() == emotions.RULES.keys()
    for rule, scores in expected.items():
        np.testing.assert_allclose(emotions.compound_scores(probabilities, rule), [scores])
    assert emotions.compound_scores(np.zeros((3, 6)), "harmonic").tolist() == [[0.0] * 7] * 3


def test_a_misspelt_expression_is_told_the_nearest():
    with pytest.raises(ValueError, match=r"'hapiness' in 'hapiness' \(like happiness\?\)"):
        emotions.parse_labels("hapiness")
    with pytest.raises(ValueError, match=r"known: .*Happiness"):
        emotions.parse_labels("qqq")

"""What a network is to answer: labels, or the votes of people."""

import numpy as np
import pandas as pd
import pytest

from common.batches.curriculum import Mixing, draw_epoch
from common.batches.targets import Stock, targets_of, taught
from common.emotions import ADAPTATION

# labels, kind, votes in the order of ADAPTATION: Surprise Fear Disgust Happiness Sadness Anger
# Neutral Contempt
ROWS = [
    ("Surprise", "single", "7 1 0 0 0 0 2 0"),
    ("Anger Fear", "compound", "0 4 0 0 0 4 1 1"),
    ("Disgust Happiness", "compound", "0 0 0.3 0.7 0 0 0 0"),
    ("Sadness", "single", "1 1 1 1 1 1 1 1"),
    ("Neutral", "single", ""),
    ("Contempt", "single", ""),
    ("Fear Surprise", "compound", ""),
    ("Anger", "single", ""),
    ("", "unlabelled", "0 0 0 0 4 2 4 0"),
    ("", "unlabelled", ""),
]


@pytest.fixture
def rows():
    return pd.DataFrame(ROWS, columns=["labels", "kind", "votes"])


def share(**shares):
    return [shares.get(name, 0) for name in ADAPTATION]


def test_votes_become_distributions_without_those_of_a_single_person(rows):
    targets = targets_of(rows, "softmax", 2)
    expected = [
        share(Surprise=7 / 9, Neutral=2 / 9),
        share(Fear=0.5, Anger=0.5),
        share(Disgust=0.3, Happiness=0.7),  # shares are no persons
        [1 / 8] * 8,  # nobody agrees: all stay
        share(Neutral=1),
        share(Contempt=1),
        share(Fear=0.5, Surprise=0.5),
        share(Anger=1),
        share(Sadness=0.4, Anger=0.2, Neutral=0.4),
        share(),
    ]
    assert targets.dtype == np.float32 and targets == pytest.approx(np.array(expected))
    everyone = targets_of(rows, "softmax", 1)
    assert everyone[0] == pytest.approx(share(Surprise=0.7, Fear=0.1, Neutral=0.2))


def test_other_losses_see_the_labels_whatever_the_votes(rows):
    for loss in ("bce", "bmc"):
        targets = targets_of(rows, loss, 2)
        assert targets.shape == (10, 6)
        assert targets.sum(1).tolist() == [1, 2, 2, 1, 0, 0, 2, 1, 0, 0]


def test_softmax_learns_from_every_single_and_from_all_images_with_votes(rows):
    assert taught(rows, "bce").to_numpy().nonzero()[0].tolist() == [0, 3, 7]
    found = taught(rows, "softmax").to_numpy().nonzero()[0]
    assert found.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    plain = rows.drop(columns="votes")
    assert taught(plain, "softmax").to_numpy().nonzero()[0].tolist() == [0, 3, 4, 5, 7]


@pytest.mark.parametrize("label", ["union", "soft"])
def test_generated_compounds_mix_distributions(label):
    words = {"Surprise": "8 0 0 0 0 0 2 0", "Happiness": "0 0 0 6 0 0 2 2", "Neutral": ""}
    table = [(name, "single", words[name]) for name in words for _ in range(3)]
    rows = pd.DataFrame(table, columns=["labels", "kind", "votes"])
    everything = pd.Series(True, index=rows.index)
    stock = Stock.of(rows, everything, {"loss": "softmax", "least_votes": 2, "order": "label"})
    mixing = Mixing(natural_share=0.0, label=label)
    plan, counts = draw_epoch(stock, 40, 20, mixing, np.random.default_rng(0))
    assert counts["generated:Happily_Surprised"] == counts["generated"] == 20
    assert counts["single:Neutral"] > 0 and counts["single:Happiness"] > 0
    mixed = plan.second >= 0
    assert plan.targets.sum(1) == pytest.approx(np.ones(40))
    one, other = (stock.targets[rows[mixed]] for rows in (plan.first, plan.second))
    part = plan.extent[mixed, None] if label == "soft" else 0.5
    assert plan.targets[mixed] == pytest.approx(part * one + (1 - part) * other)
    assert plan.targets[~mixed] == pytest.approx(stock.targets[plan.first[~mixed]])

"""What an epoch of the curriculum shows is what was asked for, counted."""

import numpy as np
import pytest

from common.augment import CUTMIX, MIXUP, SINGLE
from common.curriculum import Sources, draw_epoch, stage_of
from common.emotions import CHALLENGE_PAIRS

PAIRS = {frozenset(pair) for pair in CHALLENGE_PAIRS}


def sources(natural=10, emotions=(0, 1, 2, 3, 4, 5)):
    single = np.zeros((120, 6), dtype=np.float32)
    single[np.arange(120), np.random.default_rng(0).choice(emotions, 120)] = 1
    compound = np.zeros((natural, 6), dtype=np.float32)
    for row in range(natural):
        compound[row, list(CHALLENGE_PAIRS[row % 7])] = 1
    return Sources(
        np.concatenate([single, compound]), np.arange(120), np.arange(120, 120 + natural)
    )


def draw(share, natural_share=0.5, count=700, mixes=("mixup", "cutmix"), seed=0, **kinds):
    return draw_epoch(
        sources(**kinds), share, count=count, natural_share=natural_share, pairs=CHALLENGE_PAIRS,
        mixes=mixes, random=np.random.default_rng(seed),
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 1.0])
def test_every_batch_has_the_stated_share_of_compounds(share):
    plan, account = draw(share)
    compound = plan.targets.sum(1) == 2
    for start in range(0, 700, 64):
        batch = compound[start : start + 64]
        assert abs(batch.sum() - share * len(batch)) <= 1
    assert account["single"] == round(700 * (1 - share)) == (~compound).sum()
    assert account["natural"] == (compound & (plan.first >= 120)).sum() == round(350 * share)
    assert account["generated"] == (plan.second >= 0).sum()


def test_generated_compounds_are_even_over_the_seven_and_labelled_with_both():
    plan, account = draw(1.0, natural_share=0.0)
    assert account == {"single": 0, "natural": 0, "generated": 700}
    truth = sources().targets
    emotions = truth[plan.first].argmax(1), truth[plan.second].argmax(1)
    found = [frozenset((int(a), int(b))) for a, b in zip(*emotions, strict=True)]
    assert set(found) == PAIRS
    assert all(found.count(pair) == 100 for pair in PAIRS)
    for row in range(700):
        assert set(np.flatnonzero(plan.targets[row])) == found[row]
    assert (plan.mix == MIXUP).sum() == (plan.mix == CUTMIX).sum() == 350
    # either emotion may be the first, the one that mixup shows at a tenth
    surprise_first = (emotions[0] == 0).mean()
    assert 0.2 < surprise_first < 0.5


def test_singles_and_naturals_are_never_mixed():
    plan, _ = draw(0.4)
    lone = plan.second < 0
    assert (plan.mix[lone] == SINGLE).all() and (plan.mix[~lone] != SINGLE).all()
    assert np.array_equal(plan.targets[lone], sources().targets[plan.first[lone]])


def test_every_single_is_seen_once_before_any_is_seen_twice():
    plan, _ = draw(0.0, count=250)
    seen = np.bincount(plan.first, minlength=120)
    assert set(seen.tolist()) == {2, 3}


def test_missing_kinds_are_replaced_by_the_others():
    assert draw(1.0, natural=0)[1] == {"single": 0, "natural": 0, "generated": 700}
    assert draw(1.0, mixes=())[1] == {"single": 0, "natural": 700, "generated": 0}
    assert draw(1.0, mixes=(), natural=0)[1] == {"single": 700, "natural": 0, "generated": 0}
    plan, _ = draw(1.0, natural=0, emotions=(0, 1, 4))  # no anger, happiness, disgust
    made = {frozenset(np.flatnonzero(row)) for row in plan.targets}
    assert made == {frozenset({0, 1}), frozenset({0, 4}), frozenset({1, 4})}


def test_a_seed_repeats_an_epoch_and_another_changes_it():
    first, again, other = (draw(0.4, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.first, again.first) and np.array_equal(first.mix, again.mix)
    assert not np.array_equal(first.first, other.first)


def test_epochs_belong_to_the_papers_sub_stages():
    assert [stage_of(epoch, (5, 5, 3, 3)) for epoch in range(16)] == [0] * 5 + [1] * 5 + [2] * 3 + [
        3
    ] * 3

"""What an epoch of the curriculum shows is what was asked for, counted."""

import numpy as np
import pytest

from common.batches.batch import BOX, FACS, LEFT_RIGHT, MIXUP, SINGLE, TOP_BOTTOM
from common.batches.curriculum import (
    PAIRS,
    Mixing,
    Sources,
    Timetable,
    draw_epoch,
    epoch_size,
    stage_of,
    without_effect,
)
from common.emotions import BASIC, CHALLENGE_PAIRS

CHALLENGE7 = {frozenset(pair) for pair in CHALLENGE_PAIRS}


def sources(natural=10, emotions=(0, 1, 2, 3, 4, 5)):
    single = np.zeros((120, 6), dtype=np.float32)
    single[np.arange(120), np.random.default_rng(0).choice(emotions, 120)] = 1
    compound = np.zeros((natural, 6), dtype=np.float32)
    for row in range(natural):
        compound[row, list(CHALLENGE_PAIRS[row % 7])] = 1
    return Sources(
        np.concatenate([single, compound]), np.arange(120), np.arange(120, 120 + natural)
    )


def draw(share, count=700, seed=0, natural=10, emotions=(0, 1, 2, 3, 4, 5), **mixing):
    return draw_epoch(
        sources(natural, emotions),
        count,
        round(share * count),
        Mixing(**mixing),
        np.random.default_rng(seed),
    )


def kinds(account):
    return {kind: number for kind, number in account.items() if ":" not in kind}


def emotions_of(plan, truth):
    """The emotion of the first and of the second image of each generated compound."""
    mixed = plan.second >= 0
    return truth[plan.first[mixed]].argmax(1), truth[plan.second[mixed]].argmax(1)


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


def test_shares_of_the_set_are_of_the_compounds_there_are():
    everything = sources(natural=10)
    # 10 natural ones are half of a compound set of 20; four fifths of it join all 120 singles
    assert epoch_size(0.8, "set", 120, everything, 0.5) == (136, 16)
    plan, account = draw_epoch(everything, 136, 16, Mixing(), np.random.default_rng(0))
    assert kinds(account) == {"single": 120, "natural": 8, "generated": 8}
    assert sorted(plan.first[plan.first < 120][plan.second[plan.first < 120] < 0]) == list(
        range(120)
    )
    assert epoch_size(1.0, "set", 120, everything, 1.0) == (130, 10)
    assert epoch_size(0.5, "set", 120, sources(natural=0), 0.5) == (180, 60)
    assert epoch_size(0.4, "batch", 120, everything, 0.5) == (120, 48)
    # without a generator the set is of the natural ones alone
    settings = dict(
        epoch_images=None,
        compound_share_of="set",
        natural_share=0.5,
        mixes=[],
        global_batch=8,
        compound_shares=[0.5, 1.0],
        stage_epochs=[1, 1],
    )
    assert Timetable.of(settings, everything).sizes == [(125, 5), (130, 10)]


def test_the_account_tells_of_every_class_how_often_it_was_drawn():
    plan, account = draw(0.5, natural_share=0.4)
    compound, mixed = plan.targets.sum(1) == 2, plan.second >= 0
    for kind, rows in (("natural", compound & ~mixed), ("generated", mixed)):
        for name, pair in PAIRS["challenge7"].items():
            both = plan.targets[:, list(pair)].sum(1) == 2
            assert account[f"{kind}:{name}"] == (rows & both).sum()
        assert account[kind] == sum(n for k, n in account.items() if k.startswith(f"{kind}:"))
    for index, name in enumerate(BASIC):
        assert account[f"single:{name}"] == (~compound & (plan.targets[:, index] == 1)).sum()
    assert sum(kinds(account).values()) == 700


def test_generated_compounds_are_even_over_the_seven_and_labelled_with_both():
    plan, account = draw(1.0, natural_share=0.0)
    assert kinds(account) == {"single": 0, "natural": 0, "generated": 700}
    one, other = emotions_of(plan, sources().targets)
    found = [frozenset((int(a), int(b))) for a, b in zip(one, other, strict=True)]
    assert all(found.count(pair) == 100 for pair in CHALLENGE7)
    for row in range(700):
        assert set(np.flatnonzero(plan.targets[row])) == found[row]
    assert (plan.form == MIXUP).sum() == (plan.form == BOX).sum() == 350
    # either emotion may be the first, the one that mixup shows at a tenth
    surprise_first = (one == 0).mean()
    assert 0.2 < surprise_first < 0.5


def test_pairs_of_raf_db_are_even_over_the_eleven():
    plan, account = draw(1.0, count=660, natural_share=0.0, pairs="raf11")
    found = {frozenset(np.flatnonzero(row)) for row in plan.targets}
    assert found == {frozenset(pair) for pair in PAIRS["raf11"].values()} and len(found) == 11
    assert {n for k, n in account.items() if k.startswith("generated:")} == {60}


def test_faces_after_action_units_have_the_right_emotion_above():
    # from Du et al., table 1: the emotions of the lower face for each of the upper face
    above = {"Surprise": {"Fear", "Happiness", "Disgust"}, "Anger": {"Surprise", "Sadness"}}
    above |= {"Sadness": {"Surprise"}, "Fear": {"Sadness"}}
    expected = {(upper, lower) for upper, lowers in above.items() for lower in lowers}
    options = dict(natural_share=0.0, forms=("cutmix",))
    plan, _ = draw(1.0, cutmix="facs", **options)
    pairs = set(zip(*emotions_of(plan, sources().targets), strict=True))
    assert {(BASIC[a], BASIC[b]) for a, b in pairs} == expected
    assert set(plan.form) == {FACS} and 0.43 < plan.extent.min() < plan.extent.max() < 0.53
    plan, _ = draw(1.0, cutmix="facs-exchanged", **options)
    pairs = set(zip(*emotions_of(plan, sources().targets), strict=True))
    assert {(BASIC[b], BASIC[a]) for a, b in pairs} == expected
    # Mixup beside it stays without an order
    plan, _ = draw(1.0, cutmix="facs", natural_share=0.0)
    one, other = (emotion[plan.form == MIXUP] for emotion in emotions_of(plan, sources().targets))
    assert len(set(zip(one, other, strict=True))) == 14


@pytest.mark.parametrize(
    ("cutmix", "form"), [("box", BOX), ("halves-lr", LEFT_RIGHT), ("halves-tb", TOP_BOTTOM)]
)
def test_soft_labels_are_the_images_shares(cutmix, form):
    plan, _ = draw(1.0, natural_share=0.0, cutmix=cutmix, weight=0.1, label="soft")
    one, other = emotions_of(plan, sources().targets)
    rows = np.arange(700)
    assert np.allclose(plan.targets[rows, one], plan.extent)
    assert np.allclose(plan.targets[rows, other], 1 - plan.extent)
    assert np.allclose(plan.extent[plan.form == MIXUP], 0.1)
    shares = plan.extent[plan.form == form]
    assert len(shares) == 350
    if form == BOX:
        assert 0.3 < shares.min() < 0.35 and 0.65 < shares.max() < 0.7
    else:
        assert (shares == 0.5).all()


def test_mixup_weights_may_be_drawn_from_beta():
    plan, _ = draw(1.0, count=4000, natural_share=0.0, forms=("mixup",), beta=0.4)
    assert plan.extent.mean() == pytest.approx(0.5, abs=0.03)
    assert plan.extent.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)  # of Beta(a, a)


def test_singles_and_naturals_are_never_mixed():
    plan, _ = draw(0.4, label="soft")
    lone = plan.second < 0
    assert (plan.form[lone] == SINGLE).all() and (plan.form[~lone] != SINGLE).all()
    assert np.array_equal(plan.targets[lone], sources().targets[plan.first[lone]])


def test_every_single_is_seen_once_before_any_is_seen_twice():
    plan, _ = draw(0.0, count=250)
    seen = np.bincount(plan.first, minlength=120)
    assert set(seen.tolist()) == {2, 3}


def test_missing_kinds_are_replaced_by_the_others_and_told():
    def drawn(natural=10, **mixing):
        told = without_effect(sources(natural), Mixing(**mixing))
        return kinds(draw(1.0, natural=natural, **mixing)[1]), " ".join(told)

    counts, told = drawn(natural=0)
    assert counts == {"single": 0, "natural": 0, "generated": 700} and "no natural" in told
    counts, told = drawn(forms=())
    assert counts == {"single": 0, "natural": 700, "generated": 0} and "no generator" in told
    assert drawn(natural=0, forms=())[0] == {"single": 700, "natural": 0, "generated": 0}
    assert drawn()[1] == ""
    told = drawn(forms=("mixup",), cutmix="facs", weight=0.3, beta=1.0)[1]
    assert "--cutmix facs changes nothing" in told and "--mixup-weight changes nothing" in told
    few = (0, 1, 4)  # no anger, happiness, disgust
    plan, _ = draw(1.0, natural=0, emotions=few)
    made = {frozenset(np.flatnonzero(row)) for row in plan.targets}
    assert made == {frozenset({0, 1}), frozenset({0, 4}), frozenset({1, 4})}
    told = without_effect(sources(emotions=few), Mixing())
    assert "Disgust, Happiness, Anger" in told[0] and len(told) == 1


def test_a_seed_repeats_an_epoch_and_another_changes_it():
    first, again, other = (draw(0.4, seed=seed)[0] for seed in (1, 1, 2))
    for name in ("first", "second", "form", "extent", "targets"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.first, other.first)


def test_epochs_belong_to_the_papers_sub_stages():
    assert [stage_of(epoch, (5, 5, 3, 3)) for epoch in range(16)] == [0] * 5 + [1] * 5 + [2] * 3 + [
        3
    ] * 3

"""What an epoch of the curriculum shows is what was asked for, counted."""

import runpy

import numpy as np
import pandas as pd
import pytest
from helpers.running import ROOT

from common.batches.batch import BOX, FACS, MIXUP, SINGLE
from common.batches.curriculum import (
    CUTMIX,
    EPOCH_SIZES,
    MIXED_LABELS,
    MIXES,
    PAIRS,
    Mixing,
    Stages,
    Stock,
    check_compounds,
    draw_epoch,
    without_effect,
)
from common.batches.targets import ORDERS, distributions
from common.emotions import ADAPTATION, BASIC, CHALLENGE_PAIRS
from common.script.files import UserError

CHALLENGE7 = {frozenset(pair) for pair in CHALLENGE_PAIRS}
# The least and the largest share of the first image, of forms for which it is not always a half.
EXTENTS = {MIXUP: (0.1, 0.1), BOX: (0.3, 0.7), FACS: (0.44, 0.52)}
SETTINGS = {
    "epoch_images": None,
    "compound_share_of": "batch",
    "natural_share": 0.5,
    "mixes": ["mixup", "cutmix"],
    "global_batch": 8,
    "compound_shares": [0, 0.2, 0.4, 1],
    "stage_epochs": [5, 5, 3, 3],
    "order": "label",
}


def stock(natural=10, emotions=(0, 1, 2, 3, 4, 5)):
    single = np.zeros((120, 6), dtype=np.float32)
    single[np.arange(120), np.random.default_rng(0).choice(emotions, 120)] = 1
    compound = np.zeros((natural, 6), dtype=np.float32)
    for row in range(natural):
        compound[row, list(CHALLENGE_PAIRS[row % 7])] = 1
    return Stock(np.concatenate([single, compound]), np.arange(120), np.arange(120, 120 + natural))


def draw(share, count=700, seed=0, natural=10, emotions=(0, 1, 2, 3, 4, 5), **mixing):
    random = np.random.default_rng(seed)
    given = stock(natural, emotions)
    return draw_epoch(given, count, round(share * count), Mixing(**mixing), random)


def kinds(counts):
    return {kind: number for kind, number in counts.items() if ":" not in kind}


def emotions_of(plan, truth):
    """The emotion of the first and of the second image of each generated compound."""
    mixed = plan.second >= 0
    return truth[plan.first[mixed]].argmax(1), truth[plan.second[mixed]].argmax(1)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 1.0])
def test_every_batch_has_the_stated_share_of_compounds(share):
    plan, counts = draw(share)
    compound = plan.targets.sum(1) == 2
    for start in range(0, 700, 64):
        batch = compound[start : start + 64]
        assert abs(batch.sum() - share * len(batch)) <= 1
    assert counts["single"] == round(700 * (1 - share)) == (~compound).sum()
    assert counts["natural"] == (compound & (plan.first >= 120)).sum() == round(350 * share)
    assert counts["generated"] == (plan.second >= 0).sum()


def test_shares_of_the_set_are_of_the_compounds_there_are():
    everything = stock(natural=10)
    # 10 natural ones are half of a compound set of 20; four fifths of it join all 120 singles
    assert EPOCH_SIZES["set"](0.8, 120, 10, 0.5) == (136, 16)
    plan, counts = draw_epoch(everything, 136, 16, Mixing(), np.random.default_rng(0))
    assert kinds(counts) == {"single": 120, "natural": 8, "generated": 8}
    assert sorted(plan.first[plan.first < 120][plan.second[plan.first < 120] < 0]) == list(
        range(120)
    )
    assert EPOCH_SIZES["set"](1.0, 120, 10, 1.0) == (130, 10)
    assert EPOCH_SIZES["set"](0.5, 120, 0, 0.5) == (180, 60)
    assert EPOCH_SIZES["batch"](0.4, 120, 10, 0.5) == (120, 48)
    # without a generator the set is of the natural ones alone
    settings = {**SETTINGS, "compound_share_of": "set", "mixes": [], "compound_shares": [0.5, 1]}
    assert Stages.of(settings, everything).sizes[:2] == [(125, 5), (130, 10)]


def test_the_account_tells_of_every_class_how_often_it_was_drawn():
    plan, counts = draw(0.5, natural_share=0.4)
    compound, mixed = plan.targets.sum(1) == 2, plan.second >= 0
    for kind, rows in (("natural", compound & ~mixed), ("generated", mixed)):
        for name, pair in PAIRS["challenge7"].items():
            both = plan.targets[:, list(pair)].sum(1) == 2
            assert counts[f"{kind}:{name}"] == (rows & both).sum()
        assert counts[kind] == sum(n for k, n in counts.items() if k.startswith(f"{kind}:"))
    for index, name in enumerate(BASIC):
        assert counts[f"single:{name}"] == (~compound & (plan.targets[:, index] == 1)).sum()
    assert sum(kinds(counts).values()) == 700


def test_generated_compounds_are_even_over_the_seven_and_labelled_with_both():
    plan, counts = draw(1.0, natural_share=0.0)
    assert kinds(counts) == {"single": 0, "natural": 0, "generated": 700}
    one, other = emotions_of(plan, stock().targets)
    found = [frozenset((int(a), int(b))) for a, b in zip(one, other, strict=True)]
    assert all(found.count(pair) == 100 for pair in CHALLENGE7)
    for row in range(700):
        assert set(np.flatnonzero(plan.targets[row])) == found[row]
    assert (plan.form == MIXUP).sum() == (plan.form == BOX).sum() == 350
    # either emotion may be the first, the one that mixup shows at a tenth
    surprise_first = (one == 0).mean()
    assert 0.2 < surprise_first < 0.5


def test_pairs_of_raf_db_are_even_over_the_eleven():
    plan, counts = draw(1.0, count=660, natural_share=0.0, pairs="raf11")
    found = {frozenset(np.flatnonzero(row)) for row in plan.targets}
    assert found == {frozenset(pair) for pair in PAIRS["raf11"].values()} and len(found) == 11
    assert {n for k, n in counts.items() if k.startswith("generated:")} == {60}


def test_faces_after_action_units_have_the_right_emotion_above():
    # from Du et al., table 1: the emotions of the lower face for each of the upper face
    above = {"Surprise": {"Fear", "Happiness", "Disgust"}, "Anger": {"Surprise", "Sadness"}}
    above |= {"Sadness": {"Surprise"}, "Fear": {"Sadness"}}
    expected = {(upper, lower) for upper, lowers in above.items() for lower in lowers}
    options = dict(natural_share=0.0, mixes=("cutmix",))
    plan, _ = draw(1.0, cutmix="facs", **options)
    pairs = set(zip(*emotions_of(plan, stock().targets), strict=True))
    assert {(BASIC[a], BASIC[b]) for a, b in pairs} == expected
    assert set(plan.form) == {FACS} and 0.43 < plan.extent.min() < plan.extent.max() < 0.53
    plan, _ = draw(1.0, cutmix="facs-exchanged", **options)
    pairs = set(zip(*emotions_of(plan, stock().targets), strict=True))
    assert {(BASIC[b], BASIC[a]) for a, b in pairs} == expected
    # Mixup beside it stays without an order
    plan, _ = draw(1.0, cutmix="facs", natural_share=0.0)
    one, other = (emotion[plan.form == MIXUP] for emotion in emotions_of(plan, stock().targets))
    assert len(set(zip(one, other, strict=True))) == 14


@pytest.mark.parametrize("cutmix", CUTMIX)
def test_soft_labels_are_the_images_shares(cutmix):
    mixing = dict(natural_share=0.0, mixes=tuple(MIXES), cutmix=cutmix, weight=0.1, label="soft")
    plan, _ = draw(1.0, **mixing)
    one, other = emotions_of(plan, stock().targets)
    rows = np.arange(700)
    assert np.allclose(plan.targets[rows, one], plan.extent)
    assert np.allclose(plan.targets[rows, other], 1 - plan.extent)
    for form in np.unique(plan.form):
        shares = plan.extent[plan.form == form]
        assert len(shares) == pytest.approx(700 / len(MIXES), abs=1)
        low, high = EXTENTS.get(form, (0.5, 0.5))
        assert [shares.min(), shares.max()] == pytest.approx([low, high], abs=0.01)


def test_mixup_weights_may_be_drawn_from_beta():
    plan, _ = draw(1.0, count=4000, natural_share=0.0, mixes=("mixup",), beta=0.4)
    assert plan.extent.mean() == pytest.approx(0.5, abs=0.03)
    assert plan.extent.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)  # of Beta(a, a)


def test_singles_and_naturals_are_never_mixed():
    plan, _ = draw(0.4, label="soft")
    lone = plan.second < 0
    assert (plan.form[lone] == SINGLE).all() and (plan.form[~lone] != SINGLE).all()
    assert np.array_equal(plan.targets[lone], stock().targets[plan.first[lone]])


def test_every_single_is_seen_once_before_any_is_seen_twice():
    plan, _ = draw(0.0, count=250)
    seen = np.bincount(plan.first, minlength=120)
    assert set(seen.tolist()) == {2, 3}


def test_missing_kinds_are_replaced_by_the_others_with_a_warning():
    def drawn(natural=10, **mixing):
        warnings = without_effect(stock(natural), Mixing(**mixing))
        return kinds(draw(1.0, natural=natural, **mixing)[1]), " ".join(warnings)

    counts, warnings = drawn(natural=0)
    assert counts == {"single": 0, "natural": 0, "generated": 700} and "no natural" in warnings
    counts, warnings = drawn(mixes=())
    assert counts == {"single": 0, "natural": 700, "generated": 0} and "no generator" in warnings
    assert drawn(natural=0, mixes=())[0] == {"single": 700, "natural": 0, "generated": 0}
    assert drawn()[1] == ""
    warnings = drawn(mixes=("mixup",), cutmix="facs", weight=0.3, beta=1.0)[1]
    assert (
        "--cutmix facs changes nothing" in warnings and "--mixup-weight changes nothing" in warnings
    )
    few = (0, 1, 4)  # no anger, happiness, disgust
    plan, _ = draw(1.0, natural=0, emotions=few)
    made = {frozenset(np.flatnonzero(row)) for row in plan.targets}
    assert made == {frozenset({0, 1}), frozenset({0, 4}), frozenset({1, 4})}
    warnings = without_effect(stock(emotions=few), Mixing())
    assert "Disgust, Happiness, Anger" in warnings[0] and len(warnings) == 1


def test_a_seed_repeats_an_epoch_and_another_changes_it():
    first, again, other = (draw(0.4, seed=seed)[0] for seed in (1, 1, 2))
    for name in ("first", "second", "form", "extent", "targets"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.first, other.first)


def test_epochs_belong_to_the_papers_sub_stages():
    stages = Stages.of(SETTINGS, stock())
    assert stages.of_epoch == [0] * 5 + [1] * 5 + [2] * 3 + [3] * 3
    assert [stages.size(epoch)[1] for epoch in (0, 9, 12, 13)] == [0, 24, 48, 120]


def scale(order="entropy", rows=400):
    """A stock of votes: from a single expression's ten to five and five for a compound's two."""
    random = np.random.default_rng(3)
    table = []
    for row in range(rows):
        first, second = CHALLENGE_PAIRS[row % 7]
        doubt = random.integers(0, 6)  # votes for the second
        votes = np.zeros(8, dtype=int)
        votes[first], votes[second] = 10 - doubt, doubt
        kind = "compound" if doubt > 2 else "single"
        names = sorted((BASIC[first], BASIC[second])) if doubt > 2 else [BASIC[first]]
        table.append((kind, " ".join(names), " ".join(map(str, votes)), doubt))
    table = pd.DataFrame(table, columns=["kind", "labels", "votes", "doubt"])
    settings = {"loss": "softmax", "least_votes": 1, "order": order}
    training = pd.Series(np.arange(rows) % 5 > 0)
    return Stock.of(table, training, settings), table


@pytest.mark.parametrize("order", ["entropy", "second"])
def test_sub_stages_go_from_certain_votes_to_mixed_ones(order):
    stock, table = scale(order)
    doubt, seen = table.doubt.to_numpy(), []
    stages = Stages.of({**SETTINGS, "order": order}, stock)
    assert stages.shares == [0.25, 0.5, 0.75, 1]
    assert stages.sizes[0] == (320, 0)  # singles and compounds together; none generated
    for epoch in (0, 5, 10, 13):
        random = np.random.default_rng(epoch)
        pool = stock.most_certain(stages.share(epoch), random)
        plan, counts = draw_epoch(pool, 320, 0, Mixing(), random)
        drawn = np.unique(plan.first)
        assert len(drawn) == round(320 * stages.share(epoch))
        left = np.setdiff1d(np.flatnonzero(np.arange(400) % 5 > 0), drawn)
        assert doubt[drawn].max() <= doubt[left].min(initial=5)
        assert np.array_equal(plan.targets, stock.targets[plan.first])
        compound = (table.kind == "compound").to_numpy()[plan.first]
        assert kinds(counts) == {
            "single": (~compound).sum(),
            "natural": compound.sum(),
            "generated": 0,
            "no_majority": 0,
        }
        seen.append(counts["natural"])
    assert seen[0] == 0 < seen[2] < seen[3]


def test_images_whose_votes_have_no_majority_are_counted_as_such():
    _, table = scale()
    table.loc[table.doubt == 5, ["kind", "labels"]] = "unlabelled", ""
    settings = {"loss": "softmax", "least_votes": 1, "order": "entropy"}
    stock = Stock.of(table, pd.Series(True, index=table.index), settings)
    _, counts = draw_epoch(stock, 400, 0, Mixing(), np.random.default_rng(0))
    by_kind = table.kind.value_counts()
    assert kinds(counts) == {
        "single": by_kind["single"],
        "natural": by_kind["compound"],
        "generated": 0,
        "no_majority": by_kind["unlabelled"],
    }
    # a curve has its column from the first epoch, where none is drawn yet
    certain = stock.most_certain(0.1, np.random.default_rng(0))
    _, counts = draw_epoch(certain, 40, 0, Mixing(), np.random.default_rng(0))
    assert counts["no_majority"] == counts["natural"] == 0


def test_which_of_equally_certain_images_come_first_is_drawn_anew():
    stock, _ = scale()
    pools = [stock.most_certain(0.1, np.random.default_rng(seed)).drawn for seed in (0, 0, 1)]
    assert np.array_equal(pools[0], pools[1]) and not np.array_equal(pools[0], pools[2])
    assert len(stock.most_certain(0.0, np.random.default_rng(0)).drawn) == 1
    everything = stock.most_certain(1.0, np.random.default_rng(0)).drawn
    assert set(everything) == set(stock.drawn) and len(everything) == 320


def test_without_an_order_every_sub_stage_draws_from_all_votes():
    stock, _ = scale("none")
    assert Stages.of({**SETTINGS, "order": "none"}, stock).shares == [1, 1, 1, 1]
    assert len(stock.drawn) == 320 > len(stock.single)
    # by label the paper's sub-stages stay, with singles and compounds apart
    stock, _ = scale("label")
    assert stock.most_certain(0.1, None) is stock and set(stock.drawn) == set(stock.single)


def test_compounds_are_generated_beside_the_scale_of_certain_singles():
    stock, table = scale()
    pool = stock.most_certain(0.5, np.random.default_rng(0))
    plan, counts = draw_epoch(pool, 300, 120, Mixing(), np.random.default_rng(0))
    assert counts["generated"] == 120 and counts["single"] + counts["natural"] == 180
    mixed = plan.second >= 0
    sources = table.iloc[np.concatenate([plan.first[mixed], plan.second[mixed]])]
    assert (sources.kind == "single").all() and set(sources.index) <= set(pool.single)
    mean = (stock.targets[plan.first[mixed]] + stock.targets[plan.second[mixed]]) / 2
    assert plan.targets[mixed] == pytest.approx(mean)
    # a scale has its compounds already: others can only be generated
    with pytest.raises(UserError, match="--order draws the natural ones"):
        check_compounds(stock, Mixing(mixes=()), [0.2])
    check_compounds(stock, Mixing(mixes=()), [0.0])


def test_uncertainty_is_that_of_the_votes_or_else_of_the_label():
    votes = {"votes": ["0 0 0 9 0 0 1 0", "4 4 0 0 0 0 2 0", "", ""]}
    labels = {"labels": ["Happiness", "Fear Surprise", "Anger", "Anger Sadness"]}
    shares = distributions(pd.DataFrame({**labels, **votes}))
    p = np.array([[0.9, 0.1, 0], [0.4, 0.4, 0.2], [1, 0, 0], [0.5, 0.5, 0]])
    entropies = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    assert ORDERS["entropy"](shares) == pytest.approx(entropies, abs=1e-6)
    assert ORDERS["second"](shares) == pytest.approx([0.1, 0.4, 0, 0.5])
    assert shares.shape == (4, len(ADAPTATION))


@pytest.mark.parametrize(
    ("flag", "known"),
    [
        ("mixes", MIXES),
        ("cutmix", CUTMIX),
        ("mixed_label", MIXED_LABELS),
        ("pairs", PAIRS),
        ("compound_share_of", EPOCH_SIZES),
        ("order", ORDERS),
    ],
)
def test_the_choices_of_a_flag_are_those_that_the_curriculum_knows(flag, known):
    script = runpy.run_path(str(ROOT / "04_curriculum.py"))
    script["arguments"].__globals__["parse_arguments"] = lambda parser, _: parser
    (action,) = (one for one in script["arguments"]()._actions if one.dest == flag)
    assert set(action.choices) == set(known)

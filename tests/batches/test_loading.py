"""Batches depend on plan and seed alone: not on workers, processes, or where one resumes."""

from dataclasses import fields, replace
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from PIL import Image

from common.batches.images import Geometry, ImageStore
from common.batches.loading import Loader, Plan, evaluation_batches, split_batches
from common.batches.loading import training_passes as passes_of

GEOMETRY = Geometry(24)


@pytest.fixture
def store(tmp_path):
    random = np.random.default_rng(0)
    names = [f"set/person é{i}.jpg" for i in range(12)]
    (tmp_path / "set").mkdir()
    for name in names:
        pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, quality=95)
    return ImageStore(tmp_path, names)


@pytest.fixture
def plan():
    second = np.full(10, -1)
    second[[2, 5]] = 11, 10
    targets = np.eye(6, dtype=np.float32)[np.arange(10) % 6]
    return Plan(np.arange(10), targets, second, (second >= 0).astype(np.uint8))


def load(store, plan, passes, workers=0, seed=0, epoch=0):
    return list(
        passes_of(store, plan, passes, GEOMETRY, randoms=4, seed=seed, epoch=epoch, workers=workers)
    )


def rows(batches, name):
    return torch.cat([getattr(batch, name) for batch in batches])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("total", [1, 7, 16, 17])
def test_every_row_is_computed_once_over_all_processes(total, world):
    ranks = [split_batches(total, 8, 3, rank, world) for rank in range(world)]
    assert len({len(steps) for steps in ranks}) == 1
    for number in range(len(ranks[0])):
        step = np.concatenate([one for steps in ranks for one in steps[number]])
        expected = np.arange(number * 8, min(total, number * 8 + 8))
        assert sorted(step) == expected.tolist()
        assert all(len(one) <= 3 for steps in ranks for one in steps[number])


@pytest.mark.parametrize(("total", "world", "batch"), [(4096, 8, 232), (256, 1, 232), (100, 3, 7)])
def test_a_whole_step_has_passes_of_one_length(total, world, batch):
    for rank in range(world):
        (passes,) = split_batches(total, total, batch, rank, world)
        lengths = [len(one) for one in passes]
        assert len(passes) == -(-sum(lengths) // batch) and max(lengths) <= batch
        assert max(lengths) - min(lengths) <= 1


def test_batches_do_not_depend_on_workers_or_on_how_rows_are_divided(store, plan):
    whole = load(store, plan, [np.arange(10)])
    parts = load(store, plan, [np.arange(0, 10, 2), np.arange(1, 10, 2)], workers=2)
    order = np.r_[np.arange(0, 10, 2), np.arange(1, 10, 2)]
    for name in ("images", "uniform", "targets", "valid", "form", "extent", "window"):
        assert torch.equal(rows(parts, name), getattr(whole[0], name)[order]), name
    assert whole[0].partner_rows.tolist() == [2, 5]
    assert [batch.partner_rows.tolist() for batch in parts] == [[1], [2]]
    assert torch.equal(rows(parts, "partners"), whole[0].partners)


def test_seed_and_epoch_change_the_view_of_an_image(store, plan):
    keys = [(0, 0), (0, 1), (1, 0)]
    images = [load(store, plan, [np.arange(4)], seed=s, epoch=e)[0].images for s, e in keys]
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_an_image_that_vanished_is_replaced_by_one_of_its_label(store, plan, tmp_path):
    whole = load(store, plan, [np.arange(6)])[0]
    (tmp_path / "set/person é1.jpg").unlink()  # row 7 has its label
    (tmp_path / "set/person é4.jpg").write_bytes(b"\xff\xd8 cut off")  # the only one of its label
    (tmp_path / "set/person é11.jpg").unlink()  # the partner of row 2; row 8 has that label
    after = load(store, plan, [np.arange(6)])[0]
    assert after.unreadable == (1, 11, 4)
    assert after.valid.tolist() == [True, True, True, True, False, True]
    assert torch.equal(after.targets, whole.targets)
    assert after.partner_rows.tolist() == [5] and after.form.tolist() == [0, 0, 0, 0, 0, 1]
    changed = Plan(plan.first.copy(), plan.targets, np.where(plan.second == 11, -1, plan.second))
    changed.first[[1, 2]] = 7, 8
    expected = load(store, changed, [np.arange(6)])[0].images
    assert torch.equal(after.images[[0, 1, 2, 3, 5]], expected[[0, 1, 2, 3, 5]])
    again = load(store, plan, [np.arange(3), np.arange(3, 6)], workers=2)
    assert torch.equal(rows(again, "images"), after.images)


def test_workers_that_are_kept_make_of_each_epoch_what_new_ones_would(store, plan, tmp_path):
    others, passes, kept = set(active_children()), [np.arange(5), np.arange(5, 10)], []
    loader = Loader(store, GEOMETRY, randoms=4, seed=0, workers=2)
    for epoch in range(3):
        if epoch == 2:  # row 7 has its label
            (tmp_path / "set/person é1.jpg").unlink()
        shown = replace(plan, first=np.roll(plan.first, epoch))
        found = list(loader.passes(shown, passes, epoch))
        kept.append({worker.pid for worker in set(active_children()) - others})
        for one, other in zip(found, load(store, shown, passes, epoch=epoch), strict=True):
            for field in fields(one):
                a, b = getattr(one, field.name), getattr(other, field.name)
                assert torch.equal(a, b) if torch.is_tensor(a) else a == b, (epoch, field.name)
    assert found[0].unreadable == (1,) and found[0].valid.all()
    assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 2
    del loader, found
    assert set(active_children()) == others


def test_a_process_without_rows_gets_one_image_of_no_weight(store, plan):
    batch = load(store, plan, [np.zeros(0, dtype=np.int64)])[0]
    assert batch.images.shape == (1, 3, 24, 24) and batch.valid.tolist() == [False]


def test_crops_keep_within_their_ranges():
    # a picture whose pixels tell their own place: red grows to the right, green downwards
    across = torch.arange(200).byte().expand(100, 200)
    down = torch.arange(100).byte()[:, None].expand(100, 200)
    image = torch.stack([across, down, down])
    geometry = Geometry(64, crop_area=(0.25, 0.25), crop_ratio=(1.0, 1.0))
    flips, lefts = 0, []
    for seed in range(60):
        crop, (top, rows) = geometry.apply(image, np.random.default_rng(seed).random(5))
        crop = crop.float()
        assert rows == pytest.approx(0.71) and top == pytest.approx(
            crop[1].min().item() / 100, abs=0.01
        )
        width = (crop[0, :, -1] - crop[0, :, 0]).mean().item()
        height = (crop[1, -1] - crop[1, 0]).mean().item()
        assert abs(width) == pytest.approx(70.7, abs=3) and height == pytest.approx(70.7, abs=3)
        flips += width < 0
        lefts.append(crop[0].min().item())
    assert 15 < flips < 45
    assert min(lefts) < 20 and max(lefts) > 110


def test_evaluation_shows_whole_images_in_order_and_tells_which_are_bad(store, tmp_path):
    (tmp_path / "set/person é7.jpg").unlink()
    found = list(evaluation_batches(store, 24, 4, 1, np.array([9, 7, 3, 0, 1])))
    assert [batch[0].tolist() for batch in found] == [[9, 7, 3, 0], [1]]
    assert found[0][2].tolist() == [True, False, True, True]
    expected = Image.open(store.path(9)).convert("RGB").resize((24, 24), Image.BICUBIC)
    difference = (
        found[0][1][0].permute(1, 2, 0).int() - torch.from_numpy(np.asarray(expected)).int()
    )
    assert difference.abs().float().mean() < 3


def test_a_batch_moves_whole(store, plan):
    batch = load(store, plan, [np.arange(10)])[0]
    moved = batch.to(torch.device("meta"))
    for name, value in vars(batch).items():
        if torch.is_tensor(value):
            there = getattr(moved, name)
            assert there.is_meta and there.shape == value.shape and there.dtype == value.dtype
        else:
            assert getattr(moved, name) is value

"""Mixing and augmentation of a batch, against one image at a time."""

import numpy as np
import pytest
import torch

from common.augment import CUTMIX, MIXUP, SINGLE, augment, colour_jitter, cutout, mix_pairs

SIDE = 40


@pytest.fixture
def images():
    return torch.rand((4, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


def test_mixup_is_a_tenth_of_the_first_image(images):
    partners = torch.rand(1, 3, SIDE, SIDE)
    mixed = mix_pairs(
        images, partners, torch.tensor([2]), torch.tensor([SINGLE, SINGLE, MIXUP, SINGLE]).byte(),
        torch.rand(4, 3),
    )  # fmt: skip
    assert torch.allclose(mixed[2], 0.1 * images[2] + 0.9 * partners[0], atol=1e-6)
    for row in (0, 1, 3):
        assert torch.equal(mixed[row], images[row])


def test_cutmix_shows_the_partner_in_one_box_of_the_drawn_area(images):
    partners = torch.full((2, 3, SIDE, SIDE), 5.0)
    rows = torch.tensor([0, 3])
    mix = torch.tensor([CUTMIX, SINGLE, SINGLE, CUTMIX]).byte()
    uniform = torch.tensor([[0.0, 0.0, 0.0], [0.5] * 3, [0.5] * 3, [1.0, 1.0, 1.0]])
    mixed = mix_pairs(images, partners, rows, mix, uniform, cutmix_area=(0.25, 0.64))
    where = mixed[0, 0] == 5
    assert where.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert where[:20, :20].all()  # a corner of (0, 0) puts the box top left
    where = mixed[3, 0] == 5
    assert where.float().mean().item() == pytest.approx(0.64, abs=0.04)
    assert where[8:, 8:].all()
    assert torch.equal(mixed[3][:, ~where], images[3][:, ~where])


def test_cutout_blanks_one_square_of_the_chosen_images(images):
    uniform = torch.tensor([[0.9, 0, 0], [0.1, 0.0, 0.0], [0.1, 1.0, 1.0], [0.9, 0, 0]])
    cut = cutout(images, uniform, probability=0.5, area=0.25)
    assert torch.equal(cut[0], images[0]) and torch.equal(cut[3], images[3])
    assert not cut[1, :, :20, :20].any() and torch.equal(cut[1, :, 20:], images[1, :, 20:])
    assert not cut[2, :, 20:, 20:].any()


def test_jitter_of_the_middle_changes_nothing_and_stays_in_range(images):
    assert torch.allclose(colour_jitter(images, torch.full((4, 3), 0.5), 0.4), images, atol=1e-6)
    wild = colour_jitter(images, torch.rand(4, 3), 1.0)
    assert wild.min() >= 0 and wild.max() <= 1
    grey = colour_jitter(images, torch.tensor([[0.5, 0.5, 0.0]] * 4), 1.0)  # no saturation left
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-5)


def test_an_image_is_augmented_alike_in_any_batch():
    random = np.random.default_rng(0)
    whole = {
        "images": torch.from_numpy(random.integers(0, 256, (4, 3, SIDE, SIDE), dtype=np.uint8)),
        "partners": torch.from_numpy(random.integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8)),
        "partner_rows": torch.tensor([1, 3]),
        "mix": torch.tensor([SINGLE, CUTMIX, SINGLE, MIXUP]).byte(),
        "uniform": torch.from_numpy(random.random((4, 9), dtype=np.float32)),
    }
    options = dict(jitter=0.3, cutout_probability=0.5, mean=(0.5,) * 3, std=(0.2,) * 3)
    together = augment(whole, **options)
    for row in range(4):
        here = whole["partner_rows"] == row
        alone = {
            **{key: whole[key][row : row + 1] for key in ("images", "mix", "uniform")},
            "partners": whole["partners"][here],
            "partner_rows": torch.zeros(int(here.sum()), dtype=torch.int64),
        }
        assert torch.allclose(augment(alone, **options)[0], together[row], atol=1e-5)

"""Mixing and augmentation of a batch, against one image at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.batches.augment import (
    SEAM,
    affine,
    augment,
    colour_jitter,
    cutout,
    match_colours,
    mix_pairs,
)
from common.batches.batch import (
    BOX,
    FACS,
    LEFT_RIGHT,
    MIXUP,
    RANDOMS,
    SINGLE,
    TOP_BOTTOM,
    Batch,
)
from common.batches.curriculum import CUTMIX, MIXES, Mixing

SIDE = 40


@pytest.fixture
def images():
    return torch.rand((4, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


def mix(images, partners, rows, form, extent, uniform=None, window=(0.0, 1.0)):
    """Mix partners into some rows of a batch with one form."""
    forms = torch.full((len(images),), SINGLE, dtype=torch.uint8)
    forms[rows] = form
    uniform = torch.full((len(images), 2), 0.5) if uniform is None else torch.tensor(uniform)
    extent, window = torch.full((len(images),), extent), torch.tensor([window] * len(images))
    return mix_pairs(
        images, partners, torch.tensor(rows), forms, extent, window, uniform, form == FACS
    )


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_mixup_is_the_stated_share_of_the_first_image(images, share):
    partners = torch.rand(1, 3, SIDE, SIDE)
    mixed = mix(images, partners, [2], MIXUP, share)
    assert torch.allclose(mixed[2], share * images[2] + (1 - share) * partners[0], atol=1e-6)
    for row in (0, 1, 3):
        assert torch.equal(mixed[row], images[row])


def test_cutmix_shows_the_partner_in_one_box_of_the_stated_area(images):
    partners = torch.full((2, 3, SIDE, SIDE), 5.0)
    corners = [[0.0, 0.0], [0.5, 0.5], [0.5, 0.5], [1.0, 1.0]]
    mixed = mix(images, partners, [0, 3], BOX, 0.75, corners)
    where = mixed[0, 0] == 5
    assert where.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert where[:20, :20].all()  # a corner of (0, 0) puts the box top left
    where = mixed[3, 0] == 5
    assert where[20:, 20:].all() and where.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(mixed[3][:, ~where], images[3][:, ~where])


def test_halves_are_the_left_or_the_upper_of_the_first_image(images):
    partners = torch.full((1, 3, SIDE, SIDE), 5.0)
    across, down = (mix(images, partners, [1], form, 0.5)[1] for form in (LEFT_RIGHT, TOP_BOTTOM))
    assert torch.equal(across[:, :, :20], images[1][:, :, :20]) and (across[:, :, 20:] == 5).all()
    assert torch.equal(down[:, :20], images[1][:, :20]) and (down[:, 20:] == 5).all()


def test_faces_are_joined_below_the_eyes_wherever_the_crop_lies(images):
    tall, partners = images.repeat(1, 1, 10, 1), torch.rand(1, 3, 10 * SIDE, SIDE)
    like = match_colours(partners, tall[[1]])[0]
    for window, seam in (((0.0, 1.0), 0.48), ((0.1, 0.8), 0.475), ((0.3, 0.5), 0.36)):
        mixed = mix(tall, partners, [1], FACS, 0.48, window=window)[1]
        height, soft = round(400 * seam), round(400 * SEAM / window[1]) + 1
        assert torch.equal(mixed[:, : height - soft], tall[1][:, : height - soft])
        assert torch.allclose(mixed[:, height + soft :], like[:, height + soft :], atol=1e-6)
        half = (tall[1] + like)[:, height - 1 : height + 1].mean(1) / 2
        assert torch.allclose(mixed[:, height - 1 : height + 1].mean(1), half, atol=0.02)


def test_colours_are_those_of_the_other_face(images):
    aim = images[2:] * 0.3 + torch.tensor([0.5, 0.3, 0.2]).view(3, 1, 1)
    middle = (..., slice(10, 30), slice(10, 30))
    matched = match_colours(images[:2] * 0.4, aim)
    assert torch.allclose(matched[middle].mean((2, 3)), aim[middle].mean((2, 3)), atol=1e-3)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    for colours in (lambda x: (x * luma).sum(1), lambda x: x[:, 0] - x[:, 1]):
        spread, expected = (colours(one)[middle].std((1, 2)) for one in (matched, aim))
        assert torch.allclose(spread, expected, rtol=0.2)
    # a grey face stays grey, whatever the colours of the other
    grey = match_colours(images[:2], aim.mean(1, keepdim=True).expand(-1, 3, -1, -1))
    assert torch.allclose(grey[:, :1].expand_as(grey), grey, atol=1e-5)


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
    generated = {generator(Mixing(cutmix=name)) for generator in MIXES.values() for name in CUTMIX}
    forms = [SINGLE, *sorted(generated)]
    count = len(forms)
    pixels = random.integers(0, 256, (2, count, 3, SIDE, SIDE), dtype=np.uint8)
    whole = Batch(
        images=torch.from_numpy(pixels[0]),
        partners=torch.from_numpy(pixels[1, 1:]),
        partner_rows=torch.arange(1, count),
        form=torch.tensor(forms).byte(),
        extent=torch.from_numpy(random.random(count, dtype=np.float32)),
        window=torch.from_numpy(random.random((count, 2), dtype=np.float32)),
        targets=torch.zeros(count, 6),
        uniform=torch.from_numpy(random.random((count, RANDOMS), dtype=np.float32)),
        valid=torch.ones(count, dtype=torch.bool),
        any_facs=True,
    )
    options = dict(jitter=0.3, cutout_probability=0.5, mean=(0.5,) * 3, std=(0.2,) * 3)
    together = augment(whole, **options)
    for row, form in enumerate(forms):
        here = whole.partner_rows == row
        own = ("images", "form", "extent", "window", "targets", "uniform", "valid")
        alone = Batch(
            **{name: getattr(whole, name)[row : row + 1] for name in own},
            partners=whole.partners[here],
            partner_rows=torch.zeros(int(here.sum()), dtype=torch.int64),
            any_facs=form == FACS,
        )
        assert torch.allclose(augment(alone, **options)[0], together[row], atol=1e-5)
        single = replace(alone, form=torch.tensor([SINGLE]).byte(), any_facs=False)
        shown = not torch.equal(augment(single, **options), augment(alone, **options))
        assert shown == (form != SINGLE)  # a form that mix_pairs does not know mixes nothing


def test_affine_turns_scales_and_moves_as_told():
    # A disc beside the middle: where its centre goes is computed apart, by complex numbers.
    side = 64
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    disc = ((place[None] - 0.5) ** 2 + place[:, None] ** 2 < 0.02).float()[None, None]
    cases = torch.tensor([[0.5, 0.5, 0.5, 0.5], [1, 0.5, 0.5, 0.5], [0.5, 1, 0.5, 0.5]])
    cases = torch.cat([cases, torch.tensor([[0.5, 0.5, 1, 0.5], [0.5, 0.5, 0.5, 0]])])
    found = affine(disc.expand(5, 1, side, side), cases, rotation=30, scale=0.25, shift=0.1)
    mass = found / found.sum((2, 3), keepdim=True)
    centres = torch.stack([(mass * place).sum((2, 3)), (mass * place[:, None]).sum((2, 3))], -1)
    turned = 0.5 * torch.exp(torch.tensor(-1j * torch.pi / 6))
    expected = [[0.5, 0], [turned.real, turned.imag], [0.625, 0], [0.3, 0], [0.5, 0.2]]
    assert torch.allclose(centres[:, 0], torch.tensor(expected), atol=0.01)
    assert found[2].sum() == pytest.approx(disc.sum().item() * 1.25**2, rel=0.05)


def test_without_rotation_scale_and_shift_nothing_is_resampled():
    images = torch.rand(2, 3, 8, 8)
    assert affine(images, torch.rand(2, 0), 0, 0, 0) is images

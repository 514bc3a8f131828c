"""Perceptual hashes, the search for near ones, and the look at the pixels that confirms them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from common.prepare.likeness import (
    CORRELATION_MIN,
    DIFFERENCE_MAX,
    compare,
    near_pairs,
    perceptual_hashes,
)


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((120, 120), Image.Resampling.BICUBIC)


def hashes_of(image):
    gray = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))
    coarse, finer = perceptual_hashes(gray[None])
    return int(coarse[0]), int(finer[0])


def variants(image, folder):
    """The same picture compressed, scaled and lit otherwise."""
    image.save(folder / "x.jpg", quality=30)
    small = image.resize((70, 70), Image.Resampling.BICUBIC)
    return Image.open(folder / "x.jpg"), small, ImageEnhance.Brightness(image).enhance(0.8)


def test_hashes_of_similar_pictures_differ_in_few_bits(tmp_path):
    same, other = [], []
    for seed in range(8):
        image = picture(seed)
        for variant in variants(image, tmp_path):
            same.append((hashes_of(image)[0] ^ hashes_of(variant)[0]).bit_count())
        other.append((hashes_of(image)[0] ^ hashes_of(picture(seed + 100))[0]).bit_count())
    assert max(same) <= 8 and min(other) >= 16


def test_hashes_of_a_batch_are_those_of_each_picture_by_the_textbook():
    gray = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    coarse, finer = perceptual_hashes(gray)
    assert coarse.dtype == finer.dtype == np.uint64 and coarse.shape == finer.shape == (3,)
    for image, *found in zip(gray, coarse, finer, strict=True):
        waves = np.zeros((12, 12))
        for u in range(12):
            for v in range(12):
                across = np.cos(np.pi * (np.arange(32) + 0.5) * u / 32)[:, None]
                along = np.cos(np.pi * (np.arange(32) + 0.5) * v / 32)[None]
                waves[u, v] = (image * across * along).sum()
        low = waves[:8, :8].ravel()
        rest = np.concatenate([waves[:8, 8:].ravel(), waves[8:, :8].ravel()])
        for values, median, hash_ in (
            (low, np.median(low[1:]), found[0]),
            (rest, np.median(rest), found[1]),
        ):
            assert hash_ == int("".join("1" if value > median else "0" for value in values), 2)


@pytest.mark.parametrize("bits", [0, 3, 6])
def test_near_pairs_are_all_that_a_comparison_of_all_with_all_finds(bits):
    random = np.random.default_rng(bits)
    hashes = random.integers(0, 2**64, (400, 2), dtype=np.uint64)
    # Every second row becomes its neighbour with up to ten bits turned, wherever they lie.
    for row in range(1, 400, 2):
        hashes[row] = hashes[row - 1]
        for column, most in ((0, 10), (1, 11)):
            for bit in random.choice(64, random.integers(0, most), replace=False):
                hashes[row, column] ^= np.uint64(1 << int(bit))
    hashes[300:310, 0] = hashes[300, 0]  # many of one coarse hash
    turned = np.bitwise_count(hashes[:, None] ^ hashes[None])
    near = (turned[..., 0] <= bits) & (turned[..., 1] <= 8)
    wanted = {(i, j) for i, j in np.argwhere(near).tolist() if i < j}
    assert len(wanted) > 10

    def pairs(one, other=None):
        found = near_pairs(one, other, bits)
        return {pair for i, j in found for pair in zip(i.tolist(), j.tolist(), strict=True)}

    assert pairs(hashes) == wanted
    across = {(i, j) for i, j in np.argwhere(near[:150, 150:]).tolist()}
    assert pairs(hashes[:150], hashes[150:]) == across


def test_the_same_picture_correlates_and_another_does_not(tmp_path):
    names = ["a.png", "b.png", "gone.png"]
    picture(0).save(tmp_path / names[0])
    picture(1).save(tmp_path / names[1])
    pairs = [tuple(names[:2]), tuple(names[1:]), (names[2], names[2])]
    for number, variant in enumerate(variants(picture(0), tmp_path)):
        variant.save(tmp_path / f"{number}.jpg", quality=90)
        pairs.append((names[0], f"{number}.jpg"))
    found = compare(str(tmp_path), pairs)
    assert found.shape == (6, 2)
    assert found[3:, 0].min() >= CORRELATION_MIN > 0.9 > found[0, 0]
    assert found[3:, 1].max() <= DIFFERENCE_MAX < 0.5 < found[0, 1]
    assert (found[1:3, 0] == 0).all()
    small = [picture(n).convert("L").resize((32, 32), Image.Resampling.BOX) for n in (0, 1)]
    one, other = (np.asarray(gray, dtype=float) for gray in small)
    assert found[0, 0] == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1], abs=1e-9)
    apart = (one - one.mean()) / one.std() - (other - other.mean()) / other.std()
    parts = [apart[y : y + 4, x : x + 4].mean() for y in range(0, 32, 4) for x in range(0, 32, 4)]
    assert found[0, 1] == pytest.approx(np.abs(parts).max(), abs=1e-9)

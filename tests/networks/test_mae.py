"""What the masked autoencoder promises: nothing hidden leaks, and the loss is that of the paper."""

import math

import pytest
import torch

from common.networks.classifier import create_encoder
from common.networks.mae import MaskedAutoencoder, learning_rate_of, sine_cosine_positions

SIZES = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def autoencoder(stem="linear", **options):
    torch.manual_seed(0)
    encoder = create_encoder("vit_tiny_patch16_224", 32, {**SIZES, "stem": stem})
    return MaskedAutoencoder(
        encoder, decoder_dim=16, decoder_depth=1, decoder_heads=2, **options
    ).eval()


def batch(model, count=3):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((count, 3, 32, 32), generator=generator)
    return images, torch.rand((count, model.patches), generator=generator)


def test_patches_are_put_back_where_they_came_from():
    model = autoencoder()
    images, _ = batch(model)
    assert torch.equal(model.unpatchify(model.patchify(images)), images)
    # the second patch is the one to the right of the first, its pixels row by row, colours last
    assert torch.equal(model.patchify(images)[0, 1, :6].view(2, 3).T, images[0, :, 0, 8:10])


@pytest.mark.parametrize("stem", ["linear", "conv"])
def test_hidden_patches_do_not_leak_into_the_prediction(stem):
    model = autoencoder(stem)
    images, noise = batch(model)
    _, predicted, mask = model(images, noise)
    assert mask.sum(1).tolist() == [12.0] * 3  # 75 % of 16
    hidden = model.unpatchify(mask[:, :, None].expand(-1, -1, 192)).bool()
    changed = torch.where(hidden, torch.randn_like(images), images)
    assert torch.equal(model(changed, noise)[1], predicted)
    seen = torch.where(hidden, images, images + 1)
    assert not torch.allclose(model(seen, noise)[1], predicted)


@pytest.mark.parametrize("stem", ["linear", "conv"])
def test_encoder_without_mask_is_the_timm_network(stem):
    model = autoencoder(stem)
    model.mask_ratio = 0.0
    images, noise = batch(model)
    kept, _ = model.random_masking(noise)
    latent = model.encode(images, kept)
    whole = model.encoder.forward_features(images)
    back = kept.argsort(1)[:, :, None].expand(-1, -1, 32)
    assert torch.allclose(latent[:, :1], whole[:, :1], atol=1e-5)
    assert torch.allclose(latent[:, 1:].gather(1, back), whole[:, 1:], atol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_loss_is_the_mean_square_over_hidden_pixels(normalised):
    model = autoencoder(norm_pix_loss=normalised)
    images, noise = batch(model)
    losses, predicted, mask = model(images, noise)
    for row in range(3):  # again, patch by patch
        errors = []
        for patch in torch.nonzero(mask[row]).flatten().tolist():
            top, left = 8 * (patch // 4), 8 * (patch % 4)
            target = images[row, :, top : top + 8, left : left + 8].permute(1, 2, 0).flatten()
            if normalised:
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            errors.append(((predicted[row, patch] - target) ** 2).mean())
        assert losses[row].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


def test_positions_are_the_published_formula():
    table = sine_cosine_positions(8, 3, prefix_tokens=1)
    assert table.shape == (10, 8) and not table[0].any()
    x, y = 2, 1  # third column, second row
    rate = 1 / 10000**0.5
    expected = [f(v * w) for v in (x, y) for f in (math.sin, math.cos) for w in (1, rate)]
    assert table[1 + 3 * y + x].tolist() == pytest.approx(expected, abs=1e-6)


def test_rebuilding_keeps_the_visible_patches():
    model = autoencoder(norm_pix_loss=True)
    images, noise = batch(model)
    masked, rebuilt = model.rebuild(images, noise)
    visible = masked != 0
    assert visible.float().mean() == pytest.approx(0.25, abs=1e-3)
    assert torch.equal(rebuilt[visible], images[visible])


def test_rate_grows_with_the_batch():
    assert learning_rate_of(1.5e-4, 4096) == pytest.approx(2.4e-3)


@pytest.mark.parametrize("stem", ["linear", "conv"])
def test_checkpointing_changes_memory_and_not_the_gradient(stem):
    gradients = []
    for enable in (False, True):
        model = autoencoder(stem).train()
        model.set_grad_checkpointing(enable)
        model(*batch(model))[0].mean().backward()
        learnt = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        assert all(parameter.grad is not None for _, parameter in learnt)
        gradients.append([parameter.grad for _, parameter in learnt])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))

"""Masked autoencoder (He et al. 2022; paper §3.2) around a timm Vision Transformer.

Each step of the method is a function: patchify, random masking, encode, decode, loss. The encoder
sees only the visible patches.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.models import checkpoint_seq
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn.functional import linear

from common.script.files import UserError


def sine_cosine_positions(dim: int, side: int, prefix_tokens: int = 0) -> torch.Tensor:
    """Return fixed 2-D positions, float32 [prefix + side², dim], zeros for prefix tokens.

    One half of the features encodes x, the other y. Of each, one half is sines and the other
    cosines of the patch's index over 10000^(i/(dim/4)), as in the reference code.
    """
    frequency = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    features = []
    for axis in (x, y):  # the reference encodes x first
        angle = axis.flatten().double()[:, None] * frequency  # [L, dim/4]
        features += [angle.sin(), angle.cos()]
    positions = torch.cat(features, dim=1).float()  # [L, dim]
    return torch.cat([torch.zeros(prefix_tokens, dim), positions])


class MaskedAutoencoder(nn.Module):
    """Encoder of `classifier.create_encoder`, and a light decoder that rebuilds masked patches.

    decoder_dim, decoder_depth, decoder_heads: 512, 8, 16 in the reference for every encoder.
    norm_pix_loss: the target of a patch is normalised by its own mean and variance.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.75,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        norm_pix_loss: bool = False,
    ):
        super().__init__()
        if decoder_dim % 4 or decoder_dim % decoder_heads:
            raise UserError(
                f"--decoder-dim {decoder_dim} is not a multiple of 4 and of --decoder-heads "
                f"{decoder_heads}."
            )
        self.encoder = encoder
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.grad_checkpointing = False
        self.patch_size = encoder.patch_embed.patch_size[0]
        self.grid = encoder.patch_embed.grid_size[0]
        self.prefix_tokens = encoder.num_prefix_tokens
        if not 0 < self.visible < self.patches:
            raise UserError(
                f"--mask-ratio {mask_ratio} hides {self.patches - self.visible} of "
                f"{self.patches} patches; some must be hidden and some seen."
            )
        width = encoder.embed_dim
        encoder.pos_embed.data[0] = sine_cosine_positions(
            width, self.grid, 0 if encoder.no_embed_class else self.prefix_tokens
        )
        encoder.pos_embed.requires_grad_(False)  # fixed, as in the reference
        norm = partial(nn.LayerNorm, eps=1e-6)  # the reference's, and that of timm's encoder
        self.decoder_embed = nn.Linear(width, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        positions = sine_cosine_positions(decoder_dim, self.grid, self.prefix_tokens)
        self.decoder_pos_embed = nn.Parameter(positions[None], requires_grad=False)
        self.decoder_blocks = nn.Sequential(
            *(
                Block(decoder_dim, decoder_heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm)
                for _ in range(decoder_depth)
            )
        )
        self.decoder_norm = norm(decoder_dim)
        self.decoder_pred = nn.Linear(decoder_dim, self.patch_size**2 * 3)
        for module in [self.decoder_embed, self.decoder_pred, *self.decoder_blocks.modules()]:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass instead of keeping their activations."""
        self.grad_checkpointing = enable

    def _through(self, blocks: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint_seq(blocks, x)
        return blocks(x)

    @property
    def patches(self) -> int:
        """L, the number of patches of an image, and of random numbers for its mask."""
        return self.grid**2

    @property
    def visible(self) -> int:
        """V, the number of patches the encoder sees."""
        return int(self.patches * (1 - self.mask_ratio))

    def patchify(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] → [B, L, p·p·3], pixels of a patch row by row, colours last."""
        batch, p, g = len(images), self.patch_size, self.grid
        x = images.reshape(batch, 3, g, p, g, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, g * g, p * p * 3)

    def unpatchify(self, patches: torch.Tensor) -> torch.Tensor:
        """[B, L, p·p·3] → [B, 3, H, W]."""
        batch, p, g = len(patches), self.patch_size, self.grid
        x = patches.reshape(batch, g, g, p, p, 3)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, 3, g * p, g * p)

    def random_masking(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the patches to keep: those of the smallest noise.

        noise: [B, L]. Returns kept int64 [B, V] (indices, V = L·(1 − mask_ratio)) and mask float
        [B, L], 1 where the patch is removed.
        """
        visible = self.visible
        kept = noise.argsort(dim=1)[:, :visible]
        return kept, torch.ones_like(noise).scatter(1, kept, 0.0)

    def encode(self, images: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Embed and encode the visible patches: [B, 3, H, W], [B, V] → [B, prefix + V, D]."""
        encoder, p, g = self.encoder, self.patch_size, self.grid
        batch = len(kept)
        if getattr(encoder.patch_embed, "overlaps", False):
            # Such a stem sees beyond its patch, so hidden pixels are blanked before it.
            shown = torch.zeros((batch, g * g), device=images.device).scatter(1, kept, 1.0)
            shown = shown.view(batch, 1, g, g).repeat_interleave(p, 2).repeat_interleave(p, 3)
            tokens = encoder.patch_embed(images * shown)  # [B, L, D]
            tokens = torch.take_along_dim(tokens, kept[:, :, None], 1)
        else:
            # A linear stem never mixes two patches, so it needs only the visible ones.
            patches = images.reshape(batch, 3, g, p, g, p).permute(0, 2, 4, 1, 3, 5)
            patches = patches.reshape(batch, g * g, 3 * p * p)
            patches = torch.take_along_dim(patches, kept[:, :, None], 1)
            # As a product: on a CPU a convolution of so many tiny images is far slower.
            stem = encoder.patch_embed.proj
            tokens = linear(patches, stem.weight.flatten(1), stem.bias)  # [B, V, D]
        positions = encoder.pos_embed
        skipped = 0 if encoder.no_embed_class else self.prefix_tokens
        tokens = tokens + torch.take_along_dim(positions[:, skipped:], kept[:, :, None], 1)
        prefix = [t for t in (encoder.cls_token, encoder.reg_token) if t is not None]
        if prefix:
            prefix = torch.cat(prefix, dim=1)
            prefix = prefix + positions[:, :skipped] if skipped else prefix
            tokens = torch.cat([prefix.expand(batch, -1, -1), tokens], dim=1)
        return encoder.norm(self._through(encoder.blocks, encoder.norm_pre(tokens)))

    def decode(self, latent: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Rebuild every patch from the visible ones: [B, prefix + V, D] → [B, L, p·p·3]."""
        x = self.decoder_embed(latent)
        prefix, visible = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        full = self.mask_token.to(x.dtype).expand(len(x), self.patches, -1)
        full = full.scatter(1, kept[:, :, None].expand(-1, -1, x.shape[-1]), visible)
        x = torch.cat([prefix, full], dim=1) + self.decoder_pos_embed
        x = self._through(self.decoder_blocks, x)
        return self.decoder_pred(self.decoder_norm(x))[:, self.prefix_tokens :]

    def loss(
        self, images: torch.Tensor, predicted: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error on the masked patches (paper §3.2), for each image: [B]."""
        target = self.patchify(images)
        if self.norm_pix_loss:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        error = (predicted.float() - target).square().mean(-1)  # [B, L]
        return (error * mask).sum(1) / mask.sum(1)

    def forward(
        self, images: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """images: float32 [B, 3, H, W], normalised. noise: [B, L], uniform in 0..1.

        Returns the loss of each image [B], the prediction [B, L, p·p·3] and the mask [B, L].
        """
        kept, mask = self.random_masking(noise)
        predicted = self.decode(self.encode(images, kept), kept)
        return self.loss(images, predicted, mask), predicted, mask

    def rebuild(
        self, images: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (masked, rebuilt) images [B, 3, H, W]: hidden patches zero, then predicted."""
        _, predicted, mask = self.forward(images, noise)  # not a compiled form, for other shapes
        target = self.patchify(images)
        if self.norm_pix_loss:  # the prediction lacks each patch's own mean and contrast
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            predicted = predicted * (variance + 1e-6).sqrt() + mean
        hidden = mask[:, :, None]
        return (
            self.unpatchify(target * (1 - hidden)),
            self.unpatchify(target * (1 - hidden) + predicted.float() * hidden),
        )


def learning_rate_of(base: float, global_batch: int) -> float:
    """Scale a base rate by the effective batch: lr = blr · batch / 256 (He et al. 2022)."""
    return base * global_batch / 256

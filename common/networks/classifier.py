"""The networks: a timm Vision Transformer as encoder, and with a head as classifier."""

from __future__ import annotations

import json
import math
from pathlib import Path

import timm
import torch
from torch import nn

from common.emotions import BASIC
from common.networks.weights import read_weights, start_from
from common.script.config import nearest
from common.script.files import UserError


class ConvStem(nn.Module):
    """Patch embedding by 3×3 convolutions of stride 2 (Xiao et al. 2021), for small data sets.

    Its receptive fields overlap, so a masked autoencoder must blank hidden pixels before it
    (`overlaps`). GroupNorm, which does not couple the images of a batch as BatchNorm would. Same
    interface as timm's PatchEmbed: [B, 3, H, W] → [B, N, D].
    """

    overlaps = True

    def __init__(
        self, img_size=224, patch_size=16, in_chans=3, embed_dim=768, bias=True, device=None,
        dtype=None, **_,
    ):  # fmt: skip
        super().__init__()
        stages = int(math.log2(patch_size))
        if 2**stages != patch_size or embed_dim % (4 * patch_size):
            raise UserError(
                "The conv stem halves the image in each layer: patch_size must be a power of 2 "
                f"(not {patch_size}) and embed_dim a multiple of 4 times that (not {embed_dim})."
            )
        factory = {"device": device, "dtype": dtype}
        self.patch_size = (patch_size, patch_size)
        side = img_size if isinstance(img_size, int) else img_size[0]
        self.grid_size = (side // patch_size, side // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        layers, channels = [], in_chans
        for stage in range(1, stages + 1):
            width = embed_dim // 2 ** (stages - stage)
            layers += [
                nn.Conv2d(channels, width, 3, 2, 1, bias=False, **factory),
                nn.GroupNorm(8, width, **factory),
                nn.GELU(),
            ]
            channels = width
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim, embed_dim, 1, bias=bias, **factory))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class PositionHead(nn.Module):
    """Logits from all tokens side by side, each projected to a few features: [B, N, D] → [B, C].

    Keeps what stands where in the face. With a thousand images to learn from, average and
    attention pooling stayed at chance where this learned.
    """

    def __init__(self, tokens: int, dim: int, classes: int, features: int = 16):
        super().__init__()
        self.project = nn.Linear(dim, features)
        self.classify = nn.Linear(tokens * features, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classify(self.project(tokens).flatten(1))


# Short names of the sizes that the masked autoencoder is published in, and of the small one.
PRESETS = {
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large": "vit_large_patch16_224",
    "vit_huge": "vit_huge_patch14_224",
}

STEMS = {"linear": None, "conv": ConvStem}


def create_encoder(
    model: str, image_size: int, options: dict | None = None, num_classes: int = 0
) -> nn.Module:
    """Return timm's Vision Transformer `model` (or a name of PRESETS) with random weights.

    options: arguments of timm's VisionTransformer that differ from the named model's; and `stem`
    (linear or conv), and global_pool=concat for a PositionHead. Without classes, the network has
    no pooling: its blocks end in `norm`, as a masked autoencoder's do. Raises UserError for an
    unknown model or option.
    """
    arguments = {"global_pool": "avg", **(options or {})}
    concat = arguments["global_pool"] == "concat"
    if concat or not num_classes:
        arguments.update(global_pool="", fc_norm=False)
    if concat:
        arguments["class_token"] = False
    stem = arguments.pop("stem", "linear")
    if stem not in STEMS:
        raise UserError(f"Unknown stem {stem!r} in --model-options: choose {' or '.join(STEMS)}.")
    if STEMS[stem]:
        arguments["embed_layer"] = STEMS[stem]
    try:
        encoder = timm.create_model(
            PRESETS.get(model, model),
            pretrained=False,
            num_classes=num_classes,
            img_size=image_size,
            **arguments,
        )
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        if not timm.is_model(PRESETS.get(model, model)):
            known = [*PRESETS, *timm.list_models("vit_*")]
            raise UserError(f"timm has no model {model!r}{nearest(model, known)}") from None
        given = " ".join(f"{key}={value}" for key, value in (options or {}).items())
        raise UserError(
            f"timm cannot make the model {model!r} at {image_size} px"
            f"{f' with --model-options {given}' if given else ''}: {error}"
        ) from None
    if not isinstance(encoder, timm.models.VisionTransformer):
        raise UserError(f"The model {model!r} is not a Vision Transformer; choose a timm vit_*.")
    patch = encoder.patch_embed.patch_size[0]
    if image_size % patch:  # timm would leave the last pixels out
        raise UserError(f"--image-size {image_size} is not a multiple of patch_size {patch}.")
    if concat and num_classes:
        encoder.head = PositionHead(encoder.patch_embed.num_patches, encoder.embed_dim, num_classes)
    return encoder


def create_classifier(
    model: str, image_size: int, options: dict | None = None, classes: int = len(BASIC)
) -> nn.Module:
    """Return a Vision Transformer with `classes` logits: [B, 3, S, S] → [B, classes].

    A linear head starts near zero, so that a pretrained encoder is not shaken by its first
    gradients. One of two layers would not leave such a start for epochs.
    """
    network = create_encoder(model, image_size, options, num_classes=classes)
    if isinstance(network.head, PositionHead):
        nn.init.trunc_normal_(network.head.classify.weight, std=0.02)
        nn.init.zeros_(network.head.classify.bias)
    else:
        nn.init.trunc_normal_(network.head.weight, std=2e-5)  # as in the reference fine-tuning
        nn.init.zeros_(network.head.bias)
    return network


def load_classifier(checkpoint: str | Path) -> tuple[nn.Module, dict]:
    """Return the network of a run's `model.safetensors`, on the CPU, and its settings.

    The settings come from `run.json` beside it: model, model_options, image_size, mean, std.
    Raises UserError where either file is missing or they do not belong together.
    """
    checkpoint = Path(checkpoint)
    weights = read_weights(checkpoint)
    record = checkpoint.with_name("run.json")
    try:
        settings = json.loads(record.read_text(encoding="utf-8"))["settings"]
        shape = settings["model"], settings["image_size"], settings["model_options"]
        colours = settings["mean"], settings["std"]
        assert len(colours[0]) == len(colours[1]) == 3
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise UserError(
            f"{checkpoint} needs the run.json of its run beside it: it tells the model's sizes "
            "and colours."
        ) from None
    bias = weights.get("head.bias", weights.get("head.classify.bias"))
    classes = 0 if bias is None else len(bias)
    if classes != len(BASIC):
        raise UserError(
            f"{checkpoint} has {classes} logits, not the {len(BASIC)} of an expression classifier."
        )
    network = create_classifier(*shape)
    start_from(network, str(checkpoint), keep_head=True)
    return network.eval(), settings

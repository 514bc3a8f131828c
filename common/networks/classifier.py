"""The networks: timm's Vision Transformer as encoder, any timm model with a head as classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import timm
import torch
from timm.layers import HybridEmbed, PatchEmbed
from torch import nn

from common.emotions import ADAPTATION, BASIC
from common.networks.convolutions import make_fast
from common.networks.fitting import LoadingReport, Weights, fit_weights, head_names
from common.networks.formats import refuse_other_kinds
from common.networks.parts import ConvStem, PositionHead
from common.networks.recognition import face_resnet  # noqa: F401 (timm knows it once imported)
from common.networks.small import cnn_small  # noqa: F401 (timm knows it once it is imported)
from common.networks.weights import load_weights, settings_beside
from common.script.config import nearest
from common.script.files import UserError
from common.script.flags import EXCLUSIVE_LOSSES

# Short names of the sizes that the masked autoencoder is published in, and of the small one.
PRESETS = {
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large": "vit_large_patch16_224",
    "vit_huge": "vit_huge_patch14_224",
}

STEMS = {"linear": None, "conv": ConvStem}


def create_encoder(model: str, image_size: int, options: dict | None = None) -> nn.Module:
    """Return the Vision Transformer `model` without head or pooling, for a masked autoencoder.

    Its blocks end in `norm`. As in `create_network`. Raises UserError for a model that cannot be
    pretrained by masking: no plain Vision Transformer, or one that mixes patches before its blocks.
    """
    check_model(model)
    unpooled = {**(options or {}), "global_pool": "", "fc_norm": False}
    if (options or {}).get("global_pool") == "concat":  # as the classifier that starts from it
        unpooled["class_token"] = False
    if not _is_plain_vit(model):
        raise UserError(
            f"02 pretrains plain Vision Transformers (vit_small, vit_base, vit_large, vit_huge, or "
            f"timm's vit_* of that class), not {model!r}; 03, 04 and 05 take any timm model."
        )
    encoder = create_network(model, image_size, unpooled, 0)
    strange = [
        name
        for name, found in (
            ("a stem that is no plain patch embedding, or norms it", not _is_patchwise(encoder)),
            ("patches that are not square", len({*encoder.patch_embed.patch_size}) > 1),
            ("no positions of its own", encoder.pos_embed is None),
            ("attention pooling between blocks", encoder.attn_pool is not None),
        )
        if found
    ]
    if strange:
        raise UserError(f"02 cannot pretrain {model!r}: it has {' and '.join(strange)}.")
    return encoder


# Arguments of timm's models that are known without --model-options.
_SET_HERE = {"img_size", "in_chans", "num_classes", "pretrained", "checkpoint_path"}
_SET_HERE |= {"device", "dtype"}


def create_network(
    model: str, image_size: int, options: dict | None = None, classes: int = 0
) -> nn.Module:
    """Return timm's `model`, or a preset, with random weights: [B, 3, S, S] → [B, classes].

    options: arguments of timm's model that differ from the named one's; and for plain Vision
    Transformers `stem` (linear or conv), and global_pool=concat for a PositionHead. Raises
    UserError for an unknown model or option, or an image size that the model does not take.
    """
    name, arguments, plain = PRESETS.get(model, model), dict(options or {}), _is_plain_vit(model)
    if taken := sorted(_SET_HERE.intersection(arguments)):
        raise UserError(
            f"--model-options cannot set {taken[0]}; images are RGB, of --image-size, --init names "
            "weights, and the hardware is found."
        )
    if arguments.get("weight_init") == "skip":
        raise UserError("--model-options weight_init=skip leaves weights unset; leave it out.")
    if plain:
        arguments = {"global_pool": "avg", **arguments}
    concat = arguments.get("global_pool") == "concat"
    stem = arguments.pop("stem", "linear")
    if not plain and (concat or stem != "linear"):
        raise UserError(
            f"--model-options stem= and global_pool=concat are for plain Vision Transformers, not "
            f"{model!r}."
        )
    if concat:
        arguments.update(global_pool="", fc_norm=False, class_token=False)
    if stem not in STEMS:
        raise UserError(f"Unknown stem {stem!r} in --model-options: choose {' or '.join(STEMS)}.")
    if STEMS[stem]:
        arguments["embed_layer"] = STEMS[stem]
    try:
        network = _ask_timm(name, image_size, {"num_classes": classes, **arguments})
    except Exception as error:  # timm checks few of its arguments
        check_model(model)
        raise UserError(
            f"timm cannot make the model {model!r} at {image_size} px{_given(options)}: "
            f"{_reason(error)}"
        ) from None
    stem = getattr(network, "patch_embed", getattr(network, "stem", None))  # a mixer's
    cuts = isinstance(stem, PatchEmbed | HybridEmbed | ConvStem)
    for patch in stem.patch_size if cuts and not getattr(stem, "dynamic_img_pad", False) else ():
        if image_size % patch:  # timm would leave the last pixels out
            raise UserError(f"--image-size {image_size} is not a multiple of patch_size {patch}.")
    if not plain:
        return make_fast(network)
    if concat and classes:
        network.head = PositionHead(network.patch_embed.num_patches, network.embed_dim, classes)
    return network


def check_model(model: str) -> None:
    """Raise UserError where there is no network of that name."""
    if not timm.is_model(PRESETS.get(model, model)):
        known = [*PRESETS, *timm.list_models()]
        raise UserError(f"timm has no model {model!r}{nearest(model, known)}") from None


def _is_plain_vit(model: str) -> bool:
    name = PRESETS.get(model, model).partition(".")[0]
    families = {"vision_transformer", "deit"}
    return timm.models.is_model_in_modules(name, families) and "distilled" not in name


def _is_patchwise(encoder: nn.Module) -> bool:
    """Tell whether each token comes from its own patch, or can be made to (`overlaps`)."""
    stem = encoder.patch_embed
    return isinstance(stem, ConvStem) or (
        type(stem) is PatchEmbed and isinstance(stem.norm, nn.Identity)
    )


def _given(options: dict | None) -> str:
    given = " ".join(f"{key}={value}" for key, value in (options or {}).items())
    return f" with --model-options {given}" if given else ""


def _reason(error: Exception) -> str:
    """Return an error of timm or torch in one line."""
    words = str(error).strip().partition("\n")[0].partition(", but expected one of")[0]
    missing = "there is no " * isinstance(error, KeyError)
    return missing + (words or f"it only says {type(error).__name__}")


def _ask_timm(name: str, image_size: int, arguments: dict) -> nn.Module:
    """Create a model for an image size, which only some families (ViT, Swin) must be told."""
    try:
        return timm.create_model(name, pretrained=False, img_size=image_size, **arguments)
    except TypeError:  # convolutional networks take images of any size
        return timm.create_model(name, pretrained=False, **arguments)


def create_classifier(
    model: str, image_size: int, options: dict | None = None, classes: int = len(BASIC)
) -> nn.Module:
    """Return a network with `classes` logits: [B, 3, S, S] → [B, classes]; as `create_network`.

    A linear head starts near zero, so that a pretrained encoder is not shaken by its first
    gradients. One of two layers would not leave such a start for epochs.
    """
    network = create_network(model, image_size, options, classes)
    head = network.get_classifier()
    if isinstance(head, PositionHead):
        nn.init.trunc_normal_(head.classify.weight, std=0.02)
        nn.init.zeros_(head.classify.bias)
    else:
        for layer in nn.ModuleList(head if isinstance(head, tuple) else [head]).modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=2e-5)  # as in the reference fine-tuning
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    # A pass of ViT-L takes seconds, and timm's plain Vision Transformers need none.
    if set(options or ()) - {"drop_path_rate", "fc_norm"} or not _is_plain_vit(model):
        refuse_image_size(network, model, image_size, classes, options)
    return network


def expression_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of the six emotions: logits [..., 6] or [..., 8] → float32 [..., 6].

    Six logits have a sigmoid each. Eight, of --loss softmax, are exclusive: Neutral and Contempt
    take their share.
    """
    if logits.shape[-1] == len(BASIC):
        return torch.sigmoid(logits.float())
    return logits.float().softmax(-1)[..., : len(BASIC)]


@torch.no_grad()
def refuse_image_size(
    network: nn.Module, model: str, image_size: int, classes: int, options: dict | None = None
) -> None:
    """Raise UserError where a model does not give finite logits for an image of this size."""
    network.eval()
    try:
        found, wrong = network(torch.zeros(1, 3, image_size, image_size)), ""
        if getattr(found, "shape", None) != (1, classes):
            wrong = "it gives no logits"
        elif not (found.is_meta or found.isfinite().all()):
            wrong = "its logits are not finite"
    except Exception as error:  # whatever a layer finds wrong with an option
        wrong = _reason(error)
    network.train()
    if wrong:
        raise UserError(
            f"The model {model!r} does not take images of {image_size} px{_given(options)}: "
            f"{wrong}."
        )


def start_classifier(
    model: str,
    image_size: int,
    options: dict | None,
    init: str | Weights,
    classes: int = len(BASIC),
    keep_head: bool = False,
) -> tuple[nn.Module, LoadingReport | None]:
    """Return a classifier that starts from weights, and the report of their loading.

    init: as in `weights.load_weights`, or what that returned, or `none` for random weights. A
    Vision Transformer ends as its weights do: with the trained `norm` before its pooling, or, of a
    masked autoencoder, with a new `fc_norm` behind it; unless options set fc_norm. keep_head: as in
    `fitting.fit_weights`.
    """
    network = create_classifier(model, image_size, options, classes)
    if init == "none":
        return network, None
    weights = load_weights(init, network) if isinstance(init, str) else init
    fresh = any(name.startswith("fc_norm.") for name in network.state_dict())
    trained = weights.has("norm.", "visual.ln_post.") and not weights.has("fc_norm.")
    if fresh and trained and not weights.autoencoder and "fc_norm" not in (options or {}):
        network = create_classifier(
            model, image_size, {**(options or {}), "fc_norm": False}, classes
        )
    return network, fit_weights(network, weights, keep_head)


def load_classifier(
    checkpoint: str | Path, say: Callable[[str], None] | None = None
) -> tuple[nn.Module, dict]:
    """Return the network of a run's `model.safetensors`, on the CPU, and its settings.

    It has six logits, or the eight of --loss softmax. The settings come from `run.json` beside it:
    model, model_options, image_size, mean, std, loss.
    say: is given the report of the loading. Raises UserError where either file is missing or they
    do not belong together.
    """
    checkpoint = Path(checkpoint)
    refuse_other_kinds(checkpoint)  # its own faults are reported first
    settings = settings_beside(checkpoint)
    names = ("model", "image_size", "model_options")
    if not settings.keys() >= {*names}:
        raise UserError(
            f"{checkpoint} needs the run.json of its run beside it, which holds the model's sizes "
            "and colours."
        )
    shape = tuple(settings[name] for name in names)
    wanted = len(ADAPTATION if settings.get("loss") in EXCLUSIVE_LOSSES else BASIC)
    network = create_classifier(*shape, wanted)
    weights = load_weights(str(checkpoint), network)
    names = [head + end for head in head_names(network) for end in ("bias", "classify.bias")]
    classes = [weights.tensors[name].numel() for name in names if name in weights.tensors]
    if classes[:1] != [wanted]:
        raise UserError(
            f"{checkpoint} has {classes[0] if classes else 0} logits, not the {wanted} of an "
            "expression classifier."
        )
    network, report = start_classifier(*shape, weights, wanted, keep_head=True)
    if say:
        say(str(report))
    return network.eval(), settings

"""Weights in and out: the field's file formats, in timm's parameter names.

Read are safetensors and PyTorch files with the names of timm (ours, DeiT, DINO), of the reference
code of He et al. 2022 (timm's and `decoder_*`), of Hugging Face's ViTMAE, and of our own
autoencoder (`encoder.*` and `decoder_*`); each also as DataParallel or torch.compile leave it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from timm.layers import resample_abs_pos_embed
from torch import nn

from common.script.files import UserError, whole_file

# What a task may lack or leave over; anything else tells that the architectures differ.
HEAD = ("head.", "fc_norm.", "attn_pool.", "norm.")
DECODER = ("decoder_", "mask_token")

# Hugging Face's names and timm's, as patterns; `layers` is written by its newer versions.
_HUGGING_FACE = (
    (r"^(vit\.)?embeddings\.cls_token$", "cls_token"),
    (r"^(vit\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(vit\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(vit\.)?layernorm\.", "norm."),
    (r"^decoder\.(mask_token|decoder_pos_embed|decoder_embed|decoder_norm|decoder_pred)", r"\1"),
    (r"^decoder\.(decoder_layers|decoder_encoder\.layer)\.", "decoder_blocks."),
    (r"^(vit\.)?(encoder\.layer|layers)\.", "blocks."),
    (r"\.attention\.(attention\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from a safetensors file, or from a PyTorch file without unpickling.

    Of a PyTorch file, the entry `model` or `state_dict` is taken where there is one. Raises
    UserError where the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}; run the stage before, or name one.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # The reference code saves its arguments beside the weights: an object without behaviour.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from None
    except Exception:  # torch's unpickler has many errors for damaged and for refused content
        raise UserError(
            f"{path} is not a file of weights, or holds more than tensors; that is never unpickled."
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise UserError(f"{path} does not hold tensors by name.")
    return content


def to_timm_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tensors of any format above: the encoder as in timm, the decoder `decoder_*`.

    Hugging Face's query, key and value become one tensor, as timm has it.
    """
    for wrapper in ("module.", "_orig_mod.", "module."):  # DataParallel, torch.compile
        if weights and all(name.startswith(wrapper) for name in weights):
            weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    if any(name.startswith("encoder.patch_embed.") for name in weights):  # our autoencoder
        return {name.removeprefix("encoder."): value for name, value in weights.items()}
    if not any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in weights):
        return weights
    renamed = {}
    for name, value in weights.items():
        for pattern, ours in _HUGGING_FACE:
            name = re.sub(pattern, ours, name)
        if not name.startswith(("pooler.", "vit.pooler.", "classifier.")):  # heads of its own
            renamed[name] = value
    for name in [name for name in renamed if ".attn.q." in name]:
        parts = [renamed.pop(name.replace(".attn.q.", f".attn.{part}."), None) for part in "qkv"]
        if all(part is not None for part in parts):
            renamed[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    return renamed


def load_weights(init: str) -> dict[str, torch.Tensor]:
    """Return weights in timm's names: of a file, or of timm's published ones by `timm:NAME`.

    Raises UserError where there is no such file or name, or nothing of a Vision Transformer in it.
    """
    if init.startswith("timm:"):
        name = init.removeprefix("timm:")
        try:
            return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
        except Exception as error:  # the hub's client raises a dozen kinds
            reason = " ".join(str(error).split())
            raise UserError(f"timm could not fetch {name!r}: {reason}") from None
    found = read_weights(init)
    weights = to_timm_names(found)
    if not any(name.startswith(("patch_embed.", "blocks.")) for name in weights):
        names = ", ".join(list(found)[:3])
        raise UserError(
            f"{init} holds no Vision Transformer: its {len(found)} tensors are named {names}…; "
            "expected are the names of timm (blocks.0.attn.qkv.weight), of the MAE reference code "
            "or of Hugging Face's ViTMAE."
        )
    return weights


def resize_positions(positions: torch.Tensor, side: int, prefix_tokens: int) -> torch.Tensor:
    """Fit positions [1, k + n², D] to another grid: [1, prefix_tokens + side², D].

    The k positions of class and register tokens are kept where as many are wanted, else dropped,
    or zeros where the file has none. The grid is interpolated (bicubic).
    """
    tokens = positions.shape[1]
    found = next((k for k in range(tokens) if math.isqrt(tokens - k) ** 2 == tokens - k), 0)
    prefix, grid = positions[:, :found], positions[:, found:]
    grid = resample_abs_pos_embed(grid, (side, side), num_prefix_tokens=0)
    if found != prefix_tokens:
        prefix = positions.new_zeros((1, prefix_tokens, positions.shape[-1]))
    return torch.cat([prefix, grid], dim=1)


def start_from(network: nn.Module, init: str, keep_head: bool = False) -> list[str]:
    """Load weights into a network of `create_classifier`, and return the names left as they were.

    init: a file of any format above, or `timm:NAME` to fetch timm's published weights. Only what
    belongs to the task may be missing: the head, its norm and its pooling, and a class token.
    keep_head: take the head too. Raises UserError where the file belongs to another architecture.
    """
    weights = load_weights(init)
    own = network.state_dict()
    if "pos_embed" in weights:
        prefix_tokens = 0 if network.no_embed_class else network.num_prefix_tokens
        weights["pos_embed"] = resize_positions(
            weights["pos_embed"], network.patch_embed.grid_size[0], prefix_tokens
        )
    if keep_head and not any(name.startswith("head.") for name in weights):
        raise UserError(
            f"{init} holds an encoder without a head; 04 goes on from a classifier of 03 (or from "
            "nothing, with --init none)."
        )
    unwanted = (*DECODER, *(() if keep_head else ("head.",)))
    weights = {name: value for name, value in weights.items() if not name.startswith(unwanted)}
    free = (*HEAD, "cls_token", "reg_token")
    left = [name for name in own if name not in weights]
    _refuse_differences(
        init,
        own,
        weights,
        lacking=[name for name in left if keep_head or not name.startswith(free)],
        extra=[name for name in weights if name not in own and not name.startswith(free)],
    )
    network.load_state_dict(weights, strict=False)
    return left


def start_autoencoder(model: nn.Module, init: str) -> bool:
    """Load weights into a MaskedAutoencoder: the encoder, and the decoder where the file has it.

    Returns whether the decoder was loaded: it must be of this depth and width. Raises UserError as
    start_from does.
    """
    start_from(model.encoder, init)
    weights = {k: v for k, v in load_weights(init).items() if k.startswith(DECODER)}
    own = {k: v for k, v in model.state_dict().items() if k.startswith(DECODER)}
    if "decoder_pos_embed" in weights:
        weights["decoder_pos_embed"] = resize_positions(
            weights["decoder_pos_embed"], model.grid, model.prefix_tokens
        )
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        return False
    model.load_state_dict(weights, strict=False)
    return True


def _refuse_differences(init: str, own: dict, weights: dict, lacking: list, extra: list) -> None:
    differing = [
        f"{name} is {list(weights[name].shape)}, expected {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if differing or lacking or extra:
        what = [*differing, *(f"{name} is missing" for name in lacking)]
        what += [f"{name} has no place in the model" for name in extra]
        raise UserError(
            f"{init} holds the weights of another model than --model and --model-options name: "
            f"{what[0]} ({len(what)} such)."
        )


def save_model(folder: str | Path, network: nn.Module) -> None:
    """Write `model.safetensors` with timm's parameter names into a run folder."""
    save_weights(Path(folder) / "model.safetensors", network)


def save_weights(path: str | Path, network: nn.Module) -> None:
    """Write the tensors of a network, as they are named, into a safetensors file."""
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with whole_file(path) as file:
        file.write(safetensors.torch.save(tensors))


def read_record(folder: Path) -> dict | None:
    """Return the run.json of a run folder, or None where it has none.

    Raises UserError where the file is damaged.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["settings"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; delete {folder} to start this stage anew.") from None
    return record


def refuse_unfinished(weights: str | Path) -> None:
    """Raise UserError where weights lie in the folder of a run that has not ended."""
    record = read_record(Path(weights).parent)
    if record and record.get("finished") is False:
        raise UserError(
            f"{weights} belongs to a run that has not ended; run that stage to its end, or copy "
            "the file (and, for 05, its run.json without `finished`) elsewhere to use it as it is."
        )

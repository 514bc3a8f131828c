"""Files of weights as the field passes them on: read without unpickling, in timm's names.

The format is told by the content, not by the file name. Anything but tensors (a web page, a
pointer of Git LFS, a pickled module, half a download) is refused in a sentence with the remedy.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from common.networks.recognition import is_recognition, read_recognition
from common.script.files import UserError, some

Tensors = dict[str, torch.Tensor]

# Where training codes put the weights, in the order in which we look; averages are taken on
# request (`FILE::model_ema`).
ENTRIES = ("model", "state_dict", "model_state_dict", "net", "network", "teacher", "encoder")
AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "student")

# Values without behaviour that training codes save beside the weights: arguments, paths, scores.
_HARMLESS = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    (pathlib.PosixPath, "pathlib._local.PosixPath"),  # as Python 3.13 names it
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64", "bool")),
]

# Hugging Face's names (ViT, ViTMAE, DINOv2) and timm's, as patterns; several are of its newer
# versions. Looked for after the prefix before `embeddings.` is gone.
_HUGGING_FACE = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^decoder\.(mask_token|decoder_pos_embed|decoder_embed|decoder_norm|decoder_pred)", r"\1"),
    (r"^decoder\.(decoder_layers|decoder_encoder\.layer)\.", "decoder_blocks."),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"\.attention\.(attention\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),  # the gated layers of DINOv2's giant
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
)
_HUGGING_FACE_ANCHOR = "embeddings.patch_embeddings.projection.weight"


def split_entry(init: str) -> tuple[str, str | None]:
    """Split `FILE::ENTRY`, which names the entry of a file that is to be read."""
    path, sign, entry = init.rpartition("::")
    return (path, entry) if sign else (init, None)


def read_tensors(path: str | Path, entry: str | None = None) -> tuple[Tensors, str]:
    """Read tensors by name from a file; return them and the entry that held them, or "".

    entry: the entry to read, of those of the file; else the first of ENTRIES that it has, also
    nested. Nothing is unpickled but tensors and values without behaviour. Raises UserError where
    the file is missing, damaged, of another kind, or holds anything but tensors.
    """
    path = Path(path)
    refuse_other_kinds(path)
    if is_recognition(path):
        return read_recognition(path), ""
    try:
        if _is_safetensors(path):
            found = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a plain pickle, which is refused below
                found = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from None
    except Exception:  # torch's unpickler has many errors for damaged and for refused content
        raise UserError(_why_unread(path)) from None
    taken = []
    for _ in range(3):  # {"model": {"state_dict": …}} is the deepest that was met
        if not isinstance(found, dict):
            break
        wanted = (entry,) if entry and not taken else ENTRIES
        key = next((key for key in wanted if isinstance(found.get(key), dict)), None)
        if key is None and entry and not taken:
            entries = [str(key) for key, value in found.items() if isinstance(value, dict)]
            raise UserError(
                f"{path} has no entry {entry!r}; it has {', '.join(entries) or 'none'}."
            )
        if key is None:
            break
        found, taken = found[key], [*taken, key]
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path} does not hold tensors by name.")
    if strange := [str(name) for name, value in found.items() if not torch.is_tensor(value)]:
        averages = [name for name in AVERAGES if name in strange]
        way = f"; name an entry, as in {path}::{averages[0]}" if averages else ""
        raise UserError(
            f"{path} holds entries that are no tensors ({', '.join(strange[:3])}){way}."
        )
    for name, value in found.items():
        if value.layout != torch.strided or value.device.type != "cpu":
            kind = "without values" if value.is_meta else "not dense"
            raise UserError(
                f"{path} holds a tensor that is {kind} ({name}); save it as a plain one."
            )
    return _renamed(path, found, map(str, found)), ".".join(taken)


def _renamed(source: str | Path, tensors: dict, names: Iterable[str]) -> Tensors:
    """Return tensors under other names, in their order. Raises UserError where two become one."""
    first = {}
    for old, new in zip(tensors, names, strict=True):
        if first.setdefault(new, old) is not old:
            raise UserError(
                f"{source} has both {first[new]!r} and {old!r}, which would both be {new} of the "
                "model; save it with one of them."
            )
    return {new: tensors[old] for new, old in first.items()}


def _is_safetensors(path: Path) -> bool:
    """Tell by the first bytes: a length, and a header in JSON."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**27


def refuse_other_kinds(path: Path) -> None:
    """Raise UserError for what is often taken for a file of weights, each with the way out."""
    if path.is_dir():
        kinds = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
        inside = sorted(file.name for file in path.iterdir() if file.suffix in kinds)
        named = f"the file in it, such as {path / inside[0]}" if inside else "a file of weights"
        raise UserError(f"{path} is a folder; name {named}.")
    if not path.is_file():
        stage = path.name == "model.safetensors"  # the name that 02, 03 and 04 give
        way = "run the stage that makes it" if stage else "docs/weights.md says where to download"
        raise UserError(
            f"There is no file of weights {path}; {way}, or name another file (02 to 04 also start "
            "from random weights: --init none)."
        )
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise UserError(f"{path} is empty; download or copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull`.")
    if head.lstrip()[:1] == b"<" and not _is_safetensors(path):
        raise UserError(
            f"{path} is a web page, not weights: the download was answered with a page (perhaps "
            "one that asks to log in or to confirm); download it again in a browser."
        )
    if head.startswith(b"\x89HDF"):
        raise UserError(f"{path} is an HDF5 file of Keras; weights of PyTorch are needed.")
    if head.startswith(b"\x93NUMPY"):
        raise UserError(f"{path} is an array of NumPy; weights of PyTorch are needed.")
    onnx = re.match(rb"\x08[\x01-\x7f][\x12:B]", head)  # its version, then producer, graph or opset
    if path.suffix == ".onnx" or (onnx and not _is_safetensors(path)):
        raise UserError(
            f"{path} is an ONNX model, which cannot be trained; 05 predicts with it where its name "
            "ends in .onnx."
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            raise UserError(f"{path} is a TorchScript program; save its state_dict() instead.")
        if any(name.endswith(".npy") for name in names):
            raise UserError(f"{path} is an archive of NumPy; weights of PyTorch are needed.")
    if _is_safetensors(path):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(length))
                ends = [
                    int(value["data_offsets"][1])
                    for name, value in header.items()
                    if name != "__metadata__"
                ]
            except Exception:  # no such header; reading the file reports it
                ends = []
        if (whole := 8 + length + max(ends, default=0)) > size:
            raise UserError(
                f"{path} is cut off: {size:,} of {whole:,} bytes; download or copy it again."
            )


def _why_unread(path: Path) -> str:
    """Return the sentence about a file that torch does not read as tensors."""
    with open(path, "rb") as file:
        packed = file.read(4) == b"PK\x03\x04"
    if packed and not zipfile.is_zipfile(path):
        return f"{path} is cut off or damaged; download or copy it again."
    try:
        strange = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is no pickle either
        strange = []
    harmless = {f"{one.__module__}.{one.__name__}" for one in _HARMLESS if isinstance(one, type)}
    if strange := sorted({*strange} - harmless):
        return (
            f"{path} holds more than tensors ({', '.join(strange[:2])}); that is never unpickled. "
            "Where you trust it, save its tensors alone: "
            "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)."
        )
    return f"{path} is not a file of weights, or is damaged; download or copy it again."


def to_timm_names(tensors: Tensors, own: Collection[str], source: str) -> tuple[Tensors, str]:
    """Rename the tensors of a file; return them and the name of their form.

    own: names of the network they are for, by which a prefix is recognised (`module.`,
    `backbone.`, `encoder.`… in any order). Of Hugging Face's models query, key and value become
    one tensor. CLIP, DINOv2 and DINOv3 in their owners' names are left to timm, which knows them.
    Raises UserError, naming the file (source), where two tensors would have one name.
    """
    anchor = next((name for name in tensors if name.endswith(_HUGGING_FACE_ANCHOR)), None)
    if anchor is not None:
        prefix = anchor.removesuffix(_HUGGING_FACE_ANCHOR)
        return _from_hugging_face(tensors, prefix, source), "Hugging Face"
    if "dlib_embedding" in tensors:
        return tensors, "dlib"
    clip = next((name for name in tensors if name.endswith("visual.class_embedding")), None)
    if clip is not None:
        prefix = clip.removesuffix("visual.class_embedding")
        return _renamed(source, tensors, (name.removeprefix(prefix) for name in tensors)), "CLIP"
    if any(name.endswith("_conv_stem.weight") for name in tensors):
        return _from_efficientnet(tensors, own), "EfficientNet-PyTorch"
    scores = Counter(
        name[: len(name) - len(end)] for name in tensors for end in _endings(name) if end in own
    )
    if not scores:
        return tensors, "timm"
    prefix = max(scores, key=lambda prefix: (scores[prefix], -len(prefix)))
    # Beside the encoder a masked autoencoder's file has the decoder, in the same wrapper or none.
    wrapper = prefix.removesuffix("encoder.")
    inner = {name.removeprefix(prefix) for name in tensors if prefix and name.startswith(prefix)}
    # Such as a second head behind the whole; the network's own tensors are those with the prefix.
    beside = [n for n in tensors if not n.startswith(prefix) and n.removeprefix(wrapper) in inner]
    kept = {name: value for name, value in tensors.items() if name not in beside}
    names = (name.removeprefix(prefix if name.startswith(prefix) else wrapper) for name in kept)
    left = f"those in {prefix.rstrip('.')}, not {some(beside)}; timm"
    return _renamed(source, kept, names), left if beside else "timm"


def _from_efficientnet(tensors: Tensors, own: Collection[str]) -> Tensors:
    """Return the tensors of the package EfficientNet-PyTorch (and of its lite models).

    Its layers stand in timm's order, under names of their own.
    """
    layers = [name for name in tensors if "_fc." not in name]
    wanted = [name for name in own if not name.startswith("classifier.")]
    if len(layers) != len(wanted):  # another model; the names as they are will be refused
        return tensors
    renamed = {ours: tensors[name] for ours, name in zip(wanted, layers, strict=True)}
    head = {name: value for name, value in tensors.items() if "_fc." in name}
    return renamed | {f"classifier.{name.partition('_fc.')[2]}": head[name] for name in head}


def _endings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(min(len(parts), 6))]


def _from_hugging_face(tensors: Tensors, prefix: str, source: str) -> Tensors:
    names = []
    for name in tensors:
        name = name.removeprefix(prefix)
        for pattern, ours in _HUGGING_FACE:
            name = re.sub(pattern, ours, name)
        names.append(name)
    renamed = _renamed(source, tensors, names)
    for name in [name for name in renamed if ".attn.q." in name]:
        parts = [renamed.pop(name.replace(".attn.q.", f".attn.{part}."), None) for part in "qkv"]
        if all(part is not None for part in parts):
            renamed[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    return renamed

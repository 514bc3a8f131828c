"""Which networks of timm 03, 04 and 05 train here, how large and how fast they are.

Each is made as 03 makes it, takes two training steps with layer decay, and then is asked for
stochastic depth and gradient checkpointing, which not every family has. Prints a table, and writes
it with --out.

    python benchmarks/backbones.py                              # 60 networks, some ten minutes
    python benchmarks/backbones.py --models resnet18 vit_small --image-size 224
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
import torch
from torch.nn import functional

from common.networks.classifier import create_classifier, create_encoder
from common.script.files import UserError, write_csv
from common.training.finetuning import head_parameters
from common.training.optimization import make_optimizer, use_grad_checkpointing

# One or more of each family that timm trains from images alone. A family that takes one image size
# alone is asked at that.
MODELS = """
vit_tiny_patch16_224 vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2
vit_small_patch16_dinov3 vit_base_patch16_clip_quickgelu_224 vit_medium_patch16_gap_240
deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 beit_base_patch16_224
cait_xxs24_224 eva02_tiny_patch14_224 xcit_nano_12_p16_224 pit_ti_224 levit_128s mixer_s16_224
gmlp_s16_224 naflexvit_base_patch16_gap samvit_base_patch16 resnet18 resnet50 resnet26d seresnet50
resnext50_32x4d resnetv2_50x1_bit cspresnet50 efficientnet_b0 tf_efficientnetv2_b0 tinynet_e
mnasnet_small rexnet_100 lcnet_050 mobilenetv3_small_100 mobilenetv4_conv_small ghostnet_100
convnext_atto convnextv2_atto edgenext_xx_small mobilevit_xs efficientvit_b0 poolformer_s12
fastvit_t8 tiny_vit_5m_224 davit_tiny focalnet_tiny_srf regnetx_002 repvgg_a0 densenet121 vgg11
inception_v3
"""
FIXED = """
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 hiera_tiny_224 maxvit_tiny_tf_224
coatnet_0_rw_224 efficientformer_l1 hrnet_w18_small dla34 vit_tiny_r_s16_p8_224 crossvit_9_240
"""


def try_model(name: str, side: int, batch: int) -> dict:
    """Take two training steps with a network; return its row of the table."""
    row = {"model": name, "image_size": side}
    began = time.perf_counter()
    try:
        network = create_classifier(name, side)
    except UserError as error:
        return {**row, "refused": str(error)}
    row["million parameters"] = round(sum(p.numel() for p in network.parameters()) / 1e6, 1)
    optimizer = make_optimizer(network, 1e-4, 0.05, layer_decay=0.75)
    images = torch.randn(batch, 3, side, side)
    for _ in range(2):
        began = time.perf_counter()
        loss = functional.binary_cross_entropy_with_logits(network(images), torch.zeros(batch, 6))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    row["images/s"] = round(batch / (time.perf_counter() - began), 1)
    row["finite"] = bool(loss.isfinite())
    row["head"] = " ".join(head_parameters(network))
    row["drop path"] = _works(lambda: create_classifier(name, side, {"drop_path_rate": 0.1}))
    row["checkpointing"] = _works(lambda: use_grad_checkpointing(network))
    row["pretrained by 02"] = _works(lambda: create_encoder(name, side))
    return row


def _works(ask) -> str:
    try:
        ask()
    except UserError:
        return "refused"
    return "yes"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=(MODELS + FIXED).split(), help="timm names")
    parser.add_argument("--image-size", type=int, help="pixels (default: 112, or the one it takes)")
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--out", type=Path, help="csv file for the table")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        fixed = next((int(n) for n in ("240", "256") if name.endswith(n)), 224)
        side = arguments.image_size or (fixed if name in FIXED.split() else 112)
        rows.append(try_model(name, side, arguments.batch))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    table = pd.DataFrame(rows)
    if arguments.out:
        write_csv(arguments.out, table)
    trained = table["finite"].eq(True).sum() if "finite" in table else 0
    print(f"{trained} of {len(table)} trained two steps; the others were refused in a sentence")


if __name__ == "__main__":
    main()

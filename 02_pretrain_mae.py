"""Pretrain the face encoder as a masked autoencoder (paper §3.2).

In:  <data-dir>/prepared/manifest.csv (01), every image that is not held out for validation or test.
Out: <run-dir>/mae/model.safetensors   the encoder, with timm's parameter names
                  autoencoder.safetensors, reconstructions.png, metrics.csv, run.json

Examples
  python 02_pretrain_mae.py --config configs/demo.toml
  accelerate launch 02_pretrain_mae.py --global-batch 4096 --batch-size 128 --run-dir runs/vit_b
  python 02_pretrain_mae.py --init timm:vit_base_patch16_224.mae --epochs 5
"""

from __future__ import annotations

import argparse

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torchvision.utils import make_grid

from common.augment import normalise
from common.classifier import create_encoder, save_model, start_from
from common.config import (
    fraction,
    make_parser,
    parse_arguments,
    positive,
    positive_float,
    run_script,
)
from common.files import UserError, file_digest, whole_file
from common.images import Geometry, ImageStore
from common.loading import Plan, evaluation_batches
from common.mae import MaskedAutoencoder, learning_rate_of
from common.manifest import hold_out, read_manifest, thin_out, training_rows
from common.optimization import cosine, make_optimizer
from common.runs import finish_run, init_facts, start_run
from common.training import fit


def arguments():
    parser = make_parser(
        __doc__,
        *("data_dir", "run_dir", "seed", "epochs", "global_batch", "batch_size", "workers"),
        *("mixed_precision", "model", "model_options", "image_size", "mean", "std", "init"),
        *("ema", "compile", "grad_checkpointing", "limit", "save_minutes", "report_to"),
        epochs=20,  # the authors' code loads an encoder named model-20
        global_batch=4096,  # paper §4.3
        init="none",
    )
    add = parser.add_argument
    add("--mask-ratio", type=fraction, default=0.75, help="share of hidden patches")  # paper §3.2
    add("--blr", type=positive_float, default=1.5e-4, help="learning rate for a batch of 256")
    add("--weight-decay", type=fraction, default=0.05, help="of AdamW")
    add("--warmup-epochs", type=float, default=2.0, help="epochs of rising learning rate")
    add("--crop-area", type=fraction, nargs=2, default=[0.2, 1.0], help="range of the random crop")
    add("--norm-pix-loss", action=argparse.BooleanOptionalAction, default=False,
        help="target: each patch normalised by itself")  # fmt: skip
    add("--decoder-dim", type=positive, default=512, help="features of the decoder")
    add("--decoder-depth", type=positive, default=8, help="blocks of the decoder")
    add("--decoder-heads", type=positive, default=16, help="attention heads of the decoder")
    add(
        "--picture-every",
        type=positive,
        default=5,
        help="epochs between pictures of reconstructions",
    )
    return parse_arguments(parser, "pretrain_mae")


def main() -> None:
    args = arguments()
    prepared = args.data_dir / "prepared"
    manifest = read_manifest(prepared / "manifest.csv")
    held = hold_out(manifest)
    seen = thin_out(manifest[training_rows(manifest, held)], args.limit)
    if seen.empty:
        raise UserError(f"{prepared} has no image that is not held out for validation or test.")
    facts = {"manifest_sha256": file_digest(prepared / "manifest.csv"), **init_facts(args.init)}
    run = start_run(args, "mae", facts)
    if run is None:
        return
    store = ImageStore(prepared, seen.image)
    run.say(
        f"mae: {len(store):,} images on {run.hardware} ({held.sum():,} held out for validation)"
    )

    encoder = create_encoder(args.model, args.image_size, args.model_options)
    model = MaskedAutoencoder(
        encoder,
        mask_ratio=args.mask_ratio,
        decoder_dim=args.decoder_dim,
        decoder_depth=args.decoder_depth,
        decoder_heads=args.decoder_heads,
        norm_pix_loss=args.norm_pix_loss,
    )
    if args.init != "none":
        start_from(encoder, args.init)
    steps_an_epoch = -(-len(store) // args.global_batch)
    rate = learning_rate_of(args.blr, args.global_batch)
    optimizer = make_optimizer(model, rate, args.weight_decay, betas=(0.9, 0.95))

    def plan(epoch: int) -> Plan:
        order = np.random.default_rng([args.seed, epoch]).permutation(len(store))
        return Plan(order, np.zeros((len(store), 0), dtype=np.float32))

    def loss(network, batch):
        return network(normalise(batch["images"], args.mean, args.std), batch["uniform"])[0]

    def picture(epoch: int) -> dict:
        due = (epoch + 1) % args.picture_every == 0 or epoch + 1 == args.epochs
        if due and run.main:
            save_reconstructions(run, model, store, args)
        return {}

    fit(
        run,
        model,
        store,
        name="mae",
        epochs=args.epochs,
        plan=plan,
        loss=loss,
        geometry=Geometry(args.image_size, tuple(args.crop_area), crop_ratio=(3 / 4, 4 / 3)),
        randoms=model.patches,
        optimizer=optimizer,
        schedule=cosine(args.epochs * steps_an_epoch, round(args.warmup_epochs * steps_an_epoch)),
        validate=picture,
    )
    if run.main:
        save_model(run.folder, encoder)
        tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
        with whole_file(run.folder / "autoencoder.safetensors") as file:
            file.write(safetensors.torch.save(tensors))
    finish_run(run)
    run.say(f"mae: encoder in {run.folder / 'model.safetensors'}")


@torch.no_grad()
def save_reconstructions(run, model: MaskedAutoencoder, store: ImageStore, args) -> None:
    """Draw eight images, each as it is, masked, and rebuilt, into reconstructions.png."""
    chosen = np.linspace(0, len(store) - 1, min(8, len(store))).astype(np.int64)
    _, images, _ = next(evaluation_batches(store, args.image_size, len(chosen), 0, chosen))
    device = run.accelerator.device
    originals = normalise(images.to(device), args.mean, args.std)
    noise = torch.rand(
        (len(chosen), model.patches), generator=torch.Generator().manual_seed(args.seed)
    )
    model.eval()
    masked, rebuilt = model.rebuild(originals, noise.to(device))
    std = torch.tensor(args.std, device=device).view(1, 3, 1, 1)
    mean = torch.tensor(args.mean, device=device).view(1, 3, 1, 1)
    rows = torch.cat([originals, masked, rebuilt]) * std + mean
    grid = make_grid(rows.clamp(0, 1).cpu(), nrow=len(chosen), padding=2, pad_value=1)
    picture = Image.fromarray((grid.permute(1, 2, 0) * 255).byte().numpy())
    with whole_file(run.folder / "reconstructions.png") as file:
        picture.save(file, format="PNG")


if __name__ == "__main__":
    run_script(main)

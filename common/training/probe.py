"""What the encoder of 02 has learned: a linear probe, and pictures of reconstructions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from common.batches.augment import normalise
from common.batches.images import ImageStore
from common.batches.loading import evaluation_batches
from common.emotions import BASIC
from common.metrics import macro_f1
from common.networks.mae import MaskedAutoencoder
from common.pictures import save_examples
from common.script.files import UserError
from common.splits import thin_out
from common.training.evaluation import predict
from common.training.runs import Run

# A probe averages an encoder's patches in so many fields a side: expressions depend on place.
FIELDS = 4

# A probe is fitted to this many images at most, and judged by as many: seconds, not minutes.
PROBE_IMAGES = 5000


class _Fields(nn.Module):
    """An encoder's patch tokens averaged in FIELDS × FIELDS fields: [B, 3, S, S] → [B, F·F·D]."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grid, dim = self.encoder.patch_embed.grid_size, self.encoder.embed_dim
        tokens = self.encoder.forward_features(images)[:, self.encoder.num_prefix_tokens :]
        tokens = tokens.transpose(1, 2).reshape(len(images), dim, *grid)
        return functional.adaptive_avg_pool2d(tokens.float(), FIELDS).flatten(1)


def linear_probe(
    run: Run,
    encoder: nn.Module,
    manifest: pd.DataFrame,
    training: pd.Series,
    held_out: pd.Series,
) -> Callable[[], dict[str, float]]:
    """Return a function that probes the encoder as it is: {"probe_accuracy", "probe_macro_f1"}.

    A logistic regression of the six basic emotions on the standardised features of the frozen
    encoder, fitted to labelled rows of `training`, judged by those of `held_out`. Raises UserError
    where either has none.
    """
    from sklearn.linear_model import LogisticRegression

    single = manifest.labels.isin(BASIC) & (manifest.kind == "single")
    parts = [thin_out(manifest[single & part], PROBE_IMAGES) for part in (training, held_out)]
    if not len(parts[0]) or not len(parts[1]) or parts[0].labels.nunique() < 2:
        raise UserError(
            f"--probe finds {len(parts[0])} labelled images to fit and {len(parts[1])} to judge by "
            "in the manifest; prepare a set of single expressions, or leave --probe out."
        )
    rows = pd.concat(parts)
    fitted = np.arange(len(rows)) < len(parts[0])
    truth = rows.labels.astype(str).map(BASIC.index).to_numpy()
    store = run.images(rows)
    mean, std = run.settings["mean"], run.settings["std"]

    def probe() -> dict[str, float]:
        features = predict(
            run,
            _Fields(encoder),
            store,
            FIELDS**2 * encoder.embed_dim,
            lambda images: normalise(images, mean, std),
            "probe's",
        )
        if not run.main:
            return {}
        features -= features[fitted].mean(0)
        features /= features[fitted].std(0) + 1e-6
        # Strongly regularised: there are more features than images of a rare emotion.
        regression = LogisticRegression(C=0.01, max_iter=300)
        answers = regression.fit(features[fitted], truth[fitted]).predict(features[~fitted])
        judged = truth[~fitted]
        return {
            "probe_accuracy": float((answers == judged).mean()),
            "probe_macro_f1": macro_f1(judged, answers, len(BASIC)),
        }

    return probe


@torch.no_grad()
def save_reconstructions(run: Run, model: MaskedAutoencoder, store: ImageStore) -> None:
    """Draw eight images, each as it is, masked, and rebuilt, into reconstructions.png."""
    chosen = np.linspace(0, len(store) - 1, min(8, len(store))).astype(np.int64)
    side, device = run.settings["image_size"], run.accelerator.device
    _, images, _ = next(evaluation_batches(store, side, len(chosen), 0, chosen))
    originals = normalise(images.to(device), run.settings["mean"], run.settings["std"])
    generator = torch.Generator().manual_seed(run.settings["seed"])
    noise = torch.rand((len(chosen), model.patches), generator=generator)
    model.eval()
    masked, rebuilt = model.rebuild(originals, noise.to(device))
    std = torch.tensor(run.settings["std"], device=device).view(1, 3, 1, 1)
    mean = torch.tensor(run.settings["mean"], device=device).view(1, 3, 1, 1)
    names = ("face", f"{run.settings['mask_ratio']:.0%} hidden", "rebuilt")
    shown = torch.stack([originals, masked, rebuilt]) * std + mean  # [3, n, 3, S, S]
    shown = (255 * shown.clamp(0, 1)).round().byte().unsqueeze(2).cpu().numpy()
    rows = dict(zip(names, shown, strict=True))
    title = "Training faces: as they are, masked, rebuilt"
    save_examples(run.folder / "reconstructions.png", rows, title, side=140)

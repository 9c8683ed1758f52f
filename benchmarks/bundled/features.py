"""Train the feature network of FID as a classifier.

python benchmarks/bundled/features.py --data <npz.xz> --out <folder>
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scoresde.data import Images, load, to_state
from scoresde.metrics.spaces.network import FeatureNetwork, FeatureSpace, load_features, save_features
from scoresde.runs.hardware import cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="labelled images: an npz with train and test splits, or 'digits'")
    parser.add_argument("--out", required=True, type=Path, help="folder for model.safetensors and config.json")
    parser.add_argument("--name", default="scoresde-mnist", help="name of the feature space; the size is appended")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak of AdamW's rate; warm-up, then cosine")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    train, test = load(args.data, "train"), load(args.data, "test")
    if train.labels is None or test.labels is None:
        parser.error(f"{args.data} has no labels, and a classifier needs them")
    start = time.perf_counter()
    network = fit(train, args.epochs, args.batch_size, args.learning_rate, args.seed)
    seconds = time.perf_counter() - start
    channels, height, width = train.pixels.shape[1:]
    shape = (channels, height, width)
    space = FeatureSpace(network, args.name, shape, {})
    pooled = space.features(train.pixels)  # the network does not whiten yet
    network.whiten(pooled)
    settings = {key: getattr(args, key) for key in ("epochs", "batch_size", "learning_rate", "seed")}
    command = f"python benchmarks/bundled/features.py {shlex.join(public(sys.argv[1:]))}"
    card = made(space, test, len(train), command, settings, seconds, pooled)
    save_features(args.out, network, f"{args.name}-{network.size}", shape, card)
    space = load_features(args.out)
    print(f"{space}: test accuracy {card['test_accuracy']:.2%}, {seconds:.0f} s")
    print(json.dumps(card["before_whitening"], indent=2))


def fit(data: Images, epochs: int, batch_size: int, learning_rate: float, seed: int) -> FeatureNetwork:
    """A classifier trained with AdamW on cross-entropy, under small random affine maps of the images."""
    assert data.labels is not None
    torch.manual_seed(seed)
    network = FeatureNetwork(in_channels=data.pixels.shape[1], classes=data.classes)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    per_epoch = len(data) // batch_size
    steps, warmup = epochs * per_epoch, per_epoch // 2
    for step in range(steps):
        epoch, index = divmod(step, per_epoch)
        if index == 0:
            order, total = torch.randperm(len(data)), 0.0
        batch = data.take(order[index * batch_size : (index + 1) * batch_size])
        falling = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * ((step + 1) / warmup if step < warmup else falling)
        x = distort(to_state(batch.pixels)).contiguous(memory_format=torch.channels_last)
        # Twice as fast on two cores; weights, loss and optimiser stay in float32, and features are taken in float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.classify(x)
        assert batch.labels is not None
        value = F.cross_entropy(logits.float(), batch.labels)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        total += float(value.detach())
        if index == per_epoch - 1:
            print(f"epoch {epoch + 1}/{epochs}: loss {total / per_epoch:.4f}", flush=True)
    return network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def distort(x: Tensor) -> Tensor:
    """States rotated by up to 10°, scaled by up to 10 %, and shifted by up to 7 % of their size (2 pixels of 28)."""
    angle, scale, right, down = (torch.rand(len(x), 4) * 2 - 1).mul(torch.tensor([math.pi / 18, 0.1, 0.14, 0.14])).T
    cosine, sine = (1 + scale) * angle.cos(), (1 + scale) * angle.sin()
    maps = torch.stack([torch.stack([cosine, -sine, right], 1), torch.stack([sine, cosine, down], 1)], 1)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    # Outside the image is black, state −1.
    return F.grid_sample(x + 1, grid, align_corners=False) - 1


def made(
    space: FeatureSpace,
    test: Images,
    training_images: int,
    command: str,
    settings: dict[str, Any],
    seconds: float,
    pooled: Tensor,
) -> dict[str, Any]:
    """The card of a space: how it was made, and how good a classifier it is.

    Args:
        space, test: the classifier, and images that it was not trained on.
        training_images: how many it was trained on.
        command, settings, seconds: of the training.
        pooled: features before whitening, of the images by which they were whitened.
    """
    return {
        "test_accuracy": accuracy(space, test),
        "test_images": len(test),
        "training_images": training_images,
        "command": command,
        "settings": settings,
        "seconds": round(seconds, 1),
        "hardware": f"{cpu()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "torch": torch.__version__,
        "before_whitening": spectrum(pooled),
    }


def accuracy(space: FeatureSpace, data: Images) -> float:
    """Share of the images whose largest logit is their label's."""
    assert data.labels is not None
    return float((space.classify(data.pixels).argmax(1) == data.labels).double().mean())


def spectrum(pooled: Tensor) -> dict[str, Any]:
    """How far the features are from dead or alike: of their covariance, the spectrum and what it sums up to."""
    features = pooled.double().numpy()
    values = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    share = values / values.sum()
    correlation = np.abs(np.corrcoef(features.T))[np.triu_indices(features.shape[1], 1)]
    return {
        "dead_features": int((features.std(0) < 1e-3).sum()),
        "largest_correlation": round(float(correlation.max()), 3),
        "mean_correlation": round(float(correlation.mean()), 3),
        "effective_rank": round(float(np.exp(-(share * np.log(share)).sum())), 1),
        "condition": float(f"{values[0] / values[-1]:.3g}"),
        "eigenvalues": [float(f"{value:.3g}") for value in values],
    }


def public(arguments: list[str]) -> list[str]:
    """The arguments without the folders of this machine: of an absolute path, its name."""
    return [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]


if __name__ == "__main__":
    main()

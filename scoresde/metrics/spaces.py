"""Feature spaces by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from scoresde.metrics.features import FeatureSpace, load_features
from scoresde.metrics.fidelity import clip, dinov2, inception
from scoresde.metrics.pixels import PixelSpace
from scoresde.metrics.space import Space
from scoresde.metrics.torchscript import TorchScript
from solvers.errors import check_options, nearest

BUNDLED = Path(__file__).parents[1] / "models" / "mnist"


def model(path: str | Path | None = None, *, device: str | torch.device = "cpu") -> FeatureSpace:
    """The feature network in the folder ``features`` of a model's; the bundled one's by default."""
    return load_features(Path(path or BUNDLED) / "features", device=device)


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
    """A network in a TorchScript file: see :class:`~scoresde.metrics.torchscript.TorchScript`."""
    shape = _given(shape)
    return TorchScript(
        path, shape, input=input, resize=resize, rgb=rgb, arguments=arguments, trust=trust, device=device
    )


def _given(shape: Sequence[int] | None) -> Sequence[int]:
    if shape is None:
        raise ValueError("the feature space needs the images' shape: give shape=[channels, height, width]")
    return shape


SPACES: dict[str, Callable[..., Space]] = {
    "model": model,
    "pixels": pixels,
    "torchscript": torchscript,
    "inception": inception,
    "dinov2": dinov2,
    "clip": clip,
}


def names() -> list[str]:
    """Names of feature spaces."""
    return sorted(SPACES)


def get(name: str, *, device: str | torch.device = "cpu", **options: Any) -> Space:
    """A feature space by name.

    Args:
        name: ``model``, ``pixels``, ``torchscript``, ``inception``, ``dinov2`` or ``clip``.
        device: where its network runs.
        options: of that space, as in ``conf/features/``.

    Raises:
        ValueError: an unknown name, or a value that the space does not take.
        TypeError: an unknown option.
        ImportError: a space of torch-fidelity without it.
    """
    if name not in SPACES:
        raise ValueError(f"unknown feature space {name!r}{nearest(name, SPACES)}")
    known = [option for option in inspect.signature(SPACES[name]).parameters if option != "device"]
    check_options(f"feature space {name!r}", options, known)
    return SPACES[name](device=device, **options)

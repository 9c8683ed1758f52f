"""What samples are measured in and compared with, from a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scoresde import models
from scoresde.commands import pictures, prompts, values
from scoresde.data import Resizing
from scoresde.metrics import FeatureSpace, Measure, PixelSpace, Space, real_images, spaces
from scoresde.metrics.moments import Gaussian
from scoresde.metrics.spaces.pixels import LARGEST
from scoresde.models import Checkpoint

SHAPE = ("shape", "variant")  # of a checkpoint
SAID = (*SHAPE, *prompts.SAID, *pictures.SAID)


def measure(settings: Mapping[str, Any], checkpoint: Checkpoint, device: torch.device) -> Measure:
    """The feature space that ``conf/features`` chose, and the ``reference`` in it.

    Args:
        settings: with ``model``, ``features`` and ``reference``.
        checkpoint: says what images look like.
        device: of the feature network.

    Raises:
        ValueError: no reference where the model brings none, or one that is damaged or of another space.
    """
    name, options = values.named(settings["features"])
    shape, resizing = checkpoint.image_shape(device), Resizing.of(settings, "reference_")
    reference = settings["reference"]
    if reference is None and name != "model":
        raise ValueError(f"features={name} needs a reference: reference=… with statistics in that space, or images")
    found = space(settings, checkpoint, device)
    real = real_images.reference(reference or _folder(settings, options), found, resizing)
    pixels = None if isinstance(found, PixelSpace) else _pixels(reference, shape, resizing)  # or it would be FID again
    return Measure(found, real, pixels, found if isinstance(found, FeatureSpace) else None)


def space(settings: Mapping[str, Any], checkpoint: Checkpoint, device: torch.device) -> Space:
    """The feature space of :func:`measure` alone.

    Raises:
        ValueError: a model without a feature network, or one of images of another shape.
    """
    name, options = values.named(settings["features"])
    shape = checkpoint.image_shape(device)
    if name == "model":
        options["path"] = _folder(settings, options)
        if not (Path(options["path"]) / "features").is_dir():
            others = ", ".join(each for each in spaces.names() if each != "model")
            raise ValueError(f"there is no feature network in {str(options['path'])!r}: give features= ({others})")
    elif "shape" in options:
        options["shape"] = options["shape"] or shape
    found = spaces.get(str(name), device=device, **options)
    if isinstance(found, FeatureSpace) and found.shape != shape:
        raise ValueError(f"{found.name} takes images of {found.shape}, not of {shape}")
    return found


def _folder(settings: Mapping[str, Any], options: Mapping[str, Any]) -> str | Path:
    """Of the features that come with a model."""
    return options["path"] or models.find(settings["model"]["path"])


def loaded(settings: Mapping[str, Any], device: torch.device, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """The model that ``conf/model`` chose, with what a checkpoint of diffusers needs beside.

    That is ``shape`` and ``variant``, and prompts with the size of images for a pipeline of text.

    Raises:
        ValueError: there is none, or it is conditioned on what no command can give, or on what was not given.
    """
    options = {key: settings[key] for key in SHAPE if settings[key] is not None} | prompts.options(settings)
    checkpoint = models.load(settings["model"]["path"], device=device, dtype=dtype, **options)
    if needed := getattr(checkpoint.model.net, "needed", ()):
        raise ValueError(
            f"this checkpoint is conditioned on {', '.join(needed)} (text, sizes, …), which no command gives: sample "
            "it from Python with cond=, or in its pipeline (docs/diffusers.md)"
        )
    return checkpoint


def lacking(settings: Mapping[str, Any]) -> bool:
    """Whether nothing says what samples are measured in and compared with, and nothing comes with the model."""
    return own(settings) and settings["features"]["path"] is None


def drop(settings: dict[str, Any]) -> None:
    """Take settings of :func:`loaded` away that say nothing, so that runs of before there were such are the same."""
    for key in SAID:
        if settings.get(key) is None:
            settings.pop(key, None)


def own(settings: Mapping[str, Any]) -> bool:
    """Whether it is the model's own space and reference."""
    return settings["features"]["name"] == "model" and settings["reference"] is None


def _pixels(
    reference: str | None, shape: tuple[int, int, int], resizing: Resizing
) -> tuple[PixelSpace, Gaussian] | None:
    """Pixel space, where real images were given and are small enough."""
    if reference is None or not real_images.holds_images(reference) or math.prod(shape) > LARGEST:
        return None
    space = PixelSpace(shape)
    return space, real_images.reference(reference, space, resizing).moments

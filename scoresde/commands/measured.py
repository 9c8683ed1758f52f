"""What samples are measured in and compared with, from a configuration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scoresde import models
from scoresde.commands import pictures, prompts, values
from scoresde.commands.early import needs_reference
from scoresde.data import DataWarning, Resizing
from scoresde.exact import GaussianMixture
from scoresde.files.text import say
from scoresde.metrics import FeatureSpace, Measure, PixelSpace, PointMeasure, Space, real_images, spaces
from scoresde.metrics.moments import Gaussian
from scoresde.metrics.points import DRAWS
from scoresde.metrics.spaces.pixels import LARGEST
from scoresde.models import Checkpoint

SHAPE = ("shape", "variant")  # of a checkpoint
SAID = (*SHAPE, *prompts.SAID, *pictures.SAID)
OWN: dict[str, Any] = {"name": "model", "path": None}
# What features=auto may come to, as it is recorded.
AUTOMATIC: tuple[dict[str, Any], ...] = (OWN, {"name": "efficientnet_lite"}, {"name": "pixels", "shape": None})


def measure(settings: Mapping[str, Any], checkpoint: Checkpoint, device: torch.device) -> Measure:
    """The feature space that ``conf/features`` chose, and the ``reference`` in it.

    Args:
        settings: with ``model``, ``features`` (settled by :func:`settle`) and ``reference``.
        checkpoint: says what images look like.
        device: of the feature network.

    Raises:
        ValueError: no reference where the model brings none, or one that is damaged or of another space.
    """
    name, options = values.named(settings["features"])
    shape, reference = checkpoint.image_shape(device), settings["reference"]
    if reference is None and name != "model":
        raise needs_reference(str(name))
    resizing = _resizing(settings, checkpoint)
    found = space(settings, checkpoint, device)
    real = real_images.reference(reference or str(_folder(settings, options)), found, resizing)
    pixels = None if isinstance(found, PixelSpace) else _pixels(reference, shape, resizing)  # or it would be FID again
    return Measure(found, real, pixels, found if isinstance(found, FeatureSpace) else None)


def of_points(settings: Mapping[str, Any], checkpoint: Checkpoint) -> PointMeasure:
    """What points are measured by: exact draws of their density, the same at every call.

    Raises:
        ValueError: features or a reference, which are of images.
    """
    name = settings["model"]["name"]
    for key, given in (("features", settings["features"]["name"]), ("reference", settings["reference"])):
        if given not in ("model", spaces.AUTO, None):
            raise ValueError(f"{key}={given} is for images: points of {name} are compared with its own exact draws")
    model = checkpoint.model
    assert isinstance(model, GaussianMixture)
    return PointMeasure(model.sample(DRAWS, torch.Generator().manual_seed(0)).float())


def space(settings: Mapping[str, Any], checkpoint: Checkpoint, device: torch.device) -> Space:
    """The feature space of :func:`measure` alone.

    Raises:
        ValueError: a model without a feature network, or one of images of another shape.
    """
    name, options = values.named(settings["features"])
    shape = checkpoint.image_shape(device)
    if name == "model":
        options["path"] = folder = _folder(settings, options)
        if folder is None or not (Path(folder) / "features").is_dir():
            others = ", ".join(each for each in spaces.names() if each not in ("model", spaces.AUTO))
            where = settings["model"]["path"] if folder is None else str(folder)
            raise ValueError(f"there is no feature network in {where!r}: give features= ({others})")
    elif "shape" in options:
        options["shape"] = options["shape"] or shape
    found = spaces.get(str(name), device=device, **options)
    if isinstance(found, FeatureSpace) and found.shape != shape:
        raise ValueError(f"{found.name} takes images of {found.shape}, not of {shape}")
    return found


def settle(
    settings: dict[str, Any],
    shape: tuple[int, int, int],
    folder: Path | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> None:
    """Have ``features=auto`` as what it comes to, which is said where the model has no features of its own.

    That is what a run was begun with; or the model's own; or else EfficientNet-Lite0's, where its package is installed;
    or else pixels, where there are few enough.

    Args:
        settings: with ``features``, which is what is typed for another choice afterwards.
        shape: of the images.
        folder: of the model; None where there is none.
        recorded: configuration of the run that is taken up; None for none.

    Raises:
        ValueError: none of these can be had.
    """
    if settings["features"]["name"] != spaces.AUTO:
        return
    before = (recorded or {}).get("features")
    if before in AUTOMATIC:
        settings["features"] = dict(before)
        return
    if folder is not None and (folder / "features").is_dir():
        settings["features"] = dict(OWN)
        return
    name = spaces.chosen(shape)
    settings["features"] = next(dict(each) for each in AUTOMATIC if each["name"] == name)
    say(f"features={name}: the model has none of its own, and this space is installed")


def _resizing(settings: Mapping[str, Any], checkpoint: Checkpoint) -> Resizing:
    """What becomes of the reference's images: what is asked for, or what became of the model's training images."""
    asked, reference = Resizing.of(settings, "reference_"), settings["reference"]
    training = checkpoint.card.get("training", {}).get("data")
    if asked or reference is None or not isinstance(training, dict) or not real_images.holds_images(reference):
        return asked
    found = replace(Resizing.of(training), prefix=asked.prefix)
    if found:
        say(f"reference: {found}, as the training images of the model were")
    return found


def _folder(settings: Mapping[str, Any], options: Mapping[str, Any]) -> str | Path | None:
    """Of the features that come with a model; None for one that lies on a hub."""
    return options["path"] or models.home(place(settings))


def place(settings: Mapping[str, Any]) -> models.Place:
    """Where the model that ``conf/model`` chose is: its path, or name and options of an exact one."""
    group = {key: value for key, value in settings["model"].items() if key != "sha256"}
    return group.get("path", group)


def loaded(settings: Mapping[str, Any], device: torch.device, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """The model that ``conf/model`` chose, with what a checkpoint of diffusers needs beside.

    That is ``shape`` and ``variant``, and prompts with the size of images for a pipeline of text.

    Raises:
        ValueError: there is none, or it is conditioned on what no command can give, or on what was not given.
    """
    where = place(settings)
    if models.exact(where) is not None:
        if given := [f"{key}={settings[key]}" for key in (*SHAPE, *prompts.SAID) if settings[key] is not None]:
            raise ValueError(f"{given[0]} is for checkpoints of diffusers, and {settings['model']['name']} is exact")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is of a network, and {settings['model']['name']} has none: float32 or float64")
        return models.load(where, device=device, dtype=dtype)
    options = {key: settings[key] for key in SHAPE if settings[key] is not None} | prompts.options(settings)
    checkpoint = models.load(where, device=device, dtype=dtype, **options)
    if needed := getattr(checkpoint.model.net, "needed", ()):
        raise ValueError(
            f"this checkpoint is conditioned on {', '.join(needed)} (text, sizes, …), which no command gives: sample "
            "it from Python with cond=, or in its pipeline (docs/diffusers.md)"
        )
    return checkpoint


def lacking(settings: Mapping[str, Any]) -> bool:
    """Whether nothing says what samples are compared with, nor in what, so that it would have to come with a model."""
    features = settings["features"]
    return settings["reference"] is None and features["name"] in ("model", spaces.AUTO) and not features.get("path")


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said when they were read for the other space
        return space, real_images.reference(reference, space, resizing).moments

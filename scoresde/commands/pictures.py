"""Images that samples begin with, from a configuration: ``image``, ``strength`` and ``mask``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoresde.data import picture, to_state
from scoresde.edits import Edit, check_solver, check_strength
from scoresde.files import digest
from scoresde.models import Checkpoint
from solvers import Solver

IMAGE, STRENGTH, MASK = "image", "strength", "mask"
SAID = (IMAGE, STRENGTH, MASK)
SHARE, WHOLE = 0.8, 1.0  # of the steps, as pipelines of diffusers have it: of an image, and of one with a mask
PROBE = 8  # pixels, in which a picture is looked at before a model is loaded
WHITE = 128


def check(settings: dict[str, Any], solvers: Iterable[Solver]) -> None:
    """Look at what is asked for before a model is loaded, and record the strength.

    Raises:
        ValueError: a strength or mask without an image, a strength that is no share, a picture that cannot be read, or
            a solver without steps of a grid.
    """
    if settings[IMAGE] is None:
        for key in (STRENGTH, MASK):
            if settings[key] is not None:
                raise ValueError(f"{key} is of an image that samples begin with: give image=PICTURE")
        return
    if settings[STRENGTH] is None:
        settings[STRENGTH] = SHARE if settings[MASK] is None else WHOLE
    check_strength(settings[STRENGTH])
    for solver in solvers:
        check_solver(solver)
    for key in (IMAGE, MASK):
        if settings[key] is not None:
            picture(str(settings[key]), PROBE, PROBE, 3)


def inputs(settings: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the pictures, by their settings."""
    return {key: digest(Path(str(settings[key])).expanduser()) for key in (IMAGE, MASK) if settings[key] is not None}


def edit(settings: Mapping[str, Any], checkpoint: Checkpoint, device: torch.device) -> Edit | None:
    """What samples of a model begin with; None where they begin with noise alone.

    Pictures are resized to the size of the model's images. White of a mask is repainted.

    Raises:
        ValueError: a model whose states no image can be made into.
    """
    if settings[IMAGE] is None:
        return None
    channels, height, width = checkpoint.image_shape(device)
    if checkpoint.decode is not None and checkpoint.encode is None or channels not in (1, 3):
        raise ValueError(f"image is for models whose states are made of images of 1 or 3 channels, this has {channels}")
    found = to_state(picture(str(settings[IMAGE]), height, width, channels))[None].to(device)
    known = found if checkpoint.encode is None else checkpoint.encode(found)
    mask = None
    if settings[MASK] is not None:
        white = picture(str(settings[MASK]), height, width, 1)[None] >= WHITE
        mask = nn.functional.interpolate(white.float().to(device), known.shape[2:])
    return Edit(known, float(settings[STRENGTH]), mask)

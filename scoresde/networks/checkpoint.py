"""A trained model ready to sample from, whatever its files were, and what contradicts itself in its description."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.files.bundled import CheckpointError
from scoresde.process import Process, VPDiscrete
from scoresde.score import ScoreModel
from solvers.grids import Grid

DARKEST = 60  # −λ at which a state says nothing of an image in float64, let alone in a network


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, ready to sample from.

    Attributes:
        model: the network on its process, called with ``label`` of shape (batch,) if there are classes.
        shape: shape (channels, height, width) of one state: of an image, or of what ``decode`` makes one of; (dim,) of
            a point.
        classes: number of classes; 0 for an unconditional model. The label ``classes`` means "no label", unless the
            network has none for that.
        card: the folder's whole ``config.json``; ``card["training"]`` tells how the model was made.
        decode: makes images in [−1, 1] of final states, for ``sample(decode=…)``; None where the states are the images.
        encode: makes states of images, the inverse of ``decode``.
        grid: the grid that the checkpoint itself asks for (a flow model's shift); None is the solver's recommended one.
    """

    model: ScoreModel
    shape: tuple[int, ...]
    classes: int
    card: dict[str, Any]
    decode: Callable[[Tensor], Tensor] | None = None
    encode: Callable[[Any], Tensor] | None = None
    grid: Grid | None = None

    def __repr__(self) -> str:
        classes = f", {self.classes} classes" if self.classes else ""
        return f"Checkpoint(shape {tuple(self.shape)}{classes}, {self.model})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels, as the data's folders had them; empty where unknown."""
        return tuple(self.card.get("class_names", ()))

    @property
    def points(self) -> bool:
        """Whether it is a model of points, vectors of a few numbers, and not of images."""
        return len(self.shape) == 1

    @property
    def pipeline(self) -> str | None:
        """The class of a pipeline of text, whose prompts the classes are; None for another model."""
        return self.card.get("pipeline")

    def image_shape(self, device: torch.device) -> tuple[int, int, int]:
        """Shape (channels, height, width) of an image: of a state, or of what ``decode`` makes of one, on a device.

        Raises:
            ValueError: it is a model of points.
        """
        if self.points:
            raise ValueError(f"this is a model of points of shape {tuple(self.shape)}, not of images")
        if self.decode is None:
            channels, height, width = self.shape
            return channels, height, width
        with torch.no_grad():
            decoded = self.decode(torch.zeros(1, *self.shape, device=device))
        channels, height, width = decoded.shape[1:]
        return channels, height, width


def check_levels(process: Process) -> None:
    """Refuse a process whose noise hides everything long before its end, or that is not one of growing noise.

    Raises:
        ValueError: it is one; the first time where that shows is named.
    """
    # At the end itself there may be noise alone; a table's end is its last step.
    last = process.t_max - (1.0 if isinstance(process, VPDiscrete) else 1e-3 * (process.t_max - process.t_min))
    times = [process.t_min + (last - process.t_min) * index / 4 for index in range(5)]
    levels = [float(process.half_log_snr(time)) for time in times]
    for time, level, before in zip(times, levels, [math.inf, *levels], strict=False):
        if not -DARKEST < level < before:
            raise ValueError(
                f"{process!r} has λ = log(α/σ) = {level:g} at t = {time:g}, which no network is trained at"
            )


def rehearse(run: Callable[[Tensor], Tensor], shape: tuple[int, ...], where: str) -> None:
    """Call a network without its weights, in shapes alone, so that contradictions show before anything is sampled.

    Args:
        run: builds the network and calls it, on a state of shape (1, *shape).
        shape: that it must return too.
        where: name of the description, for errors.

    Raises:
        CheckpointError: it cannot be called, or returns another shape.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            found = tuple(run(torch.empty(1, *shape)).shape)
    except Exception as error:  # whatever contradictory settings lead to
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return  # a network that looks at its numbers, which there are none of
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f"{where} does not describe a model of states of shape {list(shape)}: {reason}"
        ) from error
    if found != (1, *shape):
        raise CheckpointError(
            f"{where} does not describe a model of states of shape {list(shape)}: it returns {list(found[1:])}"
        )

"""What the exact models share: all are given by their posterior mean.

The posterior mean E[x0 | x_t = x] is computed by formulas that divide neither by α nor by σ, and the other prediction
types follow from it by :func:`solvers.prediction.convert`. So all types are finite wherever σ > 0, Flow's α = 0
included, and x0 also at σ = 0. Parameters are held in float64 on the device they were given on, and cast to the dtype
and device of each state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scoresde.process import Process
from scoresde.score import ScoreModel, as_times, expand
from solvers import prediction as predictions

TINY = 1e-30  # a variance in the place of zero: 1/TINY times a squared distance is still finite, in float32 too
CHUNK = 2**22  # numbers in the largest intermediate tensor


class PosteriorMean(ScoreModel):
    """A model given by E[x0 | x_t = x], on states of one shape."""

    def __init__(self, process: Process, shape: torch.Size, prediction: str):
        super().__init__(self._predict, process, prediction)
        self.shape = shape

    @abstractmethod
    def _mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, **cond: Any) -> Tensor:
        """E[x0 | x] for x of shape (batch, dim); α and σ in float64 of shape (batch, 1)."""

    def _predict(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        flat, alpha, sigma = self._flat(x, t)
        x0 = self._mean(flat, alpha, sigma, **cond).to(x.device).reshape(x.shape)
        a, b = predictions.convert("sample", self.prediction, expand(alpha, x), expand(sigma, x))
        return b * x0 + a * x

    def _flat(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x as (batch, dim), and α(t) and σ(t) as (batch, 1), on the CPU where the device of x has no float64."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"states must have shape (batch, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        times = as_times(t, x)[:, None]
        return x.to(times.device).reshape(len(x), -1), self.process.alpha(times), self.process.sigma(times)


class Labelled(PosteriorMean):
    """A model of several components, which a class label restricts to those of its class."""

    def __init__(self, process: Process, shape: torch.Size, prediction: str, labels: Any, components: Tensor):
        super().__init__(process, shape, prediction)
        self.labels = None if labels is None else torch.as_tensor(labels, device=components.device)
        if self.labels is not None:
            if self.labels.is_floating_point() or self.labels.shape != components.shape[:1] or (self.labels < 0).any():
                raise ValueError(
                    f"labels must be {len(components)} integers ≥ 0, one per component, "
                    f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}, smallest {self.labels.min()}"
                )
            self.labels = self.labels.long()

    def _asked(self, label: int | Tensor | None, x: Tensor) -> Tensor:
        """Labels as int64 of shape (batch,); −1 stands for all components."""
        if label is None:
            return torch.full((len(x),), -1, device=x.device)
        if self.labels is None:
            raise ValueError("label was given, but this model was built without labels")
        asked = torch.as_tensor(label, device=x.device)
        asked = asked.expand(len(x)) if asked.ndim == 0 else asked
        if asked.is_floating_point() or asked.shape != (len(x),):
            raise ValueError(f"label must be {len(x)} integers, one per state, got {asked.dtype} {tuple(asked.shape)}")
        known = self.labels.to(x.device)
        unknown = asked[(asked != -1) & ~torch.isin(asked, known)]
        if len(unknown):
            classes = known.unique().tolist()
            raise ValueError(f"no component has label {int(unknown[0])}; known: {classes}, and -1 for all")
        return asked

    def _admitted(self, asked: Tensor) -> Tensor:
        """Which components belong to which label: bool of shape (batch, components) or (batch, 1)."""
        every = asked[:, None] == -1
        return every if self.labels is None else every | (asked[:, None] == self.labels.to(asked.device))


def finite(name: str, values: Any) -> Tensor:
    """The values as float64.

    Raises:
        ValueError: some are not finite.
    """
    tensor = torch.as_tensor(values, dtype=torch.float64).detach()
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite")
    return tensor


def chunked(function: Callable[..., Tensor], width: int, *batches: Tensor) -> Tensor:
    """``function`` of the batches in pieces so small that (piece, width) stays within CHUNK numbers."""
    pieces = (batch.split(max(1, CHUNK // width)) for batch in batches)
    return torch.cat([function(*piece) for piece in zip(*pieces, strict=True)])

"""Guidance by a difference of two predictions, on an interval of noise levels."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scoresde.conditions import SCALE, select
from scoresde.guidance.guided import Guided, known
from scoresde.score import ScoreModel, as_times, expand

Scale = float | Sequence[float]


class OnInterval(Guided):
    """Guidance where low < σ/α ≤ high, and nothing of it, no evaluation either, elsewhere.

    Source: Kynkäänniemi et al. 2024, Applying guidance in a limited interval improves sample and distribution quality
    in diffusion models, eq. 5.

    Args:
        model: the model inside.
        scale: of the difference; what 0 and 1 mean is the subclass's. A pair is a range: each sample's own scale is
            then the condition ``guidance_scale``, of shape (batch,), which the model inside is not given.
        low, high: ends of the interval of σ/α.
        options: further ones to be told.

    Raises:
        ValueError: the scale is not finite, the range or the interval is empty, or the model inside is guided over a
            range already; in a call, a range without the samples' scales.
    """

    def __init__(self, model: ScoreModel, scale: Scale, low: float, high: float, **options: Any):
        own = tuple(map(float, scale)) if isinstance(scale, Sequence) else (float(scale),)
        if not all(map(math.isfinite, own)):
            raise ValueError(f"{self.name} needs a finite scale, got {scale}")
        if isinstance(scale, Sequence) and not (len(own) == 2 and own[0] < own[1]):
            raise ValueError(f"{self.name} needs a scale, or the two ends of a range of them that rises, got {scale}")
        if not 0 <= low < high:
            raise ValueError(f"{self.name} needs an interval of σ/α with 0 ≤ low < high, got {low} to {high}")
        self.scale, self.low, self.high = own if len(own) == 2 else own[0], float(low), float(high)
        ends = {} if self._everywhere else {"low": self.low, "high": self.high}
        super().__init__(model, scale=" to ".join(f"{value:g}" for value in own), **ends, **options)
        if isinstance(self.scale, tuple):
            if self.scales is not None:
                raise ValueError(f"{self.name} over a range of scales needs a model at one scale, got {model.guidance}")
            self.scales = self.scale

    @abstractmethod
    def _guided(self, x: Tensor, t: float | Tensor, cond: dict[str, Any], scale: float | Tensor) -> dict[str, Tensor]:
        """Outputs within the interval; the scale is a number, or of shape (batch, 1, …) in the dtype of x."""

    def _plain(self, x: Tensor, t: float | Tensor, cond: dict[str, Any]) -> dict[str, Tensor]:
        """Outputs outside the interval, by the same names."""
        return known(self.model.outputs(x, t, **cond))

    @abstractmethod
    def _more_calls(self, t: float | Tensor) -> int | Tensor:
        """Evaluations of networks that guidance adds to those of the model inside."""

    def outputs(self, x: Tensor, t: float | Tensor, **cond: Any) -> dict[str, Tensor]:
        """Those of the guided model within the interval, of the model inside elsewhere, each sample by its own time.

        With a time for each sample and an interval, the host waits for the device.
        """
        scale = self._scale(x, cond.pop(SCALE, None)) if isinstance(self.scale, tuple) else self.scale
        inside = self._inside(t)
        if not isinstance(inside, Tensor):
            return self._guided(x, t, cond, scale) if inside else self._plain(x, t, cond)
        if bool(inside.all()):
            return self._guided(x, t, cond, scale)
        if not bool(inside.any()):
            return self._plain(x, t, cond)
        assert isinstance(t, Tensor)
        own = scale[inside] if isinstance(scale, Tensor) else scale
        guided = self._guided(x[inside], t[inside], select(cond, inside, x.device), own)
        plain = self._plain(x[~inside], t[~inside], select(cond, ~inside, x.device))
        found: dict[str, Tensor] = {}
        for rows, outputs in ((inside, guided), (~inside, plain)):
            for name, value in outputs.items():
                found.setdefault(name, torch.empty_like(x))[rows] = value
        return found

    def _scale(self, x: Tensor, given: Any) -> Tensor:
        if not isinstance(given, Tensor) or given.shape != (len(x),):
            got = tuple(given.shape) if isinstance(given, Tensor) else given
            raise ValueError(
                f"{self.guidance} takes each sample's own scale: give cond={{{SCALE!r}: …}}, a tensor of shape "
                f"({len(x)},), got {got}"
            )
        return expand(given, x)

    def network_calls(self, t: float | Tensor) -> int | Tensor:
        """Those of the model inside, and within the interval those of what guides it."""
        return self.model.network_calls(t) + self._inside(t) * self._more_calls(t)

    @property
    def _everywhere(self) -> bool:
        return self.low == 0 and self.high == math.inf

    def _inside(self, t: float | Tensor) -> bool | Tensor:
        if self._everywhere:
            return True
        if isinstance(t, Tensor) and t.ndim:
            times = as_times(t, t)
            level = self.process.sigma(times) / self.process.alpha(times)
            return ((self.low < level) & (level <= self.high)).to(t.device)
        alpha, sigma = self.process.alpha(float(t)), self.process.sigma(float(t))
        return self.low < (sigma / alpha if alpha > 0 else math.inf) <= self.high

"""Guidance by a difference of two predictions, on an interval of noise levels."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from scoresde.conditions import select
from scoresde.guidance.guided import Guided, known
from scoresde.score import ScoreModel, as_times


class OnInterval(Guided):
    """Guidance where low < σ/α ≤ high, and nothing of it, no evaluation either, elsewhere.

    Source: Kynkäänniemi et al. 2024, Applying guidance in a limited interval improves sample and distribution quality
    in diffusion models, eq. 5.

    Args:
        model: the model inside.
        scale: of the difference; what 0 and 1 mean is the subclass's.
        low, high: ends of the interval of σ/α.
        options: further ones to be told.

    Raises:
        ValueError: the scale is not finite, or the interval is empty.
    """

    def __init__(self, model: ScoreModel, scale: float, low: float, high: float, **options: Any):
        if not math.isfinite(scale):
            raise ValueError(f"{self.name} needs a finite scale, got {scale}")
        if not 0 <= low < high:
            raise ValueError(f"{self.name} needs an interval of σ/α with 0 ≤ low < high, got {low} to {high}")
        self.scale, self.low, self.high = float(scale), float(low), float(high)
        ends = {} if self._everywhere else {"low": self.low, "high": self.high}
        super().__init__(model, scale=self.scale, **ends, **options)

    @abstractmethod
    def _guided(self, x: Tensor, t: float | Tensor, cond: dict[str, Any]) -> dict[str, Tensor]:
        """Outputs within the interval."""

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
        inside = self._inside(t)
        if not isinstance(inside, Tensor):
            return self._guided(x, t, cond) if inside else self._plain(x, t, cond)
        if bool(inside.all()):
            return self._guided(x, t, cond)
        if not bool(inside.any()):
            return self._plain(x, t, cond)
        assert isinstance(t, Tensor)
        found: dict[str, Tensor] = {}
        for rows, outputs in ((inside, self._guided), (~inside, self._plain)):
            for name, value in outputs(x[rows], t[rows], select(cond, rows, x.device)).items():
                found.setdefault(name, torch.empty_like(x))[rows] = value
        return found

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

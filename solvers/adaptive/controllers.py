"""How long the next step is, by the errors of the last ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-8  # added to an error that is inverted


@dataclass(frozen=True)
class Controller:
    """A PID controller: h ← h · limit(safety · e^((P+I+D)/k) e₁^(−(P+2D)/k) e₂^(D/k)), e = 1/error.

    e₁ and e₂ are those of the last two accepted steps, and k is the order of the error of a step.

    Source: Söderlind 2003, Digital filters in adaptive time-stepping.

    Args:
        order: k.
        proportional, integral, derivative: P, I and D; I = 1 alone is the textbook rule.
        safety: factor by which steps stay below what the error would allow.
        limit: what a step may grow or shrink by in one go, as a function of the bare factor; None is no limit.
        least: a step is accepted where its own factor is at least so much; None accepts errors up to 1.
        uncut: whether the factor is for the step as it was before it was cut to end where the run does.
    """

    order: float
    proportional: float = 0.0
    integral: float = 1.0
    derivative: float = 0.0
    safety: float = 0.9
    limit: Callable[[Tensor], Tensor] | None = None
    least: float | None = None
    uncut: bool = False

    def __call__(self, error: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which steps are accepted, the factor for each next step, and e₁ and e₂ then, (n, 2) with nan for none."""
        now = 1 / (error.nan_to_num(nan=math.inf) + TINY)
        before, earlier = past.where(~past.isnan(), now[:, None]).unbind(1)
        p, i, d = (value / self.order for value in (self.proportional, self.integral, self.derivative))
        factor = self.safety * now ** (p + i + d) * before ** -(p + 2 * d) * earlier**d
        factor = factor if self.limit is None else self.limit(factor)
        accepted = error <= 1 if self.least is None else factor >= self.least
        return accepted, factor, torch.stack((now, before), dim=1).where(accepted[:, None], past)

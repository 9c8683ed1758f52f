"""How errors fall as steps are doubled, on smooth grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.certificate.mixture import Array
from solvers.errors import known
from solvers.steps import Process

FIRST, LAST = -1.5, 2.0  # λ between which orders are measured
SHAPES = ("uniform", "quadratic", "karras")
TOLERANCE = 0.2  # by which a measured order may miss the declared one


def smooth_grid(process: Process, shape: str, steps: int) -> Array:
    """Times t = φ(i/steps) from λ = −1.5 to λ = 2 with one smooth φ for all step counts.

    Args:
        process: whose times they are; its ``time`` takes arrays too.
        shape: ``uniform`` (even in time), ``quadratic`` (in its square root) or ``karras`` (in (σ/α)^(1/7)).
        steps: at least 1.

    Raises:
        ValueError: there is no such shape.
    """
    known("shape", shape, SHAPES)
    u = np.linspace(0, 1, steps + 1)
    ends = process.time(FIRST), process.time(LAST)
    if shape == "uniform":
        times = ends[0] + (ends[1] - ends[0]) * u
    elif shape == "quadratic":
        times = (ends[0] ** 0.5 + (ends[1] ** 0.5 - ends[0] ** 0.5) * u) ** 2
    else:
        low, high = math.exp(-FIRST / 7), math.exp(-LAST / 7)
        levels: Any = -7 * np.log(low + (high - low) * u)
        times = np.asarray(process.time(levels))
    times[0], times[-1] = ends
    return times


@dataclass(frozen=True)
class Slopes:
    """Errors at doubled step counts, and the order they show: the last slope, None if it did not settle."""

    steps: list[int]
    errors: list[float]

    @property
    def slopes(self) -> list[float]:
        return [math.log2(a / b) for a, b in zip(self.errors, self.errors[1:], strict=False)]

    @property
    def mean(self) -> float:
        """The slope from the first to the last steps."""
        return math.log(self.errors[0] / self.errors[-1]) / math.log(self.steps[-1] / self.steps[0])

    @property
    def settled(self) -> bool:
        """Whether the last three slopes lie within 0.15 of each other and the last two within 0.05."""
        last = self.slopes[-3:]
        return len(last) == 3 and max(last) - min(last) < 0.15 and abs(last[2] - last[1]) < 0.05

    @property
    def order(self) -> float | None:
        return self.slopes[-1] if self.settled else None

    def constant(self, order: int) -> float | None:
        """C in error ≈ C N^−order, from the finest steps N; None if the slope did not settle."""
        return self.errors[-1] * self.steps[-1] ** order if self.settled else None


def settle(error: Callable[[int], float], floor: float, first: int = 16, most: int = 4096) -> Slopes:
    """Double the steps from ``first`` until the slope settles, the error reaches the floor of rounding, or ``most``."""
    found = Slopes([first], [error(first)])
    while not found.settled and found.errors[-1] > floor and found.steps[-1] < most:
        steps = 2 * found.steps[-1]
        found = Slopes([*found.steps, steps], [*found.errors, error(steps)])
    return found

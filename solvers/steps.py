"""Noise levels and the steps between them: all that a solver sees of a process, as float64 numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = "Sequence[float] | NDArray[np.float64]"


class Process(Protocol):
    """A forward process on floats: p_t(x | x0) = N(α(t) x0, σ(t)² I); see ``scoresde.process`` for implementations."""

    @property
    def t_min(self) -> float: ...
    @property
    def t_max(self) -> float: ...
    @property
    def t_clean(self) -> float: ...
    @property
    def frame(self) -> str: ...

    def alpha(self, t: float, /) -> float: ...
    def sigma(self, t: float, /) -> float: ...
    def half_log_snr(self, t: float, /) -> float: ...
    def time(self, half_log_snr: float, /) -> float: ...
    def drift(self, t: float, /) -> float: ...
    def diffusion(self, t: float, /) -> float: ...


@dataclass(frozen=True)
class Point:
    """One noise level: time t, α, σ, λ = log(α/σ), and the SDE's f(t) and g²(t)."""

    t: float
    alpha: float
    sigma: float
    lam: float
    process: Process = field(repr=False, compare=False)

    @classmethod
    def at(cls, process: Process, t: float) -> Point:
        return cls(t, process.alpha(t), process.sigma(t), process.half_log_snr(t), process)

    @property
    def drift(self) -> float:
        """f(t)."""
        return self.process.drift(self.t)

    @property
    def diffusion(self) -> float:
        """g²(t)."""
        return self.process.diffusion(self.t)


class Steps:
    """The pairs (t, s) of current and next noise level that a solver passes through, in order.

    Attributes:
        process: where the noise levels come from.
        count: number of steps of the whole grid, the ones that the driver takes included.
    """

    def __init__(self, process: Process, points: Sequence[Point], count: int):
        self.process, self.count, self._points = process, count, tuple(points)

    def __len__(self) -> int:
        return len(self._points) - 1

    def __iter__(self) -> Iterator[tuple[Point, Point]]:
        return zip(self._points, self._points[1:], strict=False)

    def at(self, half_log_snr: float) -> Point:
        """The noise level of the given λ, on the grid or off it."""
        return Point.at(self.process, self.process.time(half_log_snr))


def check_times(process: Process, times: Any) -> tuple[float, ...]:
    """The times of a grid as floats, from the noisy end to the clean end, once they are known to be legal.

    Raises:
        ValueError: fewer than two times; not finite; not strictly decreasing; outside the process. The message names
            the first offending value.
    """
    try:
        values = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a grid must be numbers, got {times!r}") from error
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"a grid needs at least two times, from the noisy end to the clean end, got {values.tolist()}")
    if not np.isfinite(values).all():
        raise ValueError(f"a grid must be finite, got {values[~np.isfinite(values)][0]}")
    grid = tuple(float(value) for value in values)
    for before, after in zip(grid, grid[1:], strict=False):
        if not after < before:
            raise ValueError(f"a grid must decrease strictly from noise to data, but {before} is followed by {after}")
    if grid[0] > process.t_max * (1 + 1e-12):
        raise ValueError(f"a grid must start at or below t_max = {process.t_max} of {process!r}, got {grid[0]}")
    for index, t in enumerate(grid):
        lam = process.half_log_snr(t)
        if (
            t < process.t_clean
            or math.isnan(lam)
            or (lam == math.inf and (index < len(grid) - 1 or t != process.t_clean))
        ):
            raise ValueError(
                f"time {t} is outside {process!r}: legal are times from above t_clean = {process.t_clean} to t_max = "
                f"{process.t_max}, and t_clean itself at the end"
            )
    return grid

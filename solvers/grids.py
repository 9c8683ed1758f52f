"""Where the steps are: grids of times from the noisy end to zero noise.

``get(name)(process, steps)`` gives ``steps + 1`` strictly decreasing float64 times: ``steps`` of them from t_max to
t_min, spaced evenly in the grid's own variable, and then ``t_clean``.

Where α(t_max) = 0 (λ = −∞) the grids that are spaced in a function of λ begin at λ = −5, the noisy end of the usual
VP process, and the time of that first point is t_max itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import check_options, nearest
from solvers.steps import Process

Array = NDArray[np.float64]

FIRST_HALF_LOG_SNR = -5.0
VP_BETA_MIN, VP_BETA_MAX = 0.1, 20.0


@dataclass(frozen=True)
class Grid:
    """A named rule for placing steps; call it with a process and a number of steps."""

    name: str
    place: Callable[[Process, int], Array]

    def __call__(self, process: Process, steps: int) -> Array:
        """Times of shape (steps + 1,), float64.

        Raises:
            ValueError: steps < 1 or not whole.
        """
        if isinstance(steps, bool) or steps != int(steps) or steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
        times = self.place(process, int(steps)) if steps > 1 else np.array([process.t_max])
        times[0] = process.t_max
        if steps > 1:
            times[-1] = process.t_min
        return np.append(times, process.t_clean)


_RULES: dict[str, Callable[..., Array]] = {}


def _grid(rule: Callable[..., Array]) -> Callable[..., Array]:
    _RULES[rule.__name__] = rule
    return rule


def names() -> list[str]:
    """Names of all grids."""
    return sorted(_RULES)


def get(name: str, **options: Any) -> Grid:
    """The grid of that name.

    Raises:
        ValueError: unknown name (the nearest is given).
        TypeError: an option the grid does not have.
    """
    if name not in _RULES:
        raise ValueError(f"unknown grid {name!r}{nearest(name, _RULES)}")
    rule = _RULES[name]
    parameters = list(inspect.signature(rule).parameters)[2:]
    check_options(f"grid {name!r}", options, parameters)
    return Grid(name, lambda process, steps: rule(process, steps, **options))


def _ends(process: Process) -> tuple[float, float]:
    first = process.half_log_snr(process.t_max)
    return (FIRST_HALF_LOG_SNR if first == -np.inf else first), process.half_log_snr(process.t_min)


def _times(process: Process, half_log_snr: Array) -> Array:
    return np.array([process.time(float(value)) for value in half_log_snr])


@_grid
def uniform(process: Process, steps: int) -> Array:
    """Evenly in t."""
    return np.linspace(process.t_max, process.t_min, steps)


@_grid
def quadratic(process: Process, steps: int) -> Array:
    """Evenly in √τ, τ the time at which the linear-β VP process (0.1, 20) has the same signal-to-noise ratio."""
    first, last = (vp_time(value) ** 0.5 for value in _ends(process))
    return _times(process, vp_half_log_snr(np.linspace(first, last, steps) ** 2))


@_grid
def log_snr(process: Process, steps: int) -> Array:
    """Evenly in λ (Lu et al. 2022, DPM-Solver, sec. 3.4)."""
    first, last = _ends(process)
    return _times(process, np.linspace(first, last, steps))


@_grid
def karras(process: Process, steps: int, rho: float = 7.0) -> Array:
    """Evenly in (σ/α)^(1/ρ) (Karras et al. 2022, eq. 5)."""
    first, last = (np.exp(-value / rho) for value in _ends(process))
    return _times(process, -rho * np.log(np.linspace(first, last, steps)))


def vp_time(half_log_snr: float) -> float:
    """The time of the linear-β VP process with β from 0.1 to 20 at which its half log-SNR is the given one."""
    integral = np.logaddexp(0.0, -2 * half_log_snr)  # ∫β = −2 log α
    return float(2 * integral / (VP_BETA_MIN + np.sqrt(VP_BETA_MIN**2 + 2 * (VP_BETA_MAX - VP_BETA_MIN) * integral)))


def vp_half_log_snr(time: Array) -> Array:
    """Inverse of :func:`vp_time`, on arrays."""
    return -0.5 * np.log(np.expm1(VP_BETA_MIN * time + 0.5 * (VP_BETA_MAX - VP_BETA_MIN) * time**2))

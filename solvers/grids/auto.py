"""The grid of solver=auto."""

from __future__ import annotations

import math

import numpy as np

from solvers.grids import universal
from solvers.grids.grid import Array, get, rule, times
from solvers.steps import Process

# alpha, beta and end of beta_log_snr by steps, tuned by benchmarks/tuning/auto.py. With 2 to 4 steps none comes near
# the solution, and the quality of samples decides (benchmarks/tuning/few.py): the last noisy level is high.
TUNED = {
    2: (2.7, 1.0, 1.4),
    3: (2.7, 0.8, 0.8),
    4: (2.7, 1.6, 0.247),
    5: (1.4, 0.92, 0.15),
    6: (1.6, 1.0, 0.14),
    8: (1.3, 1.0, 0.11),
    10: (1.5, 1.1, 0.065),
    12: (1.6, 1.3, 0.045),
    15: (1.6, 1.3, 0.022),
    20: (1.9, 1.5, 0.011),
    30: (1.8, 1.3, 0.0041),
    50: (1.5, 1.2, 0.002),
}


def placed(process: Process, steps: int, alpha: float, beta: float, end: float) -> Array:
    """The noisy times of ``beta_log_snr``, ``end`` being at least the level of t_min."""
    grid = get("beta_log_snr", alpha=alpha, beta=beta, end=max(end, math.exp(-process.half_log_snr(process.t_min))))
    return grid.place(process, steps, **grid.options)


@rule()
def auto(process: Process, steps: int, scale: float | None = None) -> Array:
    """Levels for all models in multiples of σ*; where that is not known, ``beta_log_snr`` with tuned options.

    With a ``scale``, from 2 to 16 steps, the levels are those of :mod:`solvers.grids.universal`, which belong to the
    solver ``auto``. Otherwise alpha, beta and end are those that were tuned for the number of steps on other
    exact problems. Between the numbers of steps that were tuned for, 2 to 50, the logarithms of all three are linear in
    that of the number of steps; beyond, the nearest are taken. ``end`` is at least the level of t_min.

    Args:
        scale: σ*, the noise level σ/α around which the model's denoised samples move; None where it is not known.

    Source: this project, ``benchmarks/results/auto.md`` and ``auto_few.md``, as in Sabour et al. 2024, Align your
    steps, grids tuned to a solver and a few steps, here to exact problems on two processes and for the solver ``auto``.
    """
    if scale is not None and (table := universal.chosen().get(steps)) is not None:
        return times(process, -np.log(universal.levels(process, table, scale)))
    known, tuned = np.log(list(TUNED)), np.log(list(TUNED.values()))
    alpha, beta, end = (math.exp(np.interp(math.log(steps), known, values)) for values in tuned.T)
    return placed(process, steps, alpha, beta, end)

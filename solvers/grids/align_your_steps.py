"""Grids that were optimised for one model each and published as tables."""

from __future__ import annotations

import numpy as np

from solvers.errors import known
from solvers.grids.grid import Array, first_half_log_snr, rule, times
from solvers.steps import Process

TABLES = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "deepfloyd_if": (160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@rule()
def align_your_steps(process: Process, steps: int, table: str = "sd15") -> Array:
    """At published noise levels σ/α (``sd15``, ``sdxl``, ``deepfloyd_if``, ``svd``), log-linear in between.

    Ten steps take the table's levels as they are. Other numbers of steps take steps + 1 points evenly along the
    table, with log(σ/α) linear between its eleven levels. The last point gives way to zero noise, so that ten steps
    on ``sd15`` end at 0.152, whatever t_min is. The first time is t_max, in place of the table's first level; levels
    that the process does not reach are left out, and a table that ends below t_min ends at t_min.

    Args:
        table: sd15, sdxl, deepfloyd_if or svd.

    Source: Sabour et al. 2024, Align your steps, app. B, table 3 and sec. 3.3 (interpolation).

    Raises:
        ValueError: no such table.
    """
    known("table", table, TABLES, of="grid 'align_your_steps'")
    first, least = -first_half_log_snr(process), -process.half_log_snr(process.t_min)
    _, *inner, last = np.log(TABLES[table])
    knots = [first, *(level for level in inner if least < level < first), max(last, least)]
    levels = np.interp(np.linspace(0, len(knots) - 1, steps + 1)[1:-1], np.arange(len(knots)), knots)
    return np.concatenate([[process.t_max], times(process, -levels)])

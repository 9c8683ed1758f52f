"""A process for solvers that are looked at or measured without one of a model's."""

from __future__ import annotations

from typing import Any

import numpy as np


class StandIn:
    """x0 plus noise of standard deviation t: α = 1, σ = t, on numbers and arrays."""

    t_min, t_max, t_clean, frame = 0.01, 100.0, 0.0, "edm"

    def alpha(self, t: Any, /) -> Any:
        return 1.0

    def sigma(self, t: Any, /) -> Any:
        return t

    def half_log_snr(self, t: Any, /) -> Any:
        return -np.log(t)

    def time(self, half_log_snr: Any, /) -> Any:
        return np.exp(-half_log_snr)

    def drift(self, t: Any, /) -> Any:
        return 0.0

    def diffusion(self, t: Any, /) -> Any:
        return 2 * t

"""Where the steps are: grids of times from the noisy end to zero noise.

``get(name, **options)(process, steps)`` gives ``steps + 1`` strictly decreasing float64 times: ``steps`` noisy ones,
from t_max to t_min, and then ``t_clean``. Times are not rounded to whole numbers, on chains of whole timesteps neither.

``end`` is the noise level σ/α of the last noisy time, from which the final denoise starts; None is t_min,
``by_steps`` is 4/steps², at most 0.1. One step has one noisy time, t_max, whatever the ``end``. Other ends than these
have, because they are published so, ``leading`` (starts below t_max) and ``sgm_uniform``, ``trailing`` and
``align_your_steps`` (end above t_min, and take no ``end``).

The rules are written with u = i/(steps − 1), the fraction of the way from the first noisy time (``_first``: t_max) to
the last one (``_last``: t_min or that of ``end``), and λ = log(α/σ). Where α(t_max) = 0 (λ = −∞) the grids that are
spaced in a function of λ begin at ``FIRST_HALF_LOG_SNR`` = −5, the noisy end of the usual VP process, and the time of
that first point is t_max itself.

Rules that are one and the same have one function and several names: ``exponential`` is ``log_snr``, ``linspace`` is
``uniform``, ``cosine`` is ``kl_optimal``.
"""

from solvers.grids import align_your_steps as _tables  # noqa: F401  (registers its rule)
from solvers.grids import auto as _auto  # noqa: F401
from solvers.grids import in_time as _in_time  # noqa: F401
from solvers.grids.grid import BY_STEPS, FIRST_HALF_LOG_SNR, Grid, get, names
from solvers.grids.in_half_log_snr import shifted, vp_half_log_snr, vp_time

__all__ = ["BY_STEPS", "FIRST_HALF_LOG_SNR", "Grid", "get", "names", "shifted", "vp_half_log_snr", "vp_time"]

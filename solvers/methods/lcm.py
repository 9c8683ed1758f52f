"""Latent consistency models: to the data, and with fresh noise back to the next level."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.signature import Draw, Predict, Solution, State, Steps

SIGMA_DATA = 0.5  # of Latent consistency models, where it is no option


@solver(
    "lcm",
    family="distilled",
    order=None,
    stochastic=True,
    reference="Luo et al. 2023, Latent consistency models, Algorithm 3; boundary of its public code",
    grid="trailing",
    from_noise=True,
    to_clean=True,
)
def lcm(steps: Steps, x: State, predict: Predict, noise: Draw, timestep_scaling: float = 10.0) -> Solution:
    """x_s = α_s f + σ_s ξ with f = c_skip x + c_out x0, which is x itself at t_min.

    c_skip = ¼/(k² + ¼) and c_out = k/√(k² + ¼), k the ``timestep_scaling`` times 1000 (t − t_min)/(t_max − t_clean),
    which is the index on a chain of 1000 timesteps.

    Args:
        timestep_scaling: how fast f leaves the boundary, positive.

    Use:
        Latent consistency models and LCM-LoRA, in 1 to 8 evaluations.
    """
    if not 0 < timestep_scaling < math.inf:
        raise ValueError(f"lcm needs a positive timestep_scaling, got {timestep_scaling}")
    process = steps.process
    for t, s in steps:
        k = timestep_scaling * 1000 * (t.t - process.t_min) / (process.t_max - process.t_clean)
        skip, out = SIGMA_DATA**2 / (k**2 + SIGMA_DATA**2), k / math.hypot(k, SIGMA_DATA)
        x = yield s.alpha * (skip * x + out * predict(x, t).x0) + noise(s.sigma)

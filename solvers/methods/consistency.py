"""Consistency models' multistep sampler: to the data, and with fresh noise back to the next level.

A consistency model returns the end of the probability-flow trajectory through x where a denoiser returns the mean of
all data that x may have come from. The formulas call it x0 all the same; with a plain denoiser in its place, this
method and its kin do not converge to the data's distribution as steps are added, so that no order is declared.
"""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "consistency",
    family="distilled",
    order=None,
    stochastic=True,
    reference="Song et al. 2023, Consistency models, Algorithm 1",
    grid="karras_trailing",
    from_noise=True,
    to_clean=True,
)
def consistency(steps: Steps, x: State, predict: Predict, noise: Draw, sigma_min: float = 0.002) -> Solution:
    """x_s = α_s (x0 + √(σ_s²/α_s² − σ_min²) ξ): to the end of the trajectory, and with fresh noise back up to s.

    The end is where the noise level σ/α is σ_min, the ε of the paper, which the model was trained to return.

    Args:
        sigma_min: noise level σ/α of what the model returns, at least 0.

    Use:
        Consistency models, in 1 to 4 evaluations.
    """
    if not 0 <= sigma_min < math.inf:
        raise ValueError(f"consistency needs a sigma_min of at least 0, got {sigma_min}")
    for t, s in steps:
        added = math.sqrt(max(0.0, s.sigma**2 - (s.alpha * sigma_min) ** 2))
        x = yield s.alpha * predict(x, t).x0 + noise(added)

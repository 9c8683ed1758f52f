"""Few-step sampling of consistency models and of distilled models.

A consistency model returns the end of the probability-flow trajectory through x where a denoiser returns the mean of
all data that x may have come from. The formulas call it x0 all the same; with a plain denoiser in its place, they do
not converge to the data's distribution as steps are added, so that no order is declared.
"""

from __future__ import annotations

import math

from solvers.registry import solver
from solvers.steps import Point

SIGMA_DATA = 0.5  # of Latent consistency models, where it is no option


@solver(
    "consistency",
    order=None,
    stochastic=True,
    reference="Song et al. 2023, Consistency models, Algorithm 1",
    grid="karras_trailing",
    from_noise=True,
    to_clean=True,
)
def consistency(steps, x, predict, noise, sigma_min=0.002):
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


@solver(
    "lcm",
    order=None,
    stochastic=True,
    reference="Luo et al. 2023, Latent consistency models, Algorithm 3; boundary of its public code",
    grid="trailing",
    from_noise=True,
    to_clean=True,
)
def lcm(steps, x, predict, noise, timestep_scaling=10.0):
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


@solver(
    "tcd",
    order=1,
    weak_order=lambda eta: None,
    stochastic="eta",
    reference="Zheng et al. 2024, Trajectory consistency distillation, Algorithm 4",
    grid="trailing",
)
def tcd(steps, x, predict, noise, eta=0.3):
    """x_s = (α_s/α_r) (α_r x0 + σ_r ε) + √(σ_s² − α_s² σ_r²/α_r²) ξ with r = t_min + (1 − η)(s − t_min).

    Along the trajectory to r, which is cleaner than s, and with noise back up to s. η = 0 is ``ddim``, η = 1 samples as
    ``consistency`` does, with the end of the trajectory at t_min.

    Args:
        eta: γ of the paper, 0 to 1: how far below s each step goes, as a part of the way to t_min.

    Use:
        Trajectory-consistency models and TCD-LoRA, in 4 to 20 evaluations.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"tcd needs eta between 0 and 1, got {eta}")
    process = steps.process
    for t, s in steps:
        p, r = predict(x, t), Point.at(process, min(s.t, process.t_min + (1 - eta) * (s.t - process.t_min)))
        added = s.sigma * math.sqrt(max(0.0, -math.expm1(2 * (s.lam - r.lam))))
        x = yield s.alpha * (p.x0 + r.sigma / r.alpha * p.epsilon) + noise(added)

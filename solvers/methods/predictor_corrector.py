"""Predictor–corrector sampling: steps of the reverse SDE with Langevin steps at each noise level."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.coefficients import exponential, frames
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "predictor_corrector",
    family="langevin",
    order=1,
    weak_order=1,
    stochastic=True,
    reference="Song et al. 2021, Score-based generative modeling through SDEs, Algorithm 1 and app. G",
)
def predictor_corrector(
    steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0, strength: float = 1.0, corrections: int = 1
) -> Solution:
    """A first-order exponential step of the reverse SDE to s, then Langevin steps x ← x + δ ∇log p_s(x) + √(2δ) ξ.

    δ = strength · h σ_s²/corrections with h = λ_s − λ_t. The paper sets δ = 2 (snr |ξ|/|∇log p_s|)² by norms, which
    ``langevin_pc`` does; here σ_s stands for that ratio, and 2 snr² is in proportion to h, since Langevin steps of one
    size leave an error of that size however many there are. As steps are added, this becomes the
    reverse SDE with η² + strength for η².

    Args:
        eta: amplitude of the predictor's noise, at least 0; 1 is the reverse SDE.
        strength: Langevin time for a unit of λ, in σ²; 2 snr²/h gives the paper's steps.
        corrections: how many Langevin steps there are at each level, at least 1.

    Use:
        Where score-based samplers with a corrector must be met; ``dpmpp_2m_sde`` makes more of the same evaluations.
    """
    if not 0 < strength < math.inf:
        raise ValueError(f"predictor_corrector needs a positive strength, got {strength}")
    if corrections not in range(1, 1001):
        raise ValueError(f"predictor_corrector needs 1 to 1000 corrections, got {corrections}")
    frame = frames.reverse(eta)
    for t, s in steps:
        x = exponential.single(frame, x, t, s, predict, noise)
        size = strength * (s.lam - t.lam) * s.sigma**2 / corrections
        for _ in range(corrections):
            x = x + size * predict(x, s).score + noise(math.sqrt(2 * size))
        x = yield x

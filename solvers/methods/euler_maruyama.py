"""Euler–Maruyama on the reverse SDE: one evaluation a step, the slow and faithful one."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "euler_maruyama",
    family="sde",
    order=1,
    weak_order=1,
    stochastic="eta",
    reference="Song et al. 2021, Score-based generative modeling through SDEs, eq. 6; η as in Zhang & Chen 2023, eq. 6",
)
def euler_maruyama(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0) -> Solution:
    """x_s = x + (s − t) [f x − ½(1 + η²) g² ∇log p_t(x)] + η g √(t − s) ξ, with f and g² at t.

    η = 1 is the reverse SDE, η = 0 the explicit Euler method for the probability-flow ODE, in the process's own time.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE, 0 explicit Euler on the probability-flow ODE.

    Use:
        50 evaluations and more, where fresh noise corrects part of the network's own error; unstable in few steps.
    """
    if not eta >= 0:
        raise ValueError(f"euler_maruyama needs eta of at least 0, got {eta}")
    for t, s in steps:
        p = predict(x, t)
        slope = t.drift * x - 0.5 * (1 + eta**2) * t.diffusion * p.score
        x = yield x + (s.t - t.t) * slope + noise(eta * math.sqrt(t.diffusion * (t.t - s.t)))

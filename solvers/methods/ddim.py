"""DDIM: exponential Euler on the probability-flow ODE."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients.ancestral import ancestral
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "ddim",
    family="ddim",
    order=1,
    weak_order=1,
    stochastic="eta",
    reference="Song et al. 2021, DDIM, eqs. 12 and 16",
)
def ddim(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 0.0) -> Solution:
    """x_s = α_s x0 + √(σ_s² − τ²) ε + τ ξ with τ = η σ_s √(1 − e^{2(λ_t − λ_s)}).

    η = 0 is the exponential Euler method for the probability-flow ODE, η = 1 ancestral sampling (DDPM).

    Args:
        eta: amplitude of the noise, 0 to 1; 0 is deterministic, 1 is ancestral sampling.

    Use:
        Steady at any number of evaluations, and invertible; ``dpmpp_2m`` comes closer to the converged solution.
    """
    yield from ancestral("ddim", steps, x, predict, noise, eta)

"""Euler's method with ancestral noise: the sampler that pipelines call euler_a."""

from __future__ import annotations

from solvers.catalogue import alias, solver
from solvers.coefficients.ancestral import ancestral
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "euler_ancestral",
    family="ddim",
    order=1,
    weak_order=1,
    stochastic="eta",
    reference="k-diffusion's sample_euler_ancestral, 2022; Song et al. 2021, DDIM, eqs. 12 and 16",
)
def euler_ancestral(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0) -> Solution:
    """Euler's step for x/α over σ/α down to √(σ_s² − τ²)/α_s, then noise τ ξ, τ = η σ_s √(1 − e^{2(λ_t − λ_s)}).

    These are the numbers of ``ddim``, under the name and with the default by which pipelines know them.

    Args:
        eta: amplitude of the noise, 0 to 1; 0 is ``euler`` in the frame ``edm``.

    Use:
        30 evaluations and more; ``dpmpp_2m_sde`` is closer to the data's distribution at the same cost.
    """
    yield from ancestral("euler_ancestral", steps, x, predict, noise, eta)


alias("euler_a", of="euler_ancestral")

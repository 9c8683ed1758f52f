"""DPM-Solver++ on the reverse SDE, singlestep: weak order 2 at two evaluations a step."""

from __future__ import annotations

from solvers.catalogue import alias, solver
from solvers.coefficients import exponential, frames
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "dpmpp_sde",
    family="sde",
    order=2,
    weak_order=2,
    stochastic="eta",
    reference="Lu et al. 2022, DPM-Solver++, Algorithm 1, on the reverse SDE; Gonzalez et al. 2023, SEEDS-2",
)
def dpmpp_sde(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0, r: float = 0.5) -> Solution:
    """A first-order step with noise to m at λ_t + r h, then one to s with the mean x0_t + (x0_m − x0_t)/(2r).

    x_s = (σ_s/σ_t) e^{−η²h} x + α_s (1 − e^{−z}) [x0_t + (x0_m − x0_t)/(2r)] + noise of variance σ_s² (1 − e^{−2η²h}),
    z = (1 + η²) h. The noise of the step goes on from that of m: two draws. It is SEEDS-2 too. With η = 0 it is
    ``dpmpp_2s``. In ComfyUI's ``seeds_2`` ``eta`` is η²; in k-diffusion's ``dpmpp_sde`` it is that of ancestral
    sampling, the same as η at 0 and 1 only.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE, 0 is ``dpmpp_2s``.
        r: where the inner evaluation is, in (0, 1).

    Use:
        Where steps must not remember earlier ones, because states are edited between them.
    """
    yield from exponential.second("dpmpp_sde", frames.reverse(eta), steps, x, predict, r, "midpoint", noise, option="r")


alias("seeds_2", of="dpmpp_sde")

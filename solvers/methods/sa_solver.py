"""SA-Solver: stochastic Adams methods, predictor and corrector at one evaluation a step."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.histories import choose
from solvers.coefficients.interpolation import bh1, exact
from solvers.coefficients.predict_correct import predict_correct
from solvers.signature import Draw, Predict, Solution, State, Steps

VARIANTS = {"exact": exact, "published": bh1}


def order_of_sa_solver(options):
    """A corrected cold start leaves an error of order 3, another one of order 2; with noise it is 2 at most."""
    eta, order, corrector_order = (options[name] for name in ("eta", "order", "corrector_order"))
    reached = min(corrector_order, order + 1, 3) if corrector_order else min(order, 2)
    return min(reached, 2) if eta else reached


@solver(
    "sa_solver",
    family="sde",
    order=order_of_sa_solver,
    weak_order=order_of_sa_solver,
    stochastic="eta",
    reference="Xue et al. 2023, SA-Solver: stochastic Adams solver, Algorithm 1, eqs. 14 to 18 (PEC)",
    grid="log_snr",
)
def sa_solver(
    steps: Steps,
    x: State,
    predict: Predict,
    noise: Draw,
    eta: float = 1.0,
    order: int = 3,
    corrector_order: int = 4,
    variant: str = "exact",
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
) -> Solution:
    """x_s = (σ_s/σ_t) e^{−η²h} x + σ_s e^{−η²λ_s} ∫ P(λ) dw + σ_s √(1 − e^{−2η²h}) ξ with w = e^{(1+η²)λ}.

    The paper's τ is η. P goes through the last ``order`` x0 and, for the corrector, through x0_s and those before it;
    the corrector keeps ξ and costs no evaluation. The first steps have fewer nodes. η = 0 is ``uni_pc`` with
    ``variant=vary_coeff`` where ``corrector_order`` is ``order`` + 1.

    Args:
        eta: amplitude of the noise (the paper's τ), at least 0; 1 is the reverse SDE.
        order: how many x0 the predictor interpolates, 1 to 4.
        corrector_order: how many x0 the corrector interpolates, x0_s among them, 1 to 5; 0 does not correct.
        variant: ``exact``, or ``published``: between two nodes dw/dλ in front of the difference is taken at s.
        s_tmin: noise only in steps whose end has σ/α of at least this, as τ(t) of the paper.
        s_tmax: noise only in steps whose end has σ/α of at most this.

    Use:
        20 evaluations and more; ``s_tmin=0.05 s_tmax=1`` leaves out the noise at both ends, as the paper does.
    """
    histories.check("sa_solver", order, "cold")
    if corrector_order not in range(6):
        raise ValueError(f"sa_solver has corrector orders 1 to 5, and 0 for none, got {corrector_order}")
    rule = choose("sa_solver", "variant", variant, VARIANTS)
    noisy, still = frames.reverse(eta), frames.reverse(0.0)

    def frame_to(s):
        return noisy if s_tmin <= s.sigma / s.alpha <= s_tmax else still

    yield from predict_correct(steps, x, predict, frame_to, rule, order, corrector_order, noise=noise)

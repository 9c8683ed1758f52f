"""CFG++ on DPM-Solver++(2M), under classifier-free guidance of a scale of 0 to 1."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import cfg_pp
from solvers.coefficients.histories import choose
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "dpmpp_2m_cfg_pp",
    family="cfg_pp",
    order=None,
    reference="Chung et al. 2024, CFG++, app. C, and the authors' code (dpm++_2m_cfg++); the split is ours",
)
def dpmpp_2m_cfg_pp(steps: Steps, x: State, predict: Predict, variant: str = "split") -> Solution:
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_∅ + (x0_∅ − x0_∅prev) h/(2 h_prev)] + α_s (x0 − x0_∅).

    The step of ``dpmpp_2m`` along the unconditional prediction, and the jump of ``ddim_cfg_pp``, which is the first
    step. The published code takes the guided x0 in the place of the first x0_∅ of the difference: its jump is longer by
    the factor 1 + (1 − e^{−h}) h/(2 h_prev).

    Args:
        variant: ``split``, as above, or ``published``.

    Use:
        As ``ddim_cfg_pp``, and with the same scales; ``variant=published`` where the authors' own numbers must be met.
    """
    yield from cfg_pp.jumping(steps, x, predict, 2, choose("dpmpp_2m_cfg_pp", "variant", variant, cfg_pp.VARIANTS))

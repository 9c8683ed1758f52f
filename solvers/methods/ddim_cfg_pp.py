"""CFG++ on DDIM: guided x0, unconditional noise, under classifier-free guidance of a scale of 0 to 1."""

from __future__ import annotations

from solvers.catalogue import alias, solver
from solvers.coefficients import cfg_pp
from solvers.signature import Predict, Solution, State, Steps


@solver("ddim_cfg_pp", family="cfg_pp", order=None, reference="Chung et al. 2024, CFG++, Algorithm 2")
def ddim_cfg_pp(steps: Steps, x: State, predict: Predict) -> Solution:
    """x_s = α_s x0 + σ_s ε_∅: DDIM with the guided x0 and the unconditional ε (the model's output ``unconditional``).

    The guidance's scale is λ of the paper, 0 (unconditional) to 1. A step is DDIM's under classifier-free guidance of
    the scale λ/(1 − e^{−h}), h the step in half log-SNR, so that more steps guide more and there is no limit that the
    method converges to.

    Use:
        Where results made with CFG++ must be met, with a scale that falls as evaluations rise: about 0.75 at 5 and 0.5
        at 20. On the bundled model plain guidance did as well, and on an interval better.
    """
    yield from cfg_pp.jumping(steps, x, predict, 1)


alias("euler_cfg_pp", of="ddim_cfg_pp")

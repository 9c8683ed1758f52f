"""CFG++: guidance that moves x0 and leaves the noise that is put back unconditional.

A step of CFG++ is a step of the unconditional ODE and a jump α_s (x0 − x0_∅) beside it, with x0 the guided and x0_∅ the
unconditional prediction, which is the model's output ``unconditional``. With x0 = x0_∅ + λ (x0_c − x0_∅) a step of
h = λ_s − λ_t in half log-SNR is one of classifier-free guidance with the scale λ/(1 − e^{−h}): the jump does not become
shorter with the step, so that the methods here converge to no ODE, and a scale means something for one grid.
"""

from __future__ import annotations

import math

from solvers.frames import FRAMES
from solvers.interpolation import midpoint
from solvers.multistep import choose, integral
from solvers.registry import alias, solver

# The jump of a step with a past, in units of its own, from h/h_prev and 1 − e^{−h}.
VARIANTS = {"split": lambda ratio, change: 1.0, "published": lambda ratio, change: 1 + 0.5 * ratio * change}


def jumping(steps, x, predict, order, variant=VARIANTS["split"]):
    """The multistep method of that order in the x0-form along x0_∅, and the jump."""
    history, h_previous, frame = [], math.inf, FRAMES["data"]
    for t, s in steps:
        p, h = predict(x, t), s.lam - t.lam
        free = p.extra("unconditional").x0
        history = [(t, free), *history][:order]
        jump = s.alpha * variant(h / h_previous, -math.expm1(-h)) * (p.x0 - free)
        h_previous = h
        x = yield frame.move(x, t, s, integral(frame, midpoint, t, s, history)) + jump


@solver("ddim_cfg_pp", order=None, reference="Chung et al. 2024, CFG++, Algorithm 2")
def ddim_cfg_pp(steps, x, predict):
    """x_s = α_s x0 + σ_s ε_∅: DDIM with the guided x0 and the unconditional ε (the model's output ``unconditional``).

    The guidance's scale is λ of the paper, 0 (unconditional) to 1. A step is DDIM's under classifier-free guidance of
    the scale λ/(1 − e^{−h}), h the step in half log-SNR, so that more steps guide more and there is no limit that the
    method converges to.

    Use:
        Where results made with CFG++ must be met, with a scale that falls as evaluations rise: about 0.75 at 5 and 0.5
        at 20. On the bundled model plain guidance did as well, and on an interval better.
    """
    yield from jumping(steps, x, predict, 1)


@solver(
    "dpmpp_2m_cfg_pp",
    order=None,
    reference="Chung et al. 2024, CFG++, app. C, and the authors' code (dpm++_2m_cfg++); the split is ours",
)
def dpmpp_2m_cfg_pp(steps, x, predict, variant="split"):
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_∅ + (x0_∅ − x0_∅prev) h/(2 h_prev)] + α_s (x0 − x0_∅).

    The step of ``dpmpp_2m`` along the unconditional prediction, and the jump of ``ddim_cfg_pp``, which is the first
    step. The published code takes the guided x0 in the place of the first x0_∅ of the difference: its jump is longer by
    the factor 1 + (1 − e^{−h}) h/(2 h_prev).

    Args:
        variant: ``split``, as above, or ``published``.

    Use:
        As ``ddim_cfg_pp``, and with the same scales; ``variant=published`` where the authors' own numbers must be met.
    """
    yield from jumping(steps, x, predict, 2, choose("dpmpp_2m_cfg_pp", "variant", variant, VARIANTS))


alias("euler_cfg_pp", of="ddim_cfg_pp")

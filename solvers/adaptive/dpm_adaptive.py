"""DPM-Solver-12 or -23 with steps of each sample's own; takes neither nfe nor steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from solvers.adaptive.controllers import Controller
from solvers.adaptive.loop import Active, Attempt, PerSampleSolver, Run, where
from solvers.adaptive.tolerances import MAX_NFE
from solvers.base import mix
from solvers.catalogue import registered
from solvers.coefficients.histories import choose


@registered
class DPMAdaptive(PerSampleSolver):
    """DPM-Solver-12 or -23: steps of order 1 and 2, or 2 and 3, on the same evaluations in λ, h = λ_s − λ_t.

    Order 2 is ``dpm_solver_2`` with r1 = ½ beside ``dpm_solver_1``, order 3 is ``dpm_solver_3`` beside ``dpm_solver_2``
    with r1 = ⅓. The difference of both ends, each element in units of max(atol, rtol max(|x_low|, |x_low before|)), is
    the error E, its root mean square over the sample. With ``controller=pid`` (k-diffusion's) the next step is
    h (1 + arctan(z − 1)), z = E^(−1/order) at the default coefficients, and a step is taken where that factor is at
    least ``accept_safety``. With ``controller=published`` it is 0.9 h E^(−1/order), and a step is taken where E ≤ 1.
    An attempt, taken or not, costs ``order`` evaluations.

    With ``eta`` > 0 a step goes down to where noise of standard deviation τ brings it up to σ_s again, τ = eta σ_s √(1
    − e^{−2h}) as in ``euler_ancestral`` and k-diffusion. That noise is added after the step was judged, so that
    rejections do not bias it; a draw is taken for every attempt.

    From α = 0 the first step is DDIM's, to λ = −5. A grid that ends in ``t_clean`` gets a denoise at t_min. Samples do
    not depend on the batch; the host waits once for each batched step.

    Args:
        order: 2 or 3.
        rtol, atol: relative and absolute tolerance of a step, on x.
        h_init: first step in λ.
        eta: amplitude of the noise, from 0 (none) to 1 (as much as ancestral sampling).
        controller: ``pid`` (k-diffusion's) or ``published`` (the paper's).
        pcoeff: proportional coefficient of ``pid``.
        icoeff: integral coefficient of ``pid``.
        dcoeff: derivative coefficient of ``pid``.
        accept_safety: least factor of ``pid`` at which a step is taken.
        max_nfe: evaluations in which the steps of the slowest sample must end.

    Use:
        A tolerance in place of steps at 20 to 60 evaluations; the defaults are those of k-diffusion.

    Raises:
        ValueError: an option out of range. In a run, tolerances that the state's dtype cannot keep, and samples that do
            not come to the end.
    """

    name = "dpm_adaptive"
    reference = "Lu et al. 2022, DPM-Solver, app. C (adaptive step size); k-diffusion's sample_dpm_adaptive, 2022"

    def __init__(
        self,
        order: int = 3,
        rtol: float = 0.05,
        atol: float = 0.0078,
        h_init: float = 0.05,
        eta: float = 0.0,
        controller: str = "pid",
        pcoeff: float = 0.0,
        icoeff: float = 1.0,
        dcoeff: float = 0.0,
        accept_safety: float = 0.81,
        max_nfe: int = MAX_NFE,
    ):
        super().__init__(rtol, atol, max_nfe)
        if order not in (2, 3):
            raise ValueError(f"dpm_adaptive has orders 2 and 3, got {order}")
        if not 0 < h_init < math.inf:
            raise ValueError(f"dpm_adaptive needs a positive h_init, got {h_init}")
        if not 0 <= eta <= 1:
            raise ValueError(f"dpm_adaptive needs eta between 0 and 1, got {eta}")
        if not 0 < accept_safety < 1:
            raise ValueError(f"dpm_adaptive needs accept_safety between 0 and 1, got {accept_safety}")
        self.h_init, self.eta, self._order = float(h_init), float(eta), int(order)
        judged = 1.5 if eta else order
        controllers: dict[str, Callable[[], Controller]] = {
            "pid": lambda: Controller(judged, pcoeff, icoeff, dcoeff, 1.0, _soft, accept_safety, uncut=True),
            "published": lambda: Controller(judged),
        }
        self.controller = choose("dpm_adaptive", "controller", controller, controllers)()
        self.options = {
            "order": order,
            "rtol": rtol,
            "atol": atol,
            "h_init": h_init,
            "eta": eta,
            "controller": controller,
            "pcoeff": pcoeff,
            "icoeff": icoeff,
            "dcoeff": dcoeff,
            "accept_safety": accept_safety,
            "max_nfe": max_nfe,
        }
        self.stochastic = eta > 0
        self.order: int | None = None if eta else self._order
        self.weak_order: int | None = 1 if eta else None

    def _ends(self, run: Run) -> tuple[float, float]:
        return run.first.lam, run.last.lam

    def _point(self, run: Run, at: Tensor) -> Any:
        return run.at(at)

    def _begin(self, run: Run, active: Active) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.full_like(active.at, self.h_init), {"low": active.x}

    def _attempt(self, run: Run, active: Active, target: Tensor) -> Attempt:
        x, rows, t, s = active.x, active.rows, run.at(active.at), run.at(target)
        tau = self.eta * s.sigma * torch.sqrt(-torch.expm1(2 * (t.lam - s.lam)))
        goal = torch.minimum(s.lam - 0.5 * torch.log1p(-((tau / s.sigma) ** 2)), active.end) if self.eta else target
        down = run.at(goal) if self.eta else s

        def evaluated(x: Tensor, m: Any) -> Tensor:
            return run.evaluate(x, m, rows).epsilon

        def moved(m: Any, slope: Tensor, other: Tensor | None = None, weight: Any = 0.0) -> Tensor:
            """x + ∫ slope dw, w = σ/α; ``weight`` of the difference to another slope comes in addition."""
            terms = [(m.alpha / t.alpha, x), (-m.sigma * torch.expm1(m.lam - t.lam), slope)]
            return mix(*terms) if other is None else mix(*terms, (-m.sigma * weight, other), (m.sigma * weight, slope))

        def ratio(r: float) -> Any:
            return run.at(t.lam + r * (down.lam - t.lam))

        slope, h = evaluated(x, t), down.lam - t.lam
        r = 1 / self._order
        m = ratio(r)
        first = evaluated(moved(m, slope), m)
        straight = moved(down, slope, first, torch.expm1(h) / (2 * r))
        if self._order == 2:
            low, high = moved(down, slope), straight
        else:
            m, low = ratio(2 / 3), straight
            inner = m.lam - t.lam
            second = evaluated(moved(m, slope, first, _tilt(inner) / (r * h)), m)
            high = moved(down, slope, second, _tilt(h) / (2 / 3 * h))
        error = self._error(low, high, active.memory["low"])
        if self.eta:
            up = torch.sqrt(-torch.expm1(2 * (s.lam - down.lam)).clamp(max=0))
            high = mix((s.alpha / down.alpha, high), (s.sigma * up, run.normal(rows)))
        return Attempt(high, target, error, lambda accepted: {"low": where(accepted, low, active.memory["low"])})


def _tilt(h: Tensor) -> Tensor:
    """∫ (λ − λ_t) dw from λ_t to λ_t + h, w = e^−λ, in units of −w at the end."""
    return torch.expm1(h) - h


def _soft(factor: Tensor) -> Tensor:
    """k-diffusion's limit: nearly the factor itself near 1, and between 0.2 and 2.6."""
    return 1 + torch.atan(factor - 1)

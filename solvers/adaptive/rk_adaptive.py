"""Embedded Runge–Kutta pairs with error control for each sample; takes neither nfe nor steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from solvers.adaptive.controllers import Controller
from solvers.adaptive.loop import Active, Attempt, PerSampleSolver, Run, rms, where
from solvers.adaptive.tolerances import MAX_NFE
from solvers.base import mix
from solvers.catalogue import registered
from solvers.coefficients import frames, tableaus


@registered
class RKAdaptive(PerSampleSolver):
    """k_i = f(w + c_i h, y + h Σ_j a_ij k_j), y_s = y + h Σ_i b_i k_i, with h = w_s − w_t of each sample's own.

    f is the slope dy/dw of the probability-flow ODE in a frame. The error of a step is h Σ_i (b_i − b̂_i) k_i, seen in
    x; its root mean square over a sample's elements, each in units of atol + rtol max(|x_t|, |x_s|), decides: up to 1
    the step is taken. The next is longer by 0.9 e^(0.7/k) e₁^(−0.4/k), between 1/5 and 10, with e the inverse error, e₁
    that of the step before and k one more than the order of b̂ (a PI controller). The first step is found from y' and
    y'' (Hairer's heuristic) at the cost of one evaluation. A slope at the end of a step is the first of the next, and a
    rejected step keeps its first, so that a step costs one evaluation less than it has stages (``heun_euler``: 2, and 1
    where it is rejected).

    A grid that ends in ``t_clean`` gets a denoise x = E[x0 | x_t] at t_min, as for every other solver. Samples do not
    depend on the batch; the host waits once for each batched step (with ``heun_euler`` twice).

    Args:
        method: ``heun_euler`` of order 2(1), ``bosh3`` 3(2), ``dopri5`` 5(4), ``tsit5`` 5(4); ``bosh3`` is the one for
            tolerances of 0.01 and more.
        rtol, atol: relative and absolute tolerance of a step, on x.
        frame: ``flow``, ``vp``, ``edm``, ``data``; None is ``flow`` on Flow and ``vp`` elsewhere.
        max_nfe: evaluations in which the steps of the slowest sample must end.

    Use:
        A tolerance in place of steps where samples differ in how hard they are; ``pf_ode`` steps the batch as one.

    Raises:
        ValueError: unknown method or frame, or a tolerance that is not positive. In a run, tolerances that the state's
            dtype cannot keep, and samples that do not come to the end.
    """

    name = "rk_adaptive"
    reference = "Hairer, Nørsett & Wanner 1993, Solving ordinary differential equations I, secs. II.4 and II.5"
    stochastic = False
    weak_order = None
    needs_signal = False

    def __init__(
        self,
        method: str = "dopri5",
        rtol: float = 1e-3,
        atol: float = 1e-3,
        frame: str | None = None,
        max_nfe: int = MAX_NFE,
    ):
        super().__init__(rtol, atol, max_nfe)
        frames.check(frame)
        self.pair, self.frame = tableaus.pair(method, self.name), frame
        self.options = {"method": method, "rtol": rtol, "atol": atol, "frame": frame, "max_nfe": max_nfe}
        self.order: int | None = self.pair.method.order
        self.controller = Controller(self.pair.embedded.order + 1, 0.4, 0.3, limit=_bounded)

    def _ends(self, run: Run) -> tuple[float, float]:
        frame = self._frame(run)
        return frame.variable(run.first), frame.variable(run.last)

    def _frame(self, run: Run) -> frames.Frame:
        return frames.bounded(self.frame, run.process, run.first)

    def _point(self, run: Run, at: Tensor) -> Any:
        return run.at(self._frame(run).half_log_snr(at))

    def _begin(self, run: Run, active: Active) -> tuple[Tensor, dict[str, Tensor]]:
        """h = (0.01/max(d1, d2))^(1/k) with the sizes d1 and d2 of y' and y'', seen by an Euler step of a hundredth of
        the way; Hairer, Nørsett & Wanner 1993, sec. II.4."""
        frame, span = self._frame(run), (active.end - active.at).abs()
        t = self._point(run, active.at)
        slope = frame.slope(run.evaluate(active.x, t, active.rows), t)
        unit = self.atol + self.rtol * active.x.abs()
        change = 0.01 * (active.end - active.at)
        s = self._point(run, active.at + change)
        ahead = mix((frame.scale(s) / frame.scale(t), active.x), (frame.scale(s) * change, slope))
        bend = frame.slope(run.evaluate(ahead, s, active.rows), s) - slope
        d1, d2 = rms(mix((frame.scale(t), slope)) / unit), rms(mix((frame.scale(t) / change, bend)) / unit)
        size = (0.01 / torch.maximum(d1, d2).clamp(min=1e-10)) ** (1 / self.controller.order)
        return torch.minimum(size, span), {"slope": slope}

    def _attempt(self, run: Run, active: Active, target: Tensor) -> Attempt:
        frame, pair = self._frame(run), self.pair
        t, s, change = self._point(run, active.at), self._point(run, target), target - active.at

        def moved(m: Any, weights: Any) -> Tensor:
            weighted = ((frame.scale(m) * change * w, k) for w, k in zip(weights, slopes, strict=False) if w)
            return mix((frame.scale(m) / frame.scale(t), active.x), *weighted)

        slopes, x = [active.memory["slope"]], active.x
        for c, row in zip(pair.method.c[1:], pair.a, strict=True):
            m = s if abs(c - 1) < 1e-12 else self._point(run, active.at + c * change)
            x = moved(m, row)
            slopes.append(frame.slope(run.evaluate(x, m, active.rows), m))
        if not pair.reuses_last:
            x = moved(s, pair.b)
        differences = zip(pair.b, pair.b_hat, slopes, strict=True)
        error = mix(*((frame.scale(s) * change * (b - b_hat), k) for b, b_hat, k in differences if b != b_hat))
        unit = self.atol + self.rtol * torch.maximum(x.abs(), active.x.abs())

        def remembered(accepted: Tensor) -> dict[str, Tensor]:
            if pair.reuses_last:
                return {"slope": where(accepted, slopes[-1], slopes[0])}
            onward, slope = accepted & (target != active.end), slopes[0].clone()
            if onward.any():
                there = self._point(run, target[onward])
                slope[onward] = frame.slope(run.evaluate(x[onward], there, active.rows[onward]), there)
            return {"slope": slope}

        return Attempt(x, target, rms(error / unit), remembered)


def _bounded(factor: Tensor) -> Tensor:
    return factor.clamp(1 / 5, 10.0)

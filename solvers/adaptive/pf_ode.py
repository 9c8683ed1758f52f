"""The probability-flow ODE in the hands of torchdiffeq or scipy; adaptive methods take neither nfe nor steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers.adaptive.tolerances import MAX_NFE, check_resolved, check_tolerances, dtype_name
from solvers.aliasing import shown
from solvers.base import Hook, Noise, Predict, Solver, tensor_views
from solvers.catalogue import registered
from solvers.coefficients import frames
from solvers.errors import StepsError, known
from solvers.steps import Point, Process, Times, check_times

FIXED = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}  # torchdiffeq, on a given grid: order
ADAPTIVE = {"adaptive_heun": 2, "fehlberg2": 2, "bosh3": 3, "dopri5": 5, "dopri8": 8}  # torchdiffeq
SCIPY = {"RK23": 3, "RK45": 5, "DOP853": 8, "Radau": 5, "BDF": 5, "LSODA": 12}  # scipy.integrate.solve_ivp
METHODS = FIXED | ADAPTIVE | SCIPY


@registered
class PFODE(Solver):
    """The probability-flow ODE dy/dw = slope(x0, ε) in a frame, handed to torchdiffeq or scipy.

    It is integrated from ``times[0]`` to the last time of non-zero noise, in a frame that is finite at both ends; a
    grid that ends in ``t_clean`` gets a denoise x = E[x0 | x_t] at t_min, as for every other solver.

    Adaptive methods control the error of the whole batch at once, so their samples depend on the batch. scipy's methods
    run on the host, in float64.

    Args:
        method: of torchdiffeq, on the given grid: ``euler``, ``midpoint``, ``heun2``, ``heun3``, ``rk4`` (the 3/8
            rule); of torchdiffeq, adaptive: ``adaptive_heun``, ``fehlberg2``, ``bosh3``, ``dopri5``, ``dopri8``; of
            scipy, adaptive: ``RK23``, ``RK45``, ``DOP853``, ``Radau``, ``BDF``, ``LSODA``.
        rtol, atol: relative and absolute tolerance of adaptive methods, on y.
        frame: ``flow``, ``vp``, ``edm``, ``data``; None is ``flow`` on Flow and ``vp`` elsewhere.
        max_nfe: evaluations in which adaptive methods must end.

    Use:
        A tolerance in place of steps, for references; ``method=rk4`` on a good grid needs fewer evaluations.

    Raises:
        ValueError: unknown method or frame, or a tolerance that is not positive. In a run, tolerances that the state's
            dtype cannot keep, a slope that is not finite, and methods that do not come to the end.
    """

    name = "pf_ode"
    reference = "Song et al. 2021, Score-based generative modeling through SDEs, eq. 13; torchdiffeq; scipy"
    stochastic = False
    weak_order = None
    grid = "quadratic"
    family = "adaptive"

    def __init__(
        self,
        method: str = "dopri5",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        frame: str | None = None,
        max_nfe: int = MAX_NFE,
    ):
        known("method", method, METHODS, of=self.name)
        check_tolerances(self.name, rtol, atol, max_nfe)
        frames.check(frame)
        self.method, self.rtol, self.atol, self.frame = method, float(rtol), float(atol), frame
        self.max_nfe = int(max_nfe)
        self.options: Mapping[str, Any] = {
            "method": method,
            "rtol": rtol,
            "atol": atol,
            "frame": frame,
            "max_nfe": max_nfe,
        }
        self.order: int | None = METHODS[method]
        self.adaptive = method not in FIXED

    def nfe(self, process: Process, times: Times) -> int:
        if self.adaptive:
            raise TypeError(f"pf_ode with {self.method!r} chooses its own steps: its NFE is known after the run")
        calls = 0

        def count(x: Tensor, t: float) -> Tensor:
            nonlocal calls
            calls += 1
            return x

        self.run(process, times, count, torch.zeros(1, dtype=torch.float64), prediction="sample")
        return calls

    def run(
        self,
        process: Process,
        times: Times,
        predict: Predict,
        x: Tensor,
        noise: Noise | None = None,
        *,
        prediction: str = "epsilon",
        step: Hook | None = None,
    ) -> Tensor:
        grid = check_times(process, times)
        if self.adaptive and len(grid) != 2:
            raise ValueError(f"pf_ode with {self.method!r} takes two end times, got {len(grid)} times")
        frame = frames.bounded(self.frame, process, Point.at(process, grid[0]))
        views = tensor_views(predict, prediction)
        denoise = process.sigma(grid[-1]) == 0
        if denoise:
            grid = (*grid[:-1], process.t_min) if self.adaptive else grid[:-1]

        if self.adaptive:
            self._check_tolerances(x)
        points, calls, reached = [Point.at(process, t) for t in grid], 0, grid[0]
        for t, s in zip(points, points[1:], strict=False):

            def slope(w: Any, y: Tensor, noisy: float = t.t, clean: float = s.t) -> Tensor:
                nonlocal calls, reached
                # Rounding on the way through the frame may leave the step.
                time = min(max(process.time(frame.half_log_snr(float(w))), clean), noisy)
                point, reached = Point.at(process, time), time
                if not self.adaptive:
                    return frame.slope(views(y * frame.scale(point), point), point)
                if calls == self.max_nfe:
                    raise StepsError(
                        f"{self.name} with {self.method!r} has come to t = {time:g} in max_nfe = {calls} evaluations",
                        range(len(y)),
                        f"raise rtol = {self.rtol:g} and atol = {self.atol:g}, or max_nfe, or see whether the model is "
                        "smooth",
                    )
                calls += 1
                return self._finite(frame.slope(views(y * frame.scale(point), point), point), time)

            y = self._integrate(slope, x / frame.scale(t), frame.variable(t), frame.variable(s))
            if y is None:
                raise StepsError(
                    f"the steps of {self.name} with {self.method!r} became too small to move on",
                    range(len(x)),
                    f"at t = {reached:g} the model is not smooth, the state explodes, or rtol = {self.rtol:g} and "
                    f"atol = {self.atol:g} are too tight for {dtype_name(x)}",
                )
            x = shown(None if denoise and self.adaptive else step, y * frame.scale(s), s.t)
        if denoise:
            x = shown(step, views(x, points[-1]).x0, process.t_clean)
        return x

    def _check_tolerances(self, x: Tensor) -> None:
        check_resolved(self.name, self.rtol, self.atol, x)
        least = 100 * float(np.finfo(np.float64).eps)  # scipy takes this for what is below it
        if self.method in SCIPY and self.rtol < least:
            raise ValueError(
                f"{self.name} with {self.method!r} cannot keep rtol = {self.rtol:g}: give rtol of {least:.1e} and more"
            )

    def _finite(self, slope: Tensor, t: float) -> Tensor:
        """The slope, which ODE libraries would go on with for long where it is not finite."""
        if not (finite := torch.isfinite(slope).reshape(len(slope), -1).all(dim=1)).all():
            raise StepsError(
                f"the slope of {self.name} with {self.method!r} at t = {t:g} is not finite",
                (~finite).nonzero().flatten().tolist(),
                "the model's output is not, or the state has exploded",
            )
        return slope

    def _integrate(self, slope: Callable[[Any, Tensor], Tensor], y: Tensor, start: float, end: float) -> Tensor | None:
        """The state at the end; None where steps became too small on the way."""
        if self.method in SCIPY:
            from scipy.integrate import solve_ivp

            def flat(w: float, values: np.ndarray) -> np.ndarray:
                state = torch.as_tensor(values, dtype=y.dtype).reshape(y.shape).to(y.device)
                return slope(w, state).cpu().double().numpy().ravel()

            initial = y.cpu().double().numpy().ravel()
            found = solve_ivp(flat, (start, end), initial, method=self.method, rtol=self.rtol, atol=self.atol)
            if not found.success:
                return None
            return torch.as_tensor(found.y[:, -1], dtype=y.dtype).reshape(y.shape).to(y.device)
        from torchdiffeq import odeint

        # Time stays in float64 on the host, so that step-size control waits for no device but for the error norm.
        span = torch.tensor([start, end], dtype=torch.float64)
        # Left alone, adaptive methods step beyond the end, where there is no process, and interpolate back.
        options = {"step_t": span[1:]} if self.adaptive else None
        try:
            found = odeint(slope, y, span, method=self.method, rtol=self.rtol, atol=self.atol, options=options)
        except AssertionError as error:
            if "underflow in dt" in str(error) or "non-finite values" in str(error):
                return None
            raise  # of the model
        return found[-1]  # type: ignore[index]

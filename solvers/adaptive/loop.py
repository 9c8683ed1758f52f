"""Adaptive steps for each sample on its own, in one batched loop.

Every sample has its own time, its own step size and its own decision whether a step was good enough. In each turn of
the loop all samples that are not yet at the end attempt one step together, as one batch: an evaluation is ``predict(x,
t, rows)`` with a time for each row. Samples that reach the end leave the batch. So a batch costs the sum of what its
samples cost alone, each gets what it would get alone, and the number of batched evaluations is that of the sample that
takes longest. Times, step sizes and coefficients are float64 tensors beside the state, or on the CPU where its device
has no float64; once in a turn the host waits for them, to know who is left.

A solver says what variable it steps in, how a step is attempted and how its controller judges it; the loop, both ends
and the bookkeeping are here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.adaptive.controllers import Controller
from solvers.adaptive.tolerances import MAX_NFE, check_resolved, check_tolerances, dtype_name
from solvers.aliasing import Isolated, shown
from solvers.arrays import wide
from solvers.base import Hook, Noise, Predict, Solver, check_defined, mix, row_views
from solvers.errors import StepsError
from solvers.grids.grid import FIRST_HALF_LOG_SNR
from solvers.steps import Point, Process, Times, check_times
from solvers.views import Views


@dataclass(frozen=True)
class Run:
    """What is the same for all samples and steps of a run.

    Attributes:
        process, first, last: the process and its noise levels between which the loop runs.
        evaluate: called as ``evaluate(x, t, rows)`` at a point of tensors.
        noise: called as ``noise(rows)``; None for a solver that draws none.
    """

    process: Process
    first: Point
    last: Point
    evaluate: Callable[[Tensor, Any, Tensor], Views]
    noise: Noise | None

    def normal(self, rows: Tensor) -> Tensor:
        """The next standard normal of these samples."""
        assert self.noise is not None
        return self.noise(rows)

    def at_time(self, t: Any) -> Any:
        """The noise levels of times, one for each sample; rounding may not take them beyond the ends."""
        return Point.at(self.process, t.clamp(self.last.t, self.first.t))

    def at(self, half_log_snr: Any) -> Any:
        """The noise levels of λ, one for each sample."""
        return self.at_time(self.process.time(half_log_snr))


@dataclass
class Active:
    """The samples that are under way; every tensor has one row for each.

    Attributes:
        rows: which samples of the batch they are, int64.
        x: states.
        at: where they are, in the solver's variable, float64.
        size: signed size of the next step, float64.
        end: where they go.
        memory: what the solver remembers.
        past: what the controller remembers.
    """

    rows: Tensor
    x: Tensor
    at: Tensor
    size: Tensor
    end: Tensor
    memory: dict[str, Tensor]
    past: Tensor

    def only(self, chosen: Tensor) -> Active:
        """Those under a mask."""
        values = {name: value[chosen] for name, value in vars(self).items() if name != "memory"}
        return Active(**values, memory={name: value[chosen] for name, value in self.memory.items()})


@dataclass(frozen=True)
class Attempt:
    """A step that may be rejected.

    Attributes:
        x: states at its end.
        at: where that is.
        error: of each sample, at most 1 where it is good.
        remembered: the memory that follows, given which samples accept.
    """

    x: Tensor
    at: Tensor
    error: Tensor
    remembered: Callable[[Tensor], dict[str, Tensor]]


class PerSampleSolver(Solver):
    """A solver in which every sample has its own steps."""

    adaptive = True
    per_sample: ClassVar[bool] = True
    needs_signal: ClassVar[bool] = True  # whether its variable is infinite at α = 0
    grid = "quadratic"
    family = "adaptive"
    controller: Controller

    def __init__(self, rtol: float, atol: float, max_nfe: int = MAX_NFE):
        check_tolerances(self.name, rtol, atol, max_nfe)
        self.rtol, self.atol, self.max_nfe = float(rtol), float(atol), int(max_nfe)

    @abstractmethod
    def _ends(self, run: Run) -> tuple[float, float]:
        """The solver's variable at both ends.

        Raises:
            ValueError: it is infinite at the first.
        """

    @abstractmethod
    def _point(self, run: Run, at: Tensor) -> Any:
        """The noise levels where samples are, given in the solver's variable."""

    @abstractmethod
    def _begin(self, run: Run, active: Active) -> tuple[Tensor, dict[str, Tensor]]:
        """The first step size of each sample, positive, and what is remembered at first."""

    @abstractmethod
    def _attempt(self, run: Run, active: Active, target: Tensor) -> Attempt:
        """A step of each sample to its target, or not as far."""

    def _error(self, low: Tensor, high: Tensor, before: Tensor) -> Tensor:
        """Root mean square of (low − high)/max(atol, rtol max(|low|, |before|)), with the low of the step before."""
        return rms((low - high) / (self.rtol * torch.maximum(low.abs(), before.abs())).clamp(min=self.atol))

    def nfe(self, process: Process, times: Times) -> int:
        raise TypeError(f"{self.name} chooses its own steps: its NFE is known after the run")

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
        if len(grid) != 2:
            raise ValueError(f"{self.name} takes two end times, got {len(grid)} times")
        if self.stochastic and noise is None:
            raise ValueError(f"{self.name!r} draws noise: give noise=")
        check_resolved(self.name, self.rtol, self.atol, x)
        denoise = process.sigma(grid[1]) == 0
        first, last = Point.at(process, grid[0]), Point.at(process, process.t_min if denoise else grid[1])
        check_defined(prediction, first)
        evaluate, rows = row_views(predict, prediction), torch.arange(len(x), device=wide(x.device))

        def view(x: Tensor, t: Point) -> Views:
            return evaluate(x, _everywhere(t, x), rows)

        if self.needs_signal and first.alpha == 0:
            entered = Point.at(process, process.time(FIRST_HALF_LOG_SNR))
            entered = last if entered.t < last.t else entered
            p, first = view(x, first), entered
            x = mix((first.alpha, p.x0), (first.sigma, p.epsilon))
        if last.t < first.t:
            draws = Isolated("noise", ("rows",))
            drawn = None if noise is None else lambda rows: draws.call(noise, (rows,))
            x = self._integrate(Run(process, first, last, evaluate, drawn), x, rows)
        if denoise:
            x = view(x, last if last.t < first.t else first).x0
        return shown(step, x, grid[1])

    def _integrate(self, run: Run, x: Tensor, rows: Tensor) -> Tensor:
        """Every sample from the first to the last noise level."""
        start, end = (torch.full((len(x),), w, dtype=torch.float64, device=rows.device) for w in self._ends(run))
        active = Active(rows, x, start, end - start, end, {}, torch.full_like(start, math.nan)[:, None].expand(-1, 2))
        calls = 0

        def evaluate(x: Tensor, t: Any, rows: Tensor) -> Views:
            nonlocal calls
            if calls == self.max_nfe:
                raise self._unended(run, active)
            calls += 1
            return counted(x, t, rows)

        counted, run = run.evaluate, replace(run, evaluate=evaluate)
        size, active.memory = self._begin(run, active)
        active.size, result = size * (end - start).sign(), torch.empty_like(x)
        resolution = torch.finfo(x.dtype).eps
        while len(active.rows):
            here = active.at
            target = active.end.where(active.size.abs() >= (active.end - here).abs(), here + active.size)
            attempt = self._attempt(run, active, target)
            accepted, factor, active.past = self.controller(attempt.error, active.past)
            active.memory = attempt.remembered(accepted)
            active.size = (active.size if self.controller.uncut else attempt.at - here) * factor
            active.x, active.at = where(accepted, attempt.x, active.x), attempt.at.where(accepted, here)
            done = active.at == active.end
            # A step that the state's dtype cannot tell from none: at that pace nobody would see the end.
            least = resolution * torch.maximum(active.at.abs(), active.end.abs())
            stuck = ~done & ~(active.size.abs() > least)
            if torch.stack((done.any(), stuck.any())).tolist() != [False, False]:  # the one wait of each turn
                self._check_moving(run, active, stuck)
                result[active.rows[done]] = active.x[done]
                active = active.only(~done)
        return result

    def _check_moving(self, run: Run, active: Active, stuck: Tensor) -> None:
        if stuck.any():
            raise StepsError(
                f"the steps of {self.name} became too small to move on",
                active.rows[stuck].tolist(),
                f"at t = {self._noisiest(run, active.at[stuck]):g} the model is not smooth or not finite, the state "
                f"explodes, or rtol = {self.rtol:g} and atol = {self.atol:g} are too tight for {dtype_name(active.x)}",
            )

    def _unended(self, run: Run, active: Active) -> StepsError:
        return StepsError(
            f"{self.name} has come to t = {self._noisiest(run, active.at):g} in max_nfe = {self.max_nfe} evaluations",
            active.rows.tolist(),
            f"raise rtol = {self.rtol:g} and atol = {self.atol:g}, or max_nfe, or see whether the model is smooth",
        )

    def _noisiest(self, run: Run, at: Tensor) -> float:
        return float(self._point(run, at).t.max())


def where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """For each sample one or the other."""
    return yes.where(chosen.to(yes.device).reshape(-1, *[1] * (yes.ndim - 1)), no)


def rms(x: Tensor) -> Tensor:
    """Root mean square over the elements of each sample, (n,), float64, where that of x's device is."""
    return x.reshape(len(x), -1).square().mean(1).to(wide(x.device)).to(torch.float64).sqrt()


def _everywhere(t: Point, x: Tensor) -> Any:
    """The same noise level for each sample."""
    where = wide(x.device)
    values = (torch.full((len(x),), value, dtype=torch.float64, device=where) for value in (t.t, t.alpha, t.sigma))
    return Point(*values, t.lam, t.process)  # type: ignore[arg-type]

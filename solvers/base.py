"""What a solver is.

A solver function is written as in its paper, as a generator that yields the state at the end of each step:

    @solver("ddim", order=1, reference="…")
    def ddim(steps, x, predict, noise, eta=0.0):
        for t, s in steps:
            p = predict(x, t)
            x = yield …

``steps`` gives pairs of noise levels with finite λ (:class:`solvers.steps.Point`); ``predict(x, t)`` gives
:class:`solvers.views.Views` of one model evaluation; ``noise(scale)`` gives scale times a fresh standard normal and,
for a scale of zero, draws nothing and gives 0; the ``yield`` gives back the state, which a callback may have edited.
Everything else in the signature is an option of the solver with its default.

Two steps are not the function's business. The step to zero noise is a denoise, x = E[x0 | x_t] (a function that takes
it itself says ``to_clean=True``). The step from α = 0 is DDIM's, exact there: x = α_s E[x0 | x_t] + σ_s E[ε | x_t] (a
function that takes it itself says ``from_noise=True``).

A solver in which every sample has its own steps (``per_sample``, see :mod:`solvers.adaptive.loop`) evaluates a part of
the batch at times of its own: it calls ``predict(x, t, rows)`` and ``noise(rows)``, ``rows`` being those samples.
"""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from torch import Tensor

from solvers import grids
from solvers import prediction as predictions
from solvers.aliasing import Isolated, shown
from solvers.driver import Function, drive
from solvers.grids import Grid
from solvers.plan import NotLinearError, Plan, PlanError
from solvers.plan.trace import Tracer
from solvers.standin import StandIn
from solvers.steps import Point, Process, Times, check_times
from solvers.views import Views

Predict = Callable[..., Any]
Noise = Callable[..., "Tensor"]
Hook = Callable[["Tensor", float], "Tensor | None"]


class Solver(ABC):
    """A method with its options. Stateless: one object may serve many runs.

    Attributes:
        name: what people type.
        reference: the paper and equations it implements.
        options: every option with its value, defaults included.
        stochastic: whether it draws noise.
        order: global order of convergence on the probability-flow ODE; None for stochastic solvers, and for those that
            do not converge to its solution.
        weak_order: weak order on the reverse SDE; None for deterministic solvers, and for those that do not converge to
            the data's distribution.
        grid: name of the grid that is used when none is given.
        family: which of :data:`solvers.catalogue.FAMILIES` it belongs to.
        recipe: how another process makes it, a function and its arguments; None where the register did not make it.
        adaptive: whether it chooses its own steps, so that it takes two end times instead of a grid.
        per_sample: whether every sample has steps of its own, so that ``predict`` and ``noise`` are told which samples
            they serve.
    """

    name: str
    reference: str
    options: Mapping[str, Any]
    stochastic: bool
    order: int | None
    weak_order: int | None
    grid: str
    family: str
    recipe: tuple[Callable[..., Solver], tuple[Any, ...]] | None = None
    adaptive: bool = False
    per_sample: ClassVar[bool] = False

    @abstractmethod
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
        """Integrate on tensors, from the state x at ``times[0]`` to the state at ``times[-1]``.

        Args:
            process: the forward process.
            times: the grid, or two end times for an adaptive solver.
            predict: called as ``predict(x, t)`` with a float t, returns the model's output shaped like x. By a
                ``per_sample`` solver called as ``predict(x, t, rows)``: x holds the states of some samples, the int64
                tensor ``rows`` of shape (n,) says which (in rising order), and t of shape (n,), float64, has the time
                of each.
            x: initial state, batch first.
            noise: gives the next standard normal at each call, shaped like x. Called as ``noise(rows)`` by a
                ``per_sample`` solver: the next normal of these samples. Whoever takes part in one call took part in all
                before it, so the number of the call is each sample's own.
            prediction: what ``predict`` returns.
            step: called as ``step(x, t)`` after each step; a tensor that it returns takes the place of the state. An
                adaptive solver calls it at ``times[-1]`` alone.

        Raises:
            ValueError: illegal times, or a prediction type that is undefined at one of them.
        """

    @property
    def recommended(self) -> Grid:
        """The grid that is used when none is given: the one named ``grid``, its end placed by the number of steps.

        A grid that has a ``scale``, as the solver does, has the solver's.
        """
        given = {"end": grids.BY_STEPS, "scale": self.options.get("scale")}
        known = grids.get(self.grid).options
        return grids.get(self.grid, **{key: value for key, value in given.items() if key in known and value})

    @abstractmethod
    def nfe(self, process: Process, times: Times) -> int:
        """Model evaluations on that grid.

        Raises:
            TypeError: the solver is adaptive, so nobody knows before the run.
        """

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By its name and options where the register made it, since a solver function is hidden behind its name."""
        return self.recipe or super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"


class PlannedSolver(Solver):
    """A solver function with its options: becomes a plan, or runs on tensors as it stands."""

    def __init__(
        self,
        function: Callable[..., Generator[Any, Any, None]],
        options: Mapping[str, Any],
        *,
        name: str,
        reference: str,
        order: int | None,
        weak_order: int | None,
        grid: str,
        to_clean: bool,
        family: str = "own",
        from_noise: bool = False,
        stochastic: bool | None = None,
    ):
        self.function, self.options, self.name, self.reference = function, options, name, reference
        self.order, self.weak_order = order, weak_order
        self.stochastic = weak_order is not None if stochastic is None else stochastic
        self.grid, self.family, self._to_clean, self._from_noise = grid, family, to_clean, from_noise

    def check(self) -> None:
        """Raise what the function raises of its options: all that it does before it first asks for anything."""

        def asked(*_: Any) -> Any:
            raise _AskedError

        with suppress(_AskedError, NotLinearError):
            drive(self._function(), StandIn(), (10.0, 1.0, 0.1), asked, Tracer().x, asked, asked)

    def plan(self, process: Process, grid: Times, prediction: str = "epsilon") -> Plan:
        """The solver on this grid as a plan for models of this prediction type.

        Args:
            process: the forward process.
            grid: times from the noisy end to the clean end; the last may be ``t_clean``.
            prediction: ``epsilon``, ``sample``, ``v_prediction``, ``score`` or ``flow``.

        Raises:
            ValueError: illegal times, unknown prediction type, or one that is undefined at one of the times.
        """
        times = check_times(process, grid)
        tracer = Tracer()
        drive(self._function(), process, times, tracer.predict, tracer.x, tracer.noise, tracer.step)
        return Plan(self.name, dict(self.options), prediction, times, tuple(tracer.instructions(prediction)))

    def nfe(self, process: Process, times: Times) -> int:
        return self.plan(process, times, "sample").nfe

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
        draws = Isolated("noise")

        def draw() -> Tensor:
            if noise is None:
                raise ValueError(f"{self.name!r} draws noise: give noise=")
            return draws.call(noise, ())

        def stepped(state: Tensor, t: Point) -> Tensor:
            return shown(step, state, t.t)

        views = tensor_views(predict, prediction)
        return drive(self._function(), process, check_times(process, times), views, x, draw, stepped)

    def _function(self) -> Function:
        return Function(self.name, self.function, self.options, self._to_clean, self._from_noise)


class _AskedError(Exception):
    """A function has come to its first evaluation, draw or step."""


def tensor_views(predict: Predict, prediction: str) -> Callable[[Tensor, Point], Views]:
    """``predict`` on tensors, as solver functions expect it: at a noise level, returning views."""
    predictions.check(prediction)
    model = Isolated("the model", ("x", "t"))

    def evaluate(x: Tensor, t: Point) -> Views:
        check_defined(prediction, t)
        return _views(model.call(predict, (x, t.t)), prediction, x, t)

    return evaluate


def row_views(predict: Predict, prediction: str) -> Callable[[Tensor, Point, Tensor], Views]:
    """The same for solvers in which every sample has its own noise level: at a point of tensors, for some rows."""
    predictions.check(prediction)
    model = Isolated("the model", ("x", "t", "rows"))
    return lambda x, t, rows: _views(model.call(predict, (x, t.t, rows)), prediction, x, t)


def check_defined(prediction: str, t: Point) -> None:
    """Refuse predictions from which x0 does not follow.

    Raises:
        ValueError: names the prediction type and the time.
    """
    if not predictions.defined(prediction, t.alpha, t.sigma):
        raise ValueError(f"a model that predicts {prediction!r} says nothing about x0 at t = {t.t} (α = {t.alpha:g})")


def _views(result: Any, prediction: str, x: Tensor, t: Point) -> Views:
    outputs = result if isinstance(result, Mapping) else {"model": result}

    def get(output: str, kind: str) -> Tensor:
        if output not in outputs:
            raise PlanError(f"the solver needs the model's output {output!r}; it has {sorted(outputs)}")
        a, b = predictions.convert(prediction, kind, t.alpha, t.sigma)
        return mix((a, x), (b, outputs[output]))

    return Views(get)


def mix(*terms: tuple[Any, Tensor]) -> Tensor:
    """Σ c x over pairs (c, x), where c is a number or a tensor with a number for each sample, in the dtype of x."""
    scaled = (
        (c if isinstance(c, (int, float)) else c.to(x.dtype).to(x.device).reshape(-1, *[1] * (x.ndim - 1))) * x
        for c, x in terms
    )
    return functools.reduce(operator.add, scaled)

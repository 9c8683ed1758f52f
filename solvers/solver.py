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

A solver in which every sample has its own steps (``per_sample``, see :mod:`solvers.per_sample`) evaluates a part of the
batch at times of its own: it calls ``predict(x, t, rows)`` and ``noise(rows)``, with ``rows`` the samples in question.
"""

from __future__ import annotations

import functools
import inspect
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from solvers import grids
from solvers import prediction as predictions
from solvers.aliasing import Isolated, shown
from solvers.grids import Grid
from solvers.plan import Plan, PlanError
from solvers.steps import Point, Process, Steps, Times, check_times
from solvers.trace import Tracer
from solvers.views import Views

if TYPE_CHECKING:
    from torch import Tensor

Predict = Callable[..., Any]
Noise = Callable[..., "Tensor"]
Hook = Callable[["Tensor", float], "Tensor | None"]

PROTOCOL = ("steps", "x", "predict", "noise")


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
    adaptive: ClassVar[bool] | bool = False
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
        """The grid that is used when none is given: the one named ``grid``, its end placed by the number of steps."""
        return grids.get(self.grid, **({"end": grids.BY_STEPS} if "end" in grids.get(self.grid).options else {}))

    @abstractmethod
    def nfe(self, process: Process, times: Times) -> int:
        """Model evaluations on that grid.

        Raises:
            TypeError: the solver is adaptive, so nobody knows before the run.
        """

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By its name and options where the register has it, since a solver function is hidden behind its name."""
        from solvers import registry

        return registry.recipe(self) or super().__reduce_ex__(protocol)

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
        from_noise: bool = False,
        stochastic: bool | None = None,
    ):
        self.function, self.options, self.name, self.reference = function, options, name, reference
        self.order, self.weak_order = order, weak_order
        self.stochastic = weak_order is not None if stochastic is None else stochastic
        self.grid, self._to_clean, self._from_noise = grid, to_clean, from_noise

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
        self._drive(process, times, tracer.predict, tracer.x, tracer.noise, tracer.step)
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
        return self._drive(process, check_times(process, times), views, x, draw, stepped)

    def _drive(
        self,
        process: Process,
        times: tuple[float, ...],
        predict: Callable[[Any, Point], Views],
        x: Any,
        draw: Callable[[], Any],
        step: Callable[[Any, Point], Any],
    ) -> Any:
        """Take every step of the grid, on symbols or on tensors alike."""
        points = [Point.at(process, t) for t in times]
        count = len(points) - 1
        if points[0].alpha == 0 and not self._from_noise:
            p, s = predict(x, points[0]), points[1]
            x = step(p.x0 if s.sigma == 0 else s.alpha * p.x0 + s.sigma * p.epsilon, s)
            points = points[1:]
        denoise = len(points) > 1 and points[-1].sigma == 0 and not self._to_clean
        inner = points[:-1] if denoise else points
        if len(inner) > 1:
            x = self._generate(Steps(process, inner, count), inner[1:], predict, x, draw, step)
        if denoise:
            x = step(predict(x, points[-2]).x0, points[-1])
        return x

    def _generate(
        self,
        steps: Steps,
        ends: Sequence[Point],
        predict: Callable[[Any, Point], Views],
        x: Any,
        draw: Callable[[], Any],
        step: Callable[[Any, Point], Any],
    ) -> Any:
        def noise(scale: float = 1.0) -> Any:
            return scale * draw() if scale != 0 else 0.0

        available = dict(zip(PROTOCOL, (steps, x, predict, noise), strict=True))
        wanted = {key: available[key] for key in inspect.signature(self.function).parameters if key in available}
        generator = self.function(**wanted, **self.options)
        reached = 0
        try:
            state = next(generator)
            for reached, end in enumerate(ends, start=1):  # noqa: B007
                x = step(state, end)
                state = generator.send(x)
            reached += 1
        except StopIteration:
            pass
        if reached != len(ends):
            raise ValueError(f"solver {self.name!r} must yield one state for each of {len(ends)} steps, not {reached}")
        return x


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
        (c if isinstance(c, (int, float)) else c.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))) * x for c, x in terms
    )
    return functools.reduce(operator.add, scaled)

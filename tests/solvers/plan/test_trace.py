"""Tracing: what a plan cannot hold is refused in words, and never taken for something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from scoresde.process import VP
from solvers import NotLinearError, Plan, PlannedSolver
from solvers.plan.instructions import Draw, Lin

TIMES = [1.0, 0.5, 0.1]


def traced(function: Callable[..., Any], times: Any = TIMES, prediction: str = "sample", **options: Any) -> Plan:
    solver = PlannedSolver(
        function, options, name="tried", reference="", order=1, weak_order=None, grid="uniform", to_clean=False
    )
    return solver.plan(VP(), times, prediction)


def stepping(update: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A solver whose step is a function of the state and the model's x0."""

    def function(steps: Any, x: Any, predict: Any) -> Any:
        for t, _ in steps:
            x = yield update(x, predict(x, t).x0)

    return function


def positive_part(x: Any, x0: Any) -> Any:
    return x if x > 0 else x0


def all_zero(x: Any, x0: Any) -> Any:
    return x0 if x == 0 else x


def truthy(x: Any, x0: Any) -> Any:
    return x if x else x0


@pytest.mark.parametrize(
    ("update", "words"),
    [
        (lambda x, x0: x * x, "multiplying the state by Symbol"),
        (lambda x, x0: x / x0, "dividing by the state"),
        (lambda x, x0: 1 / x, "dividing by the state"),
        (lambda x, x0: x**2, "the power 2 of the state"),
        (lambda x, x0: x / x.norm(), "the state's 'norm'"),
        (lambda x, x0: abs(x), "the absolute value of the state"),
        (lambda x, x0: math.sqrt(x), "using the state as a number"),
        (lambda x, x0: x * float(x0), "using the state as a number"),
        (lambda x, x0: x[0], "indexing the state"),
        (lambda x, x0: x + 1.0, "adding 1.0 to the state"),
        (lambda x, x0: x - torch.ones(2), "adding tensor"),
        (lambda x, x0: x * torch.ones(2), "multiplying the state by Tensor"),
        (lambda x, x0: max(x, x0), "comparing the state"),
        (lambda x, x0: 0.0, "the value 0.0"),
        (positive_part, "comparing the state"),
        (all_zero, "comparing the state"),
        (truthy, "using the state as a number"),
    ],
)
def test_what_is_not_linear_is_refused_in_words(update: Callable[[Any, Any], Any], words: str) -> None:
    with pytest.raises(NotLinearError, match=f"{words}.*cannot be tabulated"):
        traced(stepping(update))


@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.array(2.0), torch.tensor(2.0)])
def test_any_kind_of_number_is_a_coefficient(number: Any) -> None:
    x = torch.tensor([3.0], dtype=torch.float64)
    for update in (lambda x, x0: number * x, lambda x, x0: x * number, lambda x, x0: x / (1 / number)):
        plan = traced(stepping(update))
        assert plan.run(lambda x, t: x, x).item() == 12.0
        assert all(type(value) is float for i in plan.instructions if isinstance(i, Lin) for _, value in i.terms)


def test_sums_start_from_zero() -> None:
    plan = traced(stepping(lambda x, x0: sum([x, x0]) - 0.5 * x0 + 0.0))
    assert plan.run(lambda x, t: x, torch.tensor([2.0])).item() == pytest.approx(2 * 1.5**2)


def test_coefficients_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        traced(stepping(lambda x, x0: math.inf * x))


@pytest.mark.parametrize(("yields", "times"), [(0, TIMES), (1, TIMES), (3, TIMES), (2, TIMES[:2])])
def test_a_solver_yields_once_a_step(yields: int, times: Any) -> None:
    def function(steps: Any, x: Any) -> Any:
        for _ in range(yields):
            x = yield x

    with pytest.raises(ValueError, match=f"must yield one state for each of {len(times) - 1} steps, not {yields}"):
        traced(function, times)


def test_noise_of_scale_zero_draws_nothing() -> None:
    def function(steps: Any, x: Any, noise: Any, scale: float) -> Any:
        for _ in steps:
            x = yield x + noise(scale)

    assert not any(isinstance(instruction, Draw) for instruction in traced(function, scale=0.0).instructions)
    assert traced(function, scale=1e-9).draws == 2


def test_what_is_not_used_is_not_computed() -> None:
    def function(steps: Any, x: Any, predict: Any) -> Any:
        for t, _ in steps:
            p = predict(x, t)
            unused = 3 * p.epsilon + p.v  # noqa: F841
            x = yield 0.5 * p.x0

    plan = traced(function)
    assert sum(isinstance(instruction, Lin) for instruction in plan.instructions) == 2
    assert plan.nfe == 2


def test_an_evaluation_counts_even_if_nothing_uses_it() -> None:
    def function(steps: Any, x: Any, predict: Any) -> Any:
        for t, _ in steps:
            predict(x, t)
            x = yield x

    calls: list[float] = []

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        calls.append(t)
        return x

    plan = traced(function)
    plan.run(predict, torch.ones(1))
    assert calls == TIMES[:-1] and plan.nfe == 2


def test_an_error_inside_a_solver_is_its_own() -> None:
    def function(steps: Any, x: Any) -> Any:
        raise ZeroDivisionError("mine")
        yield x

    with pytest.raises(ZeroDivisionError, match="mine"):
        traced(function)


def test_an_unknown_prediction_type_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown prediction type 'epsilom'; did you mean 'epsilon'"):
        traced(stepping(lambda x, x0: x), prediction="epsilom")

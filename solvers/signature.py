"""What a solver function is given and gives, as types.

    def ddim(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 0.0) -> Solution: ...

A state is whatever can be added and multiplied by numbers: a tensor where a solver runs, a symbol where it is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias

from solvers.steps import Point, Steps
from solvers.views import Views

State: TypeAlias = Any
Predict: TypeAlias = Callable[[State, Point], Views]  # one evaluation of the model, read as .x0, .epsilon, .v, …
Solution: TypeAlias = Generator[State, State, None]  # the state at the end of each step, given back as it may be edited


class Draw(Protocol):
    """A number times a fresh standard normal; nothing is drawn for 0, which gives 0."""

    def __call__(self, scale: float = 1.0, /) -> State: ...


__all__ = ["Draw", "Predict", "Solution", "State", "Steps"]

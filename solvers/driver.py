"""The driver: every step of a grid, the two at its ends that are not a method's business, and a method's in between."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solvers.steps import Point, Process, Steps
from solvers.views import Views

PROTOCOL = ("steps", "x", "predict", "noise")


@dataclass(frozen=True)
class Function:
    """A solver function with its options, and which of the two ends it takes itself."""

    name: str
    generator: Callable[..., Generator[Any, Any, None]]
    options: Mapping[str, Any]
    to_clean: bool = False
    from_noise: bool = False


def drive(
    function: Function,
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
    if points[0].alpha == 0 and not function.from_noise:
        p, s = predict(x, points[0]), points[1]
        x = step(p.x0 if s.sigma == 0 else s.alpha * p.x0 + s.sigma * p.epsilon, s)
        points = points[1:]
    denoise = len(points) > 1 and points[-1].sigma == 0 and not function.to_clean
    inner = points[:-1] if denoise else points
    if len(inner) > 1:
        x = _generated(function, Steps(process, inner, count), inner[1:], predict, x, draw, step)
    if denoise:
        x = step(predict(x, points[-2]).x0, points[-1])
    return x


def _generated(
    function: Function,
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
    wanted = {key: available[key] for key in inspect.signature(function.generator).parameters if key in available}
    generator = function.generator(**wanted, **function.options)
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
        raise ValueError(f"solver {function.name!r} must yield one state for each of {len(ends)} steps, not {reached}")
    return x

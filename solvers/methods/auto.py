"""One choice of solver, order, grid and end for every number of evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from solvers.catalogue import solver
from solvers.coefficients.fitted import follow
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import bh1, exact
from solvers.coefficients.predict_correct import predict_correct
from solvers.grids import universal
from solvers.signature import Predict, Solution, State, Steps
from solvers.steps import Point, Process

SAME = 1e-6  # of levels, on their way through times


@solver(
    "auto",
    family="auto",
    order=lambda options: None if options["scale"] is not None else 3,
    reference="this project, docs/auto.md; without a scale Zhao et al. 2023, UniPC",
    grid="auto",
    to_clean=True,
    from_noise=True,
)
def auto(steps: Steps, x: State, predict: Predict, scale: float | None = None) -> Solution:
    """Plans for all models, with one number of the model, σ*; where that is not known, ``uni_pc``.

    σ*, the ``scale``, is the noise level σ/α around which the model's denoised samples move; ``scoresde.noise_scale``
    measures it in seconds. With it the levels and coefficients for 5 to 16 evaluations are those that were fitted to a
    family of exact problems together (benchmarks/results/universal.md), and those for 2 to 4 were chosen by the
    quality of samples (benchmarks/results/auto_few.md). With fewer or more, on other grids than ``auto`` of that scale,
    and without a scale this is ``uni_pc`` of order 3, ``bh1`` up to 10 steps and ``vary_coeff`` beyond.

    Args:
        scale: σ*, above 0; None where it is not known.

    Use:
        Where nobody wants to choose.
    """
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"auto needs a scale above 0, got {scale}")
    points = [t for t, _ in steps]
    points += [s for _, s in steps][-1:]
    if scale is not None and (found := _for_all(steps.process, points, scale)) is not None:
        history, told, skipped = found
        yield from follow(steps, x, predict, history, told=told, skipped=skipped)
        return
    if points[0].alpha == 0:
        p, s = predict(x, points[0]), points[1]
        x = yield p.x0 if s.sigma == 0 else s.alpha * p.x0 + s.sigma * p.epsilon
        points = points[1:]
    inner = points[:-1] if points[-1].sigma == 0 else points
    if len(inner) > 1:
        rule = bh1 if steps.count <= 10 else exact
        method = predict_correct(
            Steps(steps.process, inner, steps.count), x, predict, lambda s: FRAMES.get("data"), rule, 3, 4
        )
        state = next(method)
        for _ in inner[2:]:
            x = yield state
            state = method.send(x)
        x = yield state
    if inner != points and len(points) > 1:
        yield predict(x, points[-2]).x0


def _for_all(process: Process, points: Sequence[Point], scale: float) -> tuple[Any, float | None, int] | None:
    """History, the level told first and the steps that were left out; of the plan that ends with these points."""
    levels = [math.exp(-point.lam) for point in points[:-1]]
    if points[-1].sigma != 0:
        return None
    for count, table in universal.chosen().items():
        if count >= len(levels):
            whole = universal.levels(process, table, scale)
            own = whole[count - len(levels) :]
            if all(math.isclose(1 / s, 1 / level, rel_tol=SAME) for s, level in zip(own, levels, strict=True)):
                return table.history, universal.told(whole, scale), count - len(levels)
    return None

"""A plan as a picture: where the network is asked, and how much each answer counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from scoresde.report.figures import save
from solvers import Plan, prediction
from solvers.plan.instructions import Draw, Eval, Lin, Step

WRITTEN = 12  # evaluations up to which numbers stand in the squares


def shares(plan: Plan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much the estimates of the data count in the states, whatever the network predicts.

    Every state is c x_T + Σ_j b_j D_j + noise, with D_j = E[x0 | x] at evaluation j; of data without spread the b of
    the last one sum to 1 but for what is left of x_T.

    Returns:
        Noise levels σ/α of the evaluations, (n,), and b_j of the state after each step, (steps, n).
    """
    levels, states = list[float](), list[NDArray[np.float64]]()
    evaluations = sum(isinstance(each, Eval) for each in plan.instructions)
    counts = {0: np.eye(1 + evaluations)[0]}  # of x_T first
    for each in plan.instructions:
        if isinstance(each, Lin):
            counts[each.out] = sum((weight * counts[of] for of, weight in each.terms), np.zeros(1 + evaluations))
        elif isinstance(each, Eval):
            levels.append(each.sigma / each.alpha if each.alpha else np.inf)
            a, b = prediction.convert(plan.prediction, "sample", each.alpha, each.sigma)
            counts[each.outputs["model"]] = (np.eye(1 + evaluations)[len(levels)] - a * counts[each.x]) / b
            for register in each.outputs.values():
                counts.setdefault(register, counts[each.outputs["model"]])
        elif isinstance(each, Step):
            counts[each.out] = counts[each.x]
            states.append(counts[each.x][1:])
        elif isinstance(each, Draw):
            counts[each.out] = np.zeros(1 + evaluations)
    return np.array(levels), np.array(states)


def draw(plan: Plan, path: str | Path) -> None:
    """Levels of the evaluations, and what each counts in each state, into a file whose suffix chooses the format."""
    levels, counts = shares(plan)
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = np.arange(1, len(levels) + 1)
    left.plot(numbers, np.where(np.isfinite(levels), levels, np.nan), "o-", color="#3366aa")
    left.set_yscale("log")
    left.set_xlabel("evaluation")
    left.set_ylabel("noise level σ/α that the network is asked at")
    left.set_xlim(0.5, len(levels) + 0.5)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not np.isfinite(levels[0]):
        left.text(1, 1.02, "∞", transform=left.get_xaxis_transform(), ha="center")
    left.grid(alpha=0.3)
    most = max(float(np.abs(counts).max()), 1e-12)
    image = right.imshow(
        counts,
        cmap="RdBu",
        norm=TwoSlopeNorm(0, -most, most),
        aspect="auto",
        extent=(0.5, len(levels) + 0.5, len(counts) + 0.5, 0.5),
    )
    right.set_xlabel("estimate of the data at evaluation")
    right.set_ylabel("state after step")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(levels) <= WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            if abs(count) > 5e-4:
                dark = abs(count) > 0.6 * most
                right.text(
                    column + 1, row + 1, f"{count:.2g}", ha="center", va="center", size=8, color="w" if dark else "k"
                )
    figure.colorbar(image, ax=right, label="how much it counts")
    figure.suptitle(f"{plan.solver}: {len(counts)} steps, {len(levels)} evaluations")
    save(figure, path)

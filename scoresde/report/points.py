"""Points as pictures: where images would be shown, the plane with the samples on what they should be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from scoresde.bench.rows import Outcome
from scoresde.exact import GaussianMixture
from scoresde.report.curves import curves
from scoresde.report.figures import save
from scoresde.report.quantities import count

BEHIND, FRONT = "0.75", "#0072b2"
BINS = 60
CELLS = 240  # of the density's picture, along each side
MARGIN = 0.15  # beside what is drawn, as a share of its range
COLUMNS = 6


def draw(points: Tensor, model: GaussianMixture, path: str | Path, of: int | None = None) -> None:
    """Samples on the density that they should have: in a plane, of more coordinates the first two, of one a histogram.

    Args:
        points: (n, dim).
        model: whose density it is.
        path: the file; its suffix chooses the format.
        of: how many samples there are in all, where these are the first of them.
    """
    figure = Figure(figsize=(5.2, 5.2 if points.shape[1] > 1 else 3.6), layout="constrained")
    axes = figure.subplots()
    exact = model.sample(20 * CELLS, torch.Generator().manual_seed(0))
    window = _window(exact)
    size = min(max(2000 / len(points), 4), 25)  # of few points, each can be seen
    if points.shape[1] == 2:
        _density(axes, model, window)
        _scatter(axes, points, None, window, size)
    else:
        _scatter(axes, points, exact, window, size)
    outside = int(((points[:, :2] < window[0]) | (points[:, :2] > window[1])).any(1).sum())
    beyond = f", {outside} of them outside" if outside else ""
    behind = "its density" if points.shape[1] == 2 else "exact draws"
    many = f"{len(points):,} samples" if of in (None, len(points)) else f"the first {len(points):,} of {of:,} samples"
    axes.set_title(f"{many}{beyond}, on {behind} in grey", fontsize=9.5)
    if points.shape[1] > 2:
        axes.set(xlabel="first coordinate", ylabel=f"second coordinate, of {points.shape[1]}")
    save(figure, path)


def grid(outcome: Outcome, path: str | Path) -> None:
    """A line of panels per curve, from few evaluations to many, each on the converged solution of the same seeds.

    Args:
        outcome: what a benchmark of points found.
        path: the file; its suffix chooses the format.
    """
    chosen, converged = curves(outcome.rows), outcome.images[-1]
    columns = min(COLUMNS, max(len(curve.rows) for curve in chosen))
    lines = [
        (curve, curve.rows[first : first + columns]) for curve in chosen for first in range(0, len(curve.rows), columns)
    ]
    figure = Figure(figsize=(2.1 * columns + 0.3, 2.25 * len(lines) + 0.4), layout="constrained")
    window = _window(converged)
    for row, (curve, members) in zip(figure.subplots(len(lines), columns, squeeze=False), lines, strict=True):
        for axes, index in zip(row, members, strict=False):
            _scatter(axes, outcome.images[index], converged, window, size=2)
            axes.set_title(f"{count(outcome.rows[index].nfe)} evaluations", fontsize=8)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(curve.label, fontsize=8.5)
        for axes in row[len(members) :]:
            axes.set_axis_off()
    figure.suptitle("blue: samples · grey: the converged solution of the same seeds", fontsize=9)
    save(figure, path)


def png(points: Tensor, converged: Tensor) -> bytes:
    """A small picture of points on the converged solution of the same seeds, for a page."""
    figure = Figure(figsize=(3.3, 3.3 if points.shape[1] > 1 else 2), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, points, converged, _window(converged), size=4)
    axes.set(xticks=[], yticks=[])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _window(exact: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of what is shown: all of the exact points' first coordinates, and a margin."""
    low, high = exact[:, :2].min(0).values, exact[:, :2].max(0).values
    room = MARGIN * (high - low).max().clamp(min=1e-6)
    return low - room, high + room


def _scatter(axes: Axes, points: Tensor, behind: Tensor | None, window: tuple[Tensor, Tensor], size: float) -> None:
    low, high = (corner.tolist() for corner in window)
    if points.shape[1] == 1:
        bins = np.linspace(low[0], high[0], BINS).tolist()
        if behind is not None:
            axes.hist(_column(behind), bins, density=True, color=BEHIND)
        axes.hist(_column(points), bins, density=True, histtype="step", color=FRONT)
        axes.set(xlim=(low[0], high[0]), yticks=[])
        return
    if behind is not None:
        axes.scatter(*_plane(behind), s=min(size, 4), color=BEHIND, linewidths=0)
    axes.scatter(*_plane(points), s=size, color=FRONT, linewidths=0, alpha=0.8)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")


def _density(axes: Axes, model: GaussianMixture, window: tuple[Tensor, Tensor]) -> None:
    (left, low), (right, high) = (corner.tolist() for corner in window)
    places = torch.cartesian_prod(
        torch.linspace(low, high, CELLS, dtype=torch.float64), torch.linspace(left, right, CELLS, dtype=torch.float64)
    ).flip(1)
    values = model.log_prob(places, model.process.t_clean).exp().reshape(CELLS, CELLS).numpy()
    axes.imshow(values, origin="lower", extent=(left, right, low, high), cmap="Greys", alpha=0.55)


def _column(points: Tensor) -> NDArray[np.float64]:
    return points[:, 0].double().numpy()


def _plane(points: Tensor) -> Sequence[NDArray[np.float64]]:
    return points[:, 0].double().numpy(), points[:, 1].double().numpy()

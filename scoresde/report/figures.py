"""The report's figures for papers: PNG, SVG or PDF, by the file's suffix."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from scoresde.bench.rows import Outcome, Row
from scoresde.files import replacing
from scoresde.files.text import label
from scoresde.report import words
from scoresde.report.choice import pareto
from scoresde.report.curves import COLORS, DASHES, MARKERS, Curve, alike, curves
from scoresde.report.printable import printable
from scoresde.report.quantities import (
    count,
    described,
    distance,
    interval,
    measured,
    per_thousand,
    useful,
    value,
)

MOST = 12  # curves in one figure that can still be told apart
MANTISSAS = (1, 1.5, 2, 2.5, 3, 4, 5, 7)
NEAR = 2  # how far above the floor the close view goes, as a factor
OWN = "Distance to the model's own converged samples\n"
NFE = "model evaluations (NFE)"
SECONDS = "seconds per 1000 images (wall time of this run)"


def steps(outcome: Outcome, path: str | Path) -> None:
    """FID and error against measured NFE with 95 % intervals: all of FID, FID near its floor, error.

    Where ``own_fd`` was measured, it is drawn instead of all of FID. Of more curves than ``MOST`` the first are drawn,
    which the legend says. What was not measured has no panel.

    Args:
        outcome: what a benchmark found.
        path: the file; its suffix chooses the format. An SVG is the same to the byte for the same outcome.
    """
    outcome = printable(outcome, label)
    known, chosen = measured(outcome.rows), curves(outcome.rows)
    first = distance(outcome.rows)
    panels = [(name, near) for name, near in ((first, False), ("fid", True), ("error", False)) if name in known]
    figure = Figure(figsize=(5.2 * len(panels), 5.2), layout="constrained")
    for axes, (name, near) in zip(figure.subplots(1, len(panels), squeeze=False).ravel(), panels, strict=True):
        for curve in chosen[:MOST]:
            _curve(axes, [outcome.rows[index] for index in curve.rows], curve, name, lambda row: row.nfe)
        floors = _reference(axes, outcome) if name == "error" else _floors(axes, outcome, name)
        if near:
            _close(axes, outcome, name, floors)
        else:
            _edge(axes, outcome.rows, chosen[:MOST], name, floors[0])
        _logarithmic(axes, NFE, [row.nfe for row in outcome.rows], measured=True)
        axes.set_ylabel(_rms(outcome) if name == "error" else described(name).label)
        axes.set_title(
            "Error from the converged solution of the same seeds"
            if name == "error"
            else f"FID near its floor (to {NEAR} × the converged solution's)"
            if near
            else f"{_title(name)} {words.spaces(outcome)}, {words.samples(outcome.rows)}",
            fontsize=9.5,
        )
    _legend(figure, len(chosen))
    save(figure, path)


def front(outcome: Outcome, path: str | Path) -> None:
    """FID against NFE and against seconds per 1000 images, with the rows that no other beats joined by a line.

    Where ``own_fd`` was measured, it takes the place of FID.

    Args:
        outcome: what a benchmark found.
        path: the file; its suffix chooses the format.

    Raises:
        ValueError: no row has a finite FID.
    """
    outcome = printable(outcome, label)
    rows, chosen, metric = outcome.rows, curves(outcome.rows), distance(outcome.rows)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    seconds = SECONDS.replace("images", "points") if outcome.points else SECONDS
    costs: list[tuple[str, Callable[[Row], float]]] = [(NFE, lambda row: row.nfe), (seconds, per_thousand)]
    for axes, (title, cost) in zip(figure.subplots(1, 2), costs, strict=True):
        best = pareto(rows, cost, metric)
        if not best:
            raise ValueError("no row has a finite FID: there is no Pareto front")
        points = [(cost(rows[index]), rows[index].metrics[metric].value) for index in best]
        top = useful(rows, metric) or math.inf
        axes.step(*zip(*points, strict=True), where="post", color="0.25", linewidth=1.2, zorder=1)
        ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "color": "0.25", "linestyle": ""}
        axes.plot(*zip(*points, strict=True), **ring, label="on the front: no other row is better at no more cost")
        for curve in chosen[:MOST]:
            _curve(axes, [rows[index] for index in curve.rows], curve, metric, cost, linestyle="")
        _close(
            axes,
            outcome,
            metric,
            _floors(axes, outcome, metric),
            top=1.1 * max(min(height, top) for _, height in points),
        )
        above = sum((value(row, metric) or 0.0) > axes.get_ylim()[1] for row in rows)
        axes.set_title(f"{above} of {len(rows)} rows lie above this range" if above else "all rows", fontsize=9.5)
        axes.set_ylabel(described(metric).label)
        _logarithmic(axes, title, [cost(row) for row in rows], measured=title == NFE)
    _legend(figure, len(chosen))
    save(figure, path)


def speed(outcome: Outcome, path: str | Path) -> None:
    """Latency in the smallest batch and throughput in the largest against NFE: medians with quartiles.

    Args:
        outcome: with ``timings``.
        path: the file; its suffix chooses the format.

    Raises:
        ValueError: nothing was timed.
    """
    outcome = printable(outcome, label)
    if not outcome.timings:
        raise ValueError("nothing was timed: there is no figure of speed")
    batches = sorted({each.batch for each in outcome.timings})
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    chosen = curves(outcome.rows)
    for axes, batch, rate in zip(figure.subplots(1, 2), (batches[0], batches[-1]), (False, True), strict=True):
        for curve in chosen[:MOST]:
            first = outcome.rows[curve.rows[0]]
            timed = [each for each in outcome.timings if each.batch == batch and alike(each, first)]
            if not timed:
                continue
            timed.sort(key=lambda each: each.nfe)
            seconds = [[each.batch / time for time in each.seconds] if rate else each.seconds for each in timed]
            margins = [[abs(time[0] - time[side]) for time in seconds] for side in ((2, 1) if rate else (1, 2))]
            places = [each.nfe for each in timed]
            style = {"capsize": 2.5, "elinewidth": 1} | _style(curve)
            axes.errorbar(places, [time[0] for time in seconds], margins, **style)
        axes.set_title(
            f"images a second in batches of {batch}" if rate else f"seconds of a batch of {batch}", fontsize=9.5
        )
        _logarithmic(axes, NFE, [each.nfe for each in outcome.timings], measured=True)
    _legend(figure, len(chosen))
    save(figure, path)


def images(outcome: Outcome, path: str | Path) -> None:
    """Samples per solver and NFE: a panel per curve, a row per NFE, the same seed in each column of every panel.

    Args:
        outcome: what a benchmark found.
        path: the file; its suffix chooses the format.
    """
    outcome = printable(outcome, label)
    chosen = curves(outcome.rows)
    panels = [(curve.label, [(count(outcome.rows[i].nfe), i) for i in curve.rows]) for curve in chosen]
    for number, limits in enumerate(outcome.limits):
        of = f" of {limits.converged.model}" if outcome.others else ""
        panels.append((f"converged solution{of}", [(count(limits.converged.nfe), len(outcome.rows) + number)]))
    columns, most = 3, max(len(rows) for _, rows in panels)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, (0.42 * most + 0.5) * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, rows) in zip(grid, panels, strict=False):
        _panel(axes, name, outcome, rows)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    labels = ", classes above" if outcome.labels else ""
    figure.suptitle(f"rows: NFE · columns: the same seeds everywhere{labels}", fontsize=9)
    save(figure, path)


def _title(name: str) -> str:
    """How the title of a distance begins, before what it is measured in."""
    return {"own_fd": f"{OWN}in", "sliced_wasserstein": "Sliced Wasserstein distance to"}.get(name, "FID in")


def _rms(outcome: Outcome) -> str:
    return "RMS per coordinate" if outcome.points else "RMS per pixel, images in [−1, 1]"


def _style(curve: Curve) -> dict[str, Any]:
    color = COLORS[curve.color]
    return {
        "color": color,
        "marker": MARKERS[curve.marker],
        "markersize": 6,
        "markerfacecolor": "white" if curve.stochastic else color,
        "linewidth": 1.4,
        "linestyle": (0, DASHES[curve.dash]) if DASHES[curve.dash] else "-",
        "label": curve.label,
    }


def _curve(
    axes: Axes, rows: Sequence[Row], curve: Curve, metric: str, cost: Callable[[Row], float], **style: Any
) -> None:
    known = [row for row in rows if value(row, metric) is not None]
    if not known:
        return
    figures = [row.metrics[metric] for row in known]
    ends = [interval(estimate) or (estimate.value, estimate.value) for estimate in figures]
    margins = [
        [max(0.0, estimate.value - low) for estimate, (low, _) in zip(figures, ends, strict=True)],
        [max(0.0, high - estimate.value) for estimate, (_, high) in zip(figures, ends, strict=True)],
    ]
    places, heights = [cost(row) for row in known], [estimate.value for estimate in figures]
    axes.errorbar(places, heights, margins, capsize=2.5, elinewidth=1, **(_style(curve) | style))


def _edge(axes: Axes, rows: Sequence[Row], chosen: Sequence[Curve], metric: str, floor: float) -> None:
    """End the axis above what is useful, and mark at its edge what lies further up."""
    if (top := useful(rows, metric)) is None:
        return
    known = [found for row in rows if (found := value(row, metric) or 0.0) > 0]
    axes.set_ylim(0.8 * min(*known, floor if floor > 0 else top), top)
    for curve in chosen:
        above = [rows[index].nfe for index in curve.rows if (value(rows[index], metric) or 0.0) > top]
        style = {"marker": "^", "color": COLORS[curve.color], "linestyle": "", "markersize": 7, "clip_on": False}
        if above:  # of a line without points the layout takes a place at zero, far from here on this axis
            axes.plot(above, [1.0] * len(above), transform=axes.get_xaxis_transform(), **style)
    axes.text(0.99, 0.985, "▲ above this range", transform=axes.transAxes, ha="right", va="top", fontsize=8)


def _floors(axes: Axes, outcome: Outcome, metric: str) -> tuple[float, float]:
    if outcome.floors is None or metric != "fid" or outcome.others:
        told = "floor: converged solution" if metric == "own_fd" else "converged solution"
        found = {each.converged.model: each.converged.metrics[metric].value for each in outcome.limits}
        for name, converged in found.items():
            of = f"{told} of {name}" if outcome.others else told
            axes.axhline(converged, color="0.35", linestyle="--", linewidth=1, label=of)
        return min(found.values()), max(found.values())
    real, spread, converged = outcome.floors.real.value, outcome.floors.spread, outcome.floors.converged.value
    axes.axhline(converged, color="0.35", linestyle="--", linewidth=1, label="floor: converged solution")
    axes.axhline(real, color="0.35", linestyle=":", linewidth=1.2, label="floor: real test images")
    if spread is not None:
        axes.axhspan(real - spread, real + spread, color="0.35", alpha=0.12, linewidth=0)
    return real - (spread or 0.0), converged


def _reference(axes: Axes, outcome: Outcome) -> tuple[float, float]:
    reference = max(each.reference_error for each in outcome.limits)
    axes.axhline(reference, color="0.35", linestyle="-.", linewidth=1, label="reference against half its NFE")
    return reference, reference


def _close(axes: Axes, outcome: Outcome, metric: str, floors: tuple[float, float], top: float = 0.0) -> None:
    figures = [row.metrics[metric] for row in outcome.rows if value(row, metric) is not None]
    lows = [(interval(estimate) or (estimate.value,))[0] for estimate in figures]
    lowest = min([*floors, *(low for low in lows if low > 0)])
    axes.set_ylim(0.97 * lowest, max(top, NEAR * floors[1]))


def _logarithmic(axes: Axes, label: str, costs: Sequence[float], measured: bool = False) -> None:
    """Logarithmic axes that are easily read; ``measured`` has the ticks of the first where measurements are."""
    axes.set(xscale="log", yscale="log", xlabel=label)
    for axis, (low, high) in ((axes.xaxis, (min(costs), max(costs))), (axes.yaxis, axes.get_ylim())):
        if high / low < 100:  # else the decades that matplotlib numbers are enough
            ticks = [m * 10.0**k for k in range(-9, 9) for m in MANTISSAS if low <= m * 10.0**k <= 1.001 * high]
            axis.set_major_locator(FixedLocator(ticks or [low]))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    if measured:
        axes.xaxis.set_major_locator(FixedLocator(apart(costs)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: count(tick)))
    axes.grid(alpha=0.25, which="both")


def apart(costs: Sequence[float], share: float = 0.05) -> list[float]:
    """The costs, without those nearer to one before them than this share of the logarithmic axis."""
    known, found = sorted(set(costs)), list[float]()
    least = (known[-1] / known[0]) ** share
    for cost in known:
        if not found or cost >= found[-1] * least:
            found.append(cost)
    return found


def _legend(figure: Figure, total: int) -> None:
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    title = "filled: deterministic, hollow: draws noise"
    if total > MOST:
        title = f"the first {MOST} of {total} curves; {title}"
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=4, fontsize=8.5, title=title
    ).get_title().set_fontsize(8.5)


def _short(name: str) -> str:
    """A class over an image."""
    return name if len(name) <= 8 else f"{name[:7]}…"


def _panel(axes: Axes, name: str, outcome: Outcome, rows: list[tuple[str, int]]) -> None:
    strips = [outcome.images[index].permute(2, 0, 3, 1).flatten(1, 2) for _, index in rows]  # (h, images · w, c)
    height, width = strips[0].shape[0], strips[0].shape[1] // outcome.images.shape[1]
    picture = torch.cat(strips).squeeze(-1).numpy()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
    axes.set_title(name, fontsize=9)
    axes.set_anchor("N")
    axes.set_yticks([height * (line + 0.5) for line in range(len(rows))], [label for label, _ in rows], fontsize=7)
    places = [width * (column + 0.5) for column in range(len(outcome.labels))]
    axes.set_xticks(places, [_short(str(label)) for label in outcome.labels], fontsize=7)
    axes.xaxis.set_ticks_position("top")
    axes.tick_params(length=0)


def save(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    dateless = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else None
    with matplotlib.rc_context({"svg.hashsalt": "scoresde"}), replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box stands for it
        figure.savefig(temporary, dpi=130, metadata=dateless)

"""Figures of a benchmark."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from scoresde.bench import SHOWN, Outcome, Row
from scoresde.files import replacing

MARKERS = "osD^vP*X<>ph"
TICKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)


def curves(outcome: Outcome) -> dict[str, list[Row]]:
    """Rows of each solver in the order of their NFE; the tolerances of an adaptive solver make one curve."""
    found: dict[str, list[Row]] = {}
    for row in outcome.rows:
        name = row.solver.split(", rtol=")[0].split("(rtol=")[0]
        name = name + ")" if "(" in name and not name.endswith(")") else name
        found.setdefault(name, []).append(row)
    return {name: sorted(rows, key=lambda row: row.nfe) for name, rows in found.items()}


def steps_vs_fid(outcome: Outcome, path: str | Path) -> None:
    """FID and error against measured NFE, a curve per solver, with both floors.

    Args:
        outcome: of :meth:`scoresde.bench.Bench.run`.
        path: the file; its suffix chooses the format.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (name, rows) in enumerate(curves(outcome).items()):
        style = {"marker": MARKERS[index % len(MARKERS)], "color": f"C{index}", "markersize": 5, "linewidth": 1.5}
        left.plot([row.nfe for row in rows], [row.fid for row in rows], label=name, **style)
        errors = [(row.nfe, row.error) for row in rows if row.error is not None]
        if errors:
            right.plot(*zip(*errors, strict=True), label=name, **style)
    left.axhline(outcome.floors.converged.value, color="0.35", linestyle="--", linewidth=1, label="converged solution")
    left.axhline(outcome.floors.real.value, color="0.35", linestyle=":", linewidth=1.2, label="real test images")
    if outcome.floors.spread is not None:
        low, high = (outcome.floors.real.value + sign * outcome.floors.spread for sign in (-1, 1))
        left.axhspan(low, high, color="0.35", alpha=0.12, linewidth=0)
    right.axhline(
        outcome.reference_error, color="0.35", linestyle="--", linewidth=1, label="reference against half its NFE"
    )
    left.set_title(f"FID in {outcome.converged.feature_space}, {outcome.converged.samples:,} samples", fontsize=10)
    left.set_ylabel("FID")
    right.set_title("Error from the converged solution of the same seeds", fontsize=10)
    right.set_ylabel("RMS per pixel, images in [−1, 1]")
    for axes in (left, right):
        _scale(axes, [row.nfe for row in outcome.rows])
        axes.legend(fontsize=8, framealpha=0.9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def image_grid(outcome: Outcome, path: str | Path) -> None:
    """Samples per solver and NFE: a panel per solver, a row per NFE, the same seed in each column of every panel.

    Args:
        outcome: of :meth:`scoresde.bench.Bench.run`.
        path: the file; its suffix chooses the format.
    """
    position = {id(row): index for index, row in enumerate(outcome.rows)}
    panels = curves(outcome)
    most = max(len(rows) for rows in panels.values())
    columns = 3
    lines = -(-(len(panels) + 1) // columns)
    figure = Figure(figsize=(4.4 * columns, (0.42 * most + 0.5) * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, rows) in zip(grid, panels.items(), strict=False):
        _panel(axes, name, outcome, [(f"{row.nfe}", position[id(row)]) for row in rows])
    _panel(grid[len(panels)], "converged", outcome, [(f"{outcome.converged.nfe}", len(outcome.rows))])
    for axes in grid[len(panels) + 1 :]:
        axes.set_axis_off()
    figure.suptitle("rows: NFE · columns: the same seeds everywhere", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _panel(axes: Axes, name: str, outcome: Outcome, rows: list[tuple[str, int]]) -> None:
    strips = [outcome.images[index].permute(2, 0, 3, 1).flatten(1, 2) for _, index in rows]  # (h, images · w, c)
    height = strips[0].shape[0]
    picture = strips[0].new_zeros((height * len(strips), *strips[0].shape[1:]))
    for line, strip in enumerate(strips):
        picture[line * height : (line + 1) * height] = strip
    axes.imshow(picture.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
    axes.set_title(name, fontsize=9)
    axes.set_anchor("N")
    axes.set_yticks([height * (line + 0.5) for line in range(len(rows))], [label for label, _ in rows], fontsize=7)
    width = strips[0].shape[1] // min(SHOWN, outcome.images.shape[1])
    axes.set_xticks([])
    if outcome.labels:
        ticks = [width * (column + 0.5) for column in range(len(outcome.labels))]
        axes.set_xticks(ticks, [str(label) for label in outcome.labels], fontsize=7)
    axes.tick_params(length=0)


def _scale(axes: Axes, nfe: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="model evaluations (NFE)")
    low, high = min(nfe), max(nfe)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.25, which="both")

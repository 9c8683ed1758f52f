"""The certificate as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import solvers
from benchmarks.orders.cases import label as case
from benchmarks.orders.report import rows_of

# Of each order one or two methods that differ in kind.
SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("ddim", {}),
    ("heun", {}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {"variant": "published"}),
    ("dpm_solver_3", {}),
    ("dpmpp_3m", {"starter": "singlestep"}),
    ("deis", {}),
    ("deis", {"starter": "singlestep"}),
    ("uni_pc", {"order": 3, "starter": "singlestep"}),
    ("runge_kutta", {"frame": "vp"}),
    ("runge_kutta", {"tableau": "nystrom5"}),
]
WHERE = ("VP", "quadratic")
COLORS = {1: "C7", 2: "C0", 3: "C2", 4: "C3", 5: "C4"}
SHAPE_MARKERS = {"uniform": "o", "quadratic": "s", "karras": "^"}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Error against evaluations for some solvers, and measured minus declared order for all.

    Args:
        results: of :func:`benchmarks.orders.convergence.measure`.
        path: the file; its suffix chooses the format.
    """
    figure = Figure(figsize=(15, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.7))
    _errors(left, results)
    _orders(right, results)
    figure.savefig(path, dpi=110)


def _errors(axes: Axes, results: Mapping[str, Any]) -> None:
    process, shape = WHERE
    rows = {repr(solvers.get(row["solver"], **row["options"])): row for row in results["order"]}
    styles = ["o-", "s--", "^:", "v-."]
    used: dict[int, int] = {}
    for name, options in SHOWN:
        row = rows.get(repr(solvers.get(name, **options)))
        if row is None:
            continue
        series, (each, more) = row["processes"][process]["shapes"][shape]["total"], row["evaluations"]
        nfe = np.array([each * 2**k * series["steps"][0] + more for k in range(len(series["errors"]))])
        order = row["declared"]
        style = styles[used.get(order, 0) % len(styles)]
        used[order] = used.get(order, 0) + 1
        label = f"{case(name, options).replace('`', '')} ({order})"
        axes.plot(nfe, series["errors"], style, color=COLORS[order], markersize=4, linewidth=1.4, label=label)
    axes.set(xscale="log", yscale="log", xlabel="model evaluations", ylabel="root mean square error")
    axes.set(xlim=(5, 1500), ylim=(1e-12, 1))
    axes.xaxis.set_major_locator(FixedLocator([2**k for k in range(4, 11)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for order, color in COLORS.items():
        axes.plot([200, 1200], [0.4, 0.4 * 6.0**-order], color=color, alpha=0.45, linewidth=4, zorder=0)
        axes.annotate(f"{order}", (1230, 0.4 * 6.0**-order), color=color, fontsize=9, va="center")
    axes.set_title(f"Error on {process}, {shape} grid (declared order); top right: slopes", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7.5, framealpha=0.9)


def _orders(axes: Axes, results: Mapping[str, Any]) -> None:
    measurements = [(section, *found) for section in ("order", "weak_order") for found in rows_of(results, section)]
    names = sorted({row["solver"] for _, row, *_ in measurements})
    cases: dict[str, list[str]] = {name: [] for name in names}
    for section, row, *_ in measurements:
        case = f"{section} {row['options']}"
        if case not in cases[row["solver"]]:
            cases[row["solver"]].append(case)
    start, starts = 0.0, {}
    for name in names:
        starts[name] = start
        start += len(cases[name]) + 1.5
    for section, row, _process, shape, found in measurements:
        if found["measured"] is None or found.get("exceeds"):
            continue
        x = starts[row["solver"]] + cases[row["solver"]].index(f"{section} {row['options']}")
        axes.plot(
            x,
            found["measured"] - row["declared"],
            SHAPE_MARKERS[shape],
            markersize=3,
            color=COLORS[row["declared"]],
            markerfacecolor="none" if section == "weak_order" else None,
            alpha=0.8,
        )
    axes.axhspan(-0.2, 0.2, color="0.5", alpha=0.12, linewidth=0)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks([starts[name] + (len(cases[name]) - 1) / 2 for name in names], names, rotation=90, fontsize=8)
    for name in names[1:]:
        axes.axvline(starts[name] - 1.25, color="0.85", linewidth=0.6, zorder=0)
    axes.set_xlim(-1.25, start - 1.25)
    axes.set_ylabel("measured − declared order")
    count = len([1 for measurement in measurements if measurement[-1]["measured"] is not None])
    axes.set_title(f"{count} measured orders, by solver and variant (grey: ±0.2)", fontsize=10)
    axes.grid(alpha=0.25, axis="y")
    handles = [Line2D([], [], color=COLORS[p], marker="o", linestyle="", label=f"order {p}") for p in COLORS]
    handles += [
        Line2D([], [], color="0.3", marker=marker, linestyle="", label=shape) for shape, marker in SHAPE_MARKERS.items()
    ]
    handles.append(Line2D([], [], color="0.3", marker="o", markerfacecolor="none", linestyle="", label="weak order"))
    axes.legend(handles=handles, fontsize=7.5, ncols=3, framealpha=0.9, loc="lower left")

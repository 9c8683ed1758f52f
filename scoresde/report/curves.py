"""Rows as curves: which belong together, what they are called, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scoresde.bench.rows import Row

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#882255",
)  # Okabe & Ito, less yellow
MARKERS = "osD^vPX*ph<"  # a number without common factor with that of the colors, so that pairs repeat late
DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3), (1, 3))
CONDITIONS = ("grid", "guidance", "dtype", "compile")
NOTHING = {"guidance": "no guidance", "compile": "not compiled"}


@dataclass(frozen=True)
class Curve:
    """The rows of one solver under the same conditions.

    Attributes:
        label: the solver, and the conditions that are not the same for all rows.
        solver: as in the rows.
        stochastic: whether it draws noise.
        conditions: grid, guidance, dtype and compile mode in words; only those that vary.
        rows: their positions in the list, by measured NFE.
        color, marker, dash: positions in ``COLORS``, ``MARKERS`` and ``DASHES``; color and marker are the solver's.
    """

    label: str
    solver: str
    stochastic: bool
    conditions: dict[str, str]
    rows: list[int]
    color: int
    marker: int
    dash: int


def condition(row: Row, name: str) -> str:
    """The value of a condition in words that are never empty."""
    return getattr(row, name) or NOTHING.get(name, "none")


def key(row: Row) -> tuple[str, ...]:
    """What rows on one curve have in common."""
    return (row.solver, *(condition(row, name) for name in CONDITIONS))


def varied(rows: Sequence[Row]) -> list[str]:
    """The conditions that are not the same for all rows; grid only if it differs between rows of one solver."""
    grids: dict[str, set[str]] = {}
    for row in rows:
        grids.setdefault(row.solver, set()).add(row.grid)
    found = ["grid"] if any(len(names) > 1 for names in grids.values()) else []
    return found + [name for name in CONDITIONS[1:] if len({condition(row, name) for row in rows}) > 1]


def curves(rows: Sequence[Row]) -> list[Curve]:
    """The curves, in the order of their first rows."""
    names = varied(rows)
    found: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(key(row), []).append(index)
    solvers = list(dict.fromkeys(row.solver for row in rows))
    made: list[Curve] = []
    combinations: list[tuple[str, ...]] = []
    for indices in found.values():
        first = rows[indices[0]]
        conditions = {name: condition(first, name) for name in names}
        combination = tuple(conditions.values())
        if combination not in combinations:
            combinations.append(combination)
        place = solvers.index(first.solver)
        made.append(
            Curve(
                label=" · ".join((first.solver, *combination)),
                solver=first.solver,
                stochastic=first.stochastic,
                conditions=conditions,
                rows=sorted(indices, key=lambda index: (rows[index].nfe, rows[index].seconds)),
                color=place % len(COLORS),
                marker=place % len(MARKERS),
                dash=combinations.index(combination) % len(DASHES),
            )
        )
    return made

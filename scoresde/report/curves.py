"""Rows as curves: which belong together, what they are called, and how they are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scoresde.bench.rows import Failure, Row, Timing

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#882255",
    "#999933",
    "#8c5a3c",
)  # Okabe & Ito, less yellow; the last from Tol's palette, and brown
MARKERS = "osD^vPX*ph<"  # a number without common factor with that of the colors, so that pairs repeat late
DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3), (1, 3))
CONDITIONS = ("grid", "guidance", "dtype", "compile", "model", "folder")
ALWAYS = ("model", "folder")  # of these there is no usual one
OWN_STEPS = "own steps"  # the grid of solvers that choose their own
NOTHING = {"guidance": "no guidance", "compile": "not compiled"}


@dataclass(frozen=True)
class Curve:
    """The rows of one solver under the same conditions.

    Attributes:
        label: the solver, its grid if it has several, and the conditions that are not the usual ones.
        solver: as in the rows.
        stochastic: whether it draws noise.
        conditions: grid, guidance, dtype, compile mode, model and folder in words; only those that vary.
        rows: their positions in the list, by measured NFE.
        color, marker, dash: positions in ``COLORS``, ``MARKERS`` and ``DASHES``; the color is the solver's.
    """

    label: str
    solver: str
    stochastic: bool
    conditions: dict[str, str]
    rows: list[int]
    color: int
    marker: int
    dash: int


def condition(row: Row | Timing, name: str) -> str:
    """The value of a condition in words that are never empty."""
    return getattr(row, name) or NOTHING.get(name, "none")


def asked(row: Row | Failure | Timing) -> str:
    """The budget in words: evaluations, or the tolerance of a solver that chooses its own steps."""
    return f"tolerance {row.budget:g}" if row.grid == OWN_STEPS else f"{row.budget:g} NFE"


def key(row: Row | Timing) -> tuple[str, ...]:
    """What rows on one curve have in common."""
    return (row.solver, *(condition(row, name) for name in CONDITIONS))


def alike(timing: Timing, row: Row) -> bool:
    """Whether a timing is of the solver of a row, under its conditions."""
    same = (condition(timing, name) == condition(row, name) for name in CONDITIONS if name != "folder")
    return timing.solver == row.solver and all(same)


def _grids(rows: Sequence[Row]) -> dict[str, set[str]]:
    grids: dict[str, set[str]] = {}
    for row in rows:
        grids.setdefault(row.solver, set()).add(row.grid)
    return grids


def varied(rows: Sequence[Row]) -> list[str]:
    """The conditions that are not the same for all rows; grid only if it differs between rows of one solver."""
    found = ["grid"] if any(len(names) > 1 for names in _grids(rows).values()) else []
    return found + [name for name in CONDITIONS[1:] if len({condition(row, name) for row in rows}) > 1]


def usual(rows: Sequence[Row], name: str) -> str:
    """The value of a condition that most rows have."""
    return Counter(condition(row, name) for row in rows).most_common(1)[0][0]


def curves(rows: Sequence[Row]) -> list[Curve]:
    """The curves, in the order of their first rows."""
    names, grids = varied(rows), _grids(rows)
    found: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(key(row), []).append(index)
    solvers = list(grids)
    alike = {row.solver: [keys for keys in found if keys[0] == row.solver] for row in rows}
    made: list[Curve] = []
    for keys, indices in found.items():
        first = rows[indices[0]]
        conditions = {name: condition(first, name) for name in names}
        named = {name: value for name, value in conditions.items() if name != "grid"}
        said = [value for name, value in named.items() if name in ALWAYS or value != usual(rows, name)]
        if len(grids[first.solver]) > 1:
            said.insert(0, first.grid)
        place, variant = solvers.index(first.solver), alike[first.solver].index(keys)
        made.append(
            Curve(
                label=" · ".join((first.solver, *said)),
                solver=first.solver,
                stochastic=first.stochastic,
                conditions=conditions,
                rows=sorted(indices, key=lambda index: (rows[index].nfe, rows[index].seconds)),
                color=place % len(COLORS),
                marker=(place + 3 * variant) % len(MARKERS),
                dash=variant % len(DASHES),
            )
        )
    return made

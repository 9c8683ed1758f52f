"""Which rows are worth their cost: the Pareto front, and what to take at a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scoresde.bench.rows import Row
from scoresde.report.curves import OWN_STEPS, key
from scoresde.report.quantities import interval, picked_by, value


def pareto(rows: Sequence[Row], cost: Callable[[Row], float], metric: str = "fid") -> list[int]:
    """Positions of the rows that no other beats, by cost.

    A row is beaten by one that is no worse in cost and metric, both smaller is better, and better in one of them.
    Intervals are not looked at.
    """
    known = [(cost(row), figure, index) for index, row in enumerate(rows) if (figure := value(row, metric)) is not None]
    found: list[tuple[float, float, int]] = []
    for entry in sorted(known):
        if not found or entry[1] < found[-1][1] or entry[:2] == found[-1][:2]:
            found.append(entry)
    return [index for *_, index in found]


def overlap(one: Row, other: Row, metric: str) -> bool:
    """Whether the 95 % intervals of two rows overlap; a value without interval is one of no width."""
    (low, high), (other_low, other_high) = _ends(one, metric), _ends(other, metric)
    return low <= other_high and other_low <= high


def _ends(row: Row, metric: str) -> tuple[float, float]:
    estimate = row.metrics[metric]
    return interval(estimate) or (estimate.value, estimate.value)


@dataclass(frozen=True)
class Pick:
    """The row with the smallest value, and those that cannot be told from it.

    Attributes:
        row: its position.
        ties: of each other curve the row with the smallest value, if its interval overlaps the pick's; smallest first.
        cheapest: among all rows whose interval overlaps the pick's, its own curve's too, the one of fewest evaluations.
    """

    row: int
    ties: list[int]
    cheapest: int


@dataclass(frozen=True)
class Recommendation:
    """What to take at a budget of model evaluations.

    Attributes:
        budget: evaluations that may be spent.
        fid: the row of smallest FID, of points of the smallest distance; None where no row has one.
        error: the row of smallest error, which only deterministic solvers have.
    """

    budget: float
    fid: Pick | None
    error: Pick | None


def recommendations(rows: Sequence[Row]) -> list[Recommendation]:
    """One for each budget asked for, or for each measured number of evaluations where all solvers choose their own."""
    asked = {row.budget for row in rows if row.grid != OWN_STEPS} or {row.nfe for row in rows}
    metric = picked_by(rows)
    return [Recommendation(budget, pick(rows, budget, metric), pick(rows, budget, "error")) for budget in sorted(asked)]


def pick(rows: Sequence[Row], budget: float, metric: str) -> Pick | None:
    """The smallest value among rows of at most ``budget`` measured evaluations; None if there is none."""
    affordable = [(index, row) for index, row in enumerate(rows) if row.nfe <= budget]
    known = [(found, row.nfe, index) for index, row in affordable if (found := value(row, metric)) is not None]
    ranked = [index for *_, index in sorted(known)]
    if not ranked:
        return None
    best, *others = ranked
    tied = [index for index in others if overlap(rows[best], rows[index], metric)]
    ties: dict[tuple[str, ...], int] = {}
    for index in others:
        if key(rows[index]) != key(rows[best]):
            ties.setdefault(key(rows[index]), index)
    return Pick(
        row=best,
        ties=[index for index in ties.values() if index in tied],
        cheapest=min([best, *tied], key=lambda index: rows[index].nfe),
    )

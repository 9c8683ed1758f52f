"""Tables of rows by budget, and whether two figures put the same solvers first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scoresde.bench import Row
from scoresde.metrics import Estimate
from scoresde.metrics.figures.estimate import NORMAL

Figure = Callable[[Row], Estimate | None]


@dataclass(frozen=True)
class Agreement:
    """How far two figures order pairs of rows of the same budget alike.

    Attributes:
        alike, opposite: pairs that are apart in both, by whether the order is the same.
        once: pairs that are apart in one of the two alone.
        against: the pairs of ``opposite``, each the row that is better by the first figure first.
    """

    alike: int
    opposite: int
    once: int
    against: list[tuple[Row, Row]]

    @property
    def tau(self) -> float:
        """Kendall's τ over the pairs that are apart in both, nan if there are none."""
        pairs = self.alike + self.opposite
        return (self.alike - self.opposite) / pairs if pairs else float("nan")

    def __str__(self) -> str:
        pairs = self.alike + self.opposite
        return f"{self.tau:.2f} ({pairs}, {self.once})" if pairs else f"– (0, {self.once})"


def apart(first: Estimate, second: Estimate) -> bool:
    """Whether two figures differ by more than two standard errors of their difference, from 95 % intervals.

    Figures of the same seeds vary together, so fewer pairs are apart by this than are.
    """
    squared = sum(((each.high - each.low) / (2 * NORMAL)) ** 2 for each in (first, second) if _bounded(each))  # type: ignore[operator]
    return abs(first.value - second.value) > 2 * squared**0.5


def _bounded(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None


def agreement(rows: Iterable[Row], first: Figure, second: Figure) -> Agreement:
    """Of all pairs of rows of one budget that have both figures; smaller is better in both."""
    known = [(row, one, other) for row in rows if (one := first(row)) and (other := second(row))]
    alike, once, against = 0, 0, list[tuple[Row, Row]]()
    for (row, one, other), (row2, one2, other2) in itertools.combinations(known, 2):
        if row.budget != row2.budget:
            continue
        both = apart(one, one2), apart(other, other2)
        if all(both):
            if (one.value < one2.value) == (other.value < other2.value):
                alike += 1
            else:
                against.append((row, row2) if one.value < one2.value else (row2, row))
        elif any(both):
            once += 1
    return Agreement(alike, len(against), once, against)


def cell(estimate: Estimate | None, digits: str) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:{digits}}" + (
        "" if estimate.high is None else f" ± {estimate.high - estimate.value:{digits}}"
    )


def by_budget(rows: Sequence[Row], budgets: Sequence[int], of: Figure, digits: str) -> list[str]:
    """A line for each solver on a grid, a column for each budget."""
    curves: dict[tuple[str, str], dict[float, Row]] = {}
    for row in rows:
        curves.setdefault((row.solver, row.grid), {})[row.budget] = row
    lines = [f"| solver | grid | {' | '.join(map(str, budgets))} |", "|---|---|" + "---:|" * len(budgets)]
    for (solver, grid), by in curves.items():
        cells = [cell(of(by[budget]), digits) if budget in by else "–" for budget in budgets]
        if any(text != "–" for text in cells):
            lines.append(f"| {solver} | {grid} | {' | '.join(cells)} |")
    return [*lines, ""]


def agreements(rows: Sequence[Row], budgets: Sequence[int], pairs: Sequence[tuple[str, Figure, Figure]]) -> list[str]:
    """Kendall's τ of each pair of figures, at each budget and over all."""
    lines = [f"| | {' | '.join(map(str, budgets))} | all |", "|---|" + "---:|" * (len(budgets) + 1)]
    for name, first, second in pairs:
        each = [agreement([row for row in rows if row.budget == budget], first, second) for budget in budgets]
        lines.append(f"| {name} | {' | '.join(map(str, (*each, agreement(rows, first, second))))} |")
    return [*lines, ""]


def disagreements(rows: Sequence[Row], first: Figure, second: Figure, most: int) -> list[str]:
    """The pairs that are apart in both figures and ordered the other way round, furthest apart by the second first."""

    def ratio(pair: tuple[Row, Row]) -> float:
        (better, worse) = (second(row) for row in pair)
        assert better is not None and worse is not None
        return better.value / worse.value

    found = sorted(agreement(rows, first, second).against, key=ratio, reverse=True)[:most]
    lines = ["| NFE | better by the first | | | better by the second | | |", "|---:|---|---:|---:|---|---:|---:|"]
    for pair in found:
        sides = [f"{row.solver} | {cell(first(row), '.4g')} | {cell(second(row), '.4g')}" for row in pair]
        lines.append(f"| {pair[0].budget:g} | {' | '.join(sides)} |")
    return [*lines, ""]

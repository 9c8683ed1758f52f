"""What a benchmark varies: solvers with their options, grids, budgets, guidance, precision, compilation."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import solvers
from scoresde.files import digest_of
from scoresde.process import Process
from scoresde.sampling import fit_steps
from scoresde.tuned import TunedSolver
from solvers import Solver
from solvers.errors import known
from solvers.grids import Grid

OWN_STEPS = "own steps"
CEILING = "max_nfe"  # an option that changes no result: a run ends below it, or in an error
# Options that came when there were results without them: at their defaults they are not recorded.
LATER = {
    "auto": ("scale",),
    "uni_pc": ("lower_order_final",),
    "dpmpp_3m": ("solver_type", "lower_order_final"),
    "dpm_solver_3m": ("solver_type", "lower_order_final"),
    "dpmpp_3s": ("nodes",),
    "dpm_solver_3": ("nodes",),
}
COMPILE = ("default", "reduce-overhead", "max-autotune")  # modes of torch.compile


@dataclass(frozen=True)
class Case:
    """One row to be measured.

    Attributes:
        solver: with its options.
        budget: NFE, or the tolerance of an adaptive solver.
        grid: None is the solver's recommended one.
        guidance: name of a guide, "" for none.
        dtype: precision of the network.
        compile: mode of torch.compile, "" for none.
    """

    solver: Solver
    budget: float
    grid: Grid | None
    guidance: str
    dtype: str
    compile: str

    @property
    def label(self) -> str:
        """The solver's name and the options that are not at their defaults, ``heun(s_churn=10)``."""
        return describe(self.solver)

    @property
    def place(self) -> str:
        """The grid in words."""
        return OWN_STEPS if self.solver.adaptive else str(self.grid or self.solver.recommended)

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stand for everything in it."""
        options = recorded(self.solver.name, self.solver.options)
        if isinstance(self.solver, TunedSolver):
            options["sha256"] = self.solver.digest
        content = [self.solver.name, options, self.place, float(self.budget)]
        content += [self.guidance, self.dtype, self.compile]
        return digest_of([json.dumps(content, sort_keys=True)])[:16]


def recorded(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A solver's options without what changes no result, or was no option once, so that earlier results are found."""
    later = LATER.get(name, ())
    defaults = solvers.get(name).options if later else {}
    return {
        key: value for key, value in options.items() if key != CEILING and not (key in later and value == defaults[key])
    }


def describe(solver: Solver) -> str:
    """The solver's name and the options that are not at their defaults; a method in any case, a tolerance in none.

    Tolerances are the budget of an adaptive solver: rows that differ in them are points of one curve.
    """
    if isinstance(solver, TunedSolver):
        return solver.name
    defaults = solvers.get(solver.name).options
    hidden = ("rtol", "atol", CEILING) if solver.adaptive else ()
    changed = ", ".join(
        f"{key}={value}"
        for key, value in solver.options.items()
        if key not in hidden and (value != defaults[key] or key == "method")
    )
    return f"{solver.name}({changed})" if changed else solver.name


def expand(entry: str | Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names with options from ``heun``, ``{name: ddim, eta: 1}``, or ``{name: ddim, eta: [0, 1]}``, one for each value.

    Null is the empty name.

    Raises:
        ValueError: a mapping without a name.
    """
    options = dict(entry) if isinstance(entry, Mapping) else {"name": entry or ""}
    if "name" not in options:
        raise ValueError(f"write a name, or {{name: …}} with its options, got {entry!r}")
    name = str(options.pop("name") or "")
    lists = [value if isinstance(value, list) else [value] for value in options.values()]
    for values in itertools.product(*lists):
        yield name, dict(zip(options, values, strict=True))


def cases(
    process: Process,
    chosen: Sequence[Solver],
    *,
    budgets: Sequence[int],
    tolerances: Sequence[float],
    grids: Sequence[Grid | None] = (None,),
    guidance: Sequence[str] = ("",),
    dtypes: Sequence[str] = ("float32",),
    compiles: Sequence[str] = ("",),
) -> list[Case]:
    """Every combination once: budgets for solvers on a grid, tolerances (rtol = atol) for adaptive ones.

    Budgets that the same number of steps fills best are one row, that of the smallest.

    Raises:
        ValueError: a budget that holds no step, or an unknown mode of compilation.
    """
    for mode in compiles:
        if mode:
            known("compile mode", mode, COMPILE)
    found: list[Case] = []
    for guide, dtype, mode, solver in itertools.product(guidance, dtypes, compiles, chosen):
        if solver.adaptive:
            for tolerance in tolerances:
                at = solvers.get(solver.name, **{**solver.options, "rtol": tolerance, "atol": tolerance})
                found.append(Case(at, float(tolerance), None, guide, dtype, mode))
            continue
        for grid in grids:
            rule = grid or solver.recommended
            falling = sorted(budgets, reverse=True)
            fitting = {len(rule(process, fit_steps(solver, process, rule, budget))): budget for budget in falling}
            found += [Case(solver, float(budget), grid, guide, dtype, mode) for budget in sorted(fitting.values())]
    return list({case.key: case for case in found}.values())

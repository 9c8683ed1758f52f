"""Which grid and which end suit which solver: python benchmarks/tuning/grids.py [--out benchmarks/results/grids.md].

Every deterministic solver on every grid and every last noise level before the final denoise, at several budgets, on
three exact problems on three processes and on the bundled model. The measure is the root mean square error from the
converged solution. Errors of one problem and budget are divided by the best that any solver reached there on any grid,
and the geometric mean over problems compares what is left.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import solvers
from benchmarks.recorded import RESULTS
from benchmarks.tuning.problems import EXACT, Problem, bundled, exact
from scoresde.files import replacing
from scoresde.process import EDM, VP, Flow
from scoresde.runs.hardware import describe
from solvers import PlannedSolver

NFE = (5, 8, 10, 15, 20, 30, 50)
MODEL_NFE = (5, 10, 20)
MODEL_PLACES = [
    ("quadratic", None),
    *((name, "by_steps") for name in ("quadratic", "uniform", "log_snr", "karras", "kl_optimal")),
]
ENDS = (None, "by_steps")  # of the last noisy time
FIXED_ENDS = (0.02, 0.05, 0.1)  # tried too, on the quadratic grid
PROCESSES = {"VP": VP(), "EDM": EDM(), "Flow": Flow()}
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("deis", {"order": 2}),
    ("deis", {"order": 3}),
    ("deis", {"starter": "singlestep"}),
    ("dpmpp_3m", {"starter": "singlestep"}),
    ("dpmpp_3m", {"variant": "published"}),
    ("eab", {"order": 2, "frame": "vp"}),
    ("eab", {"order": 3, "frame": "vp"}),
    ("eab", {"order": 3, "frame": "edm"}),
    ("eab", {"order": 3, "frame": "flow", "variable": "frame"}),
    ("eab", {"order": 3, "frame": "data", "variable": "vp_time"}),
    ("eab", {"order": 4}),
    ("ipndm", {"order": 2}),
    ("ipndm", {"order": 3}),
    ("lms", {"order": 2}),
    ("lms", {"order": 3}),
    ("reab", {"data_std": 0.5}),
    ("reab", {"order": 2, "data_std": 0.5}),
    ("uni_pc", {"frame": "edm"}),
    ("uni_pc", {"order": 3}),
    ("uni_pc", {"order": 3, "frame": "edm"}),
    ("uni_pc", {"order": 3, "variant": "bh1"}),
    ("uni_pc", {"order": 3, "starter": "singlestep"}),
    ("uni_pc", {"order": 4}),
]
Place = tuple[str, float | str | None]  # grid and end
Key = tuple[str, str, float | str | None, int]  # solver, grid, end, NFE


def candidates() -> list[PlannedSolver]:
    """Every planned solver of a deterministic order at its defaults, and some variants."""
    named = [solvers.get(name) for name in solvers.names()] + [solvers.get(name, **options) for name, options in OTHERS]
    return [solver for solver in named if isinstance(solver, PlannedSolver) and solver.order is not None]


def places() -> Iterator[Place]:
    """Grids without their second names, with every end that they take."""
    for name in solvers.grids.names():
        if solvers.grids.get(name).rule.__name__ == name:
            yield from ((name, end) for end in ENDS if end is None or "end" in solvers.grids.get(name).options)
    yield from (("quadratic", end) for end in FIXED_ENDS)


def label(solver: PlannedSolver) -> str:
    """Its name, with the options that are not the defaults."""
    defaults = solvers.get(solver.name).options
    return " ".join(
        [solver.name, *(f"{key}={value}" for key, value in solver.options.items() if value != defaults[key])]
    )


@cache
def counts(solver: PlannedSolver) -> list[int]:
    """Evaluations for 1, 2, … steps."""
    process, rule = EDM(), solvers.grids.get("log_snr")
    return [solver.nfe(process, rule(process, steps)) for steps in range(1, max(NFE) + 1)]


def largest(solver: PlannedSolver, nfe: int) -> int:
    """The most steps that take at most so many evaluations, 0 if there are none."""
    return sum(count <= nfe for count in counts(solver))


def measure(problems: list[Problem], budgets: tuple[int, ...], where: list[Place]) -> dict[str, dict[str, float]]:
    """Errors by problem and by the JSON of a key; problems share one process, hence plans."""
    process = problems[0].process
    found: dict[str, dict[str, float]] = {f"{problem.name} {process.name}": {} for problem in problems}
    for solver, nfe in itertools.product(candidates(), budgets):
        steps = largest(solver, nfe)
        if steps < 2:
            continue
        for grid, end in where:
            options = {} if end is None else {"end": end}
            times = solvers.grids.get(grid, **options)(process, steps)
            plan = solver.plan(process, times, "sample")
            key = json.dumps([label(solver), grid, end, nfe])
            for problem in problems:
                found[f"{problem.name} {process.name}"][key] = problem.error(plan)
    return found


def _job(name: str) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    if name == "mnist":
        return measure([bundled()], MODEL_NFE, MODEL_PLACES)
    return measure([exact(problem, PROCESSES[name]) for problem in EXACT], NFE, list(places()))


def relative(errors: Mapping[str, Mapping[str, float]]) -> dict[Key, dict[str, float]]:
    """For each key and problem, the error over the best that any solver reached there at that budget."""
    table: dict[Key, dict[str, float]] = {}
    for problem, values in errors.items():
        keys = {tuple(json.loads(key)): value for key, value in values.items()}
        best: dict[int, float] = {}
        for key, value in keys.items():
            if math.isfinite(value):
                best[key[3]] = min(best.get(key[3], math.inf), value)
        for key, value in keys.items():
            table.setdefault(key, {})[problem] = min(value / best[key[3]], 1e6) if math.isfinite(value) else 1e6
    return table


def mean(values: Sequence[float]) -> float:
    """Geometric, nan of none."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "grids.md")
    parser.add_argument("--errors", type=Path, help="where all errors are kept as JSON; read if it exists")
    arguments = parser.parse_args()
    start = time.perf_counter()
    if arguments.errors and arguments.errors.exists():
        kept = json.loads(arguments.errors.read_text())
    else:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            parts = pool.map(_job, ["mnist", *PROCESSES], chunksize=1)
        errors = {problem: values for part in parts for problem, values in part.items()}
        kept = {"seconds": time.perf_counter() - start, "errors": errors}
        if arguments.errors:
            with replacing(arguments.errors) as path:
                path.write_text(json.dumps(kept))
    text = report(relative(kept["errors"]), kept["seconds"])
    with replacing(arguments.out) as path:
        path.write_text(text, encoding="utf-8")
    print(text)


def regrets(table: Mapping[Key, Mapping[str, float]], solver: str) -> dict[Place, dict[int, float]]:
    """For each place and budget, a solver's error over its smallest on any grid (geometric mean of problems)."""
    values: dict[int, dict[Place, dict[str, float]]] = {}
    for (name, grid, end, nfe), found in table.items():
        if name == solver:
            values.setdefault(nfe, {})[grid, end] = dict(found)
    result: dict[Place, dict[int, float]] = {}
    for nfe, grids in values.items():
        problems = set().union(*grids.values())
        least = {problem: min(found[problem] for found in grids.values() if problem in found) for problem in problems}
        for place, found in grids.items():
            result.setdefault(place, {})[nfe] = mean([value / least[problem] for problem, value in found.items()])
    return result


def report(table: Mapping[Key, Mapping[str, float]], seconds: float) -> str:
    """What each grid costs over all solvers, and how each solver does on the grid that it recommends."""
    solvers_by_label = {label(solver): solver for solver in candidates()}
    lost = {name: regrets(table, name) for name in solvers_by_label}
    head = " | ".join(map(str, NFE))
    lines = [
        "# Grids and ends",
        "",
        f"Written by `python benchmarks/tuning/grids.py`, {seconds:.0f} s on {describe(torch.device('cpu'))}, two "
        "processes. "
        f"{len(solvers_by_label)} deterministic solvers and variants on {', '.join(EXACT)} (exact; VP, EDM, Flow) and, "
        f"at {', '.join(map(str, MODEL_NFE))} evaluations on some of the grids, on the bundled model.",
        "",
        "## Which grid",
        "",
        "Error on a grid over the smallest on any grid, of the same solver, problem and budget: geometric mean over "
        "solvers and problems, by NFE. `by_steps` ends at σ/α = 4/steps², at most 0.1.",
        "",
        f"| grid | end | {head} | all | bundled model |",
        "|---|---|" + "---:|" * (len(NFE) + 2),
    ]
    rows = []
    for grid, end in places():
        cells = [[lost[name][grid, end][nfe] for name in lost if nfe in lost[name][grid, end]] for nfe in NFE]
        own = [
            value / min(_mnist(table, name, nfe).values())
            for name in lost
            for nfe in MODEL_NFE
            for place, value in _mnist(table, name, nfe).items()
            if place == (grid, end)
        ]
        rows.append((mean(sum(cells, [])), grid, end, [mean(cell) for cell in cells], mean(own) if own else None))
    for total, grid, end, cells, model in sorted(rows, key=lambda row: row[0]):
        numbers = " | ".join(f"{cell:.2f}" for cell in [*cells, total])
        lines.append(f"| {grid} | {end or 't_min'} | {numbers} | {'–' if model is None else f'{model:.2f}'} |")
    lines += [
        "",
        "## Each solver on its recommended grid",
        "",
        "Error over the smallest of all solvers and grids of this table at that budget, geometric mean over the exact "
        "problems; then what the recommended grid costs against the solver's best one, problem by problem, and the "
        "grid that costs least over all budgets.",
        "",
        f"| solver | grid | {head} | cost | least | at |",
        "|---|---|" + "---:|" * (len(NFE) + 2) + "---|",
    ]
    for name, solver in solvers_by_label.items():
        chosen = (solver.grid, solver.recommended.options.get("end"))
        cells = []
        for nfe in NFE:
            found = table.get((name, *chosen, nfe))
            cells.append("–" if found is None else f"{mean([v for p, v in found.items() if 'mnist' not in p]):.1f}")
        cost = {place: mean(list(values.values())) for place, values in lost[name].items()}
        best = min(cost, key=lambda place: cost[place])
        where = best[0] if best[1] == "by_steps" else f"{best[0]}, {best[1] or 't_min'}"
        lines.append(
            f"| {name} | {solver.grid} | {' | '.join(cells)} | {cost[chosen]:.2f} | {cost[best]:.2f} | {where} |"
        )
    return "\n".join(lines) + "\n"


def _mnist(table: Mapping[Key, Mapping[str, float]], name: str, nfe: int) -> dict[Place, float]:
    """Errors on the bundled model by place."""
    found = {place: table.get((name, *place, nfe), {}) for place in MODEL_PLACES}
    return {place: next((v for p, v in values.items() if "mnist" in p), math.inf) for place, values in found.items()}


if __name__ == "__main__":
    main()

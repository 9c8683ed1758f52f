"""Which grid suits which stochastic solver.

    python benchmarks/tuning/grids_sde.py [--out benchmarks/results/grids_sde.md]

Every stochastic solver on every grid and end of :mod:`benchmarks.tuning.grids`, at several budgets, on VP, EDM and
Flow. The measure is the Fréchet distance of the samples from Gaussian data, exact by :meth:`solvers.Plan.moments` and
without sampling: data of mean ½ whose variances fall as 1/k², as the spectra of images do, down to a noise floor.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import solvers
from benchmarks.recorded import RESULTS
from benchmarks.tuning.grids import NFE, PROCESSES, Place, label, largest, mean, places
from scoresde.files import replacing
from scoresde.process import Process
from scoresde.runs.hardware import describe
from solvers import PlannedSolver

VARIANCES = 25 / torch.arange(1.0, 257.0, dtype=torch.float64) ** 2 + 0.02**2
OTHERS = [
    ("ddim", {"eta": 1.0}),
    ("dpmpp_2m_sde", {"eta": 0.5}),
    ("dpmpp_2m_sde", {"solver_type": "heun"}),
    ("er_sde", {"order": 2}),
    ("heun", {"s_churn": 4.0}),
    ("sa_solver", {"order": 2, "corrector_order": 2}),
]
Errors = dict[tuple[str, Place, int], list[float]]  # by solver, place and budget, one for each process


def candidates() -> list[PlannedSolver]:
    """Every planned stochastic solver at its defaults, and some variants."""
    named = [solvers.get(name) for name in solvers.names()] + [solvers.get(name, **options) for name, options in OTHERS]
    return [solver for solver in named if isinstance(solver, PlannedSolver) and solver.stochastic]


def error(solver: PlannedSolver, process: Process, place: Place, steps: int) -> float:
    """Fréchet distance at zero noise."""
    grid, end = place
    rule = solvers.grids.get(grid, **({} if end is None else {"end": end}))
    moments = solver.plan(process, rule(process, steps), "sample").moments(process, 0.5, VARIANCES)
    found = math.sqrt(float(moments.frechet.sum()))
    return found if math.isfinite(found) else math.inf


def measured() -> Iterator[tuple[tuple[str, Place, int], list[float]]]:
    """Every error."""
    for solver in candidates():
        for nfe in NFE:
            steps = largest(solver, nfe)
            for place in places() if steps > 1 else ():
                yield (label(solver), place, nfe), [error(solver, p, place, steps) for p in PROCESSES.values()]


def costs(errors: Errors, name: str) -> dict[Place, float]:
    """For each place, a solver's error over its smallest on any, geometric mean over processes and budgets."""
    ratios: dict[Place, list[float]] = {}
    for solver, place, nfe in errors:
        if solver == name:
            rivals = [values for (s, _, n), values in errors.items() if (s, n) == (name, nfe)]
            least = [min(values) for values in zip(*rivals, strict=True)]
            found = errors[solver, place, nfe]
            ratios.setdefault(place, []).extend(min(a / b, 1e6) for a, b in zip(found, least, strict=True))
    return {place: mean(values) for place, values in ratios.items()}


def words(place: Place) -> str:
    return f"{place[0]}, {place[1] or 't_min'}"


def report(errors: Errors, seconds: float) -> str:
    """What each place costs over all solvers, and each solver on the grid that it recommends."""
    chosen = {label(s): (s.grid, s.recommended.options.get("end")) for s in candidates()}
    cost = {name: costs(errors, name) for name in chosen}
    over_all = {place: mean([values[place] for values in cost.values()]) for place in places()}
    head = " | ".join(map(str, NFE))
    lines = [
        "# Grids and ends of stochastic solvers",
        "",
        f"Written by `python benchmarks/tuning/grids_sde.py`, {seconds:.0f} s on {describe(torch.device('cpu'))}. "
        "Fréchet "
        f"distance from Gaussian data with {len(VARIANCES)} variances 25/k² + 0.02², mean ½, exact by `Plan.moments`; "
        f"{', '.join(PROCESSES)}.",
        "",
        "## Which grid",
        "",
        "Distance on a grid over the smallest on any grid, of the same solver, process and budget: geometric mean.",
        "",
        "| grid, end | all |",
        "|---|---:|",
        *(f"| {words(place)} | {value:.2f} |" for place, value in sorted(over_all.items(), key=lambda item: item[1])),
        "",
        "## Each solver on its recommended grid",
        "",
        "Distance by NFE, geometric mean over the processes; what the recommended grid costs against the best one for "
        "each process and budget, and the grid that costs least.",
        "",
        f"| solver | grid | {head} | cost | least | at |",
        "|---|---|" + "---:|" * (len(NFE) + 2) + "---|",
    ]
    for name, place in chosen.items():
        found = [errors.get((name, place, nfe)) for nfe in NFE]
        cells = ["–" if values is None else f"{mean(values):.2g}" for values in found]
        best = min(cost[name], key=lambda other: cost[name][other])
        row = [name, words(place), *cells, f"{cost[name][place]:.2f}", f"{cost[name][best]:.2f}", words(best)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "grids_sde.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    text = report(dict(measured()), time.perf_counter() - start)
    with replacing(arguments.out) as path:
        path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""What solver=auto and grid=auto are made of: python benchmarks/tuning/auto.py --data FOLDER.

For each number of evaluations and each of some solvers, the three numbers of the grid ``beta_log_snr`` (alpha, beta and
end) are tuned together for the problems of :mod:`benchmarks.peers.problems` on VP and EDM: what is minimised is the
mean over them of ¾ log(root mean square error) + ¼ log(median error), by Nelder–Mead. Start points are others than
those that benchmarks/peers/compare.py compares on. The table of ``solvers/grids/auto.py`` follows these numbers for
``uni_pc``; where errors are flat in them, it leans to what two problems of :mod:`benchmarks.tuning.problems` (low rank,
points) and the bundled model prefer. Beside it stands what that table gives, and the same on the bundled model.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from benchmarks.peers import problems as peer_problems
from benchmarks.peers.problems import Problem
from benchmarks.recorded import RESULTS
from benchmarks.tuning.grids import label, mean
from benchmarks.tuning.problems import bundled, planned
from scoresde.files import replacing
from scoresde.process import EDM, VP
from scoresde.runs.hardware import describe
from solvers import PlannedSolver
from solvers.grids.auto import auto as auto_grid
from solvers.grids.auto import placed
from solvers.grids.grid import Array
from solvers.steps import Process

PROCESSES = (VP(), EDM())
NFE = (5, 6, 8, 10, 12, 15, 20, 30, 50)
MODEL_NFE = (5, 8, 10, 15, 20)
SEED = 5
CANDIDATES = [
    planned("uni_pc", order=3, variant="vary_coeff"),
    planned("uni_pc", order=3, variant="bh1"),
    planned("uni_pc", order=3, variant="vary_coeff", frame="flow"),
    planned("dpmpp_2m"),
    planned("deis"),
    planned("eab", order=3, variable="vp_time"),
]
STARTS = {5: 0.14, 6: 0.14, 8: 0.12, 10: 0.1, 12: 0.08, 15: 0.04, 20: 0.014, 30: 0.006, 50: 0.004}  # of end
RIVALS = ("dpmpp_2m", "uni_pc", "deis", "ipndm", "ddim")

Place = Callable[[Process, int], Array]  # the noisy times
Tuned = tuple[float, tuple[float, float, float]]  # the mean of log errors, and alpha, beta and end


def score(solver: PlannedSolver, place: Place, steps: int, problems: Sequence[Problem]) -> float:
    """The mean of ¾ log RMSE + ¼ log median over the problems."""
    total = 0.0
    for problem in problems:
        times = [*place(problem.process, steps), problem.process.t_clean]
        plan = solver.plan(problem.process, times, "sample")
        rmse, median = problem.errors(plan.run(problem.predict, problem.start))
        total += 0.75 * math.log(rmse) + 0.25 * math.log(median)
    return total / len(problems) if math.isfinite(total) else math.inf


def tune(solver: PlannedSolver, steps: int, problems: Sequence[Problem]) -> Tuned:
    """The best alpha, beta and end for that many steps."""

    def objective(logs: np.ndarray) -> float:
        alpha, beta, end = np.exp(logs)
        return score(solver, lambda process, steps: placed(process, steps, alpha, beta, end), steps, problems)

    start = np.log([1.3, 1.2, STARTS[steps]])
    simplex = start + np.array([[0, 0, 0], [0.25, 0, 0], [0, 0.25, 0], [0, 0, 0.5]])
    options = {"maxfev": 60, "xatol": 0.02, "fatol": 0.003, "initial_simplex": simplex}
    found = minimize(objective, start, method="Nelder-Mead", options=options)
    alpha, beta, end = (float(f"{value:.2g}") for value in np.exp(found.x))
    return objective(np.log([alpha, beta, end])), (alpha, beta, end)


def _job(arguments: tuple[int, list[peer_problems.Source]]) -> tuple[list[Tuned], float]:
    steps, sources = arguments
    torch.set_num_threads(1)
    problems = [peer_problems.exact(source, process, 400) for process in PROCESSES for source in sources]
    auto = planned("auto")
    return [tune(solver, steps, problems) for solver in CANDIDATES], score(auto, auto_grid, steps, problems)


def on_bundled() -> dict[str, list[float]]:
    """Errors on the bundled model by solver, each on the grid that it recommends."""
    problem = bundled()
    found: dict[str, list[float]] = {}
    for name in ("auto", *RIVALS):
        solver = planned(name)
        found[name] = [
            problem.error(solver.plan(problem.process, solver.recommended(problem.process, nfe), "sample"))
            for nfe in MODEL_NFE
        ]
    return found


def report(tuned: dict[int, tuple[list[Tuned], float]], model: dict[str, list[float]], seconds: float) -> str:
    budgets = sorted(tuned)
    few = [nfe for nfe in budgets if nfe <= 20]
    head = " | ".join(map(str, budgets))
    least = {nfe: min(value for value, _ in found) for nfe, (found, _) in tuned.items()}
    rows = [
        (label(solver), [math.exp(tuned[nfe][0][k][0] - least[nfe]) for nfe in budgets])
        for k, solver in enumerate(CANDIDATES)
    ]
    rows.append(("**auto**, by its table", [math.exp(tuned[nfe][1] - least[nfe]) for nfe in budgets]))
    lines = [
        "# What `auto` is made of",
        "",
        f"Written by `python benchmarks/tuning/auto.py --data FOLDER --nfe {' '.join(map(str, budgets))}`, "
        f"{seconds:.0f} s "
        f"on {describe(torch.device('cpu'))}, "
        "two processes; its docstring says how.",
        "",
        "## Solvers, each on a grid tuned for it",
        "",
        "Error over the best of the column, geometric mean over problems of RMSE^¾ median^¼, by NFE; last the mean "
        "over 5 to 20.",
        "",
        f"| solver | {head} | 5 to 20 |",
        "|---|" + "---:|" * (len(budgets) + 1),
    ]
    for name, ratios in sorted(rows, key=lambda row: mean(row[1][: len(few)])):
        lines.append(f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} | {mean(ratios[: len(few)]):.2f} |")
    lines += ["", "## Tuned numbers: alpha, beta, end", "", f"| solver | {head} |", "|---|" + "---|" * len(budgets)]
    for k, solver in enumerate(CANDIDATES):
        cells = [", ".join(f"{value:g}" for value in tuned[nfe][0][k][1]) for nfe in budgets]
        lines.append(f"| {label(solver)} | {' | '.join(cells)} |")
    lines += [
        "",
        "## On the bundled model",
        "",
        "Root mean square error from the converged solution of ten images, each solver on its recommended grid, by "
        "NFE.",
        "",
        f"| solver | {' | '.join(map(str, MODEL_NFE))} |",
        "|---|" + "---:|" * len(MODEL_NFE),
        *(f"| {name} | {' | '.join(f'{error:.3f}' for error in errors)} |" for name, errors in model.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"folder with {' and '.join(peer_problems.FILES.values())}")
    parser.add_argument("--nfe", nargs="+", type=int, choices=NFE, default=NFE, help="budgets")
    parser.add_argument("--out", type=Path, default=RESULTS / "auto.md")
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        sources = peer_problems.sources(arguments.data, seed=SEED)
    except peer_problems.MissingDataError as error:
        parser.error(str(error))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        jobs = [(nfe, sources) for nfe in sorted(arguments.nfe, reverse=True)]
        tuned = dict(zip([nfe for nfe, _ in jobs], pool.map(_job, jobs, chunksize=1), strict=True))
    torch.set_num_threads(2)
    text = report(tuned, on_bundled(), time.perf_counter() - start)
    with replacing(arguments.out) as path:
        path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

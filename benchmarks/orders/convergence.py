"""The certificate of every solver: measured orders, error constants and full-range slopes.

``python benchmarks/orders/convergence.py`` (or ``make certify``) measures everything in two processes and writes
numbers, table and figure: ``results/convergence.json``, ``.md`` and ``.png``. It fails where a declared order does not
hold.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from tqdm import tqdm

import solvers
from benchmarks import recorded
from benchmarks.orders.cases import DETERMINISTIC, PROCESSES, STOCHASTIC, Case, label
from benchmarks.orders.figure import draw
from benchmarks.orders.report import GRIDS, failures, report
from scoresde.files import replacing
from scoresde.runs.hardware import cpu
from solvers import PlannedSolver, Solver
from solvers.certificate.orders import OrderCertificate, certify_order, ode_error
from solvers.certificate.slopes import SHAPES, Slopes, smooth_grid
from solvers.certificate.weak import certify_weak, check_quadrature, remembered
from solvers.errors import nearest

RESULTS = recorded.RESULTS / "convergence.json"
FULL_STEPS = (16, 32, 64, 128)
TOLERANCES = tuple(10.0**-k for k in range(3, 10))

Row = dict[str, Any]


def measure(workers: int, deterministic: Sequence[Case], stochastic: Sequence[Case]) -> dict[str, Any]:
    """Everything the report shows."""
    start = time.perf_counter()
    # Weak orders take longest, so they come first.
    tasks = [(_weak, *case, process) for case in stochastic for process in PROCESSES]
    tasks += [(_order, *case, process) for case in deterministic for process in PROCESSES]
    # Spawned: a forked child may inherit a lock of torch's threads.
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        found = iter(list(tqdm(pool.imap(_call, tasks), total=len(tasks), disable=None)))
    weak = [{**_head(*case), "processes": {process: next(found) for process in PROCESSES}} for case in stochastic]
    order = [{**_head(*case), "processes": {process: next(found) for process in PROCESSES}} for case in deterministic]
    tolerance = {label: [_rounded(error) for error in tolerances(label)] for label in PROCESSES}
    environment = {
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (torch, np, scipy)},
        "cpu": cpu(),
        "workers": workers,
        "seconds": round(time.perf_counter() - start),
    }
    return {"environment": environment, "order": order, "weak_order": weak, "tolerance": tolerance}


def _call(task: tuple[Callable[..., Row], str, dict[str, Any], str]) -> Row:
    function, *arguments = task
    return function(*arguments)


def _head(name: str, options: dict[str, Any]) -> Row:
    solver = solvers.get(name, **options)
    declared = solver.weak_order if solver.stochastic else solver.order
    return {"solver": name, "options": options, "declared": declared, "evaluations": evaluations(solver)}


def evaluations(solver: Solver) -> tuple[int, int]:
    """(a, b) of NFE = a · steps + b without a final denoise, b being what the start costs beyond the other steps."""
    process = PROCESSES["VP"]
    few, many = (solver.nfe(process, smooth_grid(process, "uniform", steps)) for steps in (10, 20))
    each = (many - few) // 10
    return each, few - 10 * each


def _order(name: str, options: dict[str, Any], process: str) -> Row:
    """Orders on all shapes, and errors from t_max to t_min on the solver's own grid and on the common ones."""
    solver, forward = solvers.get(name, **options), PROCESSES[process]
    rules = {name: solvers.grids.get(name) for name in (solver.grid, *GRIDS)}
    full = {
        name: [_rounded(ode_error(solver, forward, rule(forward, steps + 1)[:-1])) for steps in FULL_STEPS]
        for name, rule in rules.items()
    }
    shapes = {shape: _certificate(certify_order(solver, forward, shape)) for shape in SHAPES}
    return {"shapes": shapes, "grid": solver.grid, "full_range": full}


def _weak(name: str, options: dict[str, Any], process: str) -> Row:
    solver, forward = solvers.get(name, **options), PROCESSES[process]
    assert isinstance(solver, PlannedSolver)
    shapes = {}
    for shape in SHAPES:
        found = certify_weak(solver, forward, shape, deep_too=(process, shape) == ("VP", "quadratic"))
        shapes[shape] = {
            "holds": found.holds,
            "measured": _rounded(found.measured),
            "total": _series(found.mixture or found.frechet, found.declared),
            "frechet": _series(found.frechet, found.declared),
        }
        if found.exceeds:
            shapes[shape]["exceeds"] = True
    depth = remembered(solver, forward)
    check = check_quadrature(solver, forward, "quadratic", 32)
    quadrature = {"steps": 32, **{name: _rounded(value) for name, value in check.items()}}
    return {"shapes": shapes, "quadrature": quadrature, "remembers": depth}


def _certificate(found: OrderCertificate) -> Row:
    row = {"holds": found.holds, "measured": _rounded(found.measured), "total": _series(found.total, found.declared)}
    if found.start is not None:
        row["start"] = _series(found.start, found.declared)
    if found.exceeds:
        row["exceeds"] = True
    return row


def _series(slopes: Slopes, declared: int) -> Row:
    return {
        "steps": [slopes.steps[0], slopes.steps[-1]],
        "errors": [_rounded(error) for error in slopes.errors],
        "slopes": [round(slope, 2) for slope in slopes.slopes],
        "mean": round(slopes.mean, 2),
        "constant": _rounded(slopes.constant(declared)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def tolerances(process: str) -> list[float]:
    """Error of pf_ode's dopri5 at each tolerance, from λ = −1.5 to λ = 2."""
    times = smooth_grid(PROCESSES[process], "uniform", 1)
    return [
        ode_error(solvers.get("pf_ode", method="dopri5", rtol=tolerance, atol=tolerance), PROCESSES[process], times)
        for tolerance in TOLERANCES
    ]


def joined(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Results with new rows in the place of old ones, in the order of the cases, and the seconds of both."""
    result = {**before, "environment": {**new["environment"]}}
    result["environment"]["seconds"] += before["environment"]["seconds"]
    for section, cases in (("order", DETERMINISTIC), ("weak_order", STOCHASTIC)):
        rows = {label(row["solver"], row["options"]): row for row in [*before[section], *new[section]]}
        result[section] = [rows[label(*case)] for case in cases if label(*case) in rows]
    return result


def written(results: Mapping[str, Any]) -> str:
    """The results as JSON with a line for each solver, so that a change shows as one."""

    def line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = [
        f'"{key}":[\n' + ",\n".join(map(line, value)) + "\n]" if isinstance(value, list) else f'"{key}":{line(value)}'
        for key, value in results.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the order of convergence of every solver.")
    parser.add_argument(
        "--out", type=Path, default=RESULTS.with_suffix(".md"), help="the table; .json and .png go beside"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes to measure in, one thread each")
    parser.add_argument(
        "--only", nargs="+", metavar="SOLVER", help="measure these alone, into the results that are there"
    )
    args = parser.parse_args(arguments)
    measured = {case[0] for cases in (DETERMINISTIC, STOCHASTIC) for case in cases}
    for name in args.only or ():
        if name not in measured:
            parser.error(f"no case is called {name!r}{nearest(name, measured)}")
    chosen = [
        [case for case in cases if not args.only or case[0] in args.only] for cases in (DETERMINISTIC, STOCHASTIC)
    ]
    results = measure(args.workers, *chosen)
    if args.only and args.out.with_suffix(".json").exists():
        results = joined(json.loads(args.out.with_suffix(".json").read_text(encoding="utf-8")), results)
    for suffix, content in ((".json", written(results)), (".md", report(results))):
        with replacing(args.out.with_suffix(suffix)) as temporary:
            temporary.write_text(content, encoding="utf-8")
    with replacing(args.out.with_suffix(".png")) as temporary:
        draw(results, temporary)
    seconds = results["environment"]["seconds"]
    print(f"{args.out}, .json and .png written after {seconds} s with {args.workers} processes")
    failed = failures(results)
    if failed:
        sys.exit("\n".join([f"{len(failed)} declared orders do not hold:", *failed]))


if __name__ == "__main__":
    main()

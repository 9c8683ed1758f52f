"""Measured orders of convergence of every solver: python benchmarks/convergence.py [--out convergence.md].

Everything is measured in float64 against a one-dimensional Gaussian mixture, whose score is known exactly.

* Order on the probability-flow ODE: states that are spread over the noisy end lie each on an exact trajectory, and the
  error is the root mean square distance to its end, in units of √(α² + σ²). The exact end comes from DOP853 at a
  relative tolerance of 1e-13.
* Weak order on the reverse SDE: the error of E[φ(x)] at the end, for several φ, of a chain that starts from the exact
  marginal. No sampling: u_k(x) = E_ξ[u_{k+1}(step_k(x, ξ))] is propagated backwards from u_N = φ, with Gauss–Hermite
  quadrature over the draws of a step and a quintic spline in x. Each step is a piece of the whole plan.

Steps are doubled until the slope settles (:func:`settle`), on smooth grids t = φ(i/N) between λ = −1.5 and λ = 2, where
constants are moderate. Slopes on the solvers' own grids from t_max to t_min are reported beside them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import make_interp_spline
from torch import Tensor

import solvers
from scoresde.files import replacing
from scoresde.process import EDM, VP, Flow, Process
from solvers import Plan, PlannedSolver, Solver
from solvers.plan import Draw, Instruction, Lin, Step

Array = NDArray[np.float64]
Functions = Callable[[Array], Array]  # (n,) -> (n, functions)

FIRST, LAST = -1.5, 2.0  # λ between which orders are measured
PROCESSES: dict[str, Process] = {"VP": VP(), "EDM": EDM(), "Flow": Flow()}
TOLERANCES = tuple(10.0**-k for k in range(3, 10))

# Every solver that has an order at its defaults and works on a grid, whatever file it is in, and some variants.
REGISTERED = [solvers.get(name) for name in solvers.names()]
DETERMINISTIC: list[tuple[str, dict[str, Any]]] = [
    *((solver.name, {}) for solver in REGISTERED if solver.order is not None and not solver.adaptive),
    ("dpm_solver_2", {"r1": 0.3}),
    ("euler", {"frame": "vp"}),
    ("euler_maruyama", {"eta": 0.0}),
    ("heun", {"frame": "vp"}),
    ("heun", {"frame": "flow"}),
    ("pf_ode", {"method": "euler"}),
    ("pf_ode", {"method": "midpoint"}),
    ("pf_ode", {"method": "heun2"}),
    ("pf_ode", {"method": "heun3"}),
    ("pf_ode", {"method": "rk4"}),
]
STOCHASTIC: list[tuple[str, dict[str, Any]]] = [
    ("ddim", {"eta": 1.0}),
    ("ddim", {"eta": 0.5}),
    ("ddpm", {}),
    ("euler_maruyama", {"eta": 1.0}),
    ("euler_maruyama", {"eta": 0.5}),
    ("heun", {"s_churn": 2.0}),
    ("heun", {"s_churn": 2.0, "frame": "vp"}),
]


class Mixture:
    """Data Σ_k w_k N(m_k, v_k) on the line: x_t is Σ_k w_k N(α m_k, α² v_k + σ²)."""

    def __init__(self, weights: list[float], means: list[float], variances: list[float]):
        self.weights, self.means, self.variances = (
            torch.tensor(values, dtype=torch.float64) for values in (weights, means, variances)
        )

    def denoised(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[x0 | x_t = x], shape of x (n,)."""
        variance = alpha**2 * self.variances + sigma**2
        outside = x[:, None] - alpha * self.means
        logits = self.weights.log() - 0.5 * variance.log() - 0.5 * outside**2 / variance
        return (logits.softmax(1) * (self.means + alpha * self.variances / variance * outside)).sum(1)

    def expectation(self, functions: Functions, alpha: float, sigma: float, nodes: int = 100) -> Array:
        """E[φ(x_t)] for each φ, by Gauss–Hermite quadrature for each component."""
        xi, weights = _gauss_hermite(nodes)
        total = 0.0
        for w, m, v in zip(self.weights.numpy(), self.means.numpy(), self.variances.numpy(), strict=True):
            total = total + w * (weights @ functions(alpha * m + math.sqrt(alpha**2 * v + sigma**2) * xi))
        return np.asarray(total)

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Mean and variance of the data."""
        mean = float(self.weights @ self.means)
        return mean, float(self.weights @ (self.variances + self.means**2)) - mean**2


MIXTURE = Mixture([0.5, 0.3, 0.2], [-1.0, 0.3, 1.2], [0.1, 0.2, 0.06])


def predictor(process: Process) -> Callable[[Tensor, float], Tensor]:
    """The exact x0-model on that process, as plans call it."""
    return lambda x, t: MIXTURE.denoised(x, process.alpha(t), process.sigma(t))


def smooth_grid(process: Process, shape: str, steps: int) -> Array:
    """Times t = φ(i/steps) from λ = −1.5 to λ = 2 with one smooth φ for all step counts."""
    u = np.linspace(0, 1, steps + 1)
    ends = process.time(FIRST), process.time(LAST)
    if shape == "uniform":
        times = ends[0] + (ends[1] - ends[0]) * u
    elif shape == "quadratic":
        times = (ends[0] ** 0.5 + (ends[1] ** 0.5 - ends[0] ** 0.5) * u) ** 2
    elif shape == "karras":
        low, high = math.exp(-FIRST / 7), math.exp(-LAST / 7)
        times = np.asarray(process.time(-7 * np.log(low + (high - low) * u)))
    else:
        raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    times[0], times[-1] = ends
    return times


SHAPES = ("uniform", "quadratic", "karras")


@dataclass(frozen=True)
class Slopes:
    """Errors at doubled step counts, and the order they show: the last slope, None if it did not settle."""

    steps: list[int]
    errors: list[float]

    @property
    def slopes(self) -> list[float]:
        return [math.log2(a / b) for a, b in zip(self.errors, self.errors[1:], strict=False)]

    @property
    def settled(self) -> bool:
        """Whether the last three slopes lie within 0.1 of each other."""
        last = self.slopes[-3:]
        return len(last) == 3 and max(last) - min(last) < 0.1

    @property
    def order(self) -> float | None:
        return self.slopes[-1] if self.settled else None


def settle(error: Callable[[int], float], floor: float, first: int = 8, most: int = 2048) -> Slopes:
    """Double the steps from ``first`` until the slope settles, the error reaches the floor of rounding, or ``most``."""
    found = Slopes([first], [error(first)])
    while not found.settled and found.errors[-1] > floor and found.steps[-1] < most:
        steps = 2 * found.steps[-1]
        found = Slopes([*found.steps, steps], [*found.errors, error(steps)])
    return found


# The probability-flow ODE


@cache
def trajectories(first: float, last: float) -> tuple[Array, Array]:
    """States x/√(α² + σ²) at λ = first, and where the ODE takes them until λ = last: the same on every process."""

    def slope(angle: float, y: Array) -> Array:  # v, in the frame of α = cos, σ = sin
        alpha, sigma = math.cos(angle), math.sin(angle)
        x0 = MIXTURE.denoised(torch.from_numpy(y), alpha, sigma).numpy()
        return (alpha * y - x0) / sigma

    ends = [math.atan2(1.0, math.exp(value)) for value in (first, last)]
    start = np.linspace(-2.0, 2.0, 41)
    found = solve_ivp(slope, ends, start, method="DOP853", rtol=1e-13, atol=1e-14)
    return start, found.y[:, -1]


def ode_error(solver: Solver, process: Process, times: Array) -> float:
    """Root mean square distance to the exact solution at the last time, in units of √(α² + σ²)."""
    start, end = trajectories(*(process.half_log_snr(float(t)) for t in times[[0, -1]]))
    norms = [math.hypot(process.alpha(float(t)), process.sigma(float(t))) for t in times[[0, -1]]]
    x, predict = torch.from_numpy(start * norms[0]), predictor(process)
    if isinstance(solver, PlannedSolver):
        result = solver.plan(process, times, "sample").run(predict, x)
    else:
        result = solver.run(process, times, predict, x, prediction="sample")
    return float(np.sqrt(np.mean((result.numpy() / norms[1] - end) ** 2)))


def ode_order(solver: Solver, process: Process, shape: str) -> Slopes:
    """The order of a solver on the probability-flow ODE, on smooth grids of one shape."""
    return settle(lambda steps: ode_error(solver, process, smooth_grid(process, shape, steps)), floor=1e-11)


def full_range(solver: Solver, process: Process) -> Slopes:
    """Errors from t_max to t_min on the solver's own grids."""
    rule = solvers.grids.get(solver.grid)
    steps = [16, 32, 64, 128]
    return Slopes(steps, [ode_error(solver, process, rule(process, count + 1)[:-1]) for count in steps])


# The reverse SDE


def observables(x: Array) -> Array:
    """The functions φ whose expectations are compared, (n,) -> (n, 5)."""
    return np.stack([x, x**2, np.cos(2 * x), np.sin(3 * x), np.exp(-2 * (x - 0.5) ** 2)], axis=-1)


@dataclass(frozen=True)
class Quadrature:
    """Points in x for the spline over ±7 standard deviations, and Gauss–Hermite points for each draw."""

    points: int = 300
    draws: int = 10


def pieces(plan: Plan) -> list[Plan]:
    """The steps of a plan as plans of one step each.

    Raises:
        PlanError: a step reads more than the state that it starts from.
    """
    parts: list[Plan] = []
    state, current = 0, []
    for instruction in plan.instructions:
        current.append(_from_zero(instruction, state))
        if isinstance(instruction, Step):
            times = plan.times[len(parts) : len(parts) + 2]
            parts.append(replace(plan, times=times, instructions=tuple(current)))
            state, current = instruction.out, []
    return parts


def _from_zero(instruction: Instruction, state: int) -> Instruction:
    """The instruction with the register ``state`` called 0, the initial state of a plan."""
    if isinstance(instruction, Lin):
        return replace(instruction, terms=tuple((0 if r == state else r, c) for r, c in instruction.terms))
    if isinstance(instruction, Draw):
        return instruction
    return replace(instruction, x=0 if instruction.x == state else instruction.x)


def weak_errors(plan: Plan, process: Process, quadrature: Quadrature) -> Array:
    """E[φ] of the plan's end minus that of the exact marginal, for each φ, from the exact marginal at its start."""
    predict = predictor(process)
    ends = [(process.alpha(t), process.sigma(t)) for t in plan.times]
    later: Functions = observables
    for piece, (alpha, sigma) in zip(reversed(pieces(plan)), reversed(ends[:-1]), strict=True):
        mean, variance = MIXTURE.spread
        width = 7 * math.sqrt(alpha**2 * variance + sigma**2)
        nodes = np.linspace(alpha * mean - width, alpha * mean + width, quadrature.points)
        later = _spline(nodes, _expected(piece, predict, nodes, later, quadrature.draws))
    return MIXTURE.expectation(later, *ends[0]) - MIXTURE.expectation(observables, *ends[-1])


def _expected(piece: Plan, predict: Any, nodes: Array, later: Functions, points: int) -> Array:
    """E_ξ[later(step(x, ξ))] at the nodes, (nodes, functions)."""
    xi, weights = _gauss_hermite(points)
    draws = np.array(list(itertools.product(xi, repeat=piece.draws))).reshape(-1, piece.draws)
    weight = np.array([math.prod(w) for w in itertools.product(weights, repeat=piece.draws)])
    tiled = iter(torch.from_numpy(np.tile(draws, (len(nodes), 1)).T.copy()))
    x = torch.from_numpy(np.repeat(nodes, len(draws)))
    values = later(piece.run(predict, x, lambda: next(tiled)).numpy())
    return np.einsum("q,nqf->nf", weight, values.reshape(len(nodes), len(draws), -1))


def _spline(nodes: Array, values: Array) -> Functions:
    spline = make_interp_spline(nodes, values, k=5)
    return lambda x: spline(np.clip(x, nodes[0], nodes[-1]))


@cache
def _gauss_hermite(nodes: int) -> tuple[Array, Array]:
    """Nodes and weights for the expectation over a standard normal."""
    xi, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return xi, weights / weights.sum()


def weak_order(
    solver: PlannedSolver, process: Process, shape: str, quadrature: Quadrature = Quadrature(), first: int = 8
) -> Slopes:
    """The weak order of a one-step solver, from the root mean square error over the observables."""

    def error(steps: int) -> float:
        plan = solver.plan(process, smooth_grid(process, shape, steps), "sample")
        return float(np.sqrt(np.mean(weak_errors(plan, process, quadrature) ** 2)))

    return settle(error, floor=1e-7, first=first, most=512)


def check_quadrature(solver: PlannedSolver, process: Process, shape: str, steps: int) -> tuple[float, float]:
    """The weak error at that many steps, and how much finer interpolation and quadrature change it."""
    plan = solver.plan(process, smooth_grid(process, shape, steps), "sample")
    coarse, fine = (weak_errors(plan, process, quadrature) for quadrature in (Quadrature(), Quadrature(900, 20)))
    return float(np.sqrt(np.mean(fine**2))), float(np.sqrt(np.mean((fine - coarse) ** 2)))


# The report


def measure() -> dict[str, Any]:
    """Everything the report shows."""
    ode, weak = [], []
    for name, options in DETERMINISTIC:
        solver = solvers.get(name, **options)
        for label, process in PROCESSES.items():
            found = {shape: ode_order(solver, process, shape) for shape in SHAPES}
            row = _row(name, options, label, solver.order, found)
            ode.append({**row, "full_range": _series(full_range(solver, process)), "grid": solver.grid})
    for name, options in STOCHASTIC:
        solver = solvers.get(name, **options)
        assert isinstance(solver, PlannedSolver)
        for label, process in PROCESSES.items():
            found = {shape: weak_order(solver, process, shape) for shape in SHAPES}
            steps = found["uniform"].steps[-1]
            total, numerical = check_quadrature(solver, process, "uniform", steps)
            row = _row(name, options, label, solver.weak_order, found)
            weak.append({**row, "quadrature": {"steps": steps, "weak_error": total, "numerical_error": numerical}})
    return {"order": ode, "weak_order": weak, "tolerance": tolerances()}


def tolerances() -> list[dict[str, Any]]:
    """Error of pf_ode's dopri5 against its tolerance, from λ = −1.5 to λ = 2."""
    rows = []
    for label, process in PROCESSES.items():
        for tolerance in TOLERANCES:
            solver = solvers.get("pf_ode", method="dopri5", rtol=tolerance, atol=tolerance)
            times = smooth_grid(process, "uniform", 1)
            rows.append({"process": label, "tolerance": tolerance, "error": ode_error(solver, process, times)})
    return rows


def _row(
    name: str, options: Mapping[str, Any], process: str, declared: int | None, found: Mapping[str, Slopes]
) -> dict[str, Any]:
    shapes = {shape: _series(slopes) for shape, slopes in found.items()}
    return {"solver": name, "options": dict(options), "process": process, "declared": declared, "shapes": shapes}


def _series(slopes: Slopes) -> dict[str, Any]:
    return {"order": slopes.order, "steps": slopes.steps, "errors": slopes.errors, "slopes": slopes.slopes}


def report(results: Mapping[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "# Measured orders of convergence",
        "",
        "Written by `python benchmarks/convergence.py`; all errors and step counts are in the JSON file beside this.",
        "A one-dimensional Gaussian mixture with its exact score, float64, λ from −1.5 to 2 without final denoise, on "
        "uniform, quadratic and Karras-like grids; steps doubled from 8 until three successive slopes lie within 0.1.",
        "",
        "## On the probability-flow ODE",
        "",
        "*Full range* is from t_max to t_min on the solver's own grid: error at 64 steps, slope from 64 to 128 steps. "
        "On Flow the first step is DDIM's from α = 0 to a λ that tends to −5 as steps are added: its error, "
        "about 2e-5, stays, and high orders level off there.",
        "",
        "| solver | process | declared | measured | full range: error, slope |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in results["order"]:
        full = row["full_range"]
        lines.append(f"{_head(row)} {full['errors'][2]:.1e}, {full['slopes'][-1]:.2f} |")
    lines += [
        "",
        "## Weak order on the reverse SDE",
        "",
        "The error is that of E[φ(x)] for φ = x, x², cos 2x, sin 3x and exp(−2(x − ½)²), root mean square, propagated "
        "without sampling. *Numerical error* is what three times the spline points and twice the quadrature points "
        "change, beside the weak error at the same step count.",
        "",
        "| solver | process | declared | measured | weak error | numerical error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["weak_order"]:
        check = row["quadrature"]
        weak = f"{check['weak_error']:.1e} at {check['steps']} steps"
        lines.append(f"{_head(row)} {weak} | {check['numerical_error']:.0e} |")
    lines += [
        "",
        "## Error of `pf_ode(method='dopri5')` against its tolerance (rtol = atol)",
        "",
        f"| process | {' | '.join(f'{tolerance:.0e}' for tolerance in TOLERANCES)} |",
        f"| --- |{' --- |' * len(TOLERANCES)}",
    ]
    for process in PROCESSES:
        errors = [f"{row['error']:.1e}" for row in results["tolerance"] if row["process"] == process]
        lines.append(f"| {process} | {' | '.join(errors)} |")
    return "\n".join(lines) + "\n"


def _head(row: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
    orders = [series["order"] for series in row["shapes"].values()]
    if None in orders:
        measured = "not settled on " + ", ".join(s for s, series in row["shapes"].items() if series["order"] is None)
    else:
        measured = f"{min(orders):.2f} to {max(orders):.2f}"
    name = f"`{row['solver']}`" + (f" {options}" if options else "")
    return f"| {name} | {row['process']} | {row['declared']} | {measured} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the order of convergence of every solver.")
    default = Path(__file__).parent / "results" / "convergence.md"
    parser.add_argument("--out", type=Path, default=default, help="markdown file; a .json of the same name goes beside")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    results = measure()
    text = report(results)
    for path, content in ((args.out, text), (args.out.with_suffix(".json"), json.dumps(results, indent=1) + "\n")):
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(f"{text}\n{args.out} written after {time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()

"""Our deterministic solvers beside public implementations: python benchmarks/agreement/ode.py [--peers FOLDER].

Each row of ``benchmarks/agreement/table.py`` is one public function with its options and the solver of ours with the
same formula. Both take the same states over the same grid with the same exact score, that of a Gaussian mixture in
three dimensions:

* *difference*: the largest absolute difference after 10 steps from λ = −3 to 4, states of order one;
* *order*: the slope of the error against the exact solution, λ from −1.5 to 2, from 64 to 128 steps. For orders
  p above 2 the first of the N steps is divided into steps that double from 1/N^(p/2) on, so that the first-order start
  of multistep methods does not hide the order of their formula. *On plain grids* it is not, and they fall toward 2;
* *error at 8, 12, 20 evaluations*, root mean square, over all of VP's range (λ from −5.0 to 4.6) without final denoise,
  on a mixture of narrower components.

All grids are quadratic in VP time (for ``dpm_fast`` even in λ). diffusers, azula and k-diffusion are taken from the
installed packages, the others from clones of their repositories in the folder given by --peers (k_diffusion and azula
too, unpacked). A peer that is not there is reported as absent.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

import solvers
from benchmarks.agreement.table import ROWS, Ours, Row
from benchmarks.peers import adapters
from benchmarks.recorded import RESULTS
from scoresde.exact import GaussianMixture
from scoresde.files import replacing
from scoresde.process import EDM, VP, Flow, Process
from solvers import PlannedSolver

Array = NDArray[np.float64]

PROCESSES: dict[str, Process] = {"VP": VP(), "EDM": EDM(1e-3, 1e3), "Flow": Flow()}
MEANS = [[[[-0.6, 0.3, 0.5]]], [[[0.5, 0.4, -0.3]]], [[[0.2, -0.7, 0.1]]]]
TOLERANCE = 1e-5
SMOOTH, NARROW = (0.1, 0.15, 0.08), (0.01, 0.03, 0.005)  # variances of the components
DOUBLED = (32, 64, 128)
BUDGETS = (8, 12, 20)
STATES = 16


# How it is compared


def levels(first: float, last: float, steps: int, order: int = 1, even: bool = False) -> Array:
    """λ at the points of a grid that is quadratic in VP time, or even in λ.

    With an order p > 2 the first step is divided into steps that double from 1/N^(p/2) on: the error of a first-order
    step of that length is of order p.
    """
    u = np.linspace(0, 1, steps + 1)
    if order > 2:
        doublings = math.ceil((order / 2 - 1) * math.log2(steps))
        u = np.concatenate([[0.0], u[1] * 2.0 ** np.arange(-doublings, 0), u[1:]])
    if even:
        return first + (last - first) * u
    ends = [solvers.grids.vp_time(value) ** 0.5 for value in (first, last)]
    lam = solvers.grids.vp_half_log_snr((ends[0] + (ends[1] - ends[0]) * u) ** 2)
    lam[0], lam[-1] = first, last
    return lam


@dataclass(frozen=True)
class Problem:
    """An exact score with states at one noise level and the noise levels to pass."""

    process: Process
    lam: Array
    variances: tuple[float, ...] = SMOOTH

    @functools.cached_property
    def times(self) -> Array:
        return np.array([self.process.time(float(value)) for value in self.lam])

    @functools.cached_property
    def denoised(self) -> Callable[[Tensor, float], Tensor]:
        return GaussianMixture(self.process, [0.5, 0.3, 0.2], MEANS, self.variances).denoised

    def norm(self, t: float) -> float:
        return math.hypot(self.process.alpha(t), self.process.sigma(t))

    @property
    def start(self) -> Tensor:
        return torch.from_numpy(_states()) * self.norm(float(self.times[0]))

    @property
    def end(self) -> Tensor:
        """Where the probability-flow ODE takes them."""
        found = _solution(float(self.lam[0]), float(self.lam[-1]), self.variances)
        return torch.from_numpy(found) * self.norm(float(self.times[-1]))

    def theirs(self, peer: adapters.Peer, row: Row) -> tuple[Tensor, int]:
        """The peer's result and the number of evaluations."""
        calls = 0

        def denoised(x: Tensor, t: float) -> Tensor:
            nonlocal calls
            calls += 1
            return self.denoised(x, t)

        x = peer.sample(denoised, self.process, self.times, self.start, row.function, **row.options)
        return x, calls

    def ours(self, solver: Ours) -> tuple[Tensor, int]:
        """Our result and the number of evaluations."""
        found = solvers.get(solver[0], **solver[1])
        assert isinstance(found, PlannedSolver)
        plan = found.plan(self.process, self.times, "sample")
        return plan.run(self.denoised, self.start), plan.nfe

    def error(self, x: Tensor) -> float:
        return float((x - self.end).square().mean().sqrt())


@functools.cache
def _states() -> Array:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(STATES, 1, 1, 3, generator=generator, dtype=torch.float64).numpy()


@functools.cache
def _solution(first: float, last: float, variances: tuple[float, ...]) -> Array:
    """States of unit scale at λ = first, taken along the ODE in the frame α = cos w, σ = sin w."""
    problem = Problem(VP(), np.array([first, last]), variances)

    def slope(w: float, y: Array) -> Array:
        t = problem.process.time(-math.log(math.tan(w)))
        x = torch.from_numpy(y.reshape(_states().shape))
        return ((math.cos(w) * x - problem.denoised(x, t)) / math.sin(w)).numpy().ravel()

    ends = [math.atan(math.exp(-value)) for value in (first, last)]
    found = solve_ivp(slope, ends, _states().ravel(), method="DOP853", rtol=1e-13, atol=1e-14)
    return found.y[:, -1].reshape(_states().shape)


Run = Callable[[Problem], tuple[Tensor, int]]


def difference(peer: adapters.Peer, row: Row) -> float | None:
    """Largest absolute difference to our solver of the same formula; None if there is none."""
    if row.same is None:
        return None
    problem = Problem(PROCESSES[row.process], levels(-3.0, 4.0, 10, even=row.even))
    return float((problem.theirs(peer, row)[0] - problem.ours(row.same)[0]).abs().max())


def order(run: Run, row: Row, claim: int, floor: float) -> float:
    """Slope of the error at doubled steps, the last one above the floor, on grids that allow the order ``claim``."""
    errors: list[float] = []
    for steps in DOUBLED:
        problem = Problem(PROCESSES[row.process], levels(-1.5, 2.0, steps, claim, row.even))
        errors.append(problem.error(run(problem)[0]))
    last = max([i for i, error in enumerate(errors) if error > floor], default=1)
    return math.log2(errors[max(last, 1) - 1] / errors[max(last, 1)])


def errors(run: Run, row: Row) -> dict[int, float]:
    """Error at each budget of evaluations, with as many steps as it buys, where these are at least four."""
    ends = [VP().half_log_snr(t) for t in (VP.t_max, VP.t_min)]
    found = {}
    for budget in BUDGETS:
        for steps in range(budget, 3, -1):
            lam = levels(ends[0], ends[1], steps, even=row.even)
            problem = Problem(PROCESSES[row.process], lam, NARROW)
            x, calls = run(problem)
            if calls <= budget:
                found[budget] = problem.error(x)
                break
    return found


def measure(row: Row, peer: adapters.Peer) -> dict[str, Any]:
    """Everything the report says about a row."""
    runs: dict[str, Run] = {
        "theirs": lambda problem: problem.theirs(peer, row),
        "ours": lambda problem: problem.ours(row.beside),
    }
    floors = {"theirs": 1e-5 if row.single else 1e-10, "ours": 1e-10}
    return {
        **asdict(row),
        "version": peer.version,
        "difference": difference(peer, row),
        "order": {side: order(run, row, row.claim, floors[side]) for side, run in runs.items()},
        "order on plain grids": {side: order(run, row, 1, floors[side]) for side, run in runs.items()},
        "error": {side: errors(run, row) for side, run in runs.items()},
    }


# The report


def short(row: Mapping[str, Any]) -> bool:
    """Whether theirs misses the order that is claimed for it."""
    return row["order"]["theirs"] < row["claim"] - 0.3


def agrees(row: Mapping[str, Any]) -> bool:
    return row["difference"] is not None and row["difference"] <= TOLERANCE


def report(rows: Sequence[Mapping[str, Any]], absent: Mapping[str, str]) -> str:
    versions = {row["peer"]: row["version"] for row in rows}
    lines = [
        "# Our deterministic solvers beside public implementations",
        "",
        "Written by `python benchmarks/agreement/ode.py --peers FOLDER`; its docstring says how each figure is "
        "measured.",
        *(f"Compared: {peer} {version}." for peer, version in versions.items()),
        *(f"Absent: {peer} ({why})." for peer, why in absent.items()),
        "diffusers' grids are set by hand and its model sees the exact noise levels: the floors that whole timesteps "
        "put under its results are not in these figures. Several of its schedulers carry the state in float32, hence "
        "differences of 1e-7.",
        "",
        "## The same numbers",
        "",
        f"Largest difference to our solver of the same formula, at most {TOLERANCE:.0e}, and the order of theirs.",
        "",
        "| peer | function | process | ours | difference | order claimed | measured |",
        "|---|---|---|---|---:|---:|---:|",
        *(
            f"| {row['peer']} | {_call(row['function'], row['options'])} | {row['process']} | {_call(*row['same'])} | "
            f"{row['difference']:.0e} | {row['claim']} | {row['order']['theirs']:.2f} |"
            for row in rows
            if agrees(row)
        ),
        "",
        "## Not of the order they claim",
        "",
        "Theirs beside our solver of that order. Errors are theirs / ours at "
        + ", ".join(map(str, BUDGETS))
        + " evaluations.",
        "",
        "| peer | function | claimed | theirs | on plain grids | ours | order | "
        + " | ".join(map(str, BUDGETS))
        + " | why |",
        "|---|---|---:|---:|---:|---|---:|" + "---:|" * len(BUDGETS) + "---|",
        *(
            f"| {row['peer']} | {_call(row['function'], row['options'])} | {row['claim']} | "
            f"{row['order']['theirs']:.2f} | {row['order on plain grids']['theirs']:.2f} | "
            f"{_call(*(row['right'] or row['same']))} | {row['order']['ours']:.2f} | "
            + " | ".join(_pair(row, budget) for budget in BUDGETS)
            + f" | {row['flaw'] or 'unexplained'} |"
            for row in rows
            if short(row)
        ),
        "",
        "## Other numbers",
        "",
        "| peer | function | ours | difference | order: claimed | theirs | ours | why |",
        "|---|---|---|---:|---:|---:|---:|---|",
        *(
            f"| {row['peer']} | {_call(row['function'], row['options'])} | {_call(*(row['same'] or row['right']))} | "
            f"{_number(row['difference'])} | {row['claim']} | {row['order']['theirs']:.2f} | "
            f"{row['order']['ours']:.2f} | {row['note'] or 'unexplained'} |"
            for row in rows
            if not agrees(row) and not short(row)
        ),
    ]
    return "\n".join(lines) + "\n"


def _call(name: str, options: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in options.items() if key != "inner")
    return f"`{name}`" + (f" {shown}" if shown else "")


def _pair(row: Mapping[str, Any], budget: int) -> str:
    return " / ".join(_number(row["error"][side].get(budget)) for side in ("theirs", "ours"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def main(argv: Sequence[str] | None = None) -> None:
    command(argv, __doc__, "agreement.md", ROWS, lambda peer, row: measure(row, peer), report)


def command(
    argv: Sequence[str] | None,
    about: str | None,
    name: str,
    rows: Sequence[Any],
    measured: Callable[[adapters.Peer, Any], dict[str, Any]],
    told: Callable[[Sequence[Mapping[str, Any]], Mapping[str, str]], str],
) -> None:
    """The command line of a comparison with peers: measure ``rows`` and write what is ``told`` of them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    default, peers = RESULTS / name, [peer for peer in adapters.NAMES if any(row.peer == peer for row in rows)]
    parser.add_argument("--peers", type=Path, help="folder with clones of the public repositories")
    parser.add_argument("--only", action="append", choices=peers, help="compare this peer alone; repeatable")
    parser.add_argument("--out", type=Path, default=default, help="markdown file; a .json of the same name goes beside")
    arguments = parser.parse_args(argv)
    found, absent = compared(arguments.only or peers, rows, arguments.peers, measured)
    write(arguments.out, told(found, absent), found, absent)


def compared(
    names: Iterable[str], rows: Sequence[Any], folder: Path | None, measure: Callable[[Any, Any], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What ``measure(peer, row)`` finds for the rows of these peers, and which peers are absent, and why."""
    torch.set_num_threads(1)
    found, absent = [], {}
    for name in names:
        try:
            peer = adapters.load(name, folder)
        except adapters.AbsentError as error:
            absent[name] = str(error)
        else:
            found += [measure(peer, row) for row in rows if row.peer == name]
    return found, absent


def write(out: Path, text: str, rows: Sequence[Mapping[str, Any]], absent: Mapping[str, str]) -> None:
    """The report as it is, and its numbers in a .json of the same name."""
    content = json.dumps({"absent": absent, "rows": rows}, default=str) + "\n"
    for path, written in ((out, text), (out.with_suffix(".json"), content)):
        with replacing(path) as temporary:
            temporary.write_text(written, encoding="utf-8")
    print(f"{text}\n{out} written")


if __name__ == "__main__":
    main()

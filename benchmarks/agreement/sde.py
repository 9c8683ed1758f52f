"""Our stochastic solvers beside public implementations: python benchmarks/agreement/sde.py [--peers FOLDER].

Each row is one public function with its options and the solver of ours with the same formula. Both take the same states
over the same grid with the same exact score, as in ``benchmarks/agreement/ode.py``, and the same noise: the normals
that our plan draws are the increments of a Brownian path B with Var B = e^{2η²λ}, and a peer that asks for the noise
between two levels gets the path's, scaled to variance one. The figure is the largest absolute difference after 10 steps
from λ = −3 to 4, states of order one. A peer that is not there is reported as absent.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import solvers
from benchmarks.agreement.ode import PROCESSES, TOLERANCE, Problem, command, levels
from benchmarks.peers import adapters
from solvers import PlannedSolver

STAGES = "its stages and steps take noise that is not that of one path unless stages divide the step evenly"
ANCESTRAL = "its eta is that of ancestral sampling, which differs from η except at 0 and 1"
RIEMANN = "its integrals are Riemann sums of 200 points"


@dataclass(frozen=True)
class Row:
    """A public function beside ours.

    Attributes:
        peer, function, options: as :mod:`benchmarks.peers.adapters` calls it.
        process: ``VP`` or ``EDM``.
        name, ours: our solver of the same formula and its options.
        note: why they differ by more than the tolerance; empty where they must not.
    """

    peer: str
    process: str
    function: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


HALF = math.sqrt(0.5)  # our η where theirs, its square, is one half
ROWS = [
    Row("k-diffusion", "EDM", "sample_euler_ancestral", "euler_ancestral"),
    Row("k-diffusion", "EDM", "sample_euler_ancestral", "euler_ancestral", {"eta": 0.5}, {"eta": 0.5}),
    Row("k-diffusion", "EDM", "sample_dpmpp_2m_sde", "dpmpp_2m_sde"),
    Row("k-diffusion", "EDM", "sample_dpmpp_2m_sde", "dpmpp_2m_sde", {"eta": 0.5}, {"eta": HALF}),
    *(
        Row("k-diffusion", "EDM", "sample_dpmpp_2m_sde", "dpmpp_2m_sde", theirs, {"solver_type": "heun", **ours})
        for theirs, ours in (
            ({"solver_type": "heun"}, {}),
            ({"solver_type": "heun", "eta": 2.0}, {"eta": math.sqrt(2)}),
        )
    ),
    Row("k-diffusion", "EDM", "sample_dpmpp_sde", "dpmpp_sde"),
    Row("k-diffusion", "EDM", "sample_dpmpp_sde", "dpmpp_sde", {"r": 0.3}, {"r": 0.3}),
    Row("k-diffusion", "EDM", "sample_dpmpp_sde", "dpmpp_sde", {"eta": 0.5}, {"eta": 0.5}, ANCESTRAL),
    Row("k-diffusion", "EDM", "sample_dpmpp_3m_sde", "dpmpp_3m_sde", {}, {"variant": "published"}),
    Row(
        "k-diffusion", "EDM", "sample_dpmpp_3m_sde", "dpmpp_3m_sde", {"eta": 0.5}, {"eta": HALF, "variant": "published"}
    ),
    Row("ComfyUI", "EDM", "sample_seeds_2", "seeds_2"),
    Row("ComfyUI", "EDM", "sample_seeds_2", "seeds_2", {"eta": 0.5}, {"eta": HALF}),
    Row("ComfyUI", "EDM", "sample_seeds_2", "seeds_2", {"r": 0.3}, {"r": 0.3}, STAGES),
    Row("ComfyUI", "EDM", "sample_seeds_3", "seeds_3"),
    Row("ComfyUI", "EDM", "sample_seeds_3", "seeds_3", {"eta": 0.5}, {"eta": HALF}),
    Row("ComfyUI", "EDM", "sample_seeds_3", "seeds_3", {"r_1": 0.2, "r_2": 0.6}, {"r1": 0.2, "r2": 0.6}, STAGES),
    Row("ComfyUI", "EDM", "sample_er_sde", "er_sde", {"max_stage": 1}, {"order": 1}),
    Row("ComfyUI", "EDM", "sample_er_sde", "er_sde", {"max_stage": 2}, {"order": 2}, RIEMANN),
    Row("ComfyUI", "EDM", "sample_er_sde", "er_sde", {}, {"variant": "published"}, RIEMANN),
    Row("ComfyUI", "EDM", "sample_sa_solver", "sa_solver", {"tau_func": (1.0, 0.0, math.inf)}),
    Row("ComfyUI", "EDM", "sample_sa_solver", "sa_solver", {"tau_func": (0.5, 0.0, math.inf)}, {"eta": 0.5}),
    Row(
        "ComfyUI", "EDM", "sample_sa_solver", "sa_solver", {"tau_func": (1.0, 0.3, 2.0)}, {"s_tmin": 0.3, "s_tmax": 2.0}
    ),
    Row(
        "ComfyUI",
        "EDM",
        "sample_sa_solver",
        "sa_solver",
        {"tau_func": (1.0, 0.0, math.inf), "predictor_order": 2, "corrector_order": 2, "simple_order_2": True},
        {"order": 2, "corrector_order": 2, "variant": "published"},
    ),
    Row("diffusers", "EDM", "EulerAncestralDiscreteScheduler", "euler_ancestral"),
    Row("diffusers", "VP", "DPMSolverMultistepScheduler", "dpmpp_2m_sde", {"algorithm_type": "sde-dpmsolver++"}),
    Row(
        "diffusers",
        "VP",
        "DPMSolverMultistepScheduler",
        "dpmpp_2m_sde",
        {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
        {"solver_type": "heun"},
    ),
    *(
        Row(
            "diffusers",
            "VP",
            "SASolverScheduler",
            "sa_solver",
            {"predictor_order": order, "corrector_order": corrector, "tau_func": (eta, 0.0, math.inf)},
            {"eta": eta, "order": order, "corrector_order": corrector, "variant": "published"},
        )
        for order, corrector, eta in ((2, 2, 1.0), (1, 2, 0.7), (3, 4, 1.0), (3, 3, 0.5))
    ),
]


class Brownian:
    """A path B in λ with Var B = e^{2η²λ}, its increments from level to level in the order in which they are asked for.

    Called as peers call their noise samplers, with σ/α at two levels, for the increment scaled to variance one.
    """

    def __init__(self, draws: Iterable[Tensor], first: float, eta: float):
        self.draws, self.eta = iter(draws), eta
        self.known = [(first, torch.zeros(()))]

    def __call__(self, first: Any, last: Any) -> Tensor:
        start, end = (-math.log(float(level)) for level in (first, last))
        if abs(self.known[-1][0] - start) > 1e-9 and start > self.known[-1][0]:
            self.known = [(start, torch.zeros(()))]  # no noise was asked for until here
        (start, before), (end, after) = self._at(start), self._at(end)
        return (after - before) / math.sqrt(self._clock(end) - self._clock(start))

    def next(self, *arguments: Any, **options: Any) -> Tensor:
        """The next normal as it is, for peers that draw one a step."""
        return next(self.draws)

    def _clock(self, lam: float) -> float:
        return math.exp(2 * max(self.eta, 0.1) ** 2 * lam)

    def _at(self, lam: float) -> tuple[float, Tensor]:
        for point in self.known:
            if abs(point[0] - lam) < 1e-9:
                return point
        last, value = self.known[-1]
        value = value + math.sqrt(self._clock(lam) - self._clock(last)) * next(self.draws)
        self.known.append((lam, value))
        return self.known[-1]


def interval(eta: float, low: float, high: float) -> Callable[[Any], float]:
    """τ of SA-Solver: η where the level lies between two others."""
    return lambda level: eta if low <= float(level) <= high else 0.0


def difference(peer: adapters.Peer, row: Row) -> float:
    """Largest absolute difference of the end states, with the same noise."""
    problem = Problem(PROCESSES[row.process], levels(-3.0, 4.0, 10))
    found = solvers.get(row.name, **row.ours)
    assert isinstance(found, PlannedSolver)
    plan = found.plan(problem.process, problem.times, "sample")
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(problem.start.shape, generator=generator, dtype=torch.float64) for _ in range(plan.draws)]
    ours = plan.run(problem.denoised, problem.start, iter(draws).__next__)
    brownian = Brownian(draws, float(problem.lam[0]), float(found.options.get("eta", 1.0)))
    options = dict(row.options)
    if "tau_func" in options:
        options["tau_func"] = interval(*options["tau_func"])
    if peer.name == "diffusers":
        module = importlib.import_module(getattr(importlib.import_module("diffusers"), row.function).__module__)
        with patch.object(module, "randn_tensor", brownian.next):
            theirs = peer.sample(
                problem.denoised, problem.process, problem.times, problem.start, row.function, **options
            )
    else:
        options["noise_sampler"] = brownian
        theirs = peer.sample(problem.denoised, problem.process, problem.times, problem.start, row.function, **options)
    return float((theirs - ours).abs().max())


def report(rows: Sequence[Mapping[str, Any]], absent: Mapping[str, str]) -> str:
    versions = {row["peer"]: row["version"] for row in rows}
    lines = [
        "# Our stochastic solvers beside public implementations",
        "",
        "Written by `python benchmarks/agreement/sde.py --peers FOLDER`; its docstring says how that is measured.",
        *(f"Compared: {peer} {version}." for peer, version in versions.items()),
        *(f"Absent: {peer} ({why})." for peer, why in absent.items()),
        "",
        f"Largest difference with the same noise; at most {TOLERANCE:.0e} where nothing else is said.",
        "",
        "| peer | function | process | ours | difference | why |",
        "|---|---|---|---|---:|---|",
        *(
            f"| {row['peer']} | {_call(row['function'], row['options'])} | {row['process']} | "
            f"{_call(row['name'], row['ours'])} | {row['difference']:.0e} | {row['note']} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def _call(name: str, options: Mapping[str, Any]) -> str:
    shown = ", ".join(
        f"{key}={f'{value:.4g}' if isinstance(value, float) else value}" for key, value in options.items()
    )
    return f"`{name}`" + (f" {shown}" if shown else "")


def main(argv: Sequence[str] | None = None) -> None:
    def measured(peer: adapters.Peer, row: Row) -> dict[str, Any]:
        return {**asdict(row), "version": peer.version, "difference": difference(peer, row)}

    command(argv, __doc__, "agreement_sde.md", ROWS, measured, report)


if __name__ == "__main__":
    main()

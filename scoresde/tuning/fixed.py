"""The best plan that needs no fit: solvers on grids, by their errors on trajectories."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from scoresde.tuned import Fixed
from scoresde.tuning.trajectories import Trajectories
from solvers import Plan
from solvers.steps import Process

SOLVERS: list[tuple[str, dict[str, Any]]] = [
    ("auto", {}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {}),
    *(("uni_pc", {"order": order, "frame": frame}) for order, frame in itertools.product((2, 3), ("data", "edm"))),
    ("uni_pc", {"order": 3, "variant": "bh1"}),
    ("deis", {}),
    ("ipndm", {"order": 3}),
    ("eab", {"order": 3, "frame": "flow", "variable": "frame"}),
]
GRIDS: list[tuple[str, dict[str, Any]]] = [
    ("auto", {}),
    ("align_your_steps", {}),
    *((name, {"end": end}) for name, end in itertools.product(("quadratic", "karras"), ("by_steps", None))),
    ("log_snr", {"end": "by_steps"}),
    ("flow_shift", {"shift": 3.0}),
    ("uniform", {}),
    ("beta_log_snr", {"alpha": 1.5, "beta": 1.2, "end": "by_steps"}),
]


def candidates(process: Process, nfe: int, prediction: str) -> list[tuple[Fixed, Plan]]:
    """Those of :data:`SOLVERS` on :data:`GRIDS` that have a plan of ``nfe`` evaluations."""
    found = []
    for (solver, options), (grid, grid_options) in itertools.product(SOLVERS, GRIDS):
        fixed = Fixed(solver, options, grid, grid_options)
        try:
            plan = fixed.plan(process, nfe, prediction)
        except ValueError:  # too few steps for it, or a grid whose end the process does not reach
            continue
        if plan.nfe == nfe:
            found.append((fixed, plan))
    return found


def best(trajectories: Trajectories, nfe: int, screened: int = 12, kept: int = 4) -> list[Fixed]:
    """The fixed solvers that err least on trajectories, the best first.

    Args:
        trajectories: with their ends.
        nfe: evaluations.
        screened: how many of the trajectories all candidates are tried on.
        kept: how many of these are tried on all of them.

    Raises:
        ValueError: none has a plan of so many evaluations.
    """
    model = trajectories.model
    tried = candidates(model.process, nfe, model.prediction)
    if not tried:
        raise ValueError(f"no solver has a plan of {nfe} evaluations for {model.process!r}")

    def ordered(some: Trajectories, plans: list[tuple[Fixed, Plan]]) -> list[tuple[Fixed, Plan]]:
        errors = {id(plan): some.errors(some.planned(plan)).nan_to_num(torch.inf).mean() for _, plan in plans}
        return sorted(plans, key=lambda each: float(errors[id(each[1])]))

    few = trajectories.part(range(min(screened, len(trajectories))))
    return [fixed for fixed, _ in ordered(trajectories, ordered(few, tried)[:kept])]

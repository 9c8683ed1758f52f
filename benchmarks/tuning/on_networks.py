"""auto and tuned plans on networks, beside the best fixed choice by hindsight: python -m benchmarks.tuning.on_networks.

The error is the distance of a sample from the converged one of the same start, root mean square per element, its mean
over the starts. Networks: the bundled one, which had no part in the fit of auto's plans, and with ``--networks`` those
that had (:mod:`benchmarks.tuning.networks`), on other starts. The fixed choice is that of
:mod:`scoresde.tuning.fixed`, eleven solvers on ten grids, and is chosen on these very starts. *From t_max* is auto with
a network that is told of all the noise at first. σ* is measured on starts of other seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.recorded import RESULTS, write
from benchmarks.tuning import networks
from benchmarks.tuning.problems import planned
from scoresde import models
from scoresde.networks.checkpoint import Checkpoint
from scoresde.runs.hardware import describe
from scoresde.tuned import TunedSolver
from scoresde.tuning import fixed, teacher
from scoresde.tuning.scale import measured
from solvers import Plan
from solvers.coefficients.fitted import Numbers
from solvers.grids import universal

NFE = (4, 5, 6, 8, 10, 15)
STARTS, SEED, SCALE_SEED = 64, 70_000, 1_000
KEPT = 16  # fixed choices that are tried on all starts; the others on twelve


def rows(name: str, checkpoint: Checkpoint) -> list[str]:
    """The lines of a network."""
    model, process = checkpoint.model, checkpoint.model.process
    scale = measured(networks.starts(checkpoint, 16, SCALE_SEED))
    runs = teacher.ended(networks.starts(checkpoint, STARTS, SEED), networks.STEPS)
    tuned = TunedSolver.load(model.tuned) if model.tuned else None

    def error(samples: torch.Tensor) -> str:
        return f"{float(runs.errors(samples).mean()):.4f}"

    def of(plan: Callable[[int], Plan | None], count: int) -> str:
        return error(runs.planned(found)) if (found := plan(count)) is not None else "–"

    def auto(known: float | None) -> Callable[[int], Plan]:
        solver = planned("auto", scale=known)
        return lambda count: solver.plan(process, solver.recommended(process, count), model.prediction)

    def own(count: int) -> Plan | None:
        if tuned is None or count not in tuned.members:
            return None
        return tuned.plan(process, tuned.recommended(process, count), model.prediction)

    found = []
    for count in NFE:
        table = universal.chosen()[count]
        whole = Numbers(tuple(universal.levels(process, table, scale)), table.history)
        best = fixed.best(runs, count, kept=KEPT)[0]
        chosen = error(runs.planned(best.plan(process, count, model.prediction)))
        cells = [of(auto(scale), count), error(runs.follow(whole)), of(auto(None), count), of(own, count), chosen]
        found.append(f"| {name} | {scale:.3g} | {count} | {' | '.join(cells)} | {best} |")
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, help="folder of benchmarks.tuning.networks")
    parser.add_argument("--out", type=Path, default=RESULTS / "auto_networks.md")
    arguments = parser.parse_args()
    lines = [
        "# auto on networks",
        "",
        "Written by `python -m benchmarks.tuning.on_networks --networks FOLDER`; its docstring says how it is",
        f"measured. Mean error of {STARTS} starts. {describe(torch.device('cpu'))}.",
        "",
        "| network | σ* | NFE | auto | from t_max | auto without σ* | tuned | best fixed | which |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
        *rows("bundled", models.load("mnist")),
    ]
    for name in networks.NETWORKS if arguments.networks else ():
        lines += rows(name, models.load(networks.folder(name, arguments.networks)))
    write(arguments.out, lines)


if __name__ == "__main__":
    main()

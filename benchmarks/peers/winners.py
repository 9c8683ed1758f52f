"""Peers' winning configurations by ours: python -m benchmarks.peers.winners --peers FOLDER --data FOLDER.

A *winner* is a peer's configuration with the least error of all peers in a cell of ``benchmarks/results/peers.json``.
Each is run as benchmarks/peers/compare.py runs it, with the most steps that the cell's budget allows, in every cell
that it wins; beside it runs the solver of ours that :func:`ours` names, on the grid that :func:`place` names, from the
same states. *Difference* is the largest over a problem's samples and coordinates, divided by the root mean square of
the peer's, and then the largest of the configuration's cells.

Noise levels of azula, DPM-Solver and UniPC are those of our grids, on VP with another t_min where they go below its
own. diffusers rounds its own to float32, some of them to whole steps of a table of 1000 before: ours gets the levels
that it used as explicit times, which the JSON beside the report holds; a last level of 0, to which IPNDMScheduler takes
a step like the others, is 1e-13 for ours, whose step to 0 is a denoise. Where rounding within the peer's own arithmetic
is above ``TOLERANCE`` it is run without that (:data:`ROUNDED`) besides.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import solvers
from benchmarks.agreement.table import MIXED_SCALE, STALE_ROW, Ours
from benchmarks.peers import adapters, compare
from benchmarks.peers import grids as peer_grids
from benchmarks.peers import problems as peer_problems
from benchmarks.peers.grids import Run
from benchmarks.peers.problems import Joined
from benchmarks.peers.report import Cell
from benchmarks.recorded import RESULTS
from benchmarks.tuning.problems import planned
from scoresde.files import replacing
from scoresde.process import VP, Process

TOLERANCE = 1e-10
DIFFERENCES = ("difference", "as it is")
# From how many steps on an order is not lowered at the end, although asked for.
LOWERED_BELOW = {"DPM-Solver": 10, "DPMSolverMultistepScheduler": 15, "EDMDPMSolverMultistepScheduler": 15}
FAULTS = {"REABSampler": MIXED_SCALE, "vary_coeff": STALE_ROW}
ZERO = 1e-13  # σ/α in the place of 0, to which our solvers take no step of their own
SKIPS = {"time_uniform": "uniform", "time_quadratic": "quadratic", "logSNR": "log_snr"}
SCHEDULES = {"VPSchedule": "linear_beta", "DecaySchedule": "decay", "VESchedule": "log_snr"}
FORMS = {"vABSampler": ("flow", "frame"), "zEABSampler": ("edm", "lambda"), "xEABSampler": ("data", "lambda")}
Where = tuple[str, str, int]  # process, problem, budget
Row = dict[str, Any]


class Until(VP):
    """VP down to another last time than its own."""

    def __init__(self, t_min: float, t_max: float = 1.0):
        super().__init__()
        self.t_min, self.t_max = t_min, t_max


@dataclass(frozen=True)
class Place:
    """A grid of ours for a peer's.

    Attributes:
        grid: its name; "" where only explicit times give the levels.
        end: noise level σ/α of the last noisy time, None for that of t_min.
        denoise: whether a denoise follows the last noisy time.
        rounded: whether the peer's levels are rounded, and taken from it.
    """

    grid: str
    end: float | None = None
    denoise: bool = False
    rounded: bool = False

    def times(self, process: Process, steps: int) -> NDArray[np.float64]:
        """Of so many steps before the denoise."""
        low = math.exp(-process.half_log_snr(process.t_min))
        if self.grid == "uniform":  # in VP time, on every process
            last = VP().time(-math.log(self.end or low))
            even = Until(last, VP().time(process.half_log_snr(process.t_max)))
            lam = even.half_log_snr(solvers.grids.get("uniform")(even, steps + 1)[:-1])
            times = np.array([process.time(float(value)) for value in lam])
            times[0] = process.t_max
            times = np.append(times, process.t_clean)
        elif self.end is not None and self.end < low * (1 - 1e-9):
            assert isinstance(process, VP)
            times = solvers.grids.get(self.grid)(Until(process.time(-math.log(self.end))), steps + 1)
        else:
            end = {} if self.end is None else {"end": self.end}
            times = solvers.grids.get(self.grid, **end)(process, steps + 1)
        return times if self.denoise else times[:-1]

    @property
    def words(self) -> str:
        end = "t_min" if self.end is None else f"{self.end:.3g}"
        if not self.grid:
            return "explicit times"
        name = "`uniform` in VP time" if self.grid == "uniform" else f"`{self.grid}`"
        return f"{name}, {end}" + ("" if self.denoise else ", without denoise")


def ours(run: Run, steps: int) -> Ours:
    """Our solver of a peer's formula."""
    options = run.options
    order = options.get("order", options.get("solver_order"))
    most = LOWERED_BELOW.get(run.function, LOWERED_BELOW.get(run.peer, math.inf))
    lower = bool(options.get("lower_order_final")) and steps < most
    ending = {"lower_order_final": True} if lower else {}
    if run.function in FORMS:
        frame, variable = FORMS[run.function]
        return "eab", {"order": order, "frame": frame, "variable": variable}
    if run.function == "REABSampler":
        return "reab", {"order": order}
    if run.function == "IPNDMScheduler":
        return "ipndm", {}
    if run.function == "SASolverScheduler":
        orders = {"order": options["predictor_order"], "corrector_order": options["corrector_order"]}
        return "sa_solver", {"eta": 0.0, **orders, "variant": "published"}
    if run.peer == "UniPC" or run.function.startswith("UniPC"):
        data = options.get("predict_x0", options.get("algorithm_type") == "data_prediction")
        chosen = {"order": order, "variant": options.get("variant", options.get("solver_type"))}
        corrector = {"corrector": False} if options.get("disable_corrector") else {}
        return "uni_pc", {**chosen, **corrector, "frame": "data" if data else "edm", **ending}
    kind = {"dpmsolver": "midpoint", "taylor": "heun"}.get(options["solver_type"], options["solver_type"])
    data = options.get("algorithm_type", "dpmsolver++") == "dpmsolver++"
    if "Singlestep" in run.function:
        return "dpmpp_3s" if data else "dpm_solver_3", {"solver_type": kind, "nodes": "grid"}
    name = f"{'dpmpp' if data else 'dpm_solver'}_{order}m"
    return name, {"solver_type": kind} | ({"variant": "published", **ending} if order == 3 else {})


def place(run: Run) -> Place:
    """Our grid of a peer's levels."""
    if run.peer == "azula":
        levels, schedule = run.place["levels"], SCHEDULES[run.place["schedule"]]
        return Place(schedule, None if run.grid.endswith("σ_min") else levels["sigma_min"])
    if "skip_type" in run.place:
        end = math.exp(-VP().half_log_snr(float(run.times[-1])))
        return Place(SKIPS[run.place["skip_type"]], end, bool(run.options["denoise_to_zero"]))
    named = {"karras": "karras", "exponential": "log_snr"}.get(run.grid.split(",")[0], "")
    return Place(named, run.place.get("sigma_min"), rounded=True)


# What is measured


@contextmanager
def levels_used() -> Iterator[list[float]]:
    """The noise levels σ/α that a scheduler of diffusers steps through within the block."""
    module = importlib.import_module("benchmarks.peers.adapters.diffusers")
    walk, found = module.walk, []

    def watched(
        scheduler: Any,
        name: str,
        calls: Sequence[float],
        denoised: Any,
        process: Any,
        x: Tensor,
        flow: bool,
        **step: Any,
    ) -> Tensor:
        own = scheduler.betas / scheduler.alphas if name == "IPNDMScheduler" else scheduler.sigmas
        levels = [*calls, float(own[len(calls)])]
        found[:] = [level / (1 - level) for level in levels] if flow else levels
        return walk(scheduler, name, calls, denoised, process, x, flow, **step)

    with patch.object(module, "walk", watched):
        yield found


class _Double:
    """torch with float64 under the name of float32."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def in_float64() -> AbstractContextManager[Any]:
    """DPMSolverMultistepScheduler without the float32 that it takes the state to in each step."""
    module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_multistep")
    return patch.object(module, "torch", _Double())


def from_the_last_node() -> AbstractContextManager[Any]:
    """azula's Adams–Bashforth weights from powers of u − u_t, of which they are the same function, and not of u."""
    sampler = importlib.import_module("azula.sample").vABSampler
    weights = sampler._adams_bashforth
    return patch.object(sampler, "_adams_bashforth", staticmethod(lambda u, i, n: weights(u - u[i], i=i, n=n)))


ROUNDED: dict[str, tuple[str, Callable[[], AbstractContextManager[Any]]]] = {
    "DPMSolverMultistepScheduler": ("it takes the state to float32 in each step", in_float64),
    "vABSampler": ("its weights come from a linear system of powers of u, close to 1", from_the_last_node),
}


def winners(results: Mapping[str, Any]) -> dict[tuple[str, str], list[Where]]:
    """The cells that each configuration of a peer wins, by peer and label."""
    found: dict[tuple[str, str], list[Where]] = defaultdict(list)
    for cell in (Cell(**values) for values in results["cells"]):
        assert cell.peer is not None
        _, peer, label = cell.peer
        if (where := (cell.process, cell.problem, cell.nfe)) not in found[peer, label]:
            found[peer, label].append(where)
    return dict(sorted(found.items()))


def started(sources: list[peer_problems.Source], process: Process) -> Joined:
    """All problems on a process; where their ODE ends is of no matter here."""
    return Joined([peer_problems.exact(source, process, steps=1) for source in sources], sources)


def differences(problems: Joined, names: Collection[str], theirs: Tensor, ours: Tensor) -> dict[str, float]:
    """Of the problems of these names."""
    found, first = {}, 0
    for problem in problems.problems:
        rows = slice(first, first := first + len(problem.start))
        if problem.name in names:
            a, b = (x[rows, 0, 0, : problem.start.shape[1]].double() for x in (theirs, ours))
            found[problem.name] = float((a - b).abs().max() / a.square().mean().sqrt())
    return found


def measure(peer: adapters.Peer, run: Run, problems: Joined, budget: int, names: Collection[str]) -> Row:
    """What of ours was run, evaluations of both, and differences by problem, of the problems of these names."""
    theirs, start, process = compare.theirs(peer, run), problems.start, problems.process
    steps = next(n for n in range(budget, 0, -1) if compare.allowed(theirs, start, budget, n))
    counted, used = (compare.Counted(start, problems.denoised, budget) for _ in range(2))
    with levels_used() as levels:
        x = theirs(counted, steps)
    (name, options), where = ours(run, steps), place(run)
    row: Row = {"solver": name, "options": dict(options), "grid": where.words, "steps": steps}
    if where.rounded:
        times = np.array([process.time(-math.log(max(level, ZERO))) for level in levels])
        times[0] = process.t_max
        row["levels"] = levels
        if where.grid:
            named = where.times(process, len(levels) - 1)
            row["rounding"] = float(np.abs(np.exp(process.half_log_snr(named) - process.half_log_snr(times)) - 1).max())
    else:
        times = where.times(process, steps)
    plan = planned(name, **options).plan(process, times, "sample")
    norm = math.hypot(process.alpha(process.t_max), process.sigma(process.t_max))
    found = plan.run(used.on(process), start * norm) / process.alpha(float(times[-1]))
    row |= {
        "evaluations": [counted.evaluations, used.evaluations],
        "difference": differences(problems, names, x, found),
    }
    if max(row["difference"].values()) > TOLERANCE and run.function in ROUNDED:
        with ROUNDED[run.function][1]():
            x = theirs(compare.Counted(start, problems.denoised, budget), steps)
        row |= {"as it is": row["difference"], "difference": differences(problems, names, x, found)}
    return row


def compared(peer: adapters.Peer, label: str, cells: Sequence[Where], on: Callable[[str], Joined]) -> Row:
    """A winner beside ours, in all its cells."""
    names: dict[tuple[str, int], list[str]] = defaultdict(list)
    for process, problem, budget in cells:
        names[process, budget].append(problem)
    runs: dict[tuple[str, int], Row] = {}
    for (process, budget), problems in names.items():
        (run,) = (run for run in peer_grids.runs(peer.name, on(process).process) if run.label == label)
        runs[process, budget] = measure(peer, run, on(process), budget, problems)
    alike = ("solver", "options", "grid")
    first, *others = ([row[key] for key in alike] for row in runs.values())
    assert all(other == first for other in others), label
    own = [
        {"process": process, "problem": problem, "nfe": budget}
        | {key: value for key, value in runs[process, budget].items() if key not in alike}
        | {key: runs[process, budget][key][problem] for key in DIFFERENCES if key in runs[process, budget]}
        for process, problem, budget in cells
    ]
    fault = next((why for name, why in FAULTS.items() if name in label), "")
    row = {"peer": peer.name, "label": label, **dict(zip(alike, first, strict=True)), "fault": fault, "cells": own}
    return row | {
        key: max(cell[key] for cell in own if key in cell) for key in DIFFERENCES if any(key in c for c in own)
    }


# The report


def report(results: Mapping[str, Any]) -> str:
    rows = results["rows"]
    same, others = ([row for row in rows if (row["difference"] <= TOLERANCE) is wanted] for wanted in (True, False))
    return "\n".join(
        [
            "# Peers' winning configurations by ours",
            "",
            "Written by `python -m benchmarks.peers.winners --peers FOLDER --data FOLDER`; its docstring says how. "
            + "Compared: "
            + ", ".join(f"{peer} {version}" for peer, version in results["versions"].items())
            + ".",
            "",
            f"{len(rows)} configurations of peers have the least error of all peers in a cell of [peers.md](peers.md). "
            f"{len(same)} of them are configurations of ours, whose samples differ by at most {TOLERANCE:.0e} of the "
            f"root mean square, those of {sum('as it is' in row for row in same)} only without rounding of their own. "
            "The others, listed at the end, are not. All have as many evaluations.",
            "",
            "*Levels*: how far a peer's noise levels are from those of our grid of that name, largest relative "
            "difference. Where diffusers' are rounded, or no grid has them, ours gets them as explicit times.",
            "",
            "| peer | configuration | cells | ours | grid | levels | NFE: theirs / ours | difference |",
            "|---|---|---:|---|---|---:|---|---:|",
            *(
                f"| {row['peer']} | {_code(row['label'])} | {len(row['cells'])} | {_call(row)} | {row['grid']} | "
                f"{_levels(row)} | {_evaluations(row)} | {row['difference']:.0e} |"
                for row in same
            ),
            "",
            "## Rounding of theirs",
            "",
            "In the table above these are run without what rounds most in them; as they are, they differ by more.",
            "",
            "| peer | configuration | as it is | without | what rounds |",
            "|---|---|---:|---:|---|",
            *(
                f"| {row['peer']} | {_code(row['label'])} | {row['as it is']:.0e} | {row['difference']:.0e} | "
                f"{next(why for name, (why, _) in ROUNDED.items() if name in row['label'])} |"
                for row in same
                if "as it is" in row
            ),
            "",
            "## Not reproduced",
            "",
            "What ours lack of these is a fault. Beside them is ours of the formula that was meant, and how far it is:",
            "",
            "| peer | configuration | cells | ours | grid | difference | fault of theirs |",
            "|---|---|---:|---|---|---:|---|",
            *(
                f"| {row['peer']} | {_code(row['label'])} | {len(row['cells'])} | {_call(row)} | {row['grid']} | "
                f"{row['difference']:.1e} | {row['fault'] or 'unexplained'} |"
                for row in others
            ),
            "",
        ]
    )


def _code(label: str) -> str:
    return label.replace(" | ", " on ")


def _call(row: Row) -> str:
    return " ".join(
        [f"`{row['solver']}`", ", ".join(f"{key}={value}" for key, value in row["options"].items())]
    ).strip()


def _levels(row: Row) -> str:
    if "levels" not in row["cells"][0]:
        return "the same"
    found = [cell["rounding"] for cell in row["cells"] if "rounding" in cell]
    return f"{max(found):.0e}" if found else "–"


def _evaluations(row: Row) -> str:
    return ", ".join(sorted({" / ".join(map(str, cell["evaluations"])) for cell in row["cells"]}, key=_first))


def _first(pair: str) -> int:
    return int(pair.split()[0])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default, source = RESULTS / "winners.md", RESULTS / "peers.json"
    parser.add_argument("--peers", type=Path, help="folder with clones of the public repositories")
    parser.add_argument("--data", type=Path, help=f"folder with {' and '.join(peer_problems.FILES.values())}")
    parser.add_argument("--out", type=Path, default=default, help="markdown; a .json of the same name goes beside")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = winners(json.loads(source.read_text(encoding="utf-8")))
    try:
        peers = {name: adapters.load(name, arguments.peers) for name in dict.fromkeys(peer for peer, _ in found)}
        sources = peer_problems.sources(arguments.data)
    except (adapters.AbsentError, peer_problems.MissingDataError) as error:
        parser.error(str(error))
    on = functools.cache(lambda process: started(sources, compare.PROCESSES[process]))
    rows = []
    for (peer, label), cells in found.items():
        rows.append(compared(peers[peer], label, cells, on))
        print(f"{rows[-1]['difference']:.1e} {peer}: {label}", flush=True)
    results = {"versions": {name: peer.version for name, peer in peers.items()}, "rows": rows}
    for path, written in (
        (arguments.out, report(results)),
        (arguments.out.with_suffix(".json"), json.dumps(results) + "\n"),
    ):
        with replacing(path) as temporary:
            temporary.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()

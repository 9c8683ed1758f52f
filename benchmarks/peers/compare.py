"""Ours beside every peer, each at its best: python benchmarks/peers/compare.py --peers FOLDER --data FOLDER.

diffusers, k-diffusion, azula and the official code of DPM-Solver and UniPC, each over all its deterministic solvers of
a fixed number of evaluations and all its own grids (:mod:`benchmarks.peers.grids`), and ours over all solvers and
variants on all grids and ends of :mod:`benchmarks.tuning.grids`, and on the grid that each recommends; ``auto`` has a
column of its own.

All start from the same states at t_max of the process and are measured against the converged solution at zero noise, on
the exact problems of :mod:`benchmarks.peers.problems`: the root mean square error over all samples, and the median over
samples of each one's. Evaluations are those that the denoiser has seen, one for a call with all samples. A run with at
most N of them is an entry at NFE N; its steps are the most that N allows.

The peers come from the installed packages or the folder given by --peers, the data from that given by --data; a peer
that is not there is reported as absent. ``--cache`` keeps all errors, so that a part can be measured again
(``--only``, ``--nfe``, ``--processes``) and the report written without measuring (``--only`` and nothing).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import solvers
from benchmarks.peers import adapters
from benchmarks.peers import grids as peer_grids
from benchmarks.peers import problems as peer_problems
from benchmarks.peers.grids import LOWS
from benchmarks.peers.problems import Joined, Source, scaled
from benchmarks.peers.report import NFE, OURS, Cache, write
from benchmarks.recorded import RESULTS
from benchmarks.tuning.grids import candidates, label
from benchmarks.tuning.problems import planned
from scoresde import ScoreModel, sample
from scoresde.files import replacing
from scoresde.process import EDM, VP, Flow, Process
from solvers import Plan, PlannedSolver
from solvers.grids import Grid

# Ours that are tried on all of PLACES.
STRONG: list[tuple[str, dict[str, Any]]] = [
    *(("uni_pc", {"order": 1, "frame": frame}) for frame in ("data", "edm")),
    *(
        ("uni_pc", {"order": order, "variant": variant, "frame": frame})
        for order, frame in itertools.product((2, 3), ("data", "edm"))
        for variant in ("bh1", "vary_coeff")
    ),
    *(("uni_pc", {"order": 4, "variant": "bh1", "frame": frame}) for frame in ("data", "edm")),
    *(("uni_pc", {"order": 3, "variant": "vary_coeff", "frame": frame}) for frame in ("flow", "vp")),
    *(("uni_pc", {"order": order, "corrector": False, "frame": "edm"}) for order in (2, 3)),
    ("dpmpp_2m", {}),
    ("eab", {"order": 3, "variable": "vp_time"}),
    ("eab", {"order": 3, "frame": "flow", "variable": "frame"}),
    ("eab", {"order": 2, "frame": "vp", "variable": "frame"}),
    ("ipndm", {"order": 3}),
    *(
        ("sa_solver", {"eta": 0.0, "order": order, "corrector_order": corrector})
        for order, corrector in ((1, 3), (3, 1), (3, 2), (3, 3))
    ),
    ("dpmpp_3s", {}),
]
# Grid, its options, and ends: None is t_min, numbers are levels σ/α, tried where they are above that of t_min.
PLACES: list[tuple[str, dict[str, Any], tuple[float | str | None, ...]]] = [
    *(("quadratic", {}, (None, "by_steps", *LOWS)), ("uniform", {}, (None,)), ("log_snr", {}, (None, *LOWS))),
    *(("karras", {}, (None, *LOWS)), ("flow_shift", {}, (None, *LOWS)), ("leading", {}, (None,))),
    *(("flow_shift", {"shift": 3.0}, (None, *LOWS)), ("beta_log_snr", {"alpha": 1.5, "beta": 1.2}, (None, *LOWS))),
]
ALONE = ("auto", "align_your_steps", "trailing")  # grids with an end of their own
PROCESSES: dict[str, Process] = {"VP": VP(), "EDM": EDM(), "Flow": Flow()}
Entry = tuple[int, dict[str, tuple[float, float]]]  # evaluations, and the errors by problem
Sampler = Callable[["Counted", int], Tensor]  # takes that many steps
Steps = dict[tuple[str, int], int]  # the most steps of a solver that a budget allows


class SpentError(Exception):
    """The denoiser was called more often than the budget allows."""


@dataclass
class Counted:
    """A denoiser that counts its evaluations and refuses those beyond a budget.

    A call with all rows of the start is one evaluation, one with some of them that part of one.

    Attributes:
        start: states at t_max, in the scale α² + σ² = 1.
        denoised: called as ``denoised(x, σ)``, for α = 1.
        budget: of evaluations.
        rows: evaluated so far.
    """

    start: Tensor
    denoised: Callable[[Tensor, float], Tensor]
    budget: int
    rows: int = 0

    @property
    def evaluations(self) -> int:
        return math.ceil(self.rows / len(self.start))

    def on(self, process: Process) -> Callable[[Tensor, float], Tensor]:
        """As a denoiser of states on a process, at its times."""

        def denoised(x: Tensor, t: float) -> Tensor:
            self.rows += len(x)
            if self.evaluations > self.budget:
                raise SpentError
            return scaled(self.denoised, x, process.alpha(t), process.sigma(t))

        return denoised


def allowed(sampler: Sampler, start: Tensor, budget: int, steps: int) -> bool:
    """Whether so many steps stay within a budget, by a run on a single state with a denoiser that returns 0."""
    try:
        sampler(Counted(start[:1], lambda x, level: torch.zeros_like(x), budget), steps)
    except SpentError:
        return False
    except Exception:  # too few steps for this method: it may take more
        return True
    return True


def fit(sampler: Sampler, start: Tensor, budget: int) -> int:
    """The most steps that a budget allows."""
    low, high = 0, budget
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if allowed(sampler, start, budget, middle) else (low, middle - 1)
    return low


def entries(joined: Joined, sampler: Sampler, name: str, budgets: Sequence[int], known: Steps) -> dict[int, Entry]:
    """Errors by budget, with as many steps as it has evaluations or, if these take more, with the most that fit.

    ``known`` keeps what was fitted for other grids of the same solver, from which it differs by a step at most.
    """
    start, found = joined.start, {}
    for budget in budgets:
        steps = known.get((name, budget), budget)
        if steps < budget and allowed(sampler, start, budget, steps + 1):
            steps += 1
        while steps > 0 and budget not in found:
            counted = Counted(start, joined.denoised, budget)
            try:
                x = sampler(counted, steps)
            except SpentError:
                if (name, budget) not in known:
                    known[name, budget] = fit(sampler, start, budget)
                steps = min(steps - 1, known[name, budget])
            except Exception:  # the method refuses this; the report counts configurations that refuse all
                break
            else:
                found[budget] = (counted.evaluations, joined.errors(x.double()))
    return found


def theirs(peer: adapters.Peer, run: peer_grids.Run) -> Sampler:
    """A peer's solver on its own grid."""

    def sampler(counted: Counted, steps: int) -> Tensor:
        denoised = counted.on(run.carrier)
        options = {**run.options, **run.place}
        return peer.sample(denoised, run.carrier, run.times, counted.start, run.function, steps=steps, **options)

    return sampler


def ours(solver: PlannedSolver, rule: Grid, process: Process, denoise: bool) -> Sampler:
    """Our solver on one of our grids, with the denoise at its end or with a step of its own to the last noisy time."""
    norm = math.hypot(process.alpha(process.t_max), process.sigma(process.t_max))

    def sampler(counted: Counted, steps: int) -> Tensor:
        return plan(solver, rule, process, steps, denoise).run(counted.on(process), counted.start * norm)

    return sampler


@functools.lru_cache(maxsize=4)  # what is tried is then run
def plan(solver: PlannedSolver, rule: Grid, process: Process, steps: int, denoise: bool) -> Plan:
    return solver.plan(process, rule(process, steps) if denoise else rule(process, steps + 1)[:-1], "sample")


def auto(process: Process) -> Sampler:
    """``solver=auto`` as a user has it, with a number of evaluations in the place of steps."""
    norm = math.hypot(process.alpha(process.t_max), process.sigma(process.t_max))

    def sampler(counted: Counted, steps: int) -> Tensor:
        denoised = counted.on(process)
        model = ScoreModel(lambda x, t: denoised(x, float(t[0])), process, "sample")
        return sample(model, "auto", nfe=steps, x_init=counted.start * norm).samples

    return sampler


def our_samplers(process: Process) -> Iterator[tuple[str, str, Sampler]]:
    """Label, solver and sampler: each solver and variant on the grid that it recommends, and the strong ones on more
    grids and ends, with the denoise and without."""

    def on(solver: PlannedSolver, grid: str, end: float | str | None, denoise: bool = True, **options: Any) -> Any:
        rule = solvers.grids.get(grid, **options, **({} if end is None else {"end": end}))
        where = " ".join([grid, *(f"{key}={value}" for key, value in options.items())])
        where = f"{where}, {end or 't_min'}{'' if denoise else ', without denoise'}"
        return f"{label(solver)} | {where}", f"{label(solver)} {denoise}", ours(solver, rule, process, denoise)

    level = math.exp(-process.half_log_snr(process.t_min))
    for solver in candidates():
        if solver.name != "auto":
            yield on(solver, solver.grid, solver.recommended.options.get("end"))
    for name, options in STRONG:
        solver = planned(name, **options)
        for grid in ALONE:
            yield on(solver, grid, None)
        for grid, shape, ends in PLACES:
            above = [end for end in ends if not isinstance(end, float) or end > level]
            for end, denoise in itertools.product(above, (True, False)):
                yield on(solver, grid, end, denoise, **shape)


def measure(joined: Joined, part: str, folder: Path | None, budgets: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Entries of a toolkit, or of ours and of auto, by toolkit and label."""
    known: Steps = {}
    if part == OURS:
        found = {
            OURS: {
                name: entries(joined, sampler, solver, budgets, known)
                for name, solver, sampler in our_samplers(joined.process)
            }
        }
        if "auto" in solvers.names():
            found["auto"] = {"auto": entries(joined, auto(joined.process), "auto", budgets, known)}
        return found
    peer = adapters.load(part, folder)
    return {
        part: {
            run.label: entries(joined, theirs(peer, run), run.solver, budgets, known)
            for run in peer_grids.runs(part, joined.process)
        }
    }


def _job(arguments: tuple[str, str, list[Source], Path | None, Sequence[int]]) -> tuple[str, dict[str, Any]]:
    name, part, sources, folder, budgets = arguments
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    joined = Joined.of(sources, PROCESSES[name])
    errors = measure(joined, part, folder, budgets)
    doubts = {problem.name: peer_problems.doubt(problem) for problem in joined.problems} if part == OURS else {}
    return name, {"part": part, "seconds": time.perf_counter() - start, "errors": errors, "doubts": doubts}


def run(arguments: argparse.Namespace, kept: Cache) -> None:
    """Measure what is asked for, into ``kept``."""
    parts = []
    for part in arguments.only or [OURS, *peer_grids.PEERS]:
        try:
            if part != OURS:
                kept["versions"][part] = adapters.load(part, arguments.peers).version
                kept["absent"].pop(part, None)
            parts.append(part)
        except adapters.AbsentError as error:
            kept["absent"][part] = str(error)
    sources = peer_problems.sources(arguments.data, tuple(arguments.problems))
    jobs = [(name, part, sources, arguments.peers, arguments.nfe) for part in parts for name in arguments.processes]
    jobs.sort(key=lambda job: job[1] not in ("diffusers", OURS))  # the longest first
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for name, found in pool.imap_unordered(_job, jobs):
            kept["seconds"][f"{name} {found['part']}"] = found["seconds"]
            kept["doubts"].setdefault(name, {}).update(found["doubts"])
            before = kept["errors"].setdefault(name, {})
            for toolkit, labels in json.loads(json.dumps(found["errors"])).items():  # as they come back from the cache
                old = before.get(toolkit, {})
                before[toolkit] = {key: old.get(key, {}) | budgets for key, budgets in labels.items()}
            print(f"{name} {found['part']}: {found['seconds']:.0f} s", flush=True)
            if arguments.cache:
                with replacing(arguments.cache) as path:
                    path.write_text(json.dumps(kept))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RESULTS / "peers.md"
    parts = [OURS, *peer_grids.PEERS]
    parser.add_argument("--peers", type=Path, help="folder with clones of the public repositories")
    parser.add_argument("--data", type=Path, help=f"folder with {' and '.join(peer_problems.FILES.values())}")
    parser.add_argument("--only", nargs="*", choices=parts, help="measure these alone; none of them writes the report")
    parser.add_argument("--nfe", nargs="+", type=int, default=NFE, help="budgets")
    parser.add_argument("--problems", nargs="+", choices=peer_problems.NAMES, default=peer_problems.NAMES)
    parser.add_argument("--processes", nargs="+", choices=PROCESSES, default=("VP", "EDM"))
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cache", type=Path, help="where all errors are kept as JSON; added to if it exists")
    parser.add_argument("--out", type=Path, default=default, help="markdown; .json and .png of that name go beside")
    arguments = parser.parse_args(argv)
    kept: Cache = {"versions": {}, "absent": {}, "seconds": {}, "doubts": {}, "errors": {}}
    if arguments.cache and arguments.cache.exists():
        kept = json.loads(arguments.cache.read_text())
    if arguments.only != []:
        try:
            run(arguments, kept)
        except peer_problems.MissingDataError as error:
            parser.error(str(error))
    print(write(kept, arguments.out))


if __name__ == "__main__":
    main()

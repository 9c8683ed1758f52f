"""A plan as the list of evaluations that a pipeline walks through, and the grids that pipelines ask for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

import solvers
from scoresde.integrations.diffusers.conventions import Trained
from scoresde.noise import Noise
from scoresde.process import EDM
from solvers import Plan, PlanError, PlannedSolver
from solvers.grids import Grid
from solvers.plan.instructions import Draw, Eval, Lin, Step, reads, writes
from solvers.plan.trace import renumbered
from solvers.steps import check_times

# σ_max as people write it is rounded; a little above the process's own is taken for that.
ROUNDED = 1e-3


def planned(name: str, options: dict[str, Any], where: str) -> PlannedSolver:
    """The solver of that name, which can be fed one model output at a time.

    Raises:
        ValueError: unknown name, a solver that has no plan, or one that asks for more than the model's output.
        TypeError: an option that the solver does not have.
    """
    solver = solvers.get(name, **options)
    if not isinstance(solver, PlannedSolver):
        raise ValueError(
            f"solver {solver.name!r} chooses its steps as it goes, so it has no plan for {where} to walk through; "
            "use it with scoresde.sample, or take a solver on a fixed grid such as 'dpmpp_2m'"
        )
    process = EDM()
    asked = solver.plan(process, solvers.grids.get("log_snr")(process, 4), "sample").outputs - {"model"}
    if asked:
        raise ValueError(
            f"solver {solver.name!r} asks for the output {sorted(asked)[0]!r} too, and {where} is given one output: "
            "use it with scoresde.sample and a guided model"
        )
    return solver


def seeded(seeds: Sequence[int], like: Tensor) -> Noise:
    """The noise of a batch of states shaped like that: one seed per sample, draw 0 being the initial state's.

    Raises:
        ValueError: there are not as many seeds as samples.
    """
    if len(seeds) != len(like):
        raise ValueError(f"there are {len(seeds)} seeds for a batch of {len(like)}")
    noise = Noise(seeds, like.shape[1:], like.dtype, like.device)
    noise.draw = 1
    return noise


def steps_of(plan: Plan) -> list[int]:
    """For each evaluation of a plan the step of the grid that it belongs to, from 0."""
    reached = np.cumsum([isinstance(instruction, Step) for instruction in plan.instructions])
    return [
        int(step) for step, instruction in zip(reached, plan.instructions, strict=True) if isinstance(instruction, Eval)
    ]


@dataclass(frozen=True)
class Schedule:
    """A solver on a grid, seen as its evaluations in their order.

    Attributes:
        trained: conventions of the network.
        solver: the method.
        plan: the method on the grid.
    """

    trained: Trained
    solver: PlannedSolver
    plan: Plan

    @cached_property
    def evaluations(self) -> list[Eval]:
        """The evaluations in their order."""
        return [instruction for instruction in self.plan.instructions if isinstance(instruction, Eval)]

    @cached_property
    def steps(self) -> list[int]:
        """:func:`steps_of` the plan."""
        return steps_of(self.plan)

    @cached_property
    def order(self) -> int:
        """Evaluations of a step: of most steps, where they differ (the denoise at the end is one)."""
        counts = Counter(Counter(self.steps).values())
        return max(counts, key=lambda count: (counts[count], count))

    @cached_property
    def timesteps(self) -> list[float]:
        """What the network is fed as its time, for each evaluation."""
        return [float(self.trained.time_input(evaluation.t)) for evaluation in self.evaluations]

    @cached_property
    def sigmas(self) -> list[float]:
        """The noise level of each evaluation, and that of the end: σ for flow models, σ/α elsewhere."""
        process, end = self.trained.process, self.plan.times[-1]
        levels = [(evaluation.alpha, evaluation.sigma) for evaluation in self.evaluations]
        levels.append((process.alpha(end), process.sigma(end)))
        if self.trained.shift is not None:
            return [sigma for _, sigma in levels]
        return [sigma / alpha if alpha else math.inf for alpha, sigma in levels]

    def start(self, index: int) -> Plan:
        """The plan of the evaluations from ``index`` on; its initial state is the input of the first of them.

        A method without memory carries on as it would have. One with a history begins anew on the rest of the grid,
        with the evaluations that are left.

        Raises:
            PlanError: it would not begin there with these evaluations; the message says why.
        """
        if not 0 <= index < len(self.evaluations):
            raise PlanError(f"begin index {index} is not one of the {len(self.evaluations)} evaluations from 0")
        step, first = self.steps[index], self.evaluations[index]
        if (rest := _cut(self.plan, index)) is not None:
            return rest
        times = self.plan.times[step:]
        if first.t == times[0] and (index == 0 or self.steps[index - 1] < step):
            anew = Schedule(
                self.trained, self.solver, self.solver.plan(self.trained.process, times, self.plan.prediction)
            )
            left = [evaluation.t for evaluation in self.evaluations[index:]]
            begun = _cut(anew.plan, 0)
            if begun is not None and [evaluation.t for evaluation in anew.evaluations] == left:
                return begun
        hint = "; use starter='cold'" if self.solver.options.get("starter", "cold") != "cold" else ""
        raise PlanError(
            f"{self.solver} cannot begin at evaluation {index} of {len(self.evaluations)}, t = {first.t:g} in step "
            f"{step}: it would not evaluate at the timesteps that are left{hint}. Solvers with one evaluation a step, "
            "such as 'dpmpp_2m', begin anywhere; others where a step begins, if all steps are alike"
        )


def _cut(plan: Plan, index: int) -> Plan | None:
    """The plan from an evaluation on, its input the initial state; None where something else from before is needed.

    Draws of the evaluation's own step may be made before it.
    """
    position = [i for i, instruction in enumerate(plan.instructions) if isinstance(instruction, Eval)][index]
    step = steps_of(plan)[index]
    first, rest = plan.instructions[position].x, list(plan.instructions[position:])  # type: ignore[union-attr]
    made = {register for instruction in rest for register in writes(instruction)}
    needed = {register for instruction in rest for register in reads(instruction)} - made - {first}
    for instruction in reversed(plan.instructions[:position]):
        if isinstance(instruction, Draw) and instruction.out in needed:
            rest.insert(0, instruction)
            needed.remove(instruction.out)
        elif not isinstance(instruction, (Draw, Lin)):
            break
    if needed:
        return None
    return Plan(plan.solver, plan.options, plan.prediction, plan.times[step:], tuple(renumbered(rest, first)))


def schedule(
    trained: Trained,
    solver: PlannedSolver,
    rule: Grid | None,
    steps: int | None = None,
    *,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
) -> Schedule:
    """The solver on the grid that a pipeline asks for.

    Args:
        trained: conventions of the network.
        solver: the method.
        rule: the grid that was chosen; None is the solver's recommended one, and for flow models even steps from 1 to
            1/steps. A flow model's times are then shifted.
        steps: intervals of the grid, the one to zero noise included.
        timesteps: what the network is fed, decreasing, in the place of steps; zero noise follows.
        sigmas: noise levels, decreasing, in the place of steps. For flow models σ before the shift, zero noise follows;
            elsewhere σ/α with the end included, which may be 0.
        mu: of a dynamic shift.

    Raises:
        ValueError: arguments that do not fit together, or illegal times.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("give timesteps or sigmas, not both")
    given = timesteps if timesteps is not None else sigmas
    if given is None and steps is None:
        raise ValueError("give num_inference_steps, timesteps or sigmas")
    if given is not None:
        length = len(given) - (timesteps is None and trained.shift is None)
        if steps is not None and steps != length:
            raise ValueError(f"num_inference_steps = {steps}, but the times given make {length} steps")
        steps = length
    assert steps is not None
    if timesteps is not None:
        times = [float(trained.process_time(float(t))) for t in timesteps] + [trained.process.t_clean]
    elif trained.shift is not None:
        times = _flow(trained, rule, steps, sigmas, mu)
    elif sigmas is not None:
        times = [_time(trained, float(sigma)) for sigma in sigmas]
    else:
        times = list((rule or solver.recommended)(trained.process, steps))
    return Schedule(
        trained, solver, solver.plan(trained.process, check_times(trained.process, times), trained.prediction)
    )


def _flow(
    trained: Trained, rule: Grid | None, steps: int, sigmas: Sequence[float] | None, mu: float | None
) -> list[float]:
    assert trained.shift is not None
    even = np.linspace(1, 1 / max(steps, 1), steps)
    noisy = even if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    if rule is not None:
        # Most pipelines pass even sigmas whether or not anybody asked for them.
        if not np.allclose(noisy, even, rtol=0, atol=1e-5):
            raise ValueError(f"the scheduler has the grid {rule}, and the pipeline gives other sigmas: choose one")
        noisy = rule(trained.process, steps)[:-1]
    noisy = noisy[:-1] if noisy[-1] == 0 else noisy
    return [*trained.shift(noisy, mu), trained.process.t_clean]


def _time(trained: Trained, sigma: float) -> float:
    process = trained.process
    if sigma == 0:
        return process.t_clean
    if not sigma > 0:
        raise ValueError(f"sigma {sigma:g} is no noise level: sigmas are positive, the last may be 0")
    time = process.time(-math.log(sigma))
    least, most = (math.exp(-process.half_log_snr(t)) for t in (process.t_min, process.t_max))
    if sigma < least * (1 - ROUNDED):
        raise ValueError(f"sigma {sigma:g} is below the least of this checkpoint, {least:.4g}")
    if sigma > most * (1 + ROUNDED):
        raise ValueError(f"sigma {sigma:g} is above the most of this checkpoint, {most:.6g}")
    return min(max(time, process.t_min), process.t_max)

"""A plan as the list of evaluations that a pipeline walks through, and the grids that pipelines ask for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import solvers
from scoresde import tuned
from scoresde.integrations.diffusers.conventions import Trained
from scoresde.noise import Noise, begun_at
from scoresde.process import EDM, Process
from scoresde.tuned import TunedSolver
from solvers import Plan, PlanError, PlannedSolver
from solvers.grids import Grid
from solvers.plan.instructions import Draw, Eval, Lin, Step, reads, writes
from solvers.plan.trace import renumbered
from solvers.steps import check_times

# σ_max as people write it is rounded; a little above the process's own is taken for that.
ROUNDED = 1e-3
NONE_LEFT = "no step is left, which in image to image means that strength × num_inference_steps is below 1"


def planned(name: str, options: dict[str, Any], where: str) -> PlannedSolver:
    """The solver of that name, ``tuned`` among them, which can be fed one model output at a time.

    Raises:
        ValueError: unknown name, a solver that has no plan, or one that asks for more than the model's output.
        TypeError: an option that the solver does not have.
    """
    solver = tuned.named(name, **options)
    if isinstance(solver, TunedSolver):
        return solver
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


def seeded(seeds: Sequence[int], like: Tensor, process: Process, t: float) -> Noise:
    """The noise of a batch of states shaped like that which begin at time t: one seed per sample, from draw 1 on.

    Raises:
        ValueError: there are not as many seeds as samples.
    """
    if len(seeds) != len(like):
        raise ValueError(f"there are {len(seeds)} seeds for a batch of {len(like)}")
    noise = Noise(seeds, like.shape[1:], like.dtype, like.device, begun_at(process, t))
    noise.draw = 1
    return noise


def distilled(trained: int, original: int, steps: int | None, strength: float = 1.0) -> list[int]:
    """Timesteps of a consistency model among those it was distilled at, i · trained/original − 1 for i = 1 … original.

    They are spread evenly by their positions, from the noisiest; of the share ``strength`` of them from zero noise on.

    Source: Luo et al. 2023, Latent consistency models, sec. 4.3 (skipping-step), as diffusers' LCMScheduler reads it.

    Raises:
        ValueError: more steps than there are, more originals than timesteps, or no number of steps.
    """
    if steps is None:
        raise ValueError("give num_inference_steps with original_inference_steps")
    if not 1 <= original <= trained:
        raise ValueError(f"original_inference_steps must be from 1 to {trained}, got {original}")
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be in (0, 1], got {strength:g}")
    known = [i * (trained // original) - 1 for i in range(int(original * strength), 0, -1)]
    if not 1 <= steps <= len(known):
        raise ValueError(
            f"num_inference_steps must be from 1 to original_inference_steps × strength = {len(known)}, got {steps}"
        )
    return [known[int(position)] for position in np.floor(np.linspace(0, len(known), steps, endpoint=False))]


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
        fed: process times, rising, and what the network is fed at each, where that is not the network's ``time_input``;
            between them it is linear.
    """

    trained: Trained
    solver: PlannedSolver
    plan: Plan
    fed: tuple[Sequence[float], Sequence[float]] | None = None

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
        times = [evaluation.t for evaluation in self.evaluations]
        if self.fed is not None:
            return np.interp(times, *self.fed).tolist()
        return [float(self.trained.time_input(t)) for t in times]

    @cached_property
    def memoryless(self) -> bool:
        """Whether each step needs nothing but the state that it begins with."""
        steps = self.steps
        begins = [index for index in range(1, len(steps)) if steps[index - 1] < steps[index]]
        return all(_cut(self.plan, index) is not None for index in begins)

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
            raise PlanError(
                f"begin index {index} is not one of the {len(self.evaluations)} evaluations from 0: {NONE_LEFT}"
            )
        step, first = self.steps[index], self.evaluations[index]
        if (rest := _cut(self.plan, index)) is not None:
            return rest
        times = self.plan.times[step:]
        if first.t == times[0] and (index == 0 or self.steps[index - 1] < step):
            anew = Schedule(
                self.trained, self.solver, self.solver.plan(self.trained.process, times, self.plan.prediction), self.fed
            )
            left = [evaluation.t for evaluation in self.evaluations[index:]]
            begun = _cut(anew.plan, 0)
            if begun is not None and [evaluation.t for evaluation in anew.evaluations] == left:
                return begun
        hint = "; use starter='cold'" if self.solver.options.get("starter", "cold") != "cold" else ""
        raise PlanError(
            f"{self.solver} cannot begin at evaluation {index} of {len(self.evaluations)}, t = {first.t:g} in step "
            f"{step}: it would not evaluate at the timesteps that are left{hint}. Solvers with one evaluation a step, "
            "such as 'dpmpp_2m', begin anywhere (at any strength); others where a step begins, if all steps are alike"
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
            1/steps. A flow model's times are then shifted, but those of a solver that brings its own noise levels
            (``tuned``, and ``auto`` with a scale).
        steps: intervals of the grid, the one to zero noise included.
        timesteps: what the network is fed, decreasing, in the place of steps; zero noise follows.
        sigmas: noise levels, decreasing, in the place of steps. For flow models σ before the shift, zero noise follows;
            elsewhere σ/α with the end included, which may be 0. Of a flow model with timesteps, one for each, if the
            network is fed other times than its noise levels.
        mu: of a dynamic shift.

    Raises:
        ValueError: arguments that do not fit together, or illegal times.
    """
    both = timesteps is not None and sigmas is not None
    if both and trained.shift is None:
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
    fed = None
    if timesteps is not None and sigmas is not None:
        if len(timesteps) != len(sigmas):
            raise ValueError(f"there are {len(timesteps)} timesteps for {len(sigmas)} sigmas: give one for each")
        levels = _flow(trained, None, steps, sigmas, mu)
        times = levels if rule is None else _flow(trained, rule, steps, sigmas, mu)
        fed = ([*reversed(levels)], [0.0, *(float(t) for t in reversed(timesteps))])
    elif timesteps is not None:
        times = [float(trained.process_time(float(t))) for t in timesteps] + [trained.process.t_clean]
    elif trained.shift is not None and rule is None and _places(solver):
        _even(sigmas, steps, solver)
        times = list(solver.recommended(trained.process, steps))
    elif trained.shift is not None:
        times = _flow(trained, rule, steps, sigmas, mu)
    elif sigmas is not None:
        times = [_time(trained, float(sigma)) for sigma in sigmas]
    else:
        times = list((rule or solver.recommended)(trained.process, steps))
    plan = solver.plan(trained.process, check_times(trained.process, times), trained.prediction)
    return Schedule(trained, solver, plan, fed)


def _flow(
    trained: Trained, rule: Grid | None, steps: int, sigmas: Sequence[float] | None, mu: float | None
) -> list[float]:
    assert trained.shift is not None
    noisy = _steps_of(steps) if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    if rule is not None:
        _even(sigmas, steps, rule)
        noisy = rule(trained.process, steps)[:-1]
    noisy = noisy[:-1] if noisy[-1] == 0 else noisy
    return [*trained.shift(noisy, mu), trained.process.t_clean]


def _steps_of(steps: int) -> NDArray[np.float64]:
    return np.linspace(1, 1 / max(steps, 1), steps)


def _even(sigmas: Sequence[float] | None, steps: int, own: Grid | PlannedSolver) -> None:
    """Refuse noise levels beside a grid, but even ones, which most pipelines pass whether or not anybody asked."""
    given = _steps_of(steps) if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    if not np.allclose(given, _steps_of(steps), rtol=0, atol=1e-5):
        kind = "grid" if isinstance(own, Grid) else "solver"
        raise ValueError(f"the scheduler has the {kind} {own}, and the pipeline gives other sigmas: choose one")


def _places(solver: PlannedSolver) -> bool:
    """Whether the solver's own grid has noise levels that belong to the model, so that no shift is to change them."""
    return isinstance(solver, TunedSolver) or solver.options.get("scale") is not None


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

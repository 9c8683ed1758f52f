"""solver=auto with very few evaluations, on problems that had no part in its choice."""

from __future__ import annotations

import math

import pytest
import torch

import scoresde
from benchmarks.tuning import family, few, quality
from benchmarks.tuning.family import FAMILY
from benchmarks.tuning.problems import planned
from scoresde.process import EDM, VP, Process
from solvers.grids.universal import BY_QUALITY, chosen


@pytest.mark.parametrize(
    ("problem", "process", "blind"),
    [
        ("digits", VP(), True),
        ("digits", EDM(), True),
        ("mixture", VP(), True),
        ("ring", VP(), False),
        ("points", EDM(), False),
    ],
    ids=["digits", "EDM", "mixture", "ring", "points EDM"],
)
@pytest.mark.parametrize("nfe", few.NFE[1:])
def test_auto_is_no_worse_than_the_best_fixed_choice(problem: str, process: Process, blind: bool, nfe: int) -> None:
    model = few.PROBLEMS[problem](process)
    real = few.drawn(model, few.N)
    rivals = [few.distance(model, real, solver, grid, nfe) for solver, grid in few.choices(("align_your_steps", None))]
    best = min(rivals, key=lambda each: each.value)
    scale = scoresde.noise_scale(model, shape=model.shape, seeds=range(32), dtype=torch.float64)
    assert few.no_worse(few.distance(model, real, planned("auto", scale=scale), None, nfe), best)
    assert not blind or few.no_worse(few.distance(model, real, "auto", None, nfe), best)


@pytest.mark.parametrize("count", BY_QUALITY)
def test_the_last_step_of_a_plan_by_quality_is_blind_to_the_first_evaluation(count: int) -> None:
    history = chosen()[count].history
    assert len(history) == count and (len(history[-1]) < count - 1 or history[-1][count - 2] == 0)


def test_a_problem_is_judged_by_how_far_samples_are_from_its_converged_ones() -> None:
    problem = quality.judged(next(member for member in FAMILY if member.name.startswith("digits, mixture")))
    ends = problem.starts.known_ends
    assert problem.distance(ends[torch.randperm(len(ends))]) < 1e-12
    moved = ends + 0.1 * torch.eye(ends.shape[1], dtype=torch.float64)[0]
    assert 1e-3 < problem.distance(moved) < 0.1


def test_a_problem_of_many_dimensions_errs_at_high_noise_as_a_network_does() -> None:
    member = next(member for member in FAMILY if member.name.startswith("digits, mixture"))
    starts, exact = quality.judged(member).starts, family.trajectories(member, quality.PROCESS, 2, 1, steps=5)
    for level in (2.0, 50.0):
        z = starts.noise / math.hypot(1, 1 / level)
        apart = starts.denoised(starts.noise, level) - exact.denoised(starts.noise, level)
        assert float(apart.norm() / z.norm()) == pytest.approx(quality.ERROR * level)

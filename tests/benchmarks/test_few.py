"""solver=auto with very few evaluations, on problems that had no part in its choice."""

from __future__ import annotations

import math

import pytest
import torch

import scoresde
from benchmarks.tuning import few, quality
from benchmarks.tuning.family import FAMILY
from benchmarks.tuning.problems import planned
from scoresde.process import EDM, VP, Process
from solvers.grids.universal import BY_QUALITY, chosen


@pytest.mark.parametrize(
    ("problem", "process"),
    [("digits", VP()), ("digits", EDM()), ("mixture", VP()), ("ring", VP()), ("points", EDM())],
    ids=["digits", "digits EDM", "mixture", "ring", "points EDM"],
)
@pytest.mark.parametrize("nfe", few.NFE[1:])
def test_auto_is_no_worse_than_the_best_fixed_choice(problem: str, process: Process, nfe: int) -> None:
    model = few.PROBLEMS[problem](process)
    real = few.drawn(model, few.N)
    rivals = [few.distance(model, real, solver, grid, nfe) for solver, grid in few.choices(("align_your_steps", None))]
    scale = scoresde.noise_scale(model, shape=model.shape, seeds=range(32), dtype=torch.float64)
    auto = few.distance(model, real, planned("auto", scale=scale), None, nfe)
    assert few.no_worse(auto, min(rivals, key=lambda each: each.value))


@pytest.mark.parametrize("nfe", few.NFE[1:])
def test_where_the_noise_scale_is_not_known_it_is_no_worse_either_in_more_than_a_few_dimensions(nfe: int) -> None:
    model = few.PROBLEMS["mixture"](VP())
    real = few.drawn(model, few.N)
    rivals = [few.distance(model, real, solver, None, nfe) for solver in few.SOLVERS]
    auto = few.distance(model, real, "auto", None, nfe)
    assert few.no_worse(auto, min(rivals, key=lambda each: each.value))


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
    noisy, exact = problem.starts.noise, problem.starts.noise * 0
    scale = quality.ERROR * 50 / math.hypot(1, 1 / 50)
    apart = problem.starts.denoised(noisy, 50.0) - problem.starts.denoised(exact, 50.0)
    assert float(apart.square().mean().sqrt()) >= 0.5 * scale

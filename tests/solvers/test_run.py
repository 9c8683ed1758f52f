"""A plan that is fed one model output at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
from scoresde.process import EDM, VP
from solvers import Plan, PlanError, PlannedSolver
from solvers.plan.execute import Run

TIMES = (1.0, 0.7, 0.4, 0.2, 0.0)


def plan(name: str, prediction: str = "epsilon", **options: object) -> Plan:
    found = solvers.get(name, **options)
    assert isinstance(found, PlannedSolver)
    return found.plan(VP(), TIMES, prediction)


def outputs(count: int) -> list[Tensor]:
    """What a model would say that does not look at its input."""
    return list(torch.randn(count, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))


def fed(program: Plan, x: Tensor, edits: dict[int, Tensor]) -> Tensor:
    """The result, with something added to the inputs of some evaluations, counted from 0."""
    run, answers, count = Run(program, x), outputs(program.nfe), 0
    while run.advance():
        if count in edits:
            run.replace(run.x + edits[count])
        run.give(answers[count])
        count += 1
    return run.state


@pytest.mark.parametrize("name", ["dpmpp_3m", "heun", "uni_pc", "dpm_fast"])
def test_feeding_outputs_is_running_the_plan(name: str) -> None:
    program, x = plan(name), torch.ones(3, dtype=torch.float64)
    answers = iter(outputs(program.nfe))
    assert torch.equal(fed(program, x, {}), program.run(lambda x, t: next(answers), x))


@pytest.mark.parametrize("name", ["dpmpp_3m", "heun", "uni_pc"])
def test_an_edit_of_a_state_is_the_edit_of_a_hook(name: str) -> None:
    program, x, change = plan(name), torch.ones(3, dtype=torch.float64), torch.tensor([0.3, -1.0, 2.0]).double()
    answers = iter(outputs(program.nfe))
    expected = program.run(lambda x, t: next(answers), x, step=lambda x, t: x + change if t == TIMES[1] else None)
    assert torch.equal(fed(program, x, {2 if name == "heun" else 1: change}), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", ["heun", "dpmpp_2s", "dpm_solver_3"])
def test_the_difference_of_a_stage_goes_to_the_state_that_it_was_made_from(name: str, prediction: str) -> None:
    program, x, change = plan(name, prediction), torch.ones(3, dtype=torch.float64), torch.full((3,), 0.1).double()
    run, answers = Run(program, x), outputs(program.nfe)
    run.advance()
    run.give(answers[0])
    run.advance()
    plain = run.x.clone()
    moved = Run(program, x + change)  # the state from which the stage moves by what is measured here
    moved.advance()
    moved.give(answers[0])
    moved.advance()
    edited = fed(program, x, {1: moved.x - plain})
    torch.testing.assert_close(edited, fed(program, x + change, {}), rtol=1e-12, atol=1e-12)


def test_tensors_of_the_caller_are_not_written_to() -> None:
    x = torch.ones(3, dtype=torch.float64)
    edit = torch.zeros(3, dtype=torch.float64)
    run, answers = Run(plan("heun"), x), outputs(7)
    for answer in answers:
        run.advance()
        run.replace(edit)
        run.give(answer)
    assert not run.advance()
    assert torch.equal(x, torch.ones_like(x)) and torch.equal(edit, torch.zeros_like(edit))
    for answer, kept in zip(answers, outputs(7), strict=True):
        assert torch.equal(answer, kept)


def test_noise_and_named_outputs_are_asked_for_by_name() -> None:
    drawing = solvers.get("ddpm")
    assert isinstance(drawing, PlannedSolver)
    with pytest.raises(PlanError, match="'ddpm' draws noise: give noise="):
        Run(drawing.plan(EDM(), [10.0, 1.0, 0.0], "sample"), torch.ones(2))
    run = Run(plan("ddim"), torch.ones(2))
    run.advance()
    with pytest.raises(PlanError, match="needs the model's output 'model'; it has \\['other'\\]"):
        run.give({"other": torch.ones(2)})

"""solver=auto with very few evaluations, on problems that had no part in its choice."""

from __future__ import annotations

import pytest

from benchmarks.tuning import few
from scoresde.process import EDM, VP, Process


@pytest.mark.parametrize("process", [VP(), EDM()], ids=lambda process: process.name)
@pytest.mark.parametrize("problem", ["digits", "mixture"])
@pytest.mark.parametrize("nfe", few.NFE)
def test_auto_is_no_worse_than_the_best_fixed_choice(problem: str, process: Process, nfe: int) -> None:
    model = few.PROBLEMS[problem](process)
    real = few.drawn(model, 600)
    rivals = [few.distance(model, real, solver, grid, nfe) for solver, grid in few.choices(("align_your_steps", None))]
    auto = few.distance(model, real, "auto", None, nfe)
    assert few.no_worse(auto, min(rivals, key=lambda each: each.value))

"""solver=auto with very few evaluations, on problems that had no part in its choice."""

from __future__ import annotations

import pytest

from benchmarks.tuning import few
from scoresde.process import EDM, VP, Process


@pytest.mark.parametrize(
    ("problem", "process"), [("digits", VP()), ("digits", EDM()), ("mixture", VP())], ids=["digits", "EDM", "mixture"]
)
@pytest.mark.parametrize("nfe", few.NFE[1:])
def test_auto_is_no_worse_than_the_best_fixed_choice(problem: str, process: Process, nfe: int) -> None:
    model = few.PROBLEMS[problem](process)
    real = few.drawn(model, few.N)
    rivals = [few.distance(model, real, solver, grid, nfe) for solver, grid in few.choices(("align_your_steps", None))]
    auto = few.distance(model, real, "auto", None, nfe)
    assert few.no_worse(auto, min(rivals, key=lambda each: each.value))

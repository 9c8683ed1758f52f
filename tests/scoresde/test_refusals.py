"""Each bad input of a request for samples is refused in words that name it, its value and what would do."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from scoresde.exact import Gaussian

MODEL = Gaussian(scoresde.VP(), torch.zeros(3), torch.eye(3))
FLOW = scoresde.Flow()
ADAPTIVE = [name for name in solvers.names() if solvers.get(name).adaptive]


def planned(name: str, process: scoresde.Process, prediction: str) -> solvers.Plan:
    solver = solvers.get(name)
    assert isinstance(solver, solvers.PlannedSolver)
    return solver.plan(process, solvers.grids.get("uniform")(process, 4), prediction)


def refused(error: type[Exception], *words: str, model: Any = MODEL, **request: Any) -> None:
    """The request fails with that error, and its message holds all these words."""
    if "shape" not in request and "x_init" not in request:
        request["shape"] = (4, 3)
    with pytest.raises(error) as caught:
        scoresde.sample(model, **request)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"solver": "dpmpp2m", "steps": 4}, ["unknown solver 'dpmpp2m'", "did you mean 'dpmpp_2m'"]),
        ({"solver": "zzz", "steps": 4}, ["unknown solver 'zzz'", "known: ", "ddim", "heun"]),
        ({"grid": "karas", "steps": 4}, ["unknown grid 'karas'", "did you mean 'karras'"]),
        ({"steps": 0}, ["steps", "at least 1", "got 0"]),
        ({"steps": -3}, ["steps", "at least 1", "got -3"]),
        ({"steps": 2.5}, ["steps", "whole number", "got 2.5"]),
        ({"steps": math.inf}, ["steps", "whole number", "got inf"]),
        ({"steps": "ten"}, ["steps", "whole number", "got 'ten'"]),
        ({"steps": True}, ["steps", "whole number", "got True"]),
        ({"nfe": 0}, ["nfe", "at least 1", "got 0"]),
        ({"nfe": 1.5}, ["nfe", "whole number", "got 1.5"]),
        ({"batch_size": 0, "steps": 4}, ["batch_size", "at least 1", "got 0"]),
        ({"batch_size": 2.5, "steps": 4}, ["batch_size", "whole number", "got 2.5"]),
        ({}, ["exactly one of steps and nfe", "None"]),
        ({"steps": 4, "nfe": 8}, ["exactly one of steps and nfe", "steps = 4", "nfe = 8"]),
        ({"steps": 4, "grid": [1.0, 0.5, 0.0]}, ["given as times", "neither steps (4) nor nfe"]),
        ({"nfe": 4, "grid": np.array([1.0, 0.5])}, ["given as times", "nfe (4)"]),
        ({"solver": "dpm_adaptive", "steps": 4}, ["dpm_adaptive", "chooses its own steps", "neither steps nor nfe"]),
        ({"solver": "rk_adaptive", "grid": [1.0, 0.5, 0.0]}, ["rk_adaptive", "two end times, got 3"]),
        ({"solver": "pf_ode", "steps": 4}, ["pf_ode", "chooses its own steps", "neither steps nor nfe"]),
        ({"solver": "pf_ode", "nfe": 4}, ["pf_ode", "chooses its own steps"]),
        ({"solver": "pf_ode", "grid": "karras"}, ["pf_ode", "chooses its own steps", "grid's name"]),
        ({"solver": "pf_ode", "grid": [1.0, 0.5, 0.0]}, ["pf_ode", "two end times, got 3"]),
        ({"steps": 4, "shape": (4, 3), "x_init": torch.ones(4, 3)}, ["exactly one of shape", "x_init"]),
        ({"steps": 4, "shape": None}, ["exactly one of shape", "x_init"]),
        ({"steps": 4, "shape": ()}, ["shape must be (batch, …)", "()"]),
        ({"steps": 4, "shape": 4}, ["shape must be (batch, …)", "got 4"]),
        ({"steps": 4, "shape": (0, 3)}, ["shape (0, 3)", "at least 1", "got 0"]),
        ({"steps": 4, "shape": (4, 2.5)}, ["shape (4, 2.5)", "whole number", "got 2.5"]),
    ],
    ids=str,
)
def test_names_counts_and_pairs(request_: dict[str, Any], words: list[str]) -> None:
    refused(ValueError, *words, **request_)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([0.5, 1.0], ["decrease strictly", "0.5 is followed by 1.0"]),
        ([1.0, 0.5, 0.5, 0.0], ["decrease strictly", "0.5 is followed by 0.5"]),
        ([1.0, math.nan, 0.0], ["must be finite", "got nan"]),
        ([math.inf, 0.5], ["must be finite", "got inf"]),
        ([1.5, 0.5], ["at or below t_max = 1.0", "VP(", "got 1.5"]),
        ([1.0, -0.1], ["time -0.1 is outside VP(", "t_clean = 0.0"]),
        ([1.0], ["at least two times", "[1.0]"]),
        ([[1.0, 0.5]], ["at least two times", "[[1.0, 0.5]]"]),
        (["noisy", "clean"], ["must be numbers", "'noisy'"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["dpmpp_2m", "pf_ode", "rk_adaptive"])
def test_grids(grid: list[Any], words: list[str], solver: str) -> None:
    refused(ValueError, *words, grid=grid, solver=solver)


def test_zero_noise_is_the_last_time_or_none() -> None:
    edm = Gaussian(scoresde.EDM(), torch.zeros(3), torch.eye(3))
    refused(ValueError, "0.0", "t_clean", "at the end", model=edm, grid=[80.0, 0.0, -1.0])


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (-1, ["seed", "got -1"]),
        (1.5, ["seed", "whole number", "got 1.5"]),
        ([0, 1, 2, 1.5], ["seed", "whole number", "got 1.5"]),
        ([0, 1, 2, -7], ["seed", "got -7"]),
        ([0, 1, 2, 2**63], ["seed", f"got {2**63}"]),
        (2**63 - 2, ["seed", f"got {2**63 + 1}"]),
        ([0, 1, 2], ["seeds must number the batch of 4", "got 3"]),
        (range(5), ["seeds must number the batch of 4", "got 5"]),
        ("0123", ["seed", "got '0'"]),
    ],
    ids=str,
)
def test_seeds(seeds: Any, words: list[str]) -> None:
    refused(ValueError, *words, seeds=seeds, steps=4)


def test_options_and_kinds() -> None:
    with pytest.raises(TypeError, match="solver 'ddim' has no option 'etta'; did you mean 'eta'"):
        solvers.get("ddim", etta=0.5)
    with pytest.raises(TypeError, match="grid 'karras' has no option 'roh'; did you mean 'rho'"):
        solvers.grids.get("karras", roh=5)
    with pytest.raises(ValueError, match="unknown method 'dopri6' of pf_ode; did you mean 'dopri"):
        solvers.get("pf_ode", method="dopri6")
    refused(TypeError, "solver must be a name, a Solver or a Plan, got 3", solver=3, steps=4)
    refused(
        TypeError, "model must be a scoresde.ScoreModel or a Checkpoint, got function", model=lambda x, t: x, steps=4
    )
    refused(TypeError, "unexpected keyword argument 'step'", step=4)


def test_score_models() -> None:
    with pytest.raises(ValueError, match="unknown prediction type 'eps'; did you mean 'epsilon'"):
        scoresde.ScoreModel(lambda x, t: x, scoresde.VP(), "eps")
    with pytest.raises(TypeError, match="net must be callable as net.x, t, .*cond., got int"):
        scoresde.ScoreModel(3, scoresde.VP())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="process must be a scoresde.Process, got 'vp'"):
        scoresde.ScoreModel(lambda x, t: x, "vp")  # type: ignore[arg-type]
    for call in (MODEL.score, MODEL.epsilon, MODEL.denoised):
        with pytest.raises(ValueError, match=re.escape("t must be a number or of shape (4,), one per state, got (3,)")):
            call(torch.zeros(4, 3), torch.ones(3))


def test_states_of_the_wrong_kind() -> None:
    refused(ValueError, "float32 or float64", "got torch.bfloat16", dtype=torch.bfloat16, steps=4)
    refused(ValueError, "float32 or float64", "got torch.int64", dtype=torch.int64, steps=4)
    refused(
        TypeError, "x_init must be a floating-point tensor, got torch.uint8", x_init=torch.ones(4, 3).byte(), steps=4
    )
    refused(TypeError, "x_init must be a floating-point tensor, got ndarray", x_init=np.zeros((4, 3)), steps=4)
    refused(ValueError, "states must have shape (batch, 3), got (4, 5)", shape=(4, 5), steps=4)


def test_a_network_on_another_device() -> None:
    far = scoresde.ScoreModel(torch.nn.Linear(3, 3, device="meta"), scoresde.VP())
    refused(ValueError, "device cpu", "network is on meta", model=far, x_init=torch.ones(4, 3), steps=4)
    near = scoresde.ScoreModel(torch.nn.Linear(3, 3), scoresde.VP())
    refused(ValueError, "device meta", "network is on cpu", model=near, device="meta", steps=4)


def test_conditions_that_do_not_number_the_batch() -> None:
    refused(ValueError, "cond['label']", "batch of 4", "(3,)", cond={"label": torch.zeros(3)}, steps=4)
    refused(ValueError, "cond['a']['b'][1]", "(5, 2)", cond={"a": {"b": [1, torch.ones(5, 2)]}}, steps=4)
    refused(ValueError, "cond['scale']", "()", cond={"scale": torch.tensor(2.0)}, steps=4)
    refused(TypeError, "cond['label'] is a numpy array", "torch.as_tensor", cond={"label": np.zeros(4)}, steps=4)
    refused(TypeError, "cond must be a mapping", "got Tensor", cond=torch.zeros(4), steps=4)


def test_plans_of_another_model() -> None:
    plan = planned("ddim", scoresde.VP(), "sample")
    refused(ValueError, "plan has its own grid", solver=plan, steps=4)
    refused(ValueError, "plan has its own grid", solver=plan, grid="karras")
    refused(ValueError, "plan is for another process", "at t = 1", "VP(", solver=planned("ddim", FLOW, "sample"))
    refused(ValueError, "predicts 'epsilon'", "'sample'", solver=planned("ddim", scoresde.VP(), "epsilon"))
    steeper = Gaussian(scoresde.VP(beta_max=25.0), torch.zeros(3), torch.eye(3))
    refused(ValueError, "plan is for another process", "beta_max=25.0", model=steeper, solver=plan)


@pytest.mark.parametrize("prediction", ["epsilon", "score"])
@pytest.mark.parametrize(
    "solver",
    ["dpmpp_2m", "euler", "heun", solvers.get("pf_ode", method="rk4"), *ADAPTIVE],
    ids=str,
)
def test_a_prediction_that_says_nothing_at_the_noisy_end_of_flow(solver: Any, prediction: str) -> None:
    model = Gaussian(FLOW, torch.zeros(3), torch.eye(3), prediction=prediction)
    steps = None if solver in ADAPTIVE else 4
    refused(
        ValueError,
        f"predicts {prediction!r}",
        "says nothing about x0 at t = 1.0",
        model=model,
        solver=solver,
        steps=steps,
    )


def test_too_small_a_budget_says_how_much_is_needed(passing_solvers: None) -> None:
    @solvers.solver("two_evaluations_in_test", order=1, reference="this test", to_clean=True)
    def pair(steps, x, predict):  # type: ignore[no-untyped-def]
        for t, s in steps:
            x = yield s.alpha * predict(x, t).x0 + s.sigma * predict(x, t).epsilon

    refused(ValueError, "needs at least 2 evaluations", "nfe = 1", solver="two_evaluations_in_test", nfe=1)


# what a network or callback returns


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (lambda x: x[:, :2], "(4, 2)"),
        (lambda x: x[:1], "(1, 3)"),
        (lambda x: (x, x), "tuple"),
        (lambda x: None, "NoneType"),
    ],
)
def test_a_network_that_returns_a_wrong_shape(output: Any, got: str) -> None:
    model = scoresde.ScoreModel(lambda x, t: output(x), scoresde.VP())
    refused(ValueError, "must return a tensor shaped like its input (4, 3)", f"got {got}", model=model, steps=4)


def test_a_callback_that_returns_a_wrong_shape() -> None:
    refused(ValueError, "callback returned shape (4, 2)", "(4, 3)", callback=lambda x, t: x[:, :2], steps=4)


def breaking(at: float, value: float, **kind: Any) -> scoresde.ScoreModel:
    """A model whose output for the second state of a batch is broken at times below ``at``."""

    def net(x: Tensor, t: Tensor) -> Tensor:
        out = 0.1 * x
        if float(t[0]) <= at:
            out[1, 0] = value
        return out

    return scoresde.ScoreModel(net, scoresde.VP(), **kind)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("solver", "evaluation", "t"), [("ddim", 4, 0.4), ("heun", 6, 0.4), ("ddpm", 4, 0.4), ("dpmpp_2m", 4, 0.4)]
)
def test_a_value_that_is_not_finite_is_traced_to_evaluation_time_and_seed(
    solver: str, evaluation: int, t: float, value: float
) -> None:
    for batch_size in (None, 4):
        refused(
            scoresde.NonFiniteError,
            f"the output of evaluation {evaluation} at t = {t:g} is not finite for seeds [31]",
            model=breaking(0.45, value),
            solver=solver,
            grid=[1.0, 0.8, 0.6, 0.4, 0.2, 0.0],
            seeds=[30, 31, 32, 33],
            batch_size=batch_size,
        )


@pytest.mark.parametrize("method", ["dopri5", "rk4", "RK45", "LSODA"])
def test_an_ode_library_does_not_hide_where_a_value_stopped_being_finite(method: str) -> None:
    solver = solvers.get("pf_ode", method=method)
    steps = 5 if method == "rk4" else None
    words = ["the output of evaluation", "at t = 0.", "is not finite for seeds [31]"]
    refused(scoresde.NonFiniteError, *words, model=breaking(0.4, math.nan), solver=solver, seeds=30, steps=steps)


@pytest.mark.parametrize("solver", ["rk_adaptive", "dpm_adaptive", "adaptive_sde"])
def test_a_solver_of_each_sample_s_own_steps_names_the_seed_and_its_time(solver: str) -> None:
    words = ["the output of evaluation", "at t = 0.", "is not finite for seeds [31]"]
    refused(scoresde.NonFiniteError, *words, model=breaking(0.4, math.nan), solver=solver, seeds=30)


def test_a_padded_sample_is_named_once() -> None:
    broken = scoresde.ScoreModel(lambda x, t: x * math.nan, scoresde.VP())
    refused(scoresde.NonFiniteError, "for seeds [8]", model=broken, shape=(1, 3), seeds=8, batch_size=4, steps=4)


def test_an_initial_state_that_is_not_finite() -> None:
    start = torch.ones(4, 3)
    start[2, 1] = math.nan
    refused(
        scoresde.NonFiniteError, "the state given to evaluation 1 at t = 1", "seeds [2]", x_init=start, seeds=0, steps=4
    )


def test_an_edit_that_is_not_finite() -> None:
    words = ["the state after evaluation 1, at t = ", "is not finite"]
    refused(scoresde.NonFiniteError, *words, callback=lambda x, t: x * math.nan, seeds=0, steps=4)


def test_a_network_that_fails_once_is_not_taken_for_sound() -> None:
    calls = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return x * (math.nan if len(calls) == 2 else 0.1)

    words = ["not finite", "same seeds ran again", "not repeatable"]
    refused(scoresde.NonFiniteError, *words, model=scoresde.ScoreModel(net, scoresde.VP()), seeds=0, steps=4)

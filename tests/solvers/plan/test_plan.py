"""Plans: files, checks, memory, and what the executor promises about tensors that are not its own."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers import Plan, PlanError, PlannedSolver, grids
from solvers.plan.instructions import Draw, Eval, Lin, Step, reads, writes
from solvers.prediction import TYPES

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "ddim": st.fixed_dictionaries({"eta": st.floats(0, 1)}),
    "ddpm": st.just({}),
    "dpm_solver_1": st.just({}),
    "dpm_solver_2": st.fixed_dictionaries({"r1": st.floats(0.1, 0.9)}),
    "dpm_solver_3": st.fixed_dictionaries({"r1": st.floats(0.1, 0.4), "r2": st.floats(0.5, 0.9)}),
    "dpmpp_2m": st.just({}),
    "euler": st.fixed_dictionaries({"frame": st.sampled_from(["edm", "flow", "vp", None])}),
    "euler_maruyama": st.fixed_dictionaries({"eta": st.floats(0, 2)}),
    "heun": st.fixed_dictionaries(
        {"frame": st.sampled_from(["edm", "flow", "vp", None]), "s_churn": st.floats(0, 40), "s_noise": st.floats(0, 2)}
    ),
}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of any of the solvers, with any options, on any process and grid."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    process: Process = draw(st.sampled_from(PROCESSES))
    kinds = TYPES if process.alpha(process.t_max) > 0 else ("sample", "v_prediction", "flow")
    times = grids.get(draw(st.sampled_from(grids.names())))(process, draw(st.integers(1, 8)))
    times = times if draw(st.booleans()) or len(times) < 3 else times[:-1]
    return planned(name, **draw(OPTIONS[name])).plan(process, times, draw(st.sampled_from(kinds)))


def planned(name: str, **options: Any) -> PlannedSolver:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver


def custom(function: Callable[..., Any], times: Any = (1.0, 0.5, 0.1), prediction: str = "epsilon") -> Plan:
    solver = PlannedSolver(
        function, {}, name="custom", reference="", order=1, weak_order=None, grid="uniform", to_clean=False
    )
    return solver.plan(VP(), times, prediction)


# Files


@settings(deadline=None, max_examples=150)
@given(plan=plans())
def test_a_saved_plan_is_loaded_to_the_bit(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    first, second = (tmp_path_factory.getbasetemp() / name for name in ("first.json", "second.json"))
    plan.save(first)
    loaded = Plan.load(first)
    loaded.save(second)
    assert loaded == plan
    assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    planned("dpmpp_2m").plan(VP(), [1.0, 0.5, 0.1, 0.0]).save(path)
    return path


def change(path: Path, **content: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


def test_a_file_that_is_no_plan_is_refused(saved: Path) -> None:
    text = saved.read_text()
    for damaged in ("", text[: len(text) // 2], "not json", "[1, 2]", "3", '{"format": "other"}', "{}"):
        saved.write_text(damaged)
        with pytest.raises(PlanError, match=r"plan\.json' is not a plan"):
            Plan.load(saved)
    saved.write_bytes(b"\x80\x04\xff\xfe")
    with pytest.raises(PlanError, match="is not a plan"):
        Plan.load(saved)


def test_a_plan_of_another_version_is_refused(saved: Path) -> None:
    change(saved, version=2)
    with pytest.raises(PlanError, match="is a plan of version 2; this is version 1"):
        Plan.load(saved)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"instructions": None}, "not a valid plan"),
        ({"instructions": [["JUMP", 1]]}, "unknown instruction 'JUMP'"),
        ({"instructions": [["LIN", 1]]}, "not a valid plan"),
        ({"instructions": [["LIN", 1, [[0, "a"]]]]}, "not a valid plan"),
        ({"instructions": [["LIN", 1, [[0, math.nan]]]]}, "holds a number that is not finite"),
        ({"instructions": [["LIN", 1, [[5, 1.0]]]]}, "reads register 5 before it is written"),
        ({"instructions": [["LIN", 0, [[0, 1.0]]]]}, "writes register 0, which is not a new number"),
        ({"instructions": [["LIN", -1, [[0, 1.0]]]]}, "writes register -1"),
        ({"instructions": [["LIN", 1.5, [[0, 1.0]]]]}, "writes register 1.5"),
        ({"instructions": [["DRAW", 1], ["DRAW", 1]]}, "writes register 1, which is not a new number"),
        ({"instructions": [["EVAL", {"uncond": 1}, 0, 1.0, 0.1, 0.9]]}, "has no output 'model'"),
        ({"instructions": [["EVAL", {"model": 1}, 0, math.inf, 0.1, 0.9]]}, "holds a number that is not finite"),
        ({"instructions": []}, "must end at the grid's times"),
        ({"instructions": [["STEP", 1, 0, 0.3]]}, "must end at the grid's times"),
        ({"times": [1.0, 0.5]}, "must end at the grid's times"),
        ({"times": [], "instructions": []}, "at least two times"),
        ({"times": [0.1, 0.5], "instructions": [["STEP", 1, 0, 0.5]]}, "decrease"),
        ({"times": [math.nan, 0.5], "instructions": [["STEP", 1, 0, 0.5]]}, "decrease"),
        ({"prediction": "noise"}, "unknown prediction type 'noise'"),
        ({"options": 3}, "not a valid plan"),
    ],
)
def test_a_file_whose_program_is_wrong_is_refused(saved: Path, content: dict[str, Any], words: str) -> None:
    change(saved, **content)
    with pytest.raises(PlanError, match=words):
        Plan.load(saved)


@pytest.mark.parametrize("key", ["solver", "options", "prediction", "times", "instructions"])
def test_a_file_that_lacks_a_part_is_refused(saved: Path, key: str) -> None:
    content = json.loads(saved.read_text())
    del content[key]
    saved.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=f"not a valid plan.*{key}"):
        Plan.load(saved)


def test_a_save_that_fails_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        replace(Plan.load(saved), options={"eta": object()}).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


# Programs


@settings(deadline=None, max_examples=150)
@given(plans())
def test_every_register_is_freed_once_and_never_used_again(plan: Plan) -> None:
    gone: set[int] = set()
    for instruction, dead in zip(plan.instructions, plan.dead, strict=True):
        assert not gone & {*reads(instruction), *writes(instruction)}
        assert not gone & set(dead)
        gone |= set(dead)
    assert gone == {0, *(register for instruction in plan.instructions for register in writes(instruction))}


@settings(deadline=None, max_examples=60)
@given(plans())
def test_evaluations_and_draws_are_as_many_as_the_plan_says(plan: Plan) -> None:
    counts = {"nfe": 0, "draws": 0, "steps": 0}

    def count(what: str, value: Any) -> Any:
        counts[what] += 1
        return value

    plan.run(
        lambda x, t: count("nfe", x),
        torch.ones(1, dtype=torch.float64),
        lambda: count("draws", torch.ones(1, dtype=torch.float64)),
        step=lambda x, t: count("steps", None),
    )
    assert counts == {"nfe": plan.nfe, "draws": plan.draws, "steps": len(plan.times) - 1}


@pytest.mark.parametrize(
    ("name", "nfe", "from_zero_signal"),
    [("ddim", 10, 10), ("dpmpp_2m", 10, 10), ("heun", 19, 18), ("dpm_solver_2", 19, 18), ("dpm_solver_3", 28, 26)],
)
def test_evaluations_of_ten_steps(name: str, nfe: int, from_zero_signal: int) -> None:
    times = grids.get("karras")
    assert planned(name).plan(VP(), times(VP(), 10)).nfe == planned(name).nfe(VP(), times(VP(), 10)) == nfe
    assert planned(name).plan(Flow(), times(Flow(), 10), "flow").nfe == from_zero_signal


def test_a_plan_prints_as_a_table() -> None:
    text = str(planned("ddim", eta=1.0).plan(VP(), [1.0, 0.5, 0.0]))
    lines = text.splitlines()
    assert lines[0] == "ddim(eta=1.0) · epsilon · 2 steps · 2 NFE · 1 draws · 4 states in memory"
    assert [line.split()[0] for line in lines[1:]] == ["EVAL", "DRAW", "LIN", "STEP", "EVAL", "LIN", "STEP"]
    assert lines[1] == "EVAL  r1 = predict(r0, t=1)"
    assert lines[3].endswith("frees r0 r1 r2")


# Memory


@pytest.mark.parametrize("prediction", TYPES)
@pytest.mark.parametrize(("name", "states"), [("ddim", 3), ("dpmpp_2m", 4), ("heun", 5), ("dpm_solver_3", 5)])
def test_memory_does_not_grow_with_the_number_of_steps(name: str, states: int, prediction: str) -> None:
    few, many = (planned(name).plan(VP(), grids.get("karras")(VP(), n), prediction).memory for n in (6, 60))
    assert few == many <= states


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_executor_holds_no_more_tensors_than_the_plan_says(name: str, prediction: str) -> None:
    plan = planned(name).plan(VP(), grids.get("karras")(VP(), 5), prediction)
    shape, most = (3, 41), 0
    initial = torch.ones(shape)

    def look() -> None:
        nonlocal most
        tensors = [item for item in gc.get_objects() if type(item) is Tensor and item.shape == shape]
        most = max(most, len(tensors))

    def predict(x: Tensor, t: float) -> Tensor:
        result = 0.5 * x
        look()
        return result

    gc.freeze()  # what exists by now, the initial state included, is not looked at
    try:
        plan.run(predict, initial, lambda: torch.ones(shape), step=lambda x, t: look())
    finally:
        gc.unfreeze()
    assert 2 <= most <= plan.memory


# Other people's tensors


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_model_may_return_its_own_input(name: str) -> None:
    plan = planned(name).plan(VP(), grids.get("karras")(VP(), 6), "sample")
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    kept = x.clone()
    result = plan.run(lambda x, t: x, x, lambda: torch.ones_like(x))
    torch.testing.assert_close(result, plan.run(lambda x, t: x.clone(), x, lambda: torch.ones_like(x)), rtol=0, atol=0)
    torch.testing.assert_close(x, kept, rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_states_outputs_and_draws_are_left_as_they_are(name: str) -> None:
    plan = planned(name).plan(VP(), grids.get("karras")(VP(), 6), "epsilon")
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(x: Tensor) -> Tensor:
        seen.append((x, x.clone()))
        return x

    def predict(x: Tensor, t: float) -> Tensor:
        keep(x)
        return keep(0.3 * x)

    plan.run(predict, keep(torch.ones(4)), lambda: keep(torch.full((4,), 2.0)), step=lambda x, t: (keep(x), None)[1])
    for tensor, copy in seen:
        assert torch.equal(tensor, copy)


def test_an_edited_state_is_used_and_the_history_is_not_touched() -> None:
    """DPM-Solver++ 2M by hand: the edit moves the state, while old x0 stay those of the states they came from."""
    process, times = VP(), [0.9, 0.6, 0.4, 0.2, 0.1]
    model: Callable[[Tensor, float], Tensor] = lambda x, t: torch.sin(x) * (1 + t)  # noqa: E731
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    found = planned("dpmpp_2m").plan(process, times, "sample").run(model, x, step=lambda state, t: state * 0.9 + t)
    lam = [process.half_log_snr(t) for t in times]
    old = None
    for i, (t, s) in enumerate(zip(times, times[1:], strict=False)):
        h, new = lam[i + 1] - lam[i], model(x, t)
        data = new if old is None else new + h / (2 * (lam[i] - lam[i - 1])) * (new - old)
        x = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * math.expm1(-h) * data
        x, old = 0.9 * x + s, new
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


def test_a_hook_sees_every_state_and_the_last_is_the_result() -> None:
    plan = planned("heun").plan(VP(), [1.0, 0.5, 0.1, 0.0])
    seen: list[tuple[float, Tensor]] = []
    result = plan.run(lambda x, t: 0.1 * x, torch.ones(2), step=lambda x, t: seen.append((t, x)))
    assert tuple(t for t, _ in seen) == plan.times[1:]
    assert torch.equal(seen[-1][1], result)
    edited = plan.run(lambda x, t: 0.1 * x, torch.ones(2), step=lambda x, t: torch.zeros(2))
    assert torch.equal(edited, torch.zeros(2))


def test_a_plan_that_draws_needs_noise() -> None:
    plan = planned("ddpm").plan(VP(), [1.0, 0.5, 0.1])
    with pytest.raises(PlanError, match="a plan of 'ddpm' draws noise: give noise="):
        plan.run(lambda x, t: x, torch.ones(2))


# Named outputs


def guided(steps: Any, x: Any, predict: Any) -> Any:
    """CFG++: the noise that is put back is the unconditional one (Chung et al. 2024, Algorithm 2)."""
    for t, s in steps:
        p = predict(x, t)
        x = yield s.alpha * p.x0 + s.sigma * p.extra("uncond").epsilon


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_a_solver_may_use_named_outputs_of_the_model(prediction: str) -> None:
    process, times = VP(), (1.0, 0.5, 0.1)

    def x0(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return torch.sin(x), torch.cos(x) * t

    def predict(x: Tensor, t: float) -> dict[str, Tensor]:
        both = x0(x, t)
        if prediction == "epsilon":
            both = tuple((x - process.alpha(t) * value) / process.sigma(t) for value in both)
        return {"model": both[0], "uncond": both[1]}

    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    found = custom(guided, times, prediction).run(predict, x)
    for t, s in zip(times, times[1:], strict=False):
        conditional, unconditional = x0(x, t)
        epsilon = (x - process.alpha(t) * unconditional) / process.sigma(t)
        x = process.alpha(s) * conditional + process.sigma(s) * epsilon
    torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-11)


def test_an_output_that_the_model_lacks_is_named() -> None:
    plan = custom(guided)
    for predict in (lambda x, t: x, lambda x, t: {"model": x}):
        with pytest.raises(PlanError, match=r"'custom' needs the model's output 'uncond'; it has \['model'\]"):
            plan.run(predict, torch.ones(2))


def test_what_is_returned_beside_the_needed_outputs_is_ignored() -> None:
    plan = planned("ddim").plan(VP(), [1.0, 0.5, 0.1])
    x = torch.ones(2)
    assert torch.equal(plan.run(lambda x, t: {"model": 0.1 * x, "logits": None}, x), plan.run(lambda x, t: 0.1 * x, x))


def test_instructions_of_a_plan_written_by_hand_run_as_they_read() -> None:
    plan = Plan(
        "by hand",
        {},
        "sample",
        (1.0, 0.5),
        (
            Eval({"model": 1}, 0, 1.0, 0.1, 0.9),
            Draw(2),
            Lin(3, ((0, 1.0), (1, 2.0), (2, -1.0))),
            Lin(4, ()),
            Lin(5, ((3, 0.5), (4, 7.0))),
            Step(6, 5, 0.5),
        ),
    )
    result = plan.run(lambda x, t: x + t, torch.tensor([3.0]), lambda: torch.tensor([5.0]))
    assert result.item() == 0.5 * (3.0 + 2 * 4.0 - 5.0)
    assert plan.memory == 4

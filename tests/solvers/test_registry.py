"""The register of solvers: names, options, and what each solver says of itself."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import numpy as np
import pytest

import solvers
from benchmarks.orders.cases import DETERMINISTIC, STOCHASTIC
from scoresde.process import VP
from solvers import PlannedSolver, Solver

OURS = [
    name
    for name in solvers.names()
    if getattr(solvers.get(name), "function", type(solvers.get(name))).__module__.startswith("solvers.")
]


@pytest.mark.parametrize("name", OURS)
def test_every_solver_names_its_source_and_explains_its_options(name: str) -> None:
    solver = solvers.get(name)
    text = (solver.function.__doc__ if isinstance(solver, PlannedSolver) else type(solver).__doc__) or ""
    assert solver.name == name
    assert re.search(r"\d{4}", solver.reference), "the reference has no year"
    assert len(text.splitlines()[0]) > 20
    for option in solver.options:
        assert re.search(rf"^\s+(\w+, )*{option}(, \w+)*:", text, re.MULTILINE), f"{option} is not explained"


@pytest.mark.parametrize("case", [*DETERMINISTIC, *STOCHASTIC], ids=lambda case: f"{case[0]}-{case[1]}")
def test_a_solver_is_stochastic_if_and_only_if_it_draws(case: tuple[str, dict[str, Any]]) -> None:
    solver = solvers.get(case[0], **case[1])
    assert solver.stochastic == (case in STOCHASTIC)
    assert (solver.order is None) == solver.stochastic
    assert (solver.weak_order is None) == (not solver.stochastic)
    if isinstance(solver, PlannedSolver):
        plan = solver.plan(VP(), solver.recommended(VP(), 5))
        assert (plan.draws > 0) == solver.stochastic


@pytest.mark.parametrize("name", OURS)
def test_options_are_complete_and_rebuild_the_solver(name: str) -> None:
    solver = solvers.get(name)
    again = solvers.get(name, **solver.options)
    assert again.options == solver.options
    assert repr(again) == repr(solver)
    assert solver.grid in solvers.grids.names()


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown solver 'dpmpp2m'; did you mean 'dpmpp_2m'"):
        solvers.get("dpmpp2m")
    with pytest.raises(ValueError, match="unknown solver 'zzz'; known: .*ddim"):
        solvers.get("zzz")


def test_a_second_name_finds_the_solver_and_is_not_listed() -> None:
    aliases = {
        "dpm_2": "dpm_solver_2",
        "euler_a": "euler_ancestral",
        "euler_cfg_pp": "ddim_cfg_pp",
        "seeds_2": "dpmpp_sde",
        "unipc": "uni_pc",
    }
    assert solvers.aliases() == aliases
    for name, of in aliases.items():
        assert repr(solvers.get(name)) == repr(solvers.get(of))
        assert name not in solvers.names()
    assert solvers.get("unipc", order=4).options["order"] == 4
    with pytest.raises(ValueError, match="unknown solver 'unipk'; did you mean 'unipc'"):
        solvers.get("unipk")


@pytest.mark.parametrize(
    ("name", "options", "extra"),
    [
        ("dpmpp_3m", {}, 1),
        ("eab", {"order": 2}, 0),
        ("deis", {"order": 3}, 1),
        ("lms", {"order": 4}, 4),
        ("uni_pc", {"order": 2}, 0),
        ("uni_pc", {"order": 3}, 2),
        ("uni_pc", {"order": 3, "corrector": False}, 1),
        ("uni_pc", {"order": 4}, 6),
    ],
)
def test_the_evaluations_of_a_start_are_counted(name: str, options: dict[str, Any], extra: int) -> None:
    times = solvers.grids.get("quadratic")(VP(), 12)
    assert solvers.get(name, **options, starter="cold").nfe(VP(), times) == 12
    assert solvers.get(name, **options, starter="singlestep").nfe(VP(), times) == 12 + extra


def test_memory_is_the_state_and_the_history_and_no_more() -> None:
    """A method of p slopes has them, the state and the next state alive at most, whatever the number of steps."""
    for order in (1, 2, 3, 4):
        solver = solvers.get("eab", order=order)
        assert isinstance(solver, PlannedSolver)
        small, large = (solver.plan(VP(), solvers.grids.get("quadratic")(VP(), steps), "sample") for steps in (8, 30))
        assert small.memory == large.memory == order + 2


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match="solver 'heun' has no option 's_chrun'; did you mean 's_churn'"):
        solvers.get("heun", s_chrun=1.0)
    with pytest.raises(TypeError, match="solver 'ddpm' has no option 'eta'; it has no options"):
        solvers.get("ddpm", eta=1.0)
    with pytest.raises(TypeError, match="solver 'pf_ode' has no option 'tol'"):
        solvers.get("pf_ode", tol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ddim", {"eta": 1.5}, "eta between 0 and 1, got 1.5"),
        ("ddim", {"eta": float("nan")}, "eta between 0 and 1, got nan"),
        ("euler_maruyama", {"eta": -0.1}, "eta of at least 0, got -0.1"),
        ("heun", {"s_churn": -1.0}, "s_churn of at least 0, got -1.0"),
        ("heun", {"frame": "edn"}, "unknown frame 'edn'; did you mean 'edm'"),
        ("dpm_solver_2", {"r1": 0.0}, "r1 between 0 and 1, got 0.0"),
        ("dpm_solver_3", {"r1": 0.7, "r2": 0.6}, "0 < r1 < r2 < 1, got 0.7 and 0.6"),
        ("dpmpp_2m", {"solver_type": "huen"}, "unknown solver_type 'huen' of dpmpp_2m; did you mean 'heun'"),
        ("dpmpp_3m", {"variant": "publisht"}, "unknown variant 'publisht' of dpmpp_3m; did you mean 'published'"),
        ("dpm_fast", {"remainder": 3}, "a remainder of 0, 1 or 2, got 3"),
        ("exp_heun", {"frame": "dta"}, "unknown frame 'dta' of exp_heun; did you mean 'data'"),
        ("deis", {"order": 5}, "deis has orders 1 to 4, got 5"),
        ("lms", {"order": 2.5}, "lms has orders 1 to 4, got 2.5"),
        ("ipndm_v", {"variant": "published"}, "ipndm_v has orders 1 to 3, got 4"),
        ("res_multistep", {"order": 1}, "res_multistep has orders 2 and 3, got 1"),
        ("eab", {"variable": "lamda"}, "unknown variable 'lamda'; did you mean 'lambda'"),
        ("eab", {"starter": "singlestp"}, "unknown starter 'singlestp' of eab; did you mean 'singlestep'"),
        ("reab", {"data_std": 0.0}, "standard deviation must be positive, got 0.0"),
        ("gradient_estimation", {"gamma": 0.5}, "gamma of at least 1, got 0.5"),
        ("uni_pc", {"variant": "bh3"}, "unknown variant 'bh3' of uni_pc; did you mean 'bh"),
        ("runge_kutta", {"tableau": "rk5"}, "unknown tableau 'rk5'; did you mean 'rk4"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(name: str, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        solvers.get(name, **options)


NOT_OF_THEIR_KIND = [
    {int: "3", float: "0.5", bool: 1},
    {int: True, float: True, bool: "true"},
    {int: None, float: float("nan"), bool: 0.0},
    {int: [2], float: [0.5], bool: None},
]


@pytest.mark.parametrize("values", NOT_OF_THEIR_KIND)
@pytest.mark.parametrize("name", OURS)
def test_values_of_another_kind_are_refused_with_the_solver_s_name_and_the_value(
    name: str, values: dict[type, Any]
) -> None:
    for option, default in solvers.get(name).options.items():
        if type(default) in values:
            value = values[type(default)]
            with pytest.raises(ValueError, match=re.escape(str(value))) as caught:
                solvers.get(name, **{option: value})
            assert name in str(caught.value)


@pytest.mark.parametrize("name", OURS)
def test_words_that_there_are_not_are_refused(name: str) -> None:
    for option, default in solvers.get(name).options.items():
        if isinstance(default, str) or option == "frame":
            with pytest.raises(ValueError, match="zzz"):
                solvers.get(name, **{option: "zzz"})


def test_a_solver_s_options_are_its_signature() -> None:
    made = importlib.import_module("solvers.methods.deis").deis
    assert str(inspect.signature(made)) == "(*, order: int = 4, starter: str = 'cold') -> solvers.base.PlannedSolver"
    with pytest.raises(ValueError, match="deis has orders 1 to 4, got 99"):
        made(order=99)


def test_methods_and_tolerances_of_pf_ode_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown method 'dopri6' of pf_ode; did you mean 'dopri"):
        solvers.get("pf_ode", method="dopri6")
    with pytest.raises(ValueError, match="positive tolerances, got rtol = 0"):
        solvers.get("pf_ode", rtol=0)
    with pytest.raises(ValueError, match="takes two end times, got 3 times"):
        solvers.get("pf_ode").run(VP(), [1.0, 0.5, 0.1], lambda x, t: x, np.zeros(1), prediction="sample")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="chooses its own steps"):
        solvers.get("pf_ode").nfe(VP(), [1.0, 0.1])


def test_a_name_is_given_once() -> None:
    def again(steps: Any, x: Any, predict: Any) -> Any:
        yield x

    with pytest.raises(ValueError, match="already is a solver named 'ddim'"):
        solvers.solver("ddim", order=1, reference="")(again)
    assert solvers.get("ddim", eta=0.5).options == {"eta": 0.5}


def test_a_solver_function_must_be_a_generator_and_declare_its_order() -> None:
    def plain(steps: Any, x: Any, predict: Any) -> Any:
        return x

    def noisy(steps: Any, x: Any, predict: Any, noise: Any) -> Any:
        yield x + noise()

    with pytest.raises(TypeError, match="'plain' must be a generator"):
        solvers.solver("plain", order=1, reference="")(plain)
    with pytest.raises(TypeError, match="'noisy' is stochastic: declare its weak_order"):
        solvers.solver("noisy", order=1, reference="", stochastic=True)(noisy)
    assert not {"plain", "noisy"} & set(solvers.names())


def test_one_solver_serves_many_runs() -> None:
    solver = solvers.get("dpmpp_2m")
    assert isinstance(solver, PlannedSolver) and isinstance(solver, Solver)
    first = solver.plan(VP(), [1.0, 0.5, 0.1, 0.0])
    solver.plan(VP(), [0.9, 0.2])
    assert solver.plan(VP(), [1.0, 0.5, 0.1, 0.0]) == first

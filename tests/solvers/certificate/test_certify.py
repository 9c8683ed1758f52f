"""solvers.certify: the order of a solver, measured where its author wants."""

from __future__ import annotations

from typing import Any

import pytest

import solvers
from benchmarks.orders.cases import PROCESSES
from solvers.certificate.slopes import smooth_grid
from solvers.standin import StandIn


def test_a_solver_is_certified_by_name_with_its_options() -> None:
    found = solvers.certify("dpmpp_3m", shapes=["karras"], starter="singlestep")
    assert found.declared == 3 and found.holds
    assert found.measured["α = 1", "karras"] == pytest.approx(3, abs=0.2)
    assert str(found).startswith("dpmpp_3m(variant='exact', starter='singlestep', ")
    assert ") declares order 3" in str(found)


def test_noise_makes_it_the_weak_order() -> None:
    found = solvers.certify("ddim", {"Flow": PROCESSES["Flow"]}, ["uniform"], eta=1.0)
    assert (found.declared, found.holds) == (1, True)
    (row,) = found.rows()
    assert row["errors"][0] > 5 * row["errors"][-1] and "declares weak order 1" in str(found)


@pytest.mark.usefixtures("passing_solvers")
def test_an_order_that_does_not_hold_is_said() -> None:
    @solvers.solver("boasting", order=2, reference="this test")
    def boasting(steps: Any, x: Any, predict: Any) -> Any:
        for t, s in steps:
            p = predict(x, t)
            x = yield s.alpha * p.x0 + s.sigma * p.epsilon

    found = solvers.certify("boasting", shapes=["karras"])
    assert not found.holds and found.measured["α = 1", "karras"] == pytest.approx(1, abs=0.1)
    assert "does not hold" in str(found)


@pytest.mark.parametrize(
    ("solver", "given", "words"),
    [
        ("pf_ode", {}, "chooses its own steps"),
        ("lcm", {}, "declares no order"),
        ("heun", {"shapes": ["karas"]}, "unknown shape 'karas'; did you mean 'karras'"),
        ("heun", {"shapes": []}, "one process and one shape"),
        ("heun", {"order": 3}, "no option 'order'"),
    ],
)
def test_what_cannot_be_certified_is_refused(solver: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        solvers.certify(solver, **given)


def test_the_process_in_place_of_a_model_s_is_edm_s() -> None:
    edm, stand_in = PROCESSES["EDM"], StandIn()
    for t in (0.3, 2.0, 17.0):
        for name in ("alpha", "sigma", "half_log_snr", "drift", "diffusion"):
            assert getattr(stand_in, name)(t) == getattr(edm, name)(t), name
    assert smooth_grid(stand_in, "karras", 8).tolist() == smooth_grid(edm, "karras", 8).tolist()

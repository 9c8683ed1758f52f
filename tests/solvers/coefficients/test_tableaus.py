"""A Butcher tableau has the order that the order conditions say, and a wrong one is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import solvers
from scoresde.process import VP
from solvers.coefficients import tableaus
from solvers.coefficients.tableaus import PAIRS, TABLEAUS, Pair, Tableau

ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "ralston2": 2, "heun3": 3, "kutta3": 3, "ralston3": 3, "ssprk3": 3}
ORDERS |= {"rk4": 4, "rk4_38": 4, "nystrom5": 5}


def test_there_are_as_many_trees_as_butcher_counts() -> None:
    assert [len(tableaus._trees(nodes)) for nodes in range(1, 7)] == [1, 1, 2, 4, 9, 20]


@pytest.mark.parametrize("name", TABLEAUS)
def test_a_tableau_has_its_textbook_order(name: str) -> None:
    assert TABLEAUS.get(name).order == ORDERS[name]


@pytest.mark.parametrize(
    ("name", "orders", "reuses"),
    [("heun_euler", (2, 1), False), ("bosh3", (3, 2), True), ("dopri5", (5, 4), True), ("tsit5", (5, 4), True)],
)
def test_both_methods_of_a_pair_have_their_textbook_orders(name: str, orders: tuple[int, int], reuses: bool) -> None:
    pair = PAIRS[name]
    assert (pair.method.order, pair.embedded.order) == orders
    assert pair.reuses_last == reuses and pair.method.c[-1] == pytest.approx(1, abs=1e-14)


@given(name=st.sampled_from(sorted(set(PAIRS) - {"heun_euler"})), data=st.data())
def test_an_embedded_weight_that_is_one_percent_off_loses_the_order(name: str, data: Any) -> None:
    pair = PAIRS[name]
    index = data.draw(st.sampled_from([i for i, b in enumerate(pair.b_hat) if b != 0 and i > 0]))
    b = list(pair.b_hat)
    b[0], b[index] = b[0] - 0.01 * b[index], b[index] * 1.01
    assert replace(pair, b_hat=tuple(b)).embedded.order == 1


def test_a_pair_whose_estimate_is_not_of_lower_order_is_refused() -> None:
    with pytest.raises(ValueError, match="must be of lower order, got 2 beside 2"):
        Pair(((1 / 2,), (-1, 2)), (0, 1, 0), (0, 1, 0))


@pytest.mark.parametrize("name", TABLEAUS)
def test_the_stability_polynomial_is_the_exponential_up_to_the_order(name: str) -> None:
    """1 + z bᵀ(I − zA)⁻¹1 for y' = z y, an independent consequence of the order conditions."""
    tableau = TABLEAUS.get(name)
    stages = len(tableau.b)
    matrix = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a, start=1):
        matrix[i, :i] = row
    powers = [np.array(tableau.b) @ np.linalg.matrix_power(matrix, k) @ np.ones(stages) for k in range(tableau.order)]
    np.testing.assert_allclose(powers, 1 / np.cumprod(np.arange(1.0, tableau.order + 1)), rtol=1e-12)


@given(name=st.sampled_from(sorted(set(TABLEAUS) - {"euler"})), data=st.data())
def test_a_weight_that_is_one_percent_off_loses_the_order(name: str, data: Any) -> None:
    tableau = TABLEAUS.get(name)
    index = data.draw(st.sampled_from([i for i, b in enumerate(tableau.b) if b != 0 and i > 0]))
    b = list(tableau.b)
    b[0], b[index] = b[0] - 0.01 * b[index], b[index] * 1.01
    assert replace(tableau, b=tuple(b)).order == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rk5", "unknown tableau 'rk5'; did you mean 'rk4'"),
        ({"a": [], "c": [1]}, r"given by its a and b, got \['a', 'c'\]"),
        ({"a": [[1, 0]], "b": [0.5, 0.5]}, "row 1 of an explicit tableau's a needs 1 entries, got 2"),
        ({"a": [[1]], "b": [1]}, "2 stages needs as many weights b, got 1"),
        ({"a": [[1.5]], "b": [0.5, 0.5]}, "must lie within the step"),
        ({"a": [[float("nan")]], "b": [0.5, 0.5]}, "must be finite"),
        ({"a": [[1]], "b": [0.5, 0.6]}, "must sum to 1, got 1.1"),
    ],
)
def test_what_is_no_explicit_method_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tableaus.described(given)


def test_a_tableau_of_one_s_own_runs_with_the_order_that_it_has() -> None:
    own = {"a": [[2 / 3]], "b": [1 / 4, 3 / 4]}
    solver, named = solvers.get("runge_kutta", tableau=own), solvers.get("runge_kutta", tableau="ralston2")
    assert solver.order == named.order == 2
    times = solvers.grids.get("quadratic")(VP(), 5)
    assert solver.plan(VP(), times).instructions == named.plan(VP(), times).instructions  # type: ignore[attr-defined]
    assert tableaus.described(own) == Tableau(((2 / 3,),), (1 / 4, 3 / 4))

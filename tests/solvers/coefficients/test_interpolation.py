"""Coefficients are exact integrals: of polynomials, of φ-functions, and as accurate at short steps as at long ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from scoresde.process import EDM
from solvers.coefficients import frames, interpolation
from solvers.coefficients.interpolation import VARIABLES, bh1, equal_steps, exact, halved, midpoint, moments, weights
from solvers.steps import Point

FRAMES = [*(frames.FRAMES.get(name) for name in frames.FRAMES), frames.gaussian(0.4)]
every_frame = pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)


def at(half_log_snr: float) -> Point:
    return Point.at(EDM(1e-6, 1e6), math.exp(-half_log_snr))


def history(*half_log_snrs: float) -> list[Point]:
    return [at(value) for value in half_log_snrs]


def phi(k: int, z: float) -> float:
    """φ_k(z) = ∫_0^1 e^{(1−θ)z} θ^{k−1}/(k−1)! dθ."""
    return quad(lambda theta: math.exp((1 - theta) * z) * theta ** (k - 1) / math.factorial(k - 1), 0, 1)[0]


@every_frame
@pytest.mark.parametrize("variable", VARIABLES)
@settings(max_examples=25, deadline=None)
@given(
    lam=st.floats(-4, 4),
    h=st.floats(0.05, 3),
    back=st.lists(st.floats(0.1, 1.5), max_size=3),
    coefficients=st.lists(st.floats(-1, 1), min_size=4, max_size=4),
)
def test_a_polynomial_is_integrated_exactly(frame, variable, lam, h, back, coefficients) -> None:
    nodes = history(lam, *(lam - np.cumsum(back)))
    u = VARIABLES[variable](frame)
    scale = max(abs(float(u(node.lam) - u(lam))) for node in nodes) or 1.0
    used = coefficients[: len(nodes)]

    def polynomial(value: float) -> float:
        return sum(c * (float(u(value) - u(lam)) / scale) ** k for k, c in enumerate(used))

    t, s = at(lam), at(lam + h)
    found = interpolation.interpolation(variable)(frame, t, s, nodes)
    expected = quad(lambda v: polynomial(v) * float(frame.rate(np.array(v))), t.lam, s.lam, epsabs=0, epsrel=1e-11)[0]
    terms = [w * polynomial(node.lam) for w, node in zip(found, nodes, strict=True)]
    assert sum(terms) == pytest.approx(expected, rel=1e-7, abs=1e-9 * (sum(map(abs, terms)) + abs(frame.change(t, s))))


@every_frame
def test_one_node_takes_the_whole_step(frame) -> None:
    for first, last in ((-5.0, 7.0), (-1.0, -0.5), (0.3, 0.3 + 1e-9)):
        t, s = at(first), at(last)
        whole = exact(frame, t, s, [t])
        assert whole.shape == (1,)
        assert whole[0] == pytest.approx(frame.change(t, s), rel=1e-12 if last - first > 1e-3 else 1e-6)


@pytest.mark.parametrize(("frame", "sign"), [("data", -1), ("edm", 1)])
@pytest.mark.parametrize("h", [1e-6, 0.01, 0.7, 4.0])
def test_moments_in_half_log_snr_are_phi_functions(frame: str, sign: int, h: float) -> None:
    """∫ (λ − λ_t)^k e^{±λ} dλ = ± e^{±λ_s} h^{k+1} k! φ_{k+1}(∓h)."""
    t, s = at(0.4), at(0.4 + h)
    found = moments(frames.FRAMES.get(frame), "lambda", t, s, t, 4)
    rate = float(frames.FRAMES.get(frame).rate(np.array(s.lam)))
    for k in range(4):
        expected = rate * (s.lam - t.lam) ** (k + 1) * math.factorial(k) * phi(k + 1, sign * (s.lam - t.lam))
        assert found[k] == pytest.approx(expected, rel=1e-8)


def test_no_digit_is_lost_at_short_steps() -> None:
    """Weights of a step of 1e-7 in λ, where (e^h − 1 − h)/h² in closed form has none left, are those of a step of 0."""
    nodes = history(0.0, -1e-7, -2e-7)
    found = exact(frames.FRAMES.get("data"), nodes[0], at(1e-7), nodes) / 1e-7
    np.testing.assert_allclose(found, [23 / 12, -16 / 12, 5 / 12], rtol=1e-6)


def test_equal_steps_have_the_adams_bashforth_weights() -> None:
    frame, t, s = frames.FRAMES.get("edm"), at(0.0), at(0.3)
    change = frame.change(t, s)
    for count, expected in enumerate(
        ([1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]), start=1
    ):
        found = equal_steps(frame, t, s, history(0.0, -0.7, -0.8, -3.0)[:count])
        np.testing.assert_allclose(found, change * np.array(expected), rtol=1e-12)


@every_frame
def test_simplified_rules_are_as_their_formulas_say(frame) -> None:
    nodes, s = history(0.2, -0.3, -1.1), at(0.9)
    t, h, r = nodes[0], s.lam - nodes[0].lam, (nodes[0].lam - nodes[1].lam)
    change, rate = frame.change(t, s), float(frame.rate(np.array(s.lam)))
    np.testing.assert_allclose(midpoint(frame, t, s, nodes[:2]), change * np.array([1 + h / (2 * r), -h / (2 * r)]))
    difference = 0.5 * rate * h * h / r
    np.testing.assert_allclose(bh1(frame, t, s, nodes[:2]), [change + difference, -difference])
    for rule in (midpoint, bh1):
        np.testing.assert_allclose(rule(frame, t, s, nodes), exact(frame, t, s, nodes), rtol=1e-12)
    found = halved(frame, t, s, nodes) @ np.array([[(n.lam - t.lam) ** k for k in range(3)] for n in nodes])
    np.testing.assert_allclose(found, moments(frame, "lambda", t, s, t, 3) * [1, 1, 0.5], rtol=1e-10)


def test_weights_solve_the_moment_equations_to_rounding() -> None:
    offsets, wanted = [0.0, -1e-6, -2.5e-6, -4e-6], np.array([1e-6, 2e-13, 3e-20, 4e-27])
    found = weights(offsets, wanted)
    for k in range(4):
        assert sum(w * o**k for w, o in zip(found, offsets, strict=True)) == pytest.approx(wanted[k], rel=1e-9)


def test_an_unknown_variable_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="unknown variable 'lamda'; did you mean 'lambda'"):
        interpolation.interpolation("lamda")

"""Grids: where the steps are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers import grids
from solvers.steps import check_times

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(grids.names()), st.sampled_from(PROCESSES), st.integers(1, 300))
def test_a_grid_falls_from_noise_to_zero_noise_through_t_min(name: str, process: Process, steps: int) -> None:
    times = grids.get(name)(process, steps)
    assert times.dtype == np.float64
    assert len(times) == steps + 1
    assert (np.diff(times) < 0).all()
    assert (times[0], times[-1]) == (process.t_max, process.t_clean)
    if steps > 1:
        assert times[-2] == process.t_min
    check_times(process, times)


def test_karras_on_edm_is_the_formula_of_the_paper() -> None:
    low, high, n, rho = 0.002, 80.0, 18, 5.0
    i = np.arange(n)
    expected = (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    np.testing.assert_allclose(grids.get("karras", rho=rho)(EDM(), n)[:-1], expected, rtol=1e-12)
    assert not np.allclose(grids.get("karras")(EDM(), n)[:-1], expected)


def test_karras_spaces_the_ratio_of_sigma_and_alpha_on_every_process() -> None:
    for process in PROCESSES[:-1]:
        times = grids.get("karras")(process, 12)[:-1]
        roots = (process.sigma(times) / process.alpha(times)) ** (1 / 7)
        np.testing.assert_allclose(np.diff(roots, 2), 0, atol=1e-10)


def test_quadratic_on_vp_is_even_in_the_root_of_time() -> None:
    expected = np.linspace(1.0, 1e-3**0.5, 15) ** 2
    np.testing.assert_allclose(grids.get("quadratic")(VP(), 15)[:-1], expected, rtol=1e-10)


def test_quadratic_has_the_same_noise_levels_wherever_it_goes() -> None:
    ranged = EDM(sigma_min=math.exp(-VP().half_log_snr(1e-3)), sigma_max=math.exp(-VP().half_log_snr(1.0)))
    on_vp, on_edm = grids.get("quadratic")(VP(), 15)[:-1], grids.get("quadratic")(ranged, 15)[:-1]
    np.testing.assert_allclose(ranged.half_log_snr(on_edm), VP().half_log_snr(on_vp), atol=1e-9)


def test_log_snr_is_even_in_half_log_snr_and_uniform_in_time() -> None:
    for process in PROCESSES[:-1]:
        lam = process.half_log_snr(grids.get("log_snr")(process, 20)[:-1])
        np.testing.assert_allclose(np.diff(lam, 2), 0, atol=1e-9)
    for process in PROCESSES:
        np.testing.assert_allclose(np.diff(grids.get("uniform")(process, 20)[:-1], 2), 0, atol=1e-12 * process.t_max)


@pytest.mark.parametrize("name", ["quadratic", "log_snr", "karras"])
def test_grids_in_the_noise_level_start_at_t_max_of_flow_as_if_half_log_snr_were_minus_five(name: str) -> None:
    process = Flow()
    stand_in = EDM(sigma_min=math.exp(-process.half_log_snr(process.t_min)), sigma_max=math.exp(5))
    times, expected = grids.get(name)(process, 10), grids.get(name)(stand_in, 10)
    assert times[0] == process.t_max
    np.testing.assert_allclose(process.half_log_snr(times[1:-1]), stand_in.half_log_snr(expected[1:-1]), atol=1e-9)


def test_the_vp_time_of_grids_is_that_of_the_vp_process() -> None:
    process = VP()
    for half_log_snr in np.linspace(-5, 5, 21):
        t = grids.vp_time(float(half_log_snr))
        assert t == pytest.approx(process.time(float(half_log_snr)), rel=1e-10)
        assert float(grids.vp_half_log_snr(np.array([t]))[0]) == pytest.approx(half_log_snr, abs=1e-9)


@pytest.mark.parametrize("steps", [0, -3, 2.5, True])
def test_a_number_of_steps_that_is_none_is_refused(steps: Any) -> None:
    with pytest.raises(ValueError, match=f"steps must be a whole number of at least 1, got {steps}"):
        grids.get("uniform")(VP(), steps)


def test_unknown_names_and_options_get_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown grid 'karas'; did you mean 'karras'"):
        grids.get("karas")
    with pytest.raises(TypeError, match="grid 'karras' has no option 'roh'; did you mean 'rho'"):
        grids.get("karras", roh=5)
    with pytest.raises(TypeError, match="grid 'uniform' has no option 'rho'; it has no options"):
        grids.get("uniform", rho=5)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1.0], "at least two times"),
        ([[1.0, 0.5]], "at least two times"),
        (["a", "b"], "must be numbers"),
        ([1.0, math.nan], "must be finite, got nan"),
        ([math.inf, 0.5], "must be finite, got inf"),
        ([0.5, 0.5], "0.5 is followed by 0.5"),
        ([0.1, 0.9], "0.1 is followed by 0.9"),
        ([1.1, 0.5], "must start at or below t_max = 1.0 .* got 1.1"),
        ([1.0, 0.0, -0.5], "time 0.0 is outside"),
        ([1.0, -0.5], "time -0.5 is outside"),
    ],
)
def test_times_that_no_solver_can_follow_are_refused(times: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_times(VP(), times)


def test_given_times_are_kept_to_the_bit() -> None:
    assert check_times(VP(), np.array([0.9, 0.3, 0.0])) == (0.9, 0.3, 0.0)

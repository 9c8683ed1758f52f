"""Grids: where the steps are."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from scipy.stats import beta

from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers import grids
from solvers.steps import check_times

schedulers: Any = import_module("diffusers.schedulers")

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
WITH_END = [name for name in grids.names() if "end" in grids.get(name).options]
IN_TIME = {"uniform", "linspace", "beta", "leading", "trailing", "sgm_uniform"}


def levels(process: Process, times: Any) -> Any:
    """σ/α."""
    return np.exp(-process.half_log_snr(np.asarray(times)))


def first_half_log_snr(process: Process) -> float:
    return max(process.half_log_snr(process.t_max), grids.FIRST_HALF_LOG_SNR if process == Flow() else -math.inf)


# ---------------------------------------------------------------------------------------------------------------------
# what holds of every grid


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(grids.names()), st.sampled_from(PROCESSES), st.integers(1, 1000))
def test_a_grid_falls_from_noise_to_zero_noise_through_t_min(name: str, process: Process, steps: int) -> None:
    times = grids.get(name)(process, steps)
    assert times.dtype == np.float64
    assert len(times) == steps + 1
    assert (np.diff(times) < 0).all()
    check_times(process, times)
    assert times[-1] == process.t_clean
    assert process.t_min <= times[-2] <= times[0] <= process.t_max
    if name != "leading":
        assert times[0] == process.t_max
    if name in WITH_END and (steps > 1 or name == "leading"):
        assert times[-2] == process.t_min


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(WITH_END), st.sampled_from(PROCESSES), st.integers(2, 1000), st.floats(0.02, 1.0))
def test_the_last_noisy_time_has_the_noise_level_of_end(name: str, process: Process, steps: int, way: float) -> None:
    first, last = first_half_log_snr(process), process.half_log_snr(process.t_min)
    end = math.exp(-first - way * (last - first))
    times = grids.get(name, end=end)(process, steps)
    assert len(times) == steps + 1
    assert (np.diff(times) < 0).all()
    assert levels(process, times[-2]) == pytest.approx(end, rel=1e-9)
    assert (times[0] == process.t_max) or name == "leading"


@pytest.mark.parametrize("name", WITH_END)
def test_a_grid_that_ends_at_the_level_of_t_min_is_the_grid_without_an_end(name: str) -> None:
    for process in PROCESSES:
        end = float(levels(process, process.t_min))
        with_end, without = (grids.get(name, end=value)(process, 9) for value in (end * (1 - 1e-10), None))
        assert with_end[-2] == process.t_min
        np.testing.assert_allclose(with_end, without, rtol=1e-9)


@pytest.mark.parametrize(
    ("one", "other"), [("log_snr", "exponential"), ("uniform", "linspace"), ("kl_optimal", "cosine")]
)
def test_two_names_of_one_rule_give_the_same_times(one: str, other: str) -> None:
    for process in PROCESSES:
        for steps in (1, 2, 11):
            assert (grids.get(one)(process, steps) == grids.get(other)(process, steps)).all()


def test_no_two_rules_are_the_same() -> None:
    rules = {grids.get(name, **({"rho": 2.0} if name == "polyexponential" else {})) for name in grids.names()}
    times = {grid.rule.__name__: grid(VP(), 7).tolist() for grid in rules}
    assert len({tuple(np.round(value, 9)) for value in times.values()}) == len(times)
    assert len(times) == len(grids.names()) - 3


@pytest.mark.parametrize("name", sorted(set(grids.names()) - IN_TIME))
def test_a_grid_in_the_noise_level_has_the_same_levels_wherever_it_goes(name: str) -> None:
    for process in PROCESSES:
        low, high = float(levels(process, process.t_min)), math.exp(-first_half_log_snr(process))
        ranged = EDM(sigma_min=low, sigma_max=high)
        here, there = grids.get(name)(process, 12)[1:-1], grids.get(name)(ranged, 12)[1:-1]
        np.testing.assert_allclose(levels(process, here), there, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# formulas


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


def test_log_snr_is_even_in_half_log_snr_and_uniform_in_time() -> None:
    for process in PROCESSES[:-1]:
        lam = process.half_log_snr(grids.get("log_snr")(process, 20)[:-1])
        np.testing.assert_allclose(np.diff(lam, 2), 0, atol=1e-9)
    for process in PROCESSES:
        np.testing.assert_allclose(np.diff(grids.get("uniform")(process, 20)[:-1], 2), 0, atol=1e-12 * process.t_max)


@pytest.mark.parametrize("name", sorted(set(grids.names()) - IN_TIME))
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


def test_polyexponential_on_edm_is_a_power_of_the_way_in_log_sigma() -> None:
    low, high, n, rho = 0.002, 80.0, 18, 2.5
    ramp = (np.arange(n)[::-1] / (n - 1)) ** rho
    times = grids.get("polyexponential", rho=rho)(EDM(), n)[:-1]
    np.testing.assert_allclose(times, low * (high / low) ** ramp, rtol=1e-12)
    np.testing.assert_allclose(grids.get("polyexponential")(EDM(), n), grids.get("log_snr")(EDM(), n), rtol=1e-12)


def test_karras_tends_to_log_snr_as_rho_grows_and_keeps_its_digits() -> None:
    for process in PROCESSES:
        karras, log_snr = grids.get("karras", rho=1e9)(process, 30), grids.get("log_snr")(process, 30)
        np.testing.assert_allclose(karras, log_snr, atol=1e-6 * process.t_max)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 2.0), (1.0, 1.0)])
def test_beta_times_are_quantiles_of_the_beta_distribution(a: float, b: float) -> None:
    for process in PROCESSES:
        times = grids.get("beta", alpha=a, beta=b)(process, 21)[:-1]
        fraction = (times - process.t_min) / (process.t_max - process.t_min)
        np.testing.assert_allclose(beta.cdf(fraction, a, b), np.linspace(1, 0, 21), atol=1e-9)


def test_cosine_is_even_in_the_time_of_the_cosine_schedule() -> None:
    process = Cosine(s=1e-9)
    np.testing.assert_allclose(grids.get("cosine")(process, 20), grids.get("uniform")(process, 20), atol=1e-7)
    low, high = np.arctan([0.002, 80.0])
    expected = -np.log(np.tan(high + np.linspace(0, 1, 20) * (low - high)))
    np.testing.assert_allclose(EDM().half_log_snr(grids.get("cosine")(EDM(), 20)[:-1]), expected, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.003, 0.5), st.floats(1.5, 100.0), st.integers(2, 60))
def test_linear_beta_is_even_in_the_time_of_a_vp_process_from_the_last_level(
    low: float, high: float, steps: int
) -> None:
    """α = α_min^(t²) and α² + σ² = 1 + s_last², with t even from 1 to 0."""
    t = np.linspace(1, 0, steps)
    alpha = np.sqrt((1 + low**2) / (1 + high**2)) ** t**2
    expected = np.sqrt(1 + low**2 - alpha**2) / alpha
    times = grids.get("linear_beta")(EDM(sigma_min=low, sigma_max=high), steps)
    np.testing.assert_allclose(times[:-1], expected, rtol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.003, 0.5), st.floats(1.5, 100.0), st.integers(2, 60), st.floats(0.01, 3.0))
def test_decay_runs_along_a_straight_line(low: float, high: float, steps: int, gamma: float) -> None:
    """(α, σ) from (1/s_first, 1) to (1, s_last), where the share of the way left falls as 1 − gamma^t does."""
    t = np.linspace(1, 0, steps)
    way = t if gamma == 1 else (1 - gamma**t) / (1 - gamma)
    expected = (way + (1 - way) * low) / (way / high + 1 - way)
    times = grids.get("decay", gamma=gamma)(EDM(sigma_min=low, sigma_max=high), steps)
    np.testing.assert_allclose(times[:-1], expected, rtol=1e-7)


def test_a_decay_of_one_is_even_along_its_line() -> None:
    even, near = (grids.get("decay", gamma=gamma)(VP(), 12) for gamma in (1.0, 1 + 1e-9))
    np.testing.assert_allclose(even, near, rtol=1e-7)
    times = grids.get("decay", gamma=1.0)(EDM(sigma_min=0.01, sigma_max=50.0), 12)[:-1]
    way = (times - 0.01) / (times * (1 - 1 / 50.0) + 1 - 0.01)
    np.testing.assert_allclose(np.diff(way, 2), 0, atol=1e-12)
    assert grids.get("decay")(VP(), 12)[6] > even[6]


def test_kl_optimal_is_the_best_grid_for_euler_on_unit_variance() -> None:
    """For N(0, 1) an Euler step from σ to s multiplies x by 1 + (s − σ) σ/(σ² + 1)."""

    def error(times: Any) -> float:
        factors = 1 + np.diff(times) * times[:-1] / (times[:-1] ** 2 + 1)
        return abs(math.log(np.prod(factors) * math.hypot(times[0], 1) / math.hypot(times[-1], 1)))

    best = grids.get("kl_optimal")(EDM(), 12)[:-1]
    for name in set(WITH_END) - {"kl_optimal", "cosine", "leading"}:
        assert error(best) < error(grids.get(name)(EDM(), 12)[:-1]), name
    for index in range(1, 11):
        for factor in (0.99, 1.01):
            moved = best.copy()
            moved[index] *= factor
            assert error(best) < error(moved)


def test_chebyshev_points_are_the_extrema_of_the_chebyshev_polynomial() -> None:
    for process in PROCESSES[:-1]:
        lam = process.half_log_snr(grids.get("chebyshev")(process, 9)[:-1])
        x = 2 * (lam - lam[0]) / (lam[-1] - lam[0]) - 1
        values = chebyshev.Chebyshev.basis(8)(x)
        np.testing.assert_allclose(values, (-1.0) ** np.arange(9), atol=1e-9)


def test_sgm_uniform_is_uniform_with_one_time_more_and_t_min_left_out() -> None:
    for process in PROCESSES:
        for steps in (1, 2, 10):
            shorter = np.delete(grids.get("uniform")(process, steps + 1), -2)
            np.testing.assert_allclose(grids.get("sgm_uniform")(process, steps), shorter, rtol=1e-12)


@pytest.mark.parametrize("process", [process for process in PROCESSES if process != VE()], ids=repr)
def test_trailing_takes_the_step_to_zero_noise_as_long_as_the_others_and_leading_the_one_from_above(
    process: Process,
) -> None:
    stride = (process.t_max - process.t_clean) / 10
    np.testing.assert_allclose(np.diff(grids.get("trailing")(process, 10)), -stride, rtol=1e-10)
    times = grids.get("leading")(process, 10)[:-1]
    np.testing.assert_allclose(np.diff(times), -stride, rtol=1e-10)
    assert times[0] + stride == pytest.approx(process.t_max + process.t_min - process.t_clean)
    assert grids.get("leading")(process, 1).tolist() == [process.t_min, process.t_clean]


def test_leading_and_trailing_are_uniform_where_they_would_leave_the_process() -> None:
    for process, steps in ((VE(), 10), (VPDiscrete(np.full(20, 0.1)), 50), (VP(), 2000)):
        for name in ("leading", "trailing"):
            uniform = grids.get("uniform")(process, steps)
            np.testing.assert_allclose(grids.get(name)(process, steps), uniform, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# agreement with diffusers


@pytest.mark.parametrize("steps", [2, 10, 37])
@pytest.mark.parametrize(("name", "flag"), [(name, f"use_{name}_sigmas") for name in ("karras", "exponential", "beta")])
def test_grids_in_sigma_agree_with_euler_of_diffusers(name: str, flag: str, steps: int) -> None:
    scheduler = schedulers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, **{flag: True})
    scheduler.set_timesteps(steps)
    theirs = scheduler.sigmas.double().numpy()
    ours = grids.get(name)(EDM(sigma_min=theirs[-2], sigma_max=theirs[0]), steps)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("steps", [2, 10, 37])
def test_beta_on_flow_agrees_with_diffusers(steps: int) -> None:
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True)
    scheduler.set_timesteps(steps)
    np.testing.assert_allclose(grids.get("beta")(Flow(), steps), scheduler.sigmas.double().numpy(), rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 10, 50, 500])
@pytest.mark.parametrize(
    ("name", "offset", "rounding"), [("leading", 0, 0), ("leading", 1, 0), ("trailing", 0, 0), ("linspace", 0, 0.5)]
)
def test_spacings_of_timesteps_agree_with_ddim_of_diffusers(
    name: str, offset: int, rounding: float, steps: int
) -> None:
    process = VPDiscrete()
    scheduler = schedulers.DDIMScheduler(timestep_spacing=name, steps_offset=offset)
    scheduler.set_timesteps(steps)
    grid = grids.get(name, **({"end": float(levels(process, offset))} if offset else {}))
    theirs = scheduler.timesteps.numpy()
    if (name, steps) == ("linspace", 1):
        assert (grid(process, 1)[0], theirs[0]) == (process.t_max, 0)  # one step from timestep 0 is no sampler
    else:
        np.testing.assert_allclose(grid(process, steps)[:-1], theirs, atol=rounding + 1e-9)


@pytest.mark.parametrize("steps", [7, 15, 30])
def test_trailing_agrees_with_diffusers_to_the_rounding_where_steps_do_not_divide(steps: int) -> None:
    scheduler = schedulers.DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    np.testing.assert_allclose(grids.get("trailing")(VPDiscrete(), steps)[:-1], scheduler.timesteps, atol=0.5 + 1e-9)


@pytest.mark.parametrize(
    ("table", "name"),
    [("sd15", "StableDiffusionSigmas"), ("sdxl", "StableDiffusionXLSigmas"), ("svd", "StableDiffusionVideoSigmas")],
)
def test_ten_steps_of_align_your_steps_are_the_published_levels(table: str, name: str) -> None:
    theirs = schedulers.AysSchedules[name]
    ours = grids.get("align_your_steps", table=table)(EDM(sigma_max=theirs[0]), 10)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Align Your Steps elsewhere


def test_align_your_steps_puts_t_max_in_the_place_of_its_first_level_and_keeps_the_others() -> None:
    published = schedulers.AysSchedules["StableDiffusionSigmas"]
    for process in PROCESSES:
        times = grids.get("align_your_steps")(process, 10)
        assert times[0] == process.t_max
        np.testing.assert_allclose(levels(process, times[1:-1]), published[1:-1], rtol=1e-9)


def test_align_your_steps_halves_its_steps_in_the_logarithm() -> None:
    levels_of_ten = np.array([14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029])
    times = grids.get("align_your_steps")(EDM(sigma_max=14.615), 20)
    np.testing.assert_allclose(times[:-1:2], levels_of_ten[:-1], rtol=1e-12)
    np.testing.assert_allclose(times[1::2], np.sqrt(levels_of_ten[1:] * levels_of_ten[:-1]), rtol=1e-12)


def test_align_your_steps_leaves_out_levels_beyond_the_process() -> None:
    process = EDM(sigma_min=0.1, sigma_max=20.0)
    times = grids.get("align_your_steps", table="svd")(process, 8)
    np.testing.assert_allclose(times, [20.0, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.0], rtol=1e-12)
    assert 0.1 < grids.get("align_your_steps", table="svd")(process, 50)[-2] < 0.173


# ---------------------------------------------------------------------------------------------------------------------
# refusals


@pytest.mark.parametrize("steps", [0, -3, 2.5, True])
def test_a_number_of_steps_that_is_none_is_refused(steps: Any) -> None:
    with pytest.raises(ValueError, match=f"steps must be a whole number of at least 1, got {steps}"):
        grids.get("uniform")(VP(), steps)


def test_unknown_names_and_options_get_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown grid 'karas'; did you mean 'karras'"):
        grids.get("karas")
    with pytest.raises(TypeError, match="grid 'karras' has no option 'roh'; did you mean 'rho'"):
        grids.get("karras", roh=5)
    with pytest.raises(TypeError, match="grid 'trailing' has no option 'end'; it has no options"):
        grids.get("trailing", end=0.1)
    with pytest.raises(ValueError, match="unknown table 'sd1.5' of grid 'align_your_steps'; did you mean 'sd15'"):
        grids.get("align_your_steps", table="sd1.5")(VP(), 5)


@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, "0.1", True, [0.1]])
@pytest.mark.parametrize(("name", "option"), [("uniform", "end"), ("karras", "rho"), ("beta", "alpha")])
def test_options_that_are_no_positive_numbers_are_refused(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"option '{option}' of grid '{name}' must be a positive finite number"):
        grids.get(name, **{option: value})
    with pytest.raises(ValueError, match="option 'rho' of grid 'karras' must be a positive finite number, got None"):
        grids.get("karras", rho=None)


@pytest.mark.parametrize("name", WITH_END)
def test_an_end_outside_the_process_is_refused(name: str) -> None:
    for process in PROCESSES:
        low, high = float(levels(process, process.t_min)), math.exp(-first_half_log_snr(process))
        for end in (0.99 * low, high, 1.01 * high):
            for steps in (1, 5):
                with pytest.raises(
                    ValueError, match=f"end = {end} is a noise level σ/α outside {type(process).__name__}"
                ):
                    grids.get(name, end=end)(process, steps)


def test_steps_that_float64_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match=r"grid beta\(alpha=0.001, .* cannot place 100 distinct times on VP"):
        grids.get("beta", alpha=1e-3)(VP(), 100)
    with pytest.raises(ValueError, match="cannot place 1000 distinct times"):
        grids.get("uniform", end=80.0 * (1 - 1e-15))(EDM(), 1000)


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


@pytest.mark.parametrize("name", WITH_END)
def test_by_steps_ends_where_the_number_of_steps_says(name: str) -> None:
    for steps, level in ((4, 0.1), (8, 4 / 64), (12, 4 / 144), (40, 4 / 1600), (60, 0.002)):
        times = grids.get(name, end="by_steps")(EDM(), steps)
        assert times[-2] == pytest.approx(level, rel=1e-9)
    assert grids.get(name, end="by_steps")(VP(), 100)[-2] == pytest.approx(VP().t_min, rel=1e-12)

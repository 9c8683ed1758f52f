"""Processes: derivatives, inverses and closed forms in float64 over the whole time range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scoresde import process as processes
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete

ALL = [
    VP(),
    VP(0.01, 5.0),
    VPDiscrete(),
    VPDiscrete([0.3, 0.1, 0.5]),
    VPDiscrete([0.3, 0.1, 1.0]),
    Cosine(),
    Cosine(0.1),
    SubVP(),
    VE(),
    VE(0.5, 1.5),
    EDM(),
    EDM(1e-4, 1e4),
    Flow(),
]
everywhere = pytest.mark.parametrize("process", ALL, ids=repr)
exponents = st.floats(-12, 0).map(lambda exponent: 10**exponent)
fractions = st.lists(st.floats(0, 1) | exponents, min_size=5, max_size=20).map(np.array)
examples = settings(max_examples=25, deadline=None)


def times_at(process: Process, fraction: np.ndarray) -> np.ndarray:
    """Times of the process: from t_clean where times near it mean something, from t_min otherwise."""
    start = process.t_clean if process.t_clean == 0 else process.t_min
    return np.minimum(start + (process.t_max - start) * fraction, process.t_max)


def derivative(values: Tensor, t: Tensor) -> np.ndarray:
    if not values.requires_grad:
        return np.zeros(len(t))
    return torch.autograd.grad(values.sum(), t, retain_graph=True)[0].numpy()


@everywhere
@examples
@given(fraction=fractions)
def test_drift_is_the_slope_of_log_alpha_and_diffusion_follows_from_it(process: Process, fraction: np.ndarray) -> None:
    last = process.t_max * (1 if process.alpha(process.t_max) > 0 else 1 - 1e-9)
    times = np.clip(times_at(process, fraction), 1e-12, last)
    t = torch.tensor(times, requires_grad=True)
    drift = derivative(process.alpha(t).log(), t)
    np.testing.assert_allclose(process.drift(times), drift, rtol=1e-10, atol=1e-15)
    variance = process.sigma(t).square()
    expected = derivative(variance, t) - 2 * drift * variance.detach().numpy()
    np.testing.assert_allclose(process.diffusion(times), expected, rtol=1e-8, atol=1e-15)
    slope = derivative(process.half_log_snr(t), t)
    np.testing.assert_allclose(process.diffusion(times), -2 * process.sigma(times) ** 2 * slope, rtol=1e-8, atol=1e-15)


@everywhere
@examples
@given(fraction=fractions)
def test_half_log_snr_is_log_of_alpha_over_sigma(process: Process, fraction: np.ndarray) -> None:
    times = times_at(process, fraction)
    with np.errstate(divide="ignore"):
        expected = np.log(process.alpha(times)) - np.log(process.sigma(times))
    np.testing.assert_allclose(process.half_log_snr(times), expected, rtol=1e-12, atol=1e-12)


@everywhere
@examples
@given(fraction=fractions)
def test_time_inverts_half_log_snr(process: Process, fraction: np.ndarray) -> None:
    times = times_at(process, fraction)
    np.testing.assert_allclose(process.time(process.half_log_snr(times)), times, rtol=1e-10, atol=1e-12)


@everywhere
@examples
@given(fraction=fractions)
def test_half_log_snr_inverts_time(process: Process, fraction: np.ndarray) -> None:
    low = max(process.half_log_snr(process.t_max), -8.0)  # further down Flow's 1 − t holds few digits of λ
    lam = low + (process.half_log_snr(process.t_min) - low) * fraction
    np.testing.assert_allclose(process.half_log_snr(process.time(lam)), lam, rtol=1e-11, atol=1e-11)


@everywhere
def test_half_log_snr_falls_strictly(process: Process) -> None:
    assert (np.diff(process.half_log_snr(np.linspace(process.t_min, process.t_max, 5001))) < 0).all()


@everywhere
def test_the_clean_time_has_no_noise(process: Process) -> None:
    clean = process.t_clean
    kinds: list[Any] = [clean, np.array([clean]), torch.tensor([clean], dtype=torch.float64)]
    for t in kinds:
        assert process.sigma(t) == 0
        assert process.alpha(t) == pytest.approx(1, abs=1e-15)
        assert process.half_log_snr(t) == math.inf
    infinities: list[Any] = [math.inf, np.array([math.inf]), torch.tensor([math.inf])]
    for infinity in infinities:
        assert process.time(infinity) == clean


@everywhere
@pytest.mark.parametrize("name", ["alpha", "sigma", "half_log_snr", "drift", "diffusion", "time"])
def test_floats_arrays_and_tensors_agree_and_keep_their_kind(process: Process, name: str) -> None:
    times = np.linspace(process.t_min, process.t_max * 0.999, 37)
    values = process.half_log_snr(times) if name == "time" else times
    function = getattr(process, name)
    array, tensor = function(values), function(torch.as_tensor(values))
    singles = [function(float(value)) for value in values]
    assert isinstance(array, np.ndarray) and tensor.dtype == torch.float64
    assert all(type(single) is float for single in singles)
    np.testing.assert_allclose(array, singles, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(tensor.numpy(), singles, rtol=1e-11, atol=1e-13)
    low = function(torch.as_tensor(values, dtype=torch.float32).reshape(1, -1))
    assert low.dtype == torch.float32 and low.shape == (1, 37)
    np.testing.assert_allclose(low[0].numpy(), singles, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("process", [VP(), VPDiscrete(), SubVP(), VE()], ids=repr)
def test_integer_times_are_times_like_any_other(process: Process) -> None:
    assert process.half_log_snr(torch.tensor([1])).item() == pytest.approx(process.half_log_snr(1.0), rel=1e-13)
    assert process.alpha(1) == process.alpha(1.0)


@pytest.mark.parametrize("process", [VP(), VPDiscrete(), SubVP(), Flow()], ids=repr)
def test_no_signal_at_all_is_a_time_where_alpha_vanishes(process: Process) -> None:
    infinities: list[Any] = [-math.inf, torch.tensor(-math.inf, dtype=torch.float64)]
    for infinity in infinities:
        t = process.time(infinity)
        assert (process.alpha(t), process.sigma(t)) == (0.0, 1.0)


@pytest.mark.parametrize("process", [VP(), VPDiscrete(), Cosine()], ids=repr)
@examples
@given(fraction=fractions)
def test_variance_is_preserved(process: Process, fraction: np.ndarray) -> None:
    times = times_at(process, fraction)
    np.testing.assert_allclose(process.alpha(times) ** 2 + process.sigma(times) ** 2, 1, atol=1e-14)


def test_vp_has_linear_beta() -> None:
    times = np.linspace(0, 1, 11)
    np.testing.assert_allclose(VP(0.1, 20).diffusion(times), 0.1 + 19.9 * times)
    assert VP(0.1, 20).alpha(1.0) == pytest.approx(math.exp(-0.25 * 20.1))


def test_subvp_has_alpha_of_vp_and_less_noise() -> None:
    times = np.linspace(0, 1, 11)
    np.testing.assert_allclose(SubVP().alpha(times), VP().alpha(times))
    np.testing.assert_allclose(SubVP().sigma(times), 1 - VP().alpha(times) ** 2, atol=1e-15)


def test_cosine_is_nichol_and_dhariwals() -> None:
    times = np.linspace(0, Cosine.t_max, 11)
    f = np.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(Cosine().alpha(times) ** 2, f / f[0], rtol=1e-12)


def test_ve_is_geometric() -> None:
    np.testing.assert_allclose(VE(0.01, 100).sigma(np.array([0, 0.25, 0.5, 1])), [0.01, 0.1, 1, 100])
    np.testing.assert_array_equal(VE().alpha(np.array([0.0, 1.0])), 1)


def test_edm_time_is_the_noise_level() -> None:
    assert (EDM().alpha(3.0), EDM().sigma(3.0), EDM().drift(3.0), EDM().diffusion(3.0)) == (1, 3, 0, 6)
    assert (EDM(0.01, 5).t_min, EDM(0.01, 5).t_max) == (0.01, 5)


def test_flow_is_a_straight_line_and_ends_without_signal() -> None:
    assert (Flow().alpha(0.25), Flow().sigma(0.25)) == (0.75, 0.25)
    assert (Flow().alpha(1.0), Flow().sigma(1.0), Flow().half_log_snr(1.0)) == (0, 1, -math.inf)
    assert Flow().drift(0.5) == -2


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_vp_discrete_is_ddpm_at_the_indices(schedule: Any) -> None:
    scheduler: Any = DDPMScheduler(beta_schedule=schedule)
    process = VPDiscrete() if schedule == "linear" else VPDiscrete(scheduler.betas)
    n = np.arange(1000.0)
    np.testing.assert_allclose(process.alpha(n) ** 2, scheduler.alphas_cumprod.numpy(), rtol=1e-5)
    np.testing.assert_allclose(process.sigma(n) ** 2, 1 - scheduler.alphas_cumprod.numpy(), rtol=1e-3)


def test_vp_discrete_interpolates_half_log_snr_between_indices() -> None:
    process = VPDiscrete()
    middle = 0.5 * (process.half_log_snr(7.0) + process.half_log_snr(8.0))
    assert process.half_log_snr(7.5) == pytest.approx(middle, rel=1e-14)


@everywhere
def test_a_process_is_rebuilt_from_its_config(process: Process) -> None:
    copy = processes.get(**process.config())
    assert copy == process and hash(copy) == hash(process)
    assert copy.alpha(process.t_max / 2) == process.alpha(process.t_max / 2)


def test_processes_with_other_arguments_are_not_equal() -> None:
    assert VP() != VP(0.1, 10) and VP() != SubVP() and VPDiscrete() != VPDiscrete([0.1, 0.2])


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (VP, (20, 0.1), "vp needs 0 < beta_min < beta_max, got 20 and 0.1"),
        (SubVP, (0, 1), "subvp needs 0 < beta_min < beta_max, got 0 and 1"),
        (VPDiscrete, ([0.1],), "at least two betas"),
        (VPDiscrete, ([1.0, 0.1],), r"all in \(0, 1\)"),
        (VPDiscrete, ([[0.1, 0.2]],), "at least two betas"),
        (VPDiscrete, ([0.1, math.nan],), r"all in \(0, 1\)"),
        (Cosine, (0,), "cosine needs s > 0, got 0"),
        (VE, (1, 1), "ve needs 0 < sigma_min < sigma_max, got 1 and 1"),
        (EDM, (0, 80), "edm needs 0 < sigma_min < sigma_max, got 0 and 80"),
        (EDM, (1, math.inf), "edm needs 0 < sigma_min < sigma_max, got 1 and inf"),
    ],
)
def test_bad_arguments_are_refused(kind: type[Process], arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(*arguments)


def test_an_unknown_name_gets_the_nearest_and_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown process 'vpdiscrete'; did you mean 'vp_discrete'"):
        processes.get("vpdiscrete")
    with pytest.raises(TypeError, match="beta"):
        processes.get("vp", beta=3)


class Own(Process):
    """VP as somebody writes it who knows α and σ alone."""

    t_min, t_max = VP.t_min, VP.t_max

    def __init__(self, beta_max: float = 20.0):
        self.beta_max = beta_max

    def alpha(self, t: Any) -> Any:
        return torch.exp(-0.05 * t - 0.25 * (self.beta_max - 0.1) * t * t)

    def sigma(self, t: Any) -> Any:
        return torch.sqrt(-torch.expm1(2 * self.alpha(t).log()))


class OwnVE(Process):
    """A process whose noise never ends."""

    t_min, t_max, t_clean = VE.t_min, VE.t_max, VE.t_clean

    def alpha(self, t: Any) -> Any:
        return 1.0

    def sigma(self, t: Any) -> Any:
        return 0.01 * 5000**t


@pytest.mark.parametrize("kind", ["float", "array", "float32", "float64"])
@pytest.mark.parametrize(("own", "ours"), [(Own(), VP()), (OwnVE(), VE())], ids=["vp", "ve"])
def test_alpha_and_sigma_alone_make_a_process(own: Process, ours: Process, kind: str) -> None:
    times = np.linspace(ours.t_min, ours.t_max, 9)
    values = {"float": 0.4, "array": times}.get(kind, torch.tensor(times, dtype=getattr(torch, kind, None)))
    bound = 1e-5 if kind == "float32" else 1e-10
    for name in ("alpha", "sigma", "half_log_snr", "drift", "diffusion"):
        found, meant = getattr(own, name)(values), getattr(ours, name)(values)
        assert type(found) is type(meant) and getattr(found, "dtype", 0) == getattr(meant, "dtype", 0)
        np.testing.assert_allclose(found, meant, rtol=bound, atol=bound)
    levels = ours.half_log_snr(values)
    np.testing.assert_allclose(own.time(levels), ours.time(levels), rtol=bound, atol=bound)


def test_an_own_process_has_the_clean_end_of_ours_and_is_made_again_from_its_config() -> None:
    for own in (Own(), OwnVE()):
        clean = own.t_clean
        assert (own.alpha(clean), own.sigma(clean), own.half_log_snr(clean), own.time(math.inf)) == (
            1,
            0,
            math.inf,
            clean,
        )
    assert Own(10.0).config() == {"name": "own", "beta_max": 10.0} and Own(10.0) == Own(10.0) != Own()
    with torch.inference_mode():
        assert Own().drift(torch.tensor(0.5)) == pytest.approx(VP().drift(0.5))


def test_a_level_that_an_own_process_does_not_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"from 4.60517 down to -3.91202, and was asked for the time of 9"):
        OwnVE().time(9.0)
    with pytest.raises(ValueError, match="was asked for the time of -10"):
        Own().time(np.array([0.0, -10.0]))


def own(**content: Any) -> Process:
    given = {"alpha": lambda self, t: 1 - t, "sigma": lambda self, t: t, "t_min": 1e-3, "t_max": 0.99, **content}
    return type("Odd", (Process,), {key: value for key, value in given.items() if value is not None})()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"sigma": None}, r"Odd must define sigma\(self, t\) too"),
        ({"sigma": lambda self, t: t + 0.1}, r"must have sigma\(0\) = 0, where there is no noise, got 0.1; .* -1.0"),
        ({"alpha": lambda self, t: 2 - t}, r"must have alpha\(0\) = 1, where there is no noise, got 2"),
        (
            {"sigma": lambda self, t: t * (1 - t) ** 2},
            r"must have λ = log\(α/σ\) that falls as t grows, got .* at t = ",
        ),
        ({"t_max": 1.5}, "must have alpha 0 or more, got -0.00"),
        ({"alpha": lambda self, t: (1 - t) / (t < 0.5)}, "must have alpha 0 or more, got inf"),
        ({"alpha": lambda self, t: math.exp(-t)}, "Odd.alpha fails on a tensor of times, .*: write it with operations"),
        ({"alpha": lambda self, t: np.exp(-t)}, "write it with operations of torch"),
        ({"alpha": lambda self, t: (1 - t).mean()}, r"must return a tensor of the shape of t, \(1,\), got shape \(\)"),
        ({"alpha": lambda self, t: None}, "got NoneType"),
        ({"t_max": None}, "Odd must say t_max: t_min, t_max = 1e-3, 1.0 in the class"),
        ({"t_min": 2.0}, "needs t_clean <= t_min < t_max, got 0, 2 and 0.99"),
        ({"__init__": lambda self, a=1: setattr(self, "b", a)}, r"it takes \['a'\] and keeps \['b'\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:__array_wrap__")
def test_an_own_process_that_is_none_is_refused_when_it_is_made(content: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        own(**content)

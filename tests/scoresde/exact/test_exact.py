"""Exact models against each other, against quadrature, automatic differentiation and integrated ODEs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from scoresde import exact, models
from scoresde.exact import DataPoints, Energy, Gaussian, GaussianMixture, points, posterior
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers.prediction import TYPES

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS, MEANS, VARIANCES = torch.tensor([0.2, 0.5, 0.3]), normal(3, 4, seed=1), torch.tensor([0.5, 0.1, 0.3])
FACTORS, STATES, LABELS = normal(3, 4, 2, seed=2), normal(6, 4, seed=3), torch.tensor([0, 1, 0])


def mixture(process: Process, **options: Any) -> GaussianMixture:
    return GaussianMixture(process, WEIGHTS, MEANS, VARIANCES, FACTORS, labels=LABELS, **options)


def inner_times(process: Process, count: int = 5) -> list[float]:
    last = process.t_max if process.alpha(process.t_max) > 0 else 0.999 * process.t_max
    return np.linspace(process.t_min, last, count).tolist()


def states_at(process: Process, t: float) -> Tensor:
    return (process.alpha(t) + process.sigma(t)) * STATES


@every_process
def test_the_score_of_a_mixture_is_the_gradient_of_its_log_density(process: Process) -> None:
    model = mixture(process)
    for label in (None, torch.tensor([0, 1, -1, 0, 1, -1])):
        for t in inner_times(process):
            x = states_at(process, t).requires_grad_()
            (gradient,) = torch.autograd.grad(model.log_prob(x, t, label).sum(), x)
            score = model.score(x.detach(), t, label=label)
            # The score is (α x0 − x)/σ² here, which loses as many digits as σ² has zeros.
            torch.testing.assert_close(score, gradient, rtol=1e-9, atol=1e-13 / process.sigma(t) ** 2)


@every_process
def test_the_posterior_mean_is_the_integral_over_data(process: Process) -> None:
    weights, means, variances = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.04, 0.25])
    model = GaussianMixture(process, weights, means[:, None], variances)
    x0 = np.linspace(-8, 8, 400_001)
    prior = (weights * np.exp(-((x0[:, None] - means) ** 2) / (2 * variances)) / np.sqrt(2 * np.pi * variances)).sum(1)
    for t in inner_times(process, 4):
        alpha, sigma = process.alpha(t), process.sigma(t)
        x = alpha * 0.3 + sigma * 0.7
        joint = prior * np.exp(-((x - alpha * x0) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
        width = x0[1] - x0[0]
        state = torch.tensor([[x]], dtype=torch.float64)
        assert float(model.denoised(state, t)) == pytest.approx((joint * x0).sum() / joint.sum(), rel=1e-8)
        assert float(model.log_prob(state, t)) == pytest.approx(math.log(joint.sum() * width), abs=1e-8)


@every_process
def test_a_mixture_of_one_component_is_a_gaussian_and_low_rank_is_full_covariance(process: Process) -> None:
    full = 0.5 * torch.eye(4, dtype=torch.float64) + FACTORS[0] @ FACTORS[0].T
    gaussian = Gaussian(process, MEANS[0], full)
    one = GaussianMixture(process, [3.0], MEANS[:1], [0.5], FACTORS[:1])
    for t in [*inner_times(process), process.t_max, process.t_clean]:
        x = states_at(process, t)
        torch.testing.assert_close(one.denoised(x, t), gaussian.denoised(x, t), rtol=1e-10, atol=1e-11)
    mean, covariance = gaussian.marginal(process.t_max)
    density = torch.distributions.MultivariateNormal(mean, covariance).log_prob(STATES)
    torch.testing.assert_close(one.log_prob(STATES, process.t_max), density)


def test_a_mixture_of_image_size_solves_its_own_covariance_without_forming_it() -> None:
    shape, rank = (3, 32, 32), 16
    mean, factor = normal(1, *shape, seed=4), normal(1, 3072, rank, seed=5)
    model = GaussianMixture(VP(), [1.0], mean, [0.01], factor)
    x = normal(2, *shape, seed=6)
    for t in (0.05, 0.2, 1.0):
        alpha, sigma = VP().alpha(t), VP().sigma(t)
        score = model.score(x, t).flatten(1)
        product = (0.01 * alpha**2 + sigma**2) * score + alpha**2 * score @ factor[0] @ factor[0].T
        torch.testing.assert_close(product, -(x - alpha * mean).flatten(1), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
@every_process
def test_data_points_are_a_mixture_of_equal_isotropic_components(process: Process, bandwidth: float) -> None:
    kernel = DataPoints(process, MEANS, LABELS, bandwidth)
    same = GaussianMixture(process, torch.ones(3), MEANS, [bandwidth**2] * 3, labels=LABELS)
    label = torch.tensor([0, 1, -1, 0, 1, -1])
    for t in [*inner_times(process), process.t_max, process.t_clean]:
        x = states_at(process, t)
        for cond in ({}, {"label": label}):
            torch.testing.assert_close(kernel.denoised(x, t, **cond), same.denoised(x, t, **cond), rtol=1e-8, atol=1e-8)


def test_data_points_without_noise_return_the_nearest_point() -> None:
    nearest = torch.cdist(STATES, MEANS).argmin(1)
    torch.testing.assert_close(DataPoints(EDM(), MEANS).denoised(STATES, 0.0), MEANS[nearest])
    torch.testing.assert_close(DataPoints(EDM(), MEANS).denoised(STATES, 1e-3), MEANS[nearest])


def test_working_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [mixture(VP()), DataPoints(VP(), normal(50, 4), bandwidth=0.1)]
    label = torch.tensor([0, 1, -1, 0, 1, -1])
    whole = [models[0].denoised(STATES, 0.3, label=label), models[1].denoised(STATES, 0.3)]
    for module in (posterior, points):
        monkeypatch.setattr(module, "CHUNK", 28)
    pieces = [models[0].denoised(STATES, 0.3, label=label), models[1].denoised(STATES, 0.3)]
    torch.testing.assert_close(pieces, whole, rtol=1e-13, atol=1e-13)


@every_process
def test_a_label_restricts_the_mixture_to_the_components_of_its_class(process: Process) -> None:
    model, t = mixture(process), process.t_max / 3
    first = GaussianMixture(process, WEIGHTS[[0, 2]], MEANS[[0, 2]], VARIANCES[[0, 2]], FACTORS[[0, 2]])
    every = torch.full((6,), -1)
    torch.testing.assert_close(model.denoised(STATES, t, label=0), first.denoised(STATES, t))
    torch.testing.assert_close(model.log_prob(STATES, t, 0 * every), first.log_prob(STATES, t))
    torch.testing.assert_close(model.denoised(STATES, t, label=every), model.denoised(STATES, t), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.tensor([0, 1, 2, 0, 0, 0]), r"no component has label 2; known: \[0, 1\], and -1 for all"),
        (torch.tensor([0, 1]), r"label must be 6 integers, one per state, got torch.int64 \(2,\)"),
        (torch.zeros(6), "label must be 6 integers, one per state, got torch.float32"),
    ],
)
def test_a_label_that_is_no_class_or_does_not_number_the_states_is_refused(label: Tensor, words: str) -> None:
    for model in (mixture(VP()), DataPoints(VP(), MEANS, LABELS)):
        with pytest.raises(ValueError, match=words):
            model.denoised(STATES, 0.5, label=label)
    with pytest.raises(ValueError, match="built without labels"):
        DataPoints(VP(), MEANS).denoised(STATES, 0.5, label=label)


@pytest.mark.parametrize("t", [None, 0.4])
def test_draws_from_a_mixture_have_its_mean_and_covariance(t: float | None) -> None:
    n, model = 200_000, mixture(VP())
    alpha, sigma = (1.0, 0.0) if t is None else (VP().alpha(t), VP().sigma(t))
    draws = model.sample(n, torch.Generator().manual_seed(0), t)
    weights, unit = WEIGHTS.double() / WEIGHTS.sum(), torch.eye(4, dtype=torch.float64)
    mean = alpha * weights @ MEANS
    second = sum(
        w * (alpha**2 * (m.outer(m) + v * unit + f @ f.T) + sigma**2 * unit)
        for w, m, v, f in zip(weights, MEANS, VARIANCES.double(), FACTORS, strict=True)
    )
    # Five standard errors of each entry.
    assert ((draws.mean(0) - mean).abs() < 5 * draws.std(0) / n**0.5).all()
    products = draws[:, :, None] * draws[:, None]
    assert ((products.mean(0) - second).abs() < 5 * products.std(0) / n**0.5).all()


def test_the_energy_of_a_mixture_is_the_mixture_also_without_gradients() -> None:
    model = mixture(VP())
    energy = Energy(VP(), lambda x, t: -model.log_prob(x, t))
    expected = model.score(STATES, 0.3)
    torch.testing.assert_close(energy.score(STATES, 0.3), expected)
    with torch.no_grad():
        torch.testing.assert_close(energy.score(STATES, 0.3), expected)
    with torch.inference_mode():
        torch.testing.assert_close(energy.score(STATES.clone(), 0.3), expected)


@pytest.mark.parametrize("prediction", TYPES)
@every_process
def test_the_energy_of_a_gaussian_is_the_gaussian_in_every_prediction_type(process: Process, prediction: str) -> None:
    gaussian = Gaussian(process, MEANS[0], torch.eye(4, dtype=torch.float64), prediction=prediction)

    def energy(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        return 0.5 * ((x - alpha * MEANS[0]) ** 2 / (alpha**2 + sigma**2)).sum(1)

    model = Energy(process, energy, prediction=prediction)
    t = 0.5 * process.t_max
    torch.testing.assert_close(model.output(STATES, t), gaussian.output(STATES, t), rtol=1e-8, atol=1e-8)


def test_the_score_of_an_energy_can_be_differentiated() -> None:
    model = Energy(VP(), lambda x, t: (x**4).sum(1))
    x = STATES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.score(x, 0.5).sum(), x)
    torch.testing.assert_close(slope, -12 * STATES**2)


@pytest.mark.parametrize(
    ("energy", "words"),
    [
        (lambda x, t: x, r"one number per state, shape \(6,\), got \(6, 4\)"),
        (lambda x, t: 3.0, "got float"),
        (lambda x, t: torch.zeros(len(x)), "does not depend on x"),
    ],
)
def test_an_energy_that_is_none_is_refused(energy: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Energy(VP(), energy).score(STATES, 0.5)
    with pytest.raises(TypeError, match="energy must be callable"):
        Energy(VP(), 3)  # pyright: ignore[reportArgumentType]


ODE = [
    (VP(), 1.0, 1e-3),
    (VPDiscrete([0.1, 0.2, 0.3, 0.4]), 2.9, 2.1),
    (Cosine(), 0.99, 1e-3),
    (SubVP(), 1.0, 0.01),
    (VE(), 1.0, 0.0),
    (EDM(0.01, 10), 10.0, 0.01),
    (Flow(), 0.99, 1e-3),
]


@pytest.mark.parametrize(("process", "start", "end"), ODE, ids=lambda value: getattr(value, "name", None))
def test_the_exact_solution_solves_the_probability_flow_ode(process: Process, start: float, end: float) -> None:
    model = Gaussian(process, MEANS[0], FACTORS[0] @ FACTORS[0].T + 0.1 * torch.eye(4, dtype=torch.float64))
    x = process.alpha(start) * MEANS[:1] + process.sigma(start) * STATES[:1]

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        score = model.score(torch.from_numpy(y)[None], t)[0].numpy()
        return process.drift(t) * y - 0.5 * process.diffusion(t) * score

    for t, s in ((start, end), (end, start)):
        state = model.solution(x, start, t)
        there = solve_ivp(slope, (t, s), state[0].numpy(), method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
        torch.testing.assert_close(model.solution(state, t, s)[0], torch.from_numpy(there), rtol=1e-7, atol=1e-8)


@every_process
def test_solutions_carry_marginal_to_marginal(process: Process) -> None:
    covariance = FACTORS[0] @ FACTORS[0].T  # singular: data on a plane
    model = Gaussian(process, MEANS[0], covariance)
    for t, s in ((process.t_max, process.t_clean), (process.t_max, process.t_min), (process.t_max / 2, process.t_max)):
        offset, columns = model.solution(torch.zeros(1, 4).double(), t, s), torch.eye(4, dtype=torch.float64)
        linear = (model.solution(columns, t, s) - offset).T
        (mean_t, covariance_t), (mean_s, covariance_s) = model.marginal(t), model.marginal(s)
        torch.testing.assert_close(linear @ mean_t + offset[0], mean_s, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(linear @ covariance_t @ linear.T, covariance_s, rtol=1e-8, atol=1e-8)


def test_without_signal_x0_is_the_mean_of_the_data_and_all_types_follow() -> None:
    mean = (WEIGHTS.double() / WEIGHTS.sum() @ MEANS).expand(6, 4)
    for prediction in TYPES:
        model = mixture(Flow(), prediction=prediction)
        # At α = 0: x = ε, so flow is x − x0, v is −x0 and the score is −x.
        expected = {"epsilon": STATES, "sample": mean, "v_prediction": -mean, "score": -STATES, "flow": STATES - mean}
        torch.testing.assert_close(model.output(STATES, 1.0), expected[prediction])
    points = DataPoints(Flow(), MEANS, prediction="flow")
    torch.testing.assert_close(points.output(STATES, 1.0), STATES - MEANS.mean(0))


@every_process
def test_float32_states_give_what_float64_gives_to_float32(process: Process) -> None:
    for model in (
        Gaussian(process, MEANS[0], FACTORS[0] @ FACTORS[0].T),
        mixture(process),
        DataPoints(process, MEANS.float()),
        Energy(process, lambda x, t: 0.5 * (x**2).sum(1), prediction="epsilon"),
    ):
        for t in inner_times(process):
            x = states_at(process, t).float()
            low, high = model.epsilon(x, t), model.epsilon(x.double(), t)
            assert low.dtype == torch.float32
            # ε is (x − α x0)/σ: rounding of x shows in it as 1/σ.
            scale = 1e-6 * float(x.abs().max() + high.abs().max()) * max(1, 1 / process.sigma(t))
            torch.testing.assert_close(low.double(), high, rtol=1e-4, atol=10 * scale)


def test_states_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"states must have shape \(batch, 4\), got \(6, 3\)"):
        mixture(VP()).score(STATES[:, :3], 0.5)
    with pytest.raises(TypeError, match="label"):
        Gaussian(VP(), MEANS[0], torch.eye(4)).score(STATES, 0.5, label=torch.zeros(6))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Gaussian(VP(), [0.0, 0.0], np.eye(3)), r"covariance must have shape \(2, 2\) .* got \(3, 3\)"),
        (lambda: Gaussian(VP(), [0.0, 0.0], [[1, 0.5], [0, 1]]), "covariance is not symmetric .* by 0.5"),
        (lambda: Gaussian(VP(), [0.0, 0.0], [[1, 2], [2, 1]]), "not positive semi-definite .*eigenvalue -1"),
        (lambda: Gaussian(VP(), [math.nan], [[1.0]]), "mean must be finite"),
        (lambda: GaussianMixture(VP(), [1, -1], [[0.0], [1.0]], [1, 1]), "weights must be positive, got -1"),
        (lambda: GaussianMixture(VP(), [1.0], [[0.0], [1.0]], [1, 1]), r"weights must have shape \(2,\)"),
        (lambda: GaussianMixture(VP(), [1, 1], [[0.0], [1.0]], [1, -0.1]), "variances must not be negative, got -0.1"),
        (lambda: GaussianMixture(VP(), [1, 1], [0.0, 1.0], [1, 1]), r"means must have shape \(components, \*state\)"),
        (
            lambda: GaussianMixture(VP(), [1, 1], [[0.0], [1.0]], [1, 1], np.ones((2, 3, 1))),
            r"factors must have shape \(2, 1, rank\), got \(2, 3, 1\)",
        ),
        (lambda: GaussianMixture(VP(), [1, 1], [[0.0], [1.0]], [1, 1], labels=[0]), "labels must be 2 integers ≥ 0"),
        (lambda: GaussianMixture(VP(), [1, 1], [[0.0], [1.0]], [1, 1], labels=[0, -1]), "smallest -1"),
        (
            lambda: DataPoints(VP(), np.zeros((2, 3), np.uint8)),
            "points must be floating-point .* torch.uint8 .*to_state",
        ),
        (lambda: DataPoints(VP(), np.full((2, 3), np.inf)), "points must be finite"),
        (lambda: DataPoints(VP(), np.zeros((2, 3)), [0.0, 1.0]), "labels must be 2 integers"),
        (lambda: DataPoints(VP(), np.zeros((2, 3)), bandwidth=-1), "bandwidth must be ≥ 0 and finite, got -1"),
        (lambda: DataPoints(VP(), np.zeros((2, 3)), prediction="eps"), "unknown prediction type 'eps'"),
    ],
)
def test_bad_parameters_are_refused(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("name", exact.DENSITIES.names())
def test_a_density_by_name_is_within_the_unit_scale_and_draws_what_it_says(name: str) -> None:
    model = exact.get(name)
    draws = model.sample(4000, torch.Generator().manual_seed(0))
    assert draws.shape == (4000, 2) and draws.abs().max() < 1.6
    assert (draws.mean(0) - model.weights @ model.means).abs().max() < 0.05
    # E[log p] over its own draws is above that over draws of another spread: the density is where the points are
    own = model.log_prob(draws, 0.0).mean()
    assert own > model.log_prob(draws + 0.2 * normal(4000, 2), 0.0).mean() + 0.3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ring", {"modes": 0}, "modes must be a whole number from 1 to 1000, got 0"),
        ("ring", {"modes": 2.5}, "modes must be a whole number"),
        ("mixture", {"dim": -1}, "dim must be a whole number"),
        ("moons", {"width": 0.0}, "width must be above 0 and finite, got 0.0"),
        ("swiss_roll", {"turns": 0}, "turns must be above 0 and at most 10, got 0"),
        ("checkerboard", {"squares": 10**9}, "squares must be a whole number from 1 to 20"),
    ],
)
def test_a_density_that_cannot_be_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        exact.get(name, **options)


def test_a_mixture_has_other_places_for_another_seed_and_the_dimension_asked_for() -> None:
    first, again, other = (exact.get("mixture", dim=3, seed=seed).means for seed in (0, 0, 1))
    assert first.shape == (5, 3) and torch.equal(first, again) and not torch.equal(first, other)


def test_an_exact_model_is_loaded_by_its_name_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = models.load({"name": "ring", "modes": 3})
    assert (checkpoint.shape, checkpoint.classes, checkpoint.points) == ((2,), 0, True)
    assert isinstance(checkpoint.model, GaussianMixture) and len(checkpoint.model.means) == 3
    assert models.load("ring").shape == (2,)
    fingerprints = {models.fingerprint(place) for place in ("ring", {"name": "ring"}, {"name": "ring", "modes": 3})}
    assert len(fingerprints) == 2
    with pytest.raises(models.CheckpointError, match="did you mean 'ring'"):
        models.load("rign")
    with pytest.raises(TypeError, match="did you mean 'modes'"):
        models.load({"name": "ring", "mode": 3})
    monkeypatch.setitem(exact.DENSITIES._makers, "round", lambda process: Gaussian(process, [0.0], [[1.0]]))
    with pytest.raises(TypeError, match=r"'round' must give a scoresde.exact.GaussianMixture, got Gaussian"):
        models.load("round")

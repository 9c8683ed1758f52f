"""Guidance equals its formulas where the conditional scores are known, and keeps what score models promise."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import scoresde
import solvers
from scoresde import guidance, models
from scoresde.commands.app import config_folder
from scoresde.commands.guided import guided as from_config
from scoresde.conditions import joined, replaced
from scoresde.exact import Gaussian, GaussianMixture
from scoresde.guidance.threshold import quantile
from scoresde.networks.unet import UNet
from scoresde.process import EDM, VP, Flow, Process, SubVP
from scoresde.score import ScoreModel
from solvers import PlanError
from solvers.prediction import TYPES

PROCESSES = {"vp": VP(), "subvp": SubVP(), "edm": EDM(), "flow": Flow()}
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[1.0, -0.5, 0.2], [-0.8, 0.3, 0.9], [0.1, 1.2, -1.0]], dtype=torch.float64)
VARIANCES = torch.tensor([0.05, 0.2, 0.1], dtype=torch.float64)
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
ALL = {"label": -1}  # the label that stands for the whole mixture
SHAPE = (6, 3)

every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
every_prediction = pytest.mark.parametrize("prediction", TYPES)


def mixture(process: Process, prediction: str = "epsilon") -> GaussianMixture:
    return GaussianMixture(process, WEIGHTS, MEANS, VARIANCES, labels=[0, 1, 2], prediction=prediction)


def class_score(process: Process, t: float) -> Tensor:
    """∇log p_t(x | c) of N(m_c, v_c I), by hand."""
    spread = process.alpha(t) ** 2 * VARIANCES[LABELS] + process.sigma(t) ** 2
    return -(X - process.alpha(t) * MEANS[LABELS]) / spread[:, None]


def whole_score(process: Process, t: float) -> Tensor:
    """∇log p_t(x) of the mixture, by hand."""
    spread = process.alpha(t) ** 2 * VARIANCES + process.sigma(t) ** 2
    away = X[:, None] - process.alpha(t) * MEANS
    logits = WEIGHTS.log() - 1.5 * spread.log() - 0.5 * away.square().sum(2) / spread
    return -(logits.softmax(1)[:, :, None] * away / spread[:, None]).sum(1)


def levels(process: Process) -> list[float]:
    return [process.time(half_log_snr) for half_log_snr in (-2.0, 0.1, 1.5)]


def free(model: ScoreModel, **options: Any) -> ScoreModel:
    return guidance.get("classifier_free", **options)(model, unconditional=ALL)


class Watched:
    """A model that keeps the times and sizes of its calls."""

    def __init__(self, model: ScoreModel):
        self.inner, self.calls = model, []
        self.model = ScoreModel(self, model.process, model.prediction)

    def __call__(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        self.calls.append((float(t[0]), len(x)))
        return self.inner.output(x, t, **cond)


def network() -> ScoreModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = UNet(in_channels=1, channels=(16, 32), depth=1, num_classes=3, fold=2)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return ScoreModel(net.requires_grad_(False), VP(), "v_prediction", time_input=lambda t: 1000 * t)


# Classifier-free


@every_process
@every_prediction
@pytest.mark.parametrize("batched", [True, False])
def test_classifier_free_guidance_is_its_formula_in_scores(process: Process, prediction: str, batched: bool) -> None:
    for scale in (0.0, 0.5, 1.0, 4.0):
        model = free(mixture(process, prediction), scale=scale, batched=batched)
        for t in levels(process):
            whole, own = whole_score(process, t), class_score(process, t)
            expected = whole + scale * (own - whole)
            torch.testing.assert_close(model.score(X, t, label=LABELS), expected, rtol=1e-10, atol=1e-10)
            x0 = (X + process.sigma(t) ** 2 * expected) / process.alpha(t)
            torch.testing.assert_close(model.denoised(X, t, label=LABELS), x0, rtol=1e-10, atol=1e-10)


def test_batched_and_two_pass_guidance_agree_to_rounding() -> None:
    x, label = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 1, 0])
    one, two = (
        guidance.get("classifier_free", scale=3.0, batched=batched)(network(), unconditional={"label": 3})
        for batched in (True, False)
    )
    for name, value in one.outputs(x, 0.4, label=label).items():
        torch.testing.assert_close(value, two.outputs(x, 0.4, label=label)[name], rtol=1e-5, atol=1e-5)
    runs = [
        scoresde.sample(model, "dpmpp_2m", nfe=6, shape=(5, 1, 8, 8), seeds=0, cond={"label": label}).samples
        for model in (one, two)
    ]
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-4)


def test_guidance_is_one_call_of_twice_the_batch_and_two_of_the_batch_when_asked() -> None:
    for batched, sizes in ((True, [12]), (False, [6, 6])):
        watched = Watched(mixture(VP()))
        free(watched.model, batched=batched).output(X, 0.5, label=LABELS)
        assert [size for _, size in watched.calls] == sizes


def test_nested_conditions_are_batched_as_they_stand() -> None:
    def net(x: Tensor, t: Tensor, text: Tensor, added: dict[str, Any], mode: str) -> Tensor:
        assert mode == "fine" and len(text) == len(x)
        return x * added["size"][0][:, None] + text.mean((1, 2))[:, None] + added["pooled"]

    model, text = ScoreModel(net, VP(), "epsilon"), torch.randn(6, 4, 2, dtype=torch.float64)
    added = {"size": (torch.arange(6.0),), "pooled": torch.randn(6, 3, dtype=torch.float64)}
    nothing = {"text": torch.ones(1, 4, 2), "added": {"pooled": torch.full((1, 3), 0.5)}}
    one, two = (
        guidance.get("classifier_free", scale=2.5, batched=batched)(model, unconditional=nothing)
        for batched in (True, False)
    )
    cond = {"text": text, "added": added, "mode": "fine"}
    size = torch.arange(6.0)[:, None]
    own, other = X * size + text.mean((1, 2))[:, None] + added["pooled"], X * size + 1 + 0.5
    torch.testing.assert_close(one.output(X, 0.5, **cond), other + 2.5 * (own - other))
    torch.testing.assert_close(two.output(X, 0.5, **cond), other + 2.5 * (own - other))


@given(st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(1, 3), max_size=2))
def test_a_joined_batch_is_the_first_condition_and_then_the_second(first: int, second: int, shape: list[int]) -> None:
    a, b = torch.randn(first, *shape), torch.randn(second, *shape)
    both = joined({"x": [a, None], "y": (a, 2)}, {"x": [b, None], "y": (b, 2)})
    for value in (both["x"][0], both["y"][0]):
        assert torch.equal(value[:first], a) and torch.equal(value[first:], b)
    assert both["x"][1] is None and both["y"][1] == 2


def test_conditions_that_do_not_fit_are_refused_by_name() -> None:
    embedded = {"text": torch.zeros(6, 4, 2)}
    with pytest.raises(ValueError, match="replaces the condition 'label', which the model was not given"):
        free(mixture(VP())).output(X, 0.5)
    with pytest.raises(ValueError, match=r"the unconditional 'text' must be that of one sample.*got \(6, 4, 2\)"):
        replaced(embedded, {"text": torch.zeros(6, 4, 2)})
    longer = replaced(embedded, {"text": torch.zeros(1, 7, 2)})
    with pytest.raises(ValueError, match=r"cond\['text'\] is a tensor of shape \(6, 4, 2\).*guide in two with batched"):
        joined(embedded, longer)
    with pytest.raises(ValueError, match=r"cond\['mode'\] is 'fine' with the condition and None without"):
        joined({"mode": "fine"}, {"mode": None})
    with pytest.raises(ValueError, match="as a mapping, got {}"):
        guidance.ClassifierFree(mixture(VP()), {})


# Intervals


def test_the_interval_holds_its_upper_end_and_not_its_lower_one() -> None:
    watched = Watched(mixture(EDM()))
    model = free(watched.model, scale=3.0, low=0.5, high=2.0)
    for t, inside in ((0.49, False), (0.5, False), (0.5000001, True), (2.0, True), (2.0000001, False), (7.0, False)):
        watched.calls.clear()
        expected = (free(mixture(EDM()), scale=3.0) if inside else mixture(EDM())).output(X, t, label=LABELS)
        assert torch.equal(model.output(X, t, label=LABELS), expected)
        assert [size for _, size in watched.calls] == [12 if inside else 6]
        assert model.network_calls(t) == (2 if inside else 1)


def test_an_interval_up_to_infinity_holds_the_time_without_signal() -> None:
    assert free(mixture(Flow(), "flow"), low=0.5).network_calls(1.0) == 2
    assert free(mixture(Flow(), "flow"), high=50.0).network_calls(1.0) == 1


def test_with_a_time_for_each_sample_each_is_guided_by_its_own() -> None:
    model, times = free(mixture(EDM()), scale=3.0, low=0.5, high=2.0), torch.tensor([0.1, 0.7, 3.0, 1.9, 0.5, 2.0])
    found = model.outputs(X, times, label=LABELS)
    for row, t in enumerate(times.double().tolist()):
        alone = model.outputs(X[row : row + 1], t, label=LABELS[row : row + 1])
        assert alone.keys() == found.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name][row : row + 1], value, rtol=1e-6, atol=1e-9)
    assert torch.equal(torch.as_tensor(model.network_calls(times)), torch.tensor([1, 2, 1, 2, 1, 2]))


# CFG++


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_cfg_pp_is_algorithm_2_of_its_paper(prediction: str) -> None:
    process, scale = VP(), 0.6
    times = solvers.grids.get("log_snr")(process, 6)
    x = process.sigma(times[0]) * X
    found = scoresde.sample(
        free(mixture(process, prediction), scale=scale), "ddim_cfg_pp", x_init=x, grid=times, cond={"label": LABELS}
    ).samples
    exact = mixture(process)
    for t, s in zip(times, times[1:], strict=False):
        without, with_ = exact.epsilon(x, t, label=LABELS * 0 - 1), exact.epsilon(x, t, label=LABELS)
        x0 = (x - process.sigma(t) * (without + scale * (with_ - without))) / process.alpha(t)
        x = process.alpha(s) * x0 + process.sigma(s) * without
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", ["split", "published"])
def test_second_order_cfg_pp_is_its_formula_in_noise_levels(variant: str) -> None:
    process, scale = EDM(), 0.4
    times = solvers.grids.get("karras")(process, 6)
    x, previous, h_previous = times[0] * X, None, 0.0
    options = {"variant": variant}
    model = free(mixture(process, "sample"), scale=scale)
    solver = solvers.get("dpmpp_2m_cfg_pp", **options)
    found = scoresde.sample(model, solver, x_init=x, grid=times, cond={"label": LABELS}).samples
    exact = mixture(process)
    for t, s in zip(times, times[1:-1], strict=False):
        without, with_ = exact.denoised(x, t, label=LABELS * 0 - 1), exact.denoised(x, t, label=LABELS)
        guided, h = without + scale * (with_ - without), math.log(t / s)
        x_next = guided + s / t * (x - without)
        if previous is not None:
            newest = guided if variant == "published" else without
            x_next = x_next + (1 - s / t) * h / (2 * h_previous) * (newest - previous)
        x, previous, h_previous = x_next, without, h
    last = times[-2]
    without, with_ = exact.denoised(x, last, label=LABELS * 0 - 1), exact.denoised(x, last, label=LABELS)
    torch.testing.assert_close(found, without + scale * (with_ - without), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("renoised", "plain"), [("ddim_cfg_pp", "ddim"), ("dpmpp_2m_cfg_pp", "dpmpp_2m")])
@pytest.mark.parametrize("process", [VP(), Flow()], ids=lambda process: process.name)
def test_cfg_pp_at_scale_0_is_the_unconditional_solver(renoised: str, plain: str, process: Process) -> None:
    ask: dict[str, Any] = {"nfe": 7, "shape": SHAPE, "seeds": 5, "dtype": torch.float64}
    model = mixture(process, "v_prediction")
    found = scoresde.sample(free(model, scale=0.0), renoised, cond={"label": LABELS}, **ask).samples
    expected = scoresde.sample(model, plain, **ask).samples
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("renoised", "plain"), [("ddim_cfg_pp", "ddim"), ("dpmpp_2m_cfg_pp", "dpmpp_2m")])
def test_cfg_pp_is_the_plain_solver_where_the_condition_says_nothing_or_nothing_guides(
    renoised: str, plain: str
) -> None:
    ask: dict[str, Any] = {"nfe": 7, "shape": SHAPE, "seeds": 5, "dtype": torch.float64}
    nothing = free(mixture(VP()), scale=0.8)
    found = scoresde.sample(nothing, renoised, cond={"label": torch.full((6,), -1)}, **ask).samples
    torch.testing.assert_close(found, scoresde.sample(mixture(VP()), plain, **ask).samples, rtol=1e-10, atol=1e-10)
    outside = free(mixture(VP()), scale=0.8, low=1e5)
    found = scoresde.sample(outside, renoised, cond={"label": LABELS}, **ask).samples
    expected = scoresde.sample(mixture(VP()), plain, cond={"label": LABELS}, **ask).samples
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_step_of_cfg_pp_is_one_of_classifier_free_guidance_with_a_scale_of_its_length(scale: float) -> None:
    """λ = w (1 − e^{−h}); so w = 1 is the conditional solver."""
    process = VP()
    t, s = process.time(-0.7), process.time(0.4)
    x = process.sigma(t) * X
    ask: dict[str, Any] = {"x_init": x, "grid": (t, s), "cond": {"label": LABELS}}
    found = scoresde.sample(free(mixture(process), scale=scale * -math.expm1(-1.1)), "euler_cfg_pp", **ask).samples
    expected = scoresde.sample(free(mixture(process), scale=scale), "ddim", **ask).samples
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_cfg_pp_refuses_a_model_without_an_unconditional_output() -> None:
    words = r"needs the model's output 'unconditional'; it has \['model'\]"
    with pytest.raises(PlanError, match=f"'ddim_cfg_pp' {words}"):
        scoresde.sample(mixture(VP()), "ddim_cfg_pp", nfe=3, shape=SHAPE, seeds=0)
    with pytest.raises(PlanError, match=f"the solver {words}"):
        solvers.get("ddim_cfg_pp").run(VP(), [0.9, 0.5, 0.1], lambda x, t: x, X)


# Rescaling and thresholding


@every_process
def test_rescaled_guidance_has_the_std_between_its_own_and_the_unguided_one_s(process: Process) -> None:
    model = free(mixture(process, "v_prediction"), scale=6.0)
    for t in levels(process):
        unguided, strong = mixture(process, "v_prediction").output(X, t, label=LABELS), model.output(X, t, label=LABELS)
        for factor in (0.0, 0.7, 1.0):
            rescaled = guidance.Rescale(model, factor=factor).output(X, t, label=LABELS)
            expected = factor * unguided.std(1) + (1 - factor) * strong.std(1)
            torch.testing.assert_close(rescaled.std(1), expected)
            directions = torch.nn.functional.cosine_similarity(rescaled, strong)
            torch.testing.assert_close(directions, torch.ones_like(directions))


def test_rescaling_x0_does_not_depend_on_what_the_network_predicts() -> None:
    found = [
        guidance.Rescale(free(mixture(VP(), prediction), scale=6.0), view="sample").denoised(X, 0.5, label=LABELS)
        for prediction in TYPES
    ]
    guided = free(mixture(VP()), scale=6.0).denoised(X, 0.5, label=LABELS)
    kept = mixture(VP()).denoised(X, 0.5, label=LABELS).std(1)
    torch.testing.assert_close(found[0], guided * (0.7 * kept / guided.std(1) + 0.3)[:, None])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@every_process
@every_prediction
def test_a_threshold_clips_x0_at_its_percentile_and_divides_by_it(process: Process, prediction: str) -> None:
    strong = free(mixture(process, prediction), scale=4.0)
    model = guidance.DynamicThreshold(strong, percentile=0.6)
    for t in levels(process):
        x0 = strong.denoised(X, t, label=LABELS)
        bound = torch.from_numpy(np.quantile(x0.abs().numpy(), 0.6, axis=1)).clamp(min=1)[:, None]
        expected = x0.clamp(-bound, bound) / bound
        torch.testing.assert_close(model.denoised(X, t, label=LABELS), expected, rtol=1e-9, atol=1e-9)


def test_a_threshold_leaves_what_is_within_bounds_as_it_is_to_the_bit() -> None:
    model = Gaussian(VP(), [0.1, -0.2, 0.0], 0.01 * torch.eye(3), prediction="epsilon")
    assert torch.equal(guidance.DynamicThreshold(model).output(X, 0.4), model.output(X, 0.4))


@given(st.integers(1, 5), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_the_quantile_of_each_row_is_numpy_s(rows: int, size: int, share: float, seed: int) -> None:
    values = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.from_numpy(np.quantile(values.numpy(), share, axis=1))
    torch.testing.assert_close(quantile(values, share), expected)


# Autoguidance and classifiers


def test_a_model_that_guides_itself_is_itself() -> None:
    model = mixture(VP(), "flow")
    for scale in (0.0, 1.0, 3.0):
        found = guidance.Autoguidance(model, model, scale=scale).output(X, 0.5, label=LABELS)
        torch.testing.assert_close(found, model.output(X, 0.5, label=LABELS))


@every_prediction
def test_autoguidance_is_its_formula_whatever_the_weak_model_is_made_of(prediction: str) -> None:
    model, weak = mixture(VP()), GaussianMixture(EDM(), [1.0], MEANS[:1], [0.8], labels=[0], prediction=prediction)
    found = guidance.Autoguidance(model, weak, scale=2.5).score(X, 0.5, label=LABELS * 0)
    alpha, sigma = VP().alpha(0.5), VP().sigma(0.5)
    other = -(X - alpha * MEANS[0]) / (alpha**2 * 0.8 + sigma**2)
    torch.testing.assert_close(found, other + 2.5 * (model.score(X, 0.5, label=LABELS * 0) - other))


def classifier(process: Process) -> Any:
    """log p(c | x_t) of the mixture's classes, by Bayes."""
    model = mixture(process)

    def log_prob(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return model.log_prob(x, t, label) + WEIGHTS[label].log() - model.log_prob(x, t)

    return log_prob


@every_process
@every_prediction
def test_the_exact_classifier_at_scale_1_gives_the_conditional_score(process: Process, prediction: str) -> None:
    for scale in (1.0, 2.5):
        recipe = guidance.get("classifier", scale=scale)
        model = recipe(mixture(process, prediction), classifier=classifier(process), unconditional=ALL)
        for t in levels(process):
            whole, own = whole_score(process, t), class_score(process, t)
            with torch.no_grad():
                found = model.score(X, t, label=LABELS)
            torch.testing.assert_close(found, whole + scale * (own - whole), rtol=1e-9, atol=1e-9)


def test_classifier_guided_samples_are_those_of_the_conditional_model() -> None:
    model = guidance.get("classifier")(mixture(VP()), classifier=classifier(VP()), unconditional=ALL)
    ask: dict[str, Any] = {"nfe": 8, "shape": SHAPE, "seeds": 2, "cond": {"label": LABELS}, "dtype": torch.float64}
    found = scoresde.sample(model, "dpmpp_2m", **ask)
    torch.testing.assert_close(found.samples, scoresde.sample(mixture(VP()), "dpmpp_2m", **ask).samples)
    assert (found.nfe, found.network_calls) == (8, [16] * 6)


def test_a_classifier_is_refused_where_there_is_no_signal() -> None:
    model = guidance.ClassifierGuidance(mixture(Flow(), "flow"), classifier(Flow()), ALL)
    with pytest.raises(ValueError, match="a classifier cannot guide at t = 1, where α = 0; guide below with high="):
        model.output(X, 1.0, label=LABELS)
    bounded = guidance.ClassifierGuidance(mixture(Flow(), "flow"), classifier(Flow()), ALL, high=100.0)
    assert bounded.output(X, 1.0, label=LABELS).isfinite().all()


# Composition, and what all score models promise


def recipes() -> dict[str, guidance.Guidance]:
    on_interval = {"name": "classifier_free", "scale": 3.0, "low": 0.3, "high": 4.0}
    return {
        "classifier_free": guidance.get(**on_interval),
        "autoguidance": guidance.get("autoguidance", scale=1.7, low=0.2),
        "classifier": guidance.get("classifier", scale=1.5, high=50.0),
        "rescale": guidance.get("rescale", of=on_interval),
        "dynamic_threshold": guidance.get("dynamic_threshold", percentile=0.9, of="classifier_free"),
        "all": guidance.get(
            "dynamic_threshold", of={"name": "rescale", "of": {"name": "autoguidance", "of": on_interval}}
        ),
    }


def made(name: str, model: ScoreModel) -> ScoreModel:
    weak = GaussianMixture(model.process, WEIGHTS, MEANS, VARIANCES + 0.3, labels=[0, 1, 2])
    return recipes()[name](model, unconditional=ALL, weak=weak, classifier=classifier(model.process))


every_recipe = pytest.mark.parametrize("name", recipes())


def test_rescaled_guidance_on_an_interval_is_the_model_itself_outside_it() -> None:
    model = made("rescale", mixture(EDM()))
    for t in (0.2, 5.0):
        torch.testing.assert_close(model.output(X, t, label=LABELS), mixture(EDM()).output(X, t, label=LABELS))
    inside = model.output(X, 1.0, label=LABELS) - mixture(EDM()).output(X, 1.0, label=LABELS)
    assert inside.abs().max() > 0.1


@every_recipe
def test_a_guided_model_seen_on_another_process_is_the_guided_model_of_that_process(name: str) -> None:
    seen, there = made(name, mixture(VP())).on(EDM()), made(name, mixture(EDM()))
    assert seen.process == EDM() and seen.on(EDM()) is seen
    for t in (0.15, 0.6, 3.9, 4.1):
        torch.testing.assert_close(seen.score(X, t, label=LABELS), there.score(X, t, label=LABELS))
        assert seen.network_calls(t) == there.network_calls(t)
        assert seen.outputs(X, t, label=LABELS).keys() == there.outputs(X, t, label=LABELS).keys()


@every_recipe
def test_every_guided_model_tells_its_unguided_output_and_its_words(name: str) -> None:
    model = made(name, mixture(VP()))
    for t in (0.05, 0.5, 0.95):
        expected = mixture(VP()).output(X, t, label=LABELS * 0 - 1 if name == "classifier" else LABELS)
        found = model.outputs(X, t, label=LABELS)["unguided"]
        torch.testing.assert_close(found, expected)
    words = "dynamic_threshold(percentile=0.995) of rescale(factor=0.7) of autoguidance(scale=2) of classifier_free("
    assert model.guidance.startswith(words if name == "all" else f"{name}(")


@every_recipe
def test_a_guided_sample_depends_on_its_own_seed_and_condition(name: str) -> None:
    model = made(name, mixture(VP()))
    label = torch.arange(16) % 3

    def run(first: int, count: int) -> Tensor:
        cond = {"label": label[first : first + count]}
        ask: dict[str, Any] = {"shape": (count, 3), "seeds": first, "cond": cond, "dtype": torch.float64}
        return scoresde.sample(model, "dpmpp_2m", nfe=6, batch_size=5, **ask).samples

    many = run(0, 16)
    for first, count in ((0, 1), (3, 4), (9, 7)):
        torch.testing.assert_close(run(first, count), many[first : first + count], rtol=1e-12, atol=1e-12)


def test_nfe_counts_a_guided_pair_once_and_says_what_the_networks_were_asked() -> None:
    watched = Watched(mixture(EDM()))
    model = free(watched.model, scale=2.0, low=0.3, high=4.0)
    result = scoresde.sample(model, "dpmpp_2m", steps=9, shape=SHAPE, seeds=0, cond={"label": LABELS}, batch_size=4)
    inside = sum(0.3 < t <= 4.0 for t in result.times[:-1])
    assert 0 < inside < 9
    assert (result.nfe, result.evaluations) == (9, [9] * 6)
    assert result.network_calls == [9 + inside] * 6
    assert sum(size for _, size in watched.calls) == 2 * 4 * (9 + inside)
    assert result.guidance == "classifier_free(scale=2, low=0.3, high=4)"
    plain = scoresde.sample(mixture(EDM()), "dpmpp_2m", steps=9, shape=SHAPE, seeds=0)
    assert (plain.guidance, plain.network_calls) == ("", [9] * 6)


def test_network_calls_of_adaptive_solvers_are_each_sample_s_own() -> None:
    watched = Watched(mixture(EDM()))
    model = free(watched.model, scale=2.0, low=0.3, high=4.0)
    result = scoresde.sample(model, "rk_adaptive", shape=SHAPE, seeds=0, cond={"label": LABELS})
    assert sum(result.network_calls) == sum(size for _, size in watched.calls)
    assert all(one < asked < 2 * one for one, asked in zip(result.evaluations, result.network_calls, strict=True))


def test_a_guided_network_is_used_where_it_lies_and_in_its_own_precision() -> None:
    inner = network()
    inner.net.to(torch.bfloat16)  # type: ignore[attr-defined]
    model = guidance.get("classifier_free")(inner, unconditional={"label": 3})
    assert model.net is inner.net
    result = scoresde.sample(
        model, "ddim", nfe=3, shape=(2, 1, 8, 8), seeds=0, cond={"label": torch.zeros(2, dtype=torch.long)}
    )
    assert result.samples.dtype == torch.float32


# The registry and the configurations


def test_unknown_guidance_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown guidance 'clasifier_free'; did you mean 'classifier_free'"):
        guidance.get("clasifier_free")
    with pytest.raises(TypeError, match="guidance 'rescale' has no option 'facto'; did you mean 'factor'"):
        guidance.get("rescale", facto=1)
    with pytest.raises(TypeError, match="'classifier_free' has no option 'unconditional'"):
        guidance.get("classifier_free", unconditional=ALL)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("classifier_free", {}, "'classifier_free' needs the unconditional condition, .*: give unconditional="),
        ("autoguidance", {}, "'autoguidance' needs a weaker model: give weak="),
        ("classifier", {}, "'classifier' needs a classifier of noisy states: give classifier="),
        ("rescale", {}, "rescale needs a guided model, got one without guidance"),
        ("rescale", {"factor": 1.5}, "factor from 0 to 1, got 1.5"),
        ("dynamic_threshold", {"percentile": 99.5}, "percentile from 0 to 1, got 99.5"),
    ],
)
def test_what_guidance_lacks_is_named(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        guidance.get(name, **options)(mixture(VP()))


def test_bad_scales_intervals_and_models_are_refused() -> None:
    for options, words in (
        ({"scale": math.inf}, "needs a finite scale, got inf"),
        ({"low": 2.0, "high": 1.0}, "0 ≤ low < high, got 2.0 to 1.0"),
        ({"low": -1.0}, "0 ≤ low < high, got -1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            free(mixture(VP()), **options)
    with pytest.raises(ValueError, match="unknown prediction type 'x0'"):
        guidance.Rescale(free(mixture(VP())), view="x0")
    with pytest.raises(TypeError, match="needs a scoresde.ScoreModel to guide, got int"):
        guidance.DynamicThreshold(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a weaker scoresde.ScoreModel, got str"):
        guidance.Autoguidance(mixture(VP()), "weak")  # type: ignore[arg-type]


PAGE = Path(__file__).parents[3] / "docs" / "guidance.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_the_code_of_the_page_on_guidance_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "guidance.md", "exec"), {})
    printed = capsys.readouterr().out
    expected = re.search(r"print\(.*\)  # (.*)", block)
    assert printed.strip() == expected[1] if expected else printed.strip()


FILES = sorted(path.stem for path in (config_folder() / "guidance").glob("*.yaml"))


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((config_folder() / "guidance" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_every_guidance_that_a_configuration_can_give_has_its_file() -> None:
    assert sorted({*guidance.names(), "none"} - {"classifier"}) == FILES
    assert read("none") == {"name": None}


@pytest.mark.parametrize("name", sorted({*FILES} - {"none"}))
def test_a_guidance_file_gives_every_option_with_its_default(name: str) -> None:
    options = read(name)
    options.pop("defaults", None)
    assert options.pop("weak", "???") == "???"
    assert options.pop("unconditional", None) is None  # a label of the model's, which no guidance knows
    assert options.pop("name") == name
    assert options == dict(guidance.get(name).options)


@pytest.mark.parametrize("name", FILES)
def test_every_option_of_a_guidance_file_is_explained_beside_it(name: str) -> None:
    first, *lines = (config_folder() / "guidance" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    options = [line for line in lines if line and not line.startswith(("defaults:", "name:", "  - _self_"))]
    assert all("  # " in line for line in options)


def test_a_configuration_guides_the_bundled_model_as_the_library_does() -> None:
    checkpoint, ready = models.load("mnist"), {"device": torch.device("cpu"), "dtype": torch.float32}
    assert from_config(checkpoint.model, {"name": None}, checkpoint, **ready) is checkpoint.model
    inner = {"name": "autoguidance", "weak": "mnist", "scale": 2.0, "of": {"name": "classifier_free", "scale": 3.0}}
    group = {"name": "rescale", "factor": 0.5, "of": inner}
    x, label = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 7])
    found = from_config(checkpoint.model, group, checkpoint, **ready).output(x, 0.4, label=label)
    model = guidance.ClassifierFree(checkpoint.model, {"label": 10}, scale=3.0)
    expected = guidance.Rescale(guidance.Autoguidance(model, checkpoint.model, scale=2.0), factor=0.5)
    assert torch.equal(found, expected.output(x, 0.4, label=label))


def test_a_configuration_cannot_guide_by_class_where_there_are_none() -> None:
    checkpoint = models.Checkpoint(mixture(VP()), (1, 1, 3), 0, {})
    with pytest.raises(ValueError, match="guidance 'rescale' is by class, and this model has no classes"):
        group = {"name": "rescale", "of": {"name": "classifier_free"}}
        from_config(checkpoint.model, group, checkpoint, torch.device("cpu"), torch.float32)


# --- over a range of scales


KINDS = {
    "classifier_free": lambda model, **options: guidance.ClassifierFree(model, ALL, **options),
    "two calls": lambda model, **options: guidance.ClassifierFree(model, ALL, batched=False, **options),
    "autoguidance": lambda model, **options: guidance.Autoguidance(
        model, GaussianMixture(model.process, WEIGHTS, MEANS, 2 * VARIANCES, labels=[0, 1, 2]), **options
    ),
    "classifier": lambda model, **options: guidance.ClassifierGuidance(
        model, lambda x, t, label: -(x**2).sum(1), **options
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interval", [{}, {"low": 0.3, "high": 2.0}], ids=["everywhere", "interval"])
def test_over_a_range_each_sample_is_guided_at_its_own_scale(kind: str, interval: dict[str, float]) -> None:
    model, scales = mixture(VP()), torch.linspace(1, 4, 6, dtype=torch.float64)
    over = KINDS[kind](model, scale=(1, 4), **interval)
    times = torch.tensor([VP().time(lam) for lam in (2.0, 1.0, 0.5, 0.0, -0.5, -1.0)], dtype=torch.float64)
    assert over.scales == (1.0, 4.0) and "(scale=1 to 4" in over.guidance
    for t in (VP().time(0.1), VP().time(2.0), times):
        found = over.outputs(X, t, label=LABELS, guidance_scale=scales)
        for row, scale in enumerate(scales):
            own = KINDS[kind](model, scale=float(scale), **interval).outputs(X, t, label=LABELS)
            assert found.keys() == own.keys()
            for name, value in found.items():
                torch.testing.assert_close(value[row], own[name][row], rtol=1e-12, atol=1e-12)


def test_what_edits_a_model_that_is_guided_over_a_range_is_over_it_too() -> None:
    over = guidance.Rescale(free(mixture(VP()), scale=[1, 4]))
    scales = torch.full((6,), 3.0)
    assert over.scales == (1.0, 4.0)
    found = over.on(EDM()).output(X, 1.5, label=LABELS, guidance_scale=scales)
    own = guidance.Rescale(free(mixture(VP()), scale=3.0)).on(EDM()).output(X, 1.5, label=LABELS)
    torch.testing.assert_close(found, own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [[4, 1], [1], [1, 2, 3], [1, math.inf]])
def test_a_range_of_scales_has_two_finite_ends_that_rise(scale: list[float]) -> None:
    with pytest.raises(ValueError, match="two ends of a range|a finite scale"):
        free(mixture(VP()), scale=scale)


def test_a_range_needs_the_samples_scales_and_there_is_one_range_at_most() -> None:
    over = free(mixture(VP()), scale=[1, 4])
    for own in ({}, {"guidance_scale": 2.0}, {"guidance_scale": torch.ones(3)}):
        with pytest.raises(ValueError, match=r"takes each sample's own scale: give cond=.*of shape \(6,\)"):
            over.output(X, 0.5, label=LABELS, **own)
    with pytest.raises(ValueError, match="needs a model at one scale, got classifier_free"):
        guidance.Autoguidance(over, mixture(VP()), scale=(0.0, 2.0))

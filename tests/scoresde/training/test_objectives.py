"""Objectives: densities and weights are those of the papers, and what a network returns changes no expected loss."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import scoresde
from scoresde import models
from scoresde.commands import choices
from scoresde.commands.app import config_folder
from scoresde.commands.main import main
from scoresde.data import Images, load, to_state
from scoresde.exact import Gaussian
from scoresde.networks.unet import UNet
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from scoresde.training import OBJECTIVES, Objective, Settings, Task, Trainer, loss, objectives
from scoresde.training.objectives import EDMWeight, MinSNR, NormalLogLevels, OfPrediction, UniformTimes
from solvers import prediction as predictions

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
LEVELS = torch.linspace(-4, 4, 9, dtype=torch.float64)
MEAN, COVARIANCE = torch.tensor([0.5, -0.3]), torch.tensor([[0.6, 0.2], [0.2, 0.3]])
DATA = 0.4
TINY = ("network.channels=[16,32]", "network.depth=1", "warmup=2", "every=6", "epochs=1")


def named(process: Process) -> str:
    return process.name


def between(low: float, high: float, count: int = 40001) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


# Densities


DENSITIES = [UniformTimes(), NormalLogLevels(-1.2, 1.2), NormalLogLevels(0.5, 0.6)]


@pytest.mark.parametrize("density", DENSITIES, ids=str)
@pytest.mark.parametrize("process", [VP(), EDM(), Flow(), Cosine(), VPDiscrete()], ids=named)
def test_a_density_integrates_to_one_over_levels_and_over_times(process: Process, density: Any) -> None:
    low, high = max(process.half_log_snr(process.t_max), -40.0), process.half_log_snr(process.t_min)
    level = between(low, high)
    assert float(torch.trapezoid(density.of_level(level, process), level)) == pytest.approx(1, abs=1e-4)
    # Over times that are even in λ, so that none of the levels of EDM's long times is passed over.
    t = process.time(level).flip(0).clamp(process.t_min, process.t_max)
    t = t[process.alpha(t) > 0]
    assert float(torch.trapezoid(density.of_time(t, process), t)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("process", PROCESSES, ids=named)
def test_the_slope_of_levels_is_their_derivative(process: Process) -> None:
    t = between(process.t_min, process.t_max, 102)[1:-1] + 0.3 * (process.t_max - process.t_min) / 1e4
    step = 1e-6 * t
    rise = (process.half_log_snr(t + step) - process.half_log_snr(t - step)) / (2 * step)
    torch.testing.assert_close(objectives.slope(process, t), -rise, rtol=1e-4, atol=0)


@pytest.mark.parametrize("density", DENSITIES, ids=str)
@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=named)
def test_times_at_even_shares_have_the_density(process: Process, density: Any) -> None:
    """The share of the levels below each quantile, by the density, is the quantile's own."""
    share = between(0, 1, 11)[1:-1]
    t = density.times(share, process)
    assert (t[1:] > t[:-1]).all() or (t[1:] < t[:-1]).all()
    for value, found in zip(share.tolist(), t.tolist(), strict=True):
        level = between(max(process.half_log_snr(process.t_max), -40.0), process.half_log_snr(found))
        below = float(torch.trapezoid(density.of_level(level, process), level))
        assert below == pytest.approx(1 - value if isinstance(density, UniformTimes) else value, abs=1e-4)


def test_two_papers_densities_in_their_own_variables() -> None:
    """log σ of EDM is normal, and so is the logit of the times of rectified flow."""
    sigma = torch.tensor([0.01, 0.3, 5.0], dtype=torch.float64)
    normal = torch.exp(-((sigma.log() + 1.2) ** 2) / (2 * 1.2**2)) / (sigma * 1.2 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(objectives.edm().density.of_time(sigma, EDM()), normal, rtol=5e-5, atol=0)
    t = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64)
    logit = torch.exp(-((t.logit() - 0.3) ** 2) / (2 * 0.8**2)) / (0.8 * math.sqrt(2 * math.pi) * t * (1 - t))
    torch.testing.assert_close(objectives.flow(0.3, 0.8).density.of_time(t, Flow()), logit, rtol=1e-6, atol=0)


def test_times_are_inside_the_process_even_at_the_last_share() -> None:
    for process in PROCESSES:
        t = NormalLogLevels(0.0, 30.0).times(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), process)
        assert (t >= process.t_min).all() and (t <= process.t_max).all(), process


# Weights


def test_weights_are_the_closed_forms_of_the_papers() -> None:
    sigma = torch.exp(-LEVELS)
    snr = sigma**-2
    edm = (sigma**2 + DATA**2) / (sigma * DATA) ** 2
    torch.testing.assert_close(EDMWeight()(LEVELS, DATA), edm, rtol=1e-12, atol=0)
    torch.testing.assert_close(MinSNR(5.0)(LEVELS, 1.0), snr.clamp_max(5), rtol=1e-12, atol=0)
    forms = {"epsilon": snr, "sample": snr**0, "v_prediction": snr + 1, "flow": (1 + 1 / sigma) ** 2}
    for prediction, expected in forms.items():
        torch.testing.assert_close(OfPrediction(prediction)(LEVELS, 1.0), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("process", [VP(), VE(), Flow()], ids=named)
def test_min_snr_on_each_prediction_type_is_as_published(process: Process) -> None:
    t = process.time(LEVELS)
    snr = torch.exp(2 * LEVELS)
    least = snr.clamp_max(5)
    published = {"epsilon": least / snr, "sample": least, "v_prediction": least / (snr + 1)}
    for prediction, expected in published.items():
        found = Task(process, prediction, objective=objectives.min_snr(5.0)).factor(t)
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=named)
def test_edm_s_weight_is_one_on_what_a_preconditioned_network_returns(process: Process) -> None:
    t = between(process.t_min, process.t_max, 12)[1:-1]
    found = Task(process, "edm", objective=objectives.edm(), sigma_data=DATA).factor(t)
    assert found is not None
    torch.testing.assert_close(found, torch.ones_like(t), rtol=1e-9, atol=0)


# What the network returns


def draws(seed: int, count: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 2, generator=generator)
    return (MEAN + noise @ torch.linalg.cholesky(COVARIANCE).T).double()


def network(task: Task, denoiser: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """What a network would have to return to be this denoiser, as the inverse of what a ScoreModel makes of it."""

    def net(x: Tensor, fed: Tensor) -> Tensor:
        t, maps = asked.pop(), task.maps
        column = [t[:, None]] * 3
        if task.prediction == "edm":
            column = [maps[key](t)[:, None] for key in ("input_scale", "output_scale", "skip")]
            state = x / column[0]
            return (denoiser(state, t) - column[2] * state) / column[1]
        a, b = predictions.convert(
            "sample", task.prediction, task.process.alpha(t)[:, None], task.process.sigma(t)[:, None]
        )
        return b * denoiser(x, t) + a * x

    asked: list[Tensor] = []
    original = task.squared

    def squared(net: Any, x0: Tensor, epsilon: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        asked.append(t)
        return original(net, x0, epsilon, t, **cond)

    object.__setattr__(task, "squared", squared)
    return net


def value(process: Process, prediction: str, objective: Objective) -> float:
    """The loss of a denoiser that errs by a tenth and by a level, seen as a network of some type."""
    exact = Gaussian(process, MEAN.double(), COVARIANCE.double())
    task = Task(process, prediction, objective=objective, sigma_data=DATA)
    net = network(task, lambda x, t: 0.9 * exact.denoised(x, t) + 0.1 * process.sigma(t)[:, None] / (1 + t[:, None]))
    return float(task.loss(net, draws(0), torch.Generator().manual_seed(1)))


OBJECTIVE_KINDS = {
    "edm": objectives.edm(),
    "flow": objectives.flow(),
    "min_snr": objectives.min_snr(),
    "own": Objective(NormalLogLevels(0.5, 0.5), OfPrediction("sample")),
}


@pytest.mark.parametrize("name", OBJECTIVE_KINDS)
@pytest.mark.parametrize("process", [VP(), EDM(), Flow(), SubVP()], ids=named)
def test_one_density_and_weight_give_one_loss_whatever_the_network_returns(process: Process, name: str) -> None:
    expected = value(process, "sample", OBJECTIVE_KINDS[name])
    for prediction in (*predictions.TYPES, "edm"):
        assert value(process, prediction, OBJECTIVE_KINDS[name]) == pytest.approx(expected, rel=1e-6), prediction


def test_one_density_and_weight_give_one_loss_on_every_process() -> None:
    """The same levels, since none of them is cut off, and the exact denoiser of a smaller Gaussian on each process."""
    objective = Objective(NormalLogLevels(-0.5, 0.4), EDMWeight())
    found = []
    for process in PROCESSES:
        model = Gaussian(process, 0.5 * MEAN.double(), COVARIANCE.double())
        task = Task(process, "sample", objective=objective, sigma_data=DATA)

        def net(x: Tensor, fed: Tensor, model: Gaussian = model, process: Process = process) -> Tensor:
            return model.denoised(x, fed.double())

        found.append(float(task.loss(net, draws(0), torch.Generator().manual_seed(1))))
    assert found == pytest.approx([found[0]] * len(found), rel=1e-4)


@pytest.mark.parametrize("process", PROCESSES, ids=named)
def test_a_preconditioned_network_is_the_same_denoiser_as_score_model_and_has_the_loss_of_it(process: Process) -> None:
    torch.manual_seed(0)
    net = UNet(channels=(16, 32), depth=1).double()
    task = Task(process, "edm", objective=objectives.edm(), sigma_data=DATA)
    t = task.objective.density.times(between(0.1, 0.9, 6), process)
    generator = torch.Generator().manual_seed(2)
    x0, epsilon = (torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    wide = [values.reshape(-1, 1, 1, 1) for values in (process.alpha(t), process.sigma(t))]
    with torch.no_grad():
        squared = task.squared(net, x0, epsilon, t)
        error = (task.model(net).denoised(wide[0] * x0 + wide[1] * epsilon, t) - x0).square()
    scale = task.output_scale(t).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(squared * scale**2, error, rtol=1e-4, atol=1e-9)


def test_edm_s_preconditioning_is_finite_where_there_is_no_signal() -> None:
    for process in (Flow(), objectives.terminal(VPDiscrete())):
        maps = Task(process, "edm", sigma_data=DATA).maps
        t = torch.tensor([process.t_max], dtype=torch.float64)
        assert all(values(t).isfinite().all() for values in maps.values())
        assert float(maps["output_scale"](t)) == pytest.approx(DATA, rel=1e-6)
        assert float(maps["input_scale"](t)) == pytest.approx(1, rel=1e-6)
        assert abs(float(maps["skip"](t))) < 1e-4


def test_the_default_objective_is_ddpm_s_loss_to_the_bit() -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * x

    x0 = draws(3).float()
    known = loss(net, VP(), "epsilon", x0, torch.Generator().manual_seed(4))
    chosen = Task(VP(), "epsilon", objective=objectives.get("ddpm")).loss(net, x0, torch.Generator().manual_seed(4))
    assert torch.equal(known, chosen)


# Zero SNR


def test_a_chain_that_ends_at_zero_snr_begins_as_before() -> None:
    chain, ended = VPDiscrete(), objectives.terminal(VPDiscrete())
    assert isinstance(ended, VPDiscrete) and len(ended.betas) == 1000 and ended.betas[-1] == 1
    assert ended.alpha(ended.t_max) == 0 and ended.alpha(0.0) == pytest.approx(chain.alpha(0.0))
    roots = [math.sqrt(value) for value in (1 - 1e-4, float(chain.alpha(999.0)) ** 2)]
    middle = (float(chain.alpha(500.0)) - roots[1]) * roots[0] / (roots[0] - roots[1])
    assert ended.alpha(500.0) == pytest.approx(middle, rel=1e-9)
    assert objectives.terminal(ended) is ended and objectives.terminal(flow := Flow()) is flow


@pytest.mark.parametrize("process", [VP(), Cosine()], ids=named)
def test_a_continuous_process_becomes_a_chain_of_the_same_levels_but_the_last(process: Process) -> None:
    ended = objectives.terminal(process)
    assert ended.alpha(ended.t_max) == 0
    t = process.t_min + (process.t_max - process.t_min) * 0.5
    assert ended.alpha(499.5) == pytest.approx(process.alpha(t), rel=0.05)


@pytest.mark.parametrize("process", [SubVP(), VE(), EDM()], ids=named)
def test_a_process_that_cannot_end_at_zero_snr_is_refused(process: Process) -> None:
    with pytest.raises(ValueError, match="cannot end at zero signal-to-noise"):
        objectives.v_prediction().adapted(process)


def test_what_says_nothing_at_zero_snr_is_refused_there_and_only_there() -> None:
    objective = objectives.v_prediction()
    for prediction in ("epsilon", "score"):
        with pytest.raises(ValueError, match=f"'{prediction}' says nothing about x0: prediction=v_prediction"):
            Task(objective.adapted(VP()), prediction, objective=objective)
    for prediction in ("sample", "v_prediction", "flow", "edm"):
        Task(objective.adapted(VP()), prediction, objective=objective, sigma_data=DATA)


# Refusals


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: objectives.edm(P_std=0.0), "a positive std, got -1.2 and 0.0"),
        (lambda: objectives.flow(mean=math.nan), "a finite mean"),
        (lambda: objectives.min_snr(-1.0), "gamma must be a positive number, got -1.0"),
        (lambda: objectives.get("emd"), "unknown objective 'emd'; did you mean 'edm'"),
        (lambda: Objective(prediction="epsilom"), "did you mean 'epsilon'"),
        (lambda: Task(VP(), "edm"), "needs sigma_data"),
        (lambda: Task(VP(), "epsilon", objective=objectives.edm()), "needs sigma_data"),
        (lambda: NormalLogLevels(30.0, 1.0).times(torch.zeros(1), EDM()), "hardly any that"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# Data


def test_sigma_data_is_the_deviation_of_all_pixels() -> None:
    images = load("digits")
    assert objectives.sigma_data(images) == pytest.approx(float(to_state(images.pixels).std(correction=0)), rel=1e-6)
    with pytest.raises(ValueError, match="all pixels of the images are alike"):
        objectives.sigma_data(Images(torch.full((3, 1, 2, 2), 7, dtype=torch.uint8), None))


# Runs


def trainer(folder: Path, name: str, process: Process | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    net = UNet(channels=(16, 32), depth=1, num_classes=10)
    data = load("digits").take(torch.arange(64))
    settings = Settings(epochs=2, batch_size=16, warmup=3, seed=5)
    return Trainer(net, process or VP(), None, data, settings, folder, objective=objectives.get(name), **options)


def nothing(run: Trainer) -> None:
    pass


def test_a_run_of_an_objective_goes_on_bit_for_bit_and_is_not_another_s(tmp_path: Path) -> None:
    straight = trainer(tmp_path / "straight", "edm")
    straight.run(nothing, every=8)

    class LeaveError(Exception):
        pass

    def leave(run: Trainer) -> None:
        raise LeaveError

    with pytest.raises(LeaveError):
        trainer(tmp_path / "left", "edm").run(leave, every=3)
    again = trainer(tmp_path / "left", "edm")
    assert again.resume() and again.step == 3
    again.run(nothing, every=8)
    for key, tensor in straight.averaged.state_dict().items():
        assert torch.equal(tensor, again.averaged.state_dict()[key])
    with pytest.raises(ValueError, match=r"other values of objective\.P_mean, .*objective\.gamma, objective\.name"):
        trainer(tmp_path / "left", "min_snr").resume()


def test_a_checkpoint_of_ddpm_is_as_before_there_was_a_choice(tmp_path: Path) -> None:
    run = trainer(tmp_path, "ddpm")
    run.run(nothing, every=8)
    state = torch.load(run.checkpoint, weights_only=True)
    assert list(state["identity"]) == ["settings", "process", "prediction", "images", "content", "network"]
    assert state["identity"]["prediction"] == "epsilon"


def test_the_loss_by_level_is_that_of_held_out_images_and_touches_nothing(tmp_path: Path) -> None:
    held_out = load("digits", "test").take(torch.arange(40))
    run, other = trainer(tmp_path / "a", "edm", held_out=held_out), trainer(tmp_path / "b", "edm")
    seen: list[Any] = []
    run.run(lambda run: seen.append(run.by_level()), every=3)
    other.run(nothing, every=3)
    for key, tensor in run.net.state_dict().items():
        assert torch.equal(tensor, other.net.state_dict()[key])
    levels = run.by_level()
    assert other.by_level() == [] and levels == run.by_level() and levels == seen[-1] != seen[0]
    sigma = [level["sigma"] for level in levels]
    assert sigma == sorted(sigma) and 0.009 < sigma[0] < 0.02 and sigma[-1] == pytest.approx(100)
    for level in levels:
        weight = (level["sigma"] ** 2 + (d := run.task.sigma_data or 0) ** 2) / (level["sigma"] * d) ** 2
        assert level["loss"] == pytest.approx(weight * level["error"], rel=1e-5)
    with torch.no_grad():
        for parameter in run.averaged.parameters():
            parameter.zero_()
    assert run.task.sigma_data is not None
    data, square = run.task.sigma_data**2, float(to_state(held_out.pixels).square().mean())
    for level in run.by_level():  # of a network that returns 0, by the formula of what it should
        noise = level["sigma"] ** 2
        assert level["loss"] == pytest.approx((noise * square / data + data) / (noise + data), rel=0.1)


# The command


CHOICES = {
    "ddpm": ("process=vp", "epsilon"),
    "edm": ("process=edm", "sample"),
    "flow": ("process=flow", "flow"),
    "min_snr": ("process=cosine", "epsilon"),
    "v_prediction": ("process=vp", "v_prediction"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, few: list[str]) -> dict[str, Path]:
    made = {}
    for name, (process, _) in CHOICES.items():
        made[name] = tmp_path_factory.mktemp(name) / "run"
        assert main(["train", *few, f"objective={name}", process, "held_out=40", f"out={made[name]}"]) == 0
    return made


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a tiny run on a few digits of two classes."""
    images = load("digits")
    assert images.labels is not None
    index = (images.labels < 2).nonzero().flatten()[:72]
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, images=images.pixels[index].numpy(), labels=images.labels[index].numpy())
    return [*TINY, "data=npz", f"data.path={path}", "batch_size=16"]


@pytest.mark.parametrize("name", CHOICES)
def test_a_model_of_each_objective_loads_samples_and_tells_its_loss_by_level(
    folders: dict[str, Path], name: str
) -> None:
    checkpoint = models.load(folders[name] / "model")
    assert checkpoint.model.prediction == CHOICES[name][1]
    cond = {"label": torch.arange(4) % 2}
    for solver in ("heun", "auto"):
        made = scoresde.sample(checkpoint.model, solver, nfe=4, shape=(4, 1, 8, 8), seeds=0, cond=cond)
        assert made.samples.isfinite().all()
    training = checkpoint.card["training"]
    assert training["held_out"]["images"] == 40 and len(training["held_out"]["levels"]) == 8
    assert all(level["loss"] > 0 and math.isfinite(level["error"]) for level in training["held_out"]["levels"])
    expected = None if name == "ddpm" else yaml.safe_load((config_folder() / f"objective/{name}.yaml").read_text())
    assert training.get("objective") == expected
    if name == "edm":
        described = json.loads((folders[name] / "model" / models.CONFIG).read_text())["preconditioning"]
        assert described == {"name": "edm", "sigma_data": training["sigma_data"], "time_scale": 1000.0}
        assert 0.6 < training["sigma_data"] < 0.9
    if name == "v_prediction":
        assert checkpoint.model.process.alpha(checkpoint.model.process.t_max) == 0


def test_a_preconditioned_model_on_another_process_is_stored_as_it_was_trained(tmp_path: Path) -> None:
    run = trainer(tmp_path, "edm", Flow())
    run.run(nothing, every=8)
    assert run.task.preconditioning is not None
    models.save(
        tmp_path / "model",
        run.averaged,
        network="unet",
        process=run.process,
        prediction=run.task.stored,
        shape=(1, 8, 8),
        classes=10,
        preconditioning=run.task.preconditioning,
    )
    read = models.load(tmp_path / "model").model
    run.averaged.eval()
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in (0.01, 0.5, 1.0):
        torch.testing.assert_close(read.denoised(x, t), run.model.denoised(x, t), rtol=1e-5, atol=1e-5)


def test_the_log_and_the_folder_of_a_run_tell_what_was_chosen(
    folders: dict[str, Path], few: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *few, "objective=edm", "process=edm", "held_out=40", f"out={folders['edm']}"]) == 0
    assert "already in" in capsys.readouterr().out
    recorded = yaml.safe_load((folders["edm"] / "config.yaml").read_text(encoding="utf-8"))
    assert recorded["objective"] == {"name": "edm", "P_mean": -1.2, "P_std": 1.2}
    assert (recorded["prediction"], recorded["held_out"]) == ("edm", 40)
    assert main(["train", *few, "objective=flow", "process=edm", "held_out=40", f"out={folders['edm']}"]) == 1
    assert "objective.P_mean" in capsys.readouterr().err


def test_a_run_without_a_choice_is_of_edm_and_says_so(tmp_path: Path, few: list[str]) -> None:
    assert main(["train", *few, f"out={tmp_path / 'run'}"]) == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert recorded["prediction"] == "edm" and recorded["objective"]["name"] == "edm"
    loaded = models.load(tmp_path / "run" / "model")
    assert loaded.card["training"]["objective"]["name"] == "edm" and loaded.card["preconditioning"]["name"] == "edm"


def test_ddpm_is_recorded_as_before_there_was_a_choice_and_such_runs_go_on_without_it(
    tmp_path: Path, few: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["train", *few, f"out={tmp_path / 'run'}"]
    assert main([*ask, "objective=ddpm"]) == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert recorded["prediction"] == "epsilon" and not {"objective", "held_out"} & recorded.keys()
    training = models.load(tmp_path / "run" / "model").card["training"]
    assert not {"objective", "sigma_data", "held_out"} & training.keys()
    assert "held-out" not in capsys.readouterr().out
    assert main(ask) == 0 and "already in" in capsys.readouterr().out  # as an earlier version's command was
    assert main([*ask, "objective=edm"]) == 1 and "other values of objective" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("objective=emd", "unknown objective 'emd'; did you mean 'edm'?"),
        ("objective=edm objective.P_men=1", "no setting 'objective.P_men'; did you mean 'P_mean'?"),
        ("objective=v_prediction prediction=epsilon", "at zero signal-to-noise 'epsilon' says nothing about x0"),
        ("objective=v_prediction process=ve", "cannot end at zero signal-to-noise"),
        ("objective=edm objective.P_std=0", "a positive std, got -1.2 and 0"),
        ("objective=min_snr objective.gamma=high", "gamma"),
        ("held_out=1437", "held_out must be less than the 1437 images, got 1437"),
        ("held_out=1430 batch_size=2", "leaves no image of class"),
        ("held_out=some", "held_out must be a whole number of at least 0, got 'some'"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(
    typed: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *TINY, *typed.split(), f"out={tmp_path / 'here'}"]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_help_lists_every_objective_and_the_settings_of_the_chosen_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "objective=edm", "--help"]) == 0
    out = capsys.readouterr().out
    assert "objective.P_mean=-1.2  mean of log(σ/α)" in out
    assert all(name in out for name in OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_file_of_an_objective_says_what_its_function_does(name: str) -> None:
    written = (config_folder() / "objective" / f"{name}.yaml").read_text(encoding="utf-8")
    assert written == choices.text(OBJECTIVES, name)


def test_every_objective_has_its_file() -> None:
    assert sorted(path.stem for path in (config_folder() / "objective").glob("*.yaml")) == OBJECTIVES.names()

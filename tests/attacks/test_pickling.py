"""Solvers, grids, plans, processes, models and results go through pickle and to other processes as what they are."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scoresde
import solvers
from scoresde import exact, guidance, preconditioning
from scoresde.integrations.diffusers.conventions import read
from scoresde.networks.unet import UNet
from solvers import PlannedSolver, grids
from solvers.errors import StepsError

VP, EDM = scoresde.VP(), scoresde.EDM()
PROCESSES = [VP, EDM, scoresde.VPDiscrete([0.1, 0.2, 0.3]), scoresde.Cosine(), scoresde.SubVP(), scoresde.Flow()]
WAYS: list[Callable[[Any], Any]] = [
    *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in (2, 3, 4, 5)),
    copy.deepcopy,
    copy.copy,
]
# Something that is not the default, so that options travel.
OPTIONS: dict[str, dict[str, Any]] = {
    "ddim": {"eta": 0.5},
    "heun": {"s_churn": 3.0},
    "rk_adaptive": {"method": "bosh3", "max_nfe": 77},
    "dpm_adaptive": {"order": 2, "controller": "published"},
    "pf_ode": {"method": "rk4"},
    "langevin_pc": {"snr": 0.1},
    "adaptive_sde": {"rtol": 0.3},
}


@pytest.mark.parametrize("name", solvers.names())
def test_every_solver_comes_back_as_it_was(name: str) -> None:
    for options in ({}, OPTIONS.get(name, {})):
        solver = solvers.get(name, **options)
        for way in WAYS:
            found = way(solver)
            assert type(found) is type(solver) and repr(found) == repr(solver)
            assert found.options == solver.options and found.order == solver.order
            assert (found.stochastic, found.grid, found.adaptive) == (solver.stochastic, solver.grid, solver.adaptive)
            if isinstance(solver, PlannedSolver) and isinstance(found, PlannedSolver):
                times = (1.0, 0.6, 0.3, 0.0)
                assert repr(found.plan(VP, times)) == repr(solver.plan(VP, times))


@pytest.mark.parametrize("name", grids.names())
def test_every_grid_comes_back_as_it_was(name: str) -> None:
    grid = grids.get(name, **({"end": 0.05} if "end" in grids.get(name).options else {}))
    for way in WAYS:
        found = way(grid)
        assert found == grid and repr(found) == repr(grid)
        assert (found(EDM, 9) == grid(EDM, 9)).all()


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_every_process_and_plan_comes_back_as_it_was(process: scoresde.Process, tmp_path: Path) -> None:
    solver = solvers.get("dpmpp_2m_sde")
    assert isinstance(solver, PlannedSolver)
    plan = solver.plan(process, grids.get("uniform")(process, 3), "sample")
    plan.save(tmp_path / "plan.json")
    for way in WAYS:
        assert way(process) == process
        way(plan).save(tmp_path / "other.json")
        assert (tmp_path / "other.json").read_bytes() == (tmp_path / "plan.json").read_bytes()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        shift = 0.0 if label is None else 0.1 * label[:, None]
        return torch.tanh(self.linear(x)) + shift


class Classifier(nn.Module):
    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return -(x - label[:, None]).square().sum(1)


def converted(config: dict[str, Any]) -> scoresde.ScoreModel:
    """A network in the conventions of a scheduler of diffusers."""
    trained = read(config)
    scales = {"output_scale": trained.c_out, "skip": trained.c_skip} if trained.output_scales else {}
    maps = {"time_input": trained.time_input, "input_scale": trained.input_scale, **scales}
    return scoresde.ScoreModel(Net(), trained.process, trained.prediction, **maps)  # pyright: ignore[reportArgumentType]


NET = scoresde.ScoreModel(Net(), VP)
LABELLED = {"cond": {"label": torch.tensor([1, 0, 1])}}
MODELS: dict[str, tuple[scoresde.ScoreModel, dict[str, Any]]] = {
    "network": (NET, LABELLED),
    "edm": (scoresde.ScoreModel(Net(), EDM, "sample", **preconditioning.edm()), {}),
    "consistency": (scoresde.ScoreModel(Net(), EDM, "sample", **preconditioning.consistency()), {}),
    "on another process": (scoresde.ScoreModel(Net(), EDM, "sample", **preconditioning.edm()).on(VP), {}),
    "classifier_free": (guidance.ClassifierFree(NET, {"label": 0}, low=0.1), LABELLED),
    "classifier": (guidance.ClassifierGuidance(NET, Classifier(), {"label": 0}), LABELLED),
    "rescaled": (guidance.Rescale(guidance.Autoguidance(NET, NET), view="sample"), LABELLED),
    "threshold on another process": (guidance.DynamicThreshold(NET).on(EDM), LABELLED),
    "gaussian": (exact.Gaussian(VP, torch.zeros(4), torch.eye(4)), {}),
    "points": (exact.DataPoints(VP, torch.eye(4), labels=[0, 1, 1, 0]), LABELLED),
    "chain of diffusers": (
        converted({"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        {},
    ),
    "flow of diffusers": (converted({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}), {}),
    "EDM of diffusers": (converted({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, "sigma_max": 80.0}), {}),
    "cosine EDM of diffusers": (
        converted({"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_min": 0.3, "sigma_max": 500.0}),
        {},
    ),
    "consistency of diffusers": (
        converted(
            {"_class_name": "CMStochasticIterativeScheduler", "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}
        ),
        {},
    ),
}


def drawn(model: scoresde.ScoreModel, more: dict[str, Any], solver: Any = "dpmpp_2m_sde") -> scoresde.Result:
    flow = isinstance(model.process, scoresde.Flow)
    steps = {} if solvers.get(solver).adaptive else {"steps": 5, "grid": "uniform" if flow else None}
    return scoresde.sample(model, solver, shape=(3, 4), seeds=5, trajectory=True, **steps, **more)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_came_back_gives_the_same_samples(kind: str) -> None:
    model, more = MODELS[kind]
    want = drawn(model, more)
    for way in WAYS:
        found = way(model)
        assert type(found) is type(model) and found.process == model.process and found.guidance == model.guidance
        assert torch.equal(drawn(found, more).samples, want.samples)


def test_a_result_comes_back_whole() -> None:
    result = drawn(*MODELS["network"])
    for way in WAYS:
        found = way(result)
        for name in ("samples", "trajectory"):
            assert torch.equal(getattr(found, name), getattr(result, name))
        rest = [name for name in vars(result) if name not in ("samples", "trajectory")]
        assert [getattr(found, name) for name in rest] == [getattr(result, name) for name in rest]


def test_noise_goes_on_where_it_was() -> None:
    noise = scoresde.noise.Noise([3, 4], (5,), torch.float64)
    noise()
    copies = [way(noise) for way in WAYS]
    want = noise()
    for found in copies:
        assert torch.equal(found(), want)


def test_errors_of_runs_come_back_with_their_words() -> None:
    error = StepsError("it ended", [1, 2], "raise it", "seeds")
    for way in WAYS:
        assert str(way(error)) == "it ended for seeds [1, 2]: raise it"


def test_a_network_that_python_cannot_pickle_is_refused_in_python_s_words() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(scoresde.ScoreModel(lambda x, t: x, VP))


def test_what_was_learned_of_a_network_s_tensors_stays_in_its_process() -> None:
    model = scoresde.ScoreModel(Net(), VP)
    drawn(model, {})
    used, fresh = pickle.dumps(model), pickle.dumps(scoresde.ScoreModel(Net(), VP))
    assert len(used) == len(fresh)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_another_process_draws_the_same_samples(how: str) -> None:
    gaussian = exact.Gaussian(VP, torch.zeros(4), torch.eye(4))
    network = UNet(in_channels=1, num_classes=0, channels=(8, 8)).eval()
    asked: list[tuple[scoresde.ScoreModel, solvers.Solver, dict[str, Any]]] = [
        (gaussian, solvers.get("dpmpp_2m_sde"), {"shape": (3, 4), "steps": 5, "grid": grids.get("karras", rho=5.0)}),
        (gaussian.on(EDM), solvers.get("rk_adaptive"), {"shape": (3, 4), "trajectory": True}),
        (scoresde.ScoreModel(network, VP), solvers.get("heun"), {"shape": (2, 1, 8, 8), "nfe": 3}),
    ]
    # A forked process that uses torch's threads waits for ever for those of its parent, which it did not inherit.
    with multiprocessing.get_context(how).Pool(1, torch.set_num_threads, (1,)) as pool:
        found = [pool.apply_async(scoresde.sample, (m, s), {"seeds": 5, **more}) for m, s, more in asked]
        results = [result.get(timeout=300) for result in found]
    for result, (model, solver, more) in zip(results, asked, strict=True):
        assert torch.equal(result.samples, scoresde.sample(model, solver, seeds=5, **more).samples)

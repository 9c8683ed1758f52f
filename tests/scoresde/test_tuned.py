"""A tuned solver: one file, its plans, the model that they belong to, and everywhere that it is taken."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scoresde
import solvers
from scoresde import TunedSolver, sample, tuned
from scoresde.integrations.diffusers import Scheduler
from scoresde.integrations.k_diffusion import sampler
from scoresde.process import EDM, VP, Flow
from scoresde.score import ScoreModel
from scoresde.tuned import Fixed, Member
from solvers.coefficients.fitted import for_all
from solvers.plan import PlanError


class Net(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner = nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x)


def made(model: ScoreModel, counts: tuple[int, ...] = (6, 8), **about: Any) -> TunedSolver:
    """The plans for all models, as if they had been fitted to this one; with 8 evaluations a fixed solver."""
    members = {
        count: Member(None if count == 8 else for_all(model.process, count, 1.0), Fixed("dpmpp_2m", {}, "karras"))
        for count in counts
    }
    known = {
        "process": repr(model.process),
        "levels": [list(level) for level in tuned.levels(model.process)],
        "prediction": model.prediction,
        "guidance": model.guidance,
        "fingerprint": tuned.fingerprint(model),
        "noise_scale": 1.0,
    }
    return TunedSolver(members, {**known, **about})


MODEL = ScoreModel(Net().eval(), VP())


def samples(model: ScoreModel, solver: Any, **options: Any) -> Tensor:
    return sample(model, solver, shape=(4, 2), seeds=0, **options).samples


@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=lambda process: process.name)
def test_a_file_keeps_every_number(process: scoresde.Process, tmp_path: Path) -> None:
    model = ScoreModel(Net().eval(), process, "sample")
    solver = made(model)
    solver.save(tmp_path / "tuned.json")
    again = TunedSolver.load(tmp_path / "tuned.json")
    assert again.members == solver.members and again.digest == solver.digest
    for nfe in (6, 8):
        assert torch.equal(samples(model, solver, nfe=nfe), samples(model, again, nfe=nfe))


def test_its_plans_are_those_of_its_members() -> None:
    solver = made(MODEL)
    assert torch.equal(samples(MODEL, solver, nfe=6), samples(MODEL, solvers.get("auto", scale=1.0), nfe=6))
    assert torch.equal(samples(MODEL, solver, nfe=8), samples(MODEL, "dpmpp_2m", nfe=8, grid="karras"))


def test_between_two_members_the_lower_one_is_taken_and_said() -> None:
    with pytest.warns(UserWarning, match=r"tuned\(nfe=6, 8\): 6 evaluations are taken, not 7"):
        assert sample(MODEL, made(MODEL), nfe=7, shape=(1, 2), seeds=0).nfe == 6
    with pytest.raises(ValueError, match="tuned for 6, 8 evaluations: there is no plan for 5"):
        sample(MODEL, made(MODEL), nfe=5, shape=(1, 2), seeds=0)


def test_a_run_may_begin_within_its_grid() -> None:
    solver = made(MODEL)
    times = list(solver.recommended(MODEL.process, 6))
    result = sample(MODEL, solver, grid=times[1:], x_init=torch.zeros(2, 2), seeds=0)
    assert result.nfe == 5
    with pytest.raises(ValueError, match="grids of its own.*give nfe= and no grid"):
        sample(MODEL, solver, nfe=6, grid="karras", shape=(1, 2), seeds=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ScoreModel(Net(1).eval(), VP()), "tuned to another network"),
        (ScoreModel(nn.Linear(3, 3), VP()), "tuned to another network"),
        (ScoreModel(Net().eval(), EDM()), "tuned on VP"),
        (ScoreModel(Net().eval(), VP(beta_max=19.0)), "tuned on VP"),
        (ScoreModel(Net().eval(), VP(), "sample"), "tuned for the prediction 'epsilon', and this model has 'sample'"),
    ],
    ids=["weights", "shapes", "process", "betas", "prediction"],
)
def test_another_model_is_refused_unless_it_is_allowed(other: ScoreModel, message: str) -> None:
    solver = made(MODEL)
    with pytest.raises(ValueError, match=message):
        sample(other, solver, nfe=6, shape=(1, 2), seeds=0)
    scoresde.Sampler(other, TunedSolver(solver.members, solver.about, foreign=True), nfe=6)


def test_the_same_network_is_known_in_sixteen_bits_and_compiled() -> None:
    for net in (Net().eval().to(torch.bfloat16), torch.compile(Net().eval(), backend="eager")):
        scoresde.Sampler(ScoreModel(net, VP()), made(MODEL), nfe=6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "is no tuned solver"),
        ("[]", "its format is not"),
        ('{"format": "scoresde-plan"}', "its format is not"),
        ({"version": 99}, "of another version"),
        ({"members": {}}, "holds no valid plans"),
        ({"members": {"6": {"numbers": None}}}, "holds no valid plans"),
        ({"members": {"6": {"numbers": None, "fixed": {"solver": "pf_ode"}, "report": {}}}}, "pf_ode has no plan"),
        ({"members": {"6": {"numbers": None, "fixed": {"solver": "hein"}, "report": {}}}}, "hein"),
        ({"fingerprint": "x"}, "holds no valid plans"),
        ({"noise_scale": math.nan}, "it holds NaN"),
    ],
    ids=range(10),
)
def test_a_damaged_file_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    made(MODEL).save(path)
    content = change if isinstance(change, str) else json.dumps({**json.loads(path.read_text()), **change})
    path.write_text(content)
    with pytest.raises(PlanError, match=message):
        TunedSolver.load(path)


def test_plans_of_another_length_than_they_say_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    made(MODEL).save(path)
    content = json.loads(path.read_text())
    content["members"]["7"] = content["members"].pop("6")
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match="the plan for 7 evaluations has 6"):
        TunedSolver.load(path)


def test_it_travels_to_other_processes() -> None:
    again = pickle.loads(pickle.dumps(made(MODEL)))
    assert torch.equal(samples(MODEL, again, nfe=6), samples(MODEL, made(MODEL), nfe=6))


def test_by_name_it_is_the_file_beside_the_model(tmp_path: Path) -> None:
    model = ScoreModel(Net().eval(), VP())
    with pytest.raises(ValueError, match="solver 'tuned' needs its file"):
        samples(model, "tuned", nfe=6)
    made(model).save(tmp_path / "tuned.json")
    model.tuned = str(tmp_path / "tuned.json")
    assert torch.equal(samples(model, "tuned", nfe=6), samples(model, made(model), nfe=6))
    with pytest.raises(TypeError, match="has no option 'order'; it has: path, foreign"):
        tuned.named("tuned", path=model.tuned, order=2)


def test_auto_takes_what_is_known_of_the_model(tmp_path: Path) -> None:
    model = ScoreModel(Net().eval(), VP())
    plain = samples(model, "auto", nfe=8)
    made(model, noise_scale=2.0).save(tmp_path / "tuned.json")
    model.tuned = str(tmp_path / "tuned.json")
    assert torch.equal(samples(model, "auto", nfe=8), samples(model, solvers.get("auto", scale=2.0), nfe=8))
    model.noise_scale = 3.0
    found = samples(model.on(EDM()), "auto", nfe=8)
    assert torch.equal(found, samples(model.on(EDM()), solvers.get("auto", scale=3.0), nfe=8))
    assert torch.equal(samples(model, solvers.get("auto"), nfe=8), plain)


def test_the_scheduler_takes_the_file_and_its_configuration_says_so(tmp_path: Path) -> None:
    config = {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
    }
    process = Scheduler.from_config(config)._trained.process
    path = tmp_path / "tuned.json"
    made(ScoreModel(Net().eval(), process)).save(path)
    scheduler = Scheduler.from_config(config, tuned=path)
    again = Scheduler.from_config(scheduler.config)
    for each in (scheduler, again):
        each.set_timesteps(6)
        assert each.plan.times == tuple(TunedSolver.load(path).recommended(process, 6))
    with pytest.raises(ValueError, match="give solver or tuned, not both"):
        Scheduler.from_config(config, solver="heun", tuned=path)
    with pytest.raises(ValueError, match="save the tuned solver"):
        Scheduler(config, made(ScoreModel(Net().eval(), process)))


@pytest.mark.parametrize(
    "shift", [{"shift": 3.0}, {"shift": 1.0, "use_dynamic_shifting": True}], ids=["static", "dynamic"]
)
def test_levels_that_belong_to_a_flow_model_are_not_shifted(shift: dict[str, Any]) -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", **shift}
    scheduler = Scheduler.from_config(config, solver="auto", scale=1.0)
    given = {"mu": 1.0} if "use_dynamic_shifting" in shift else {}
    scheduler.set_timesteps(sigmas=[1, 0.8, 0.6, 0.4, 0.2], **given)
    process = scheduler._trained.process
    assert scheduler.plan.times == tuple(solvers.grids.get("auto", scale=1.0)(process, 5))
    with pytest.raises(ValueError, match="the scheduler has the solver auto.*other sigmas"):
        scheduler.set_timesteps(sigmas=[1, 0.9, 0.6, 0.4, 0.2], **given)


def test_as_a_function_of_k_diffusion_it_brings_its_levels(tmp_path: Path) -> None:
    process = EDM()
    model = ScoreModel(Net().eval(), process, "sample")
    path = tmp_path / "tuned.json"
    made(model).save(path)
    function = sampler("tuned", path=str(path))
    start = 80 * torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    sigmas = function.levels(6, process.sigma_min, process.sigma_max)
    with torch.no_grad():
        found = function(lambda x, sigma: model.denoised(x, sigma.double()), start, sigmas, disable=True)
    torch.testing.assert_close(found, sample(model, made(model), nfe=6, x_init=start, seeds=0).samples)


# --- guidance


@pytest.mark.parametrize(
    ("here", "there", "fits"),
    [
        ("cfg(scale=2)", "cfg(scale=2)", True),
        ("cfg(scale=2)", "cfg(scale=1 to 4)", True),
        ("cfg(scale=1)", "cfg(scale=1 to 4)", True),
        ("cfg(scale=1 to 4)", "cfg(scale=1 to 4)", True),
        ("cfg(scale=1.5 to 3)", "cfg(scale=1 to 4)", True),
        ("cfg(scale=0.5 to 3)", "cfg(scale=1 to 4)", False),
        ("cfg(scale=4.1)", "cfg(scale=1 to 4)", False),
        ("cfg(scale=2)", "cfg(scale=3)", False),
        ("cfg(scale=-1)", "cfg(scale=-2 to 1e+02)", True),
        ("cfg(scale=2, low=0.1, high=inf)", "cfg(scale=1 to 4)", False),
        ("cfg(scale=2, low=0.1, high=3)", "cfg(scale=1 to 4, low=0.1, high=3)", True),
        ("rescale(factor=0.7) of cfg(scale=2)", "rescale(factor=0.7) of cfg(scale=1 to 4)", True),
        ("rescale(factor=0.5) of cfg(scale=2)", "rescale(factor=0.7) of cfg(scale=1 to 4)", False),
        ("auto(scale=2) of cfg(scale=2)", "auto(scale=1 to 3) of cfg(scale=2)", True),
        ("auto(scale=2) of cfg(scale=3)", "auto(scale=1 to 3) of cfg(scale=2)", False),
        ("auto(scale=2)", "cfg(scale=1 to 4)", False),
        ("", "cfg(scale=1 to 4)", False),
        ("", "", True),
    ],
)
def test_tuned_over_a_range_of_scales_it_serves_each_of_them(here: str, there: str, fits: bool) -> None:
    model = ScoreModel(Net().eval(), VP())
    solver = made(model, guidance=there)
    model.guidance = here
    if fits:
        solver.check_model(model)
    else:
        with pytest.raises(ValueError, match="tuned for the guidance .* and this model has"):
            solver.check_model(model)

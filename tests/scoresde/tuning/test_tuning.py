"""Tuning: it finds what is there to find, judges on what it has not seen, goes on where it stopped, and says no."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from benchmarks.tuning.problems import EXACT, converged, planned
from scoresde import ScoreModel, noise_scale, sample, tune
from scoresde.integrations.diffusers import Scheduler
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, VPDiscrete
from scoresde.tuning import NotConvergedError, fixed, procedure, spread, teacher
from scoresde.tuning.fit import (
    Number,
    State,
    Variances,
    free,
    inserted,
    jacobian,
    levenberg_marquardt,
    loss,
    moved,
    normal_matrix,
    on_whole_times,
    spacing,
)
from scoresde.tuning.scale import started
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers, for_all

PROCESSES = [VP(), VPDiscrete(), Cosine(), VE(), EDM(), Flow()]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
SEEDS = range(500, 596)


def trajectories(name: str, process: Process, count: int = 24, seed: int = 0) -> Trajectories:
    model = EXACT[name](process)
    found = Trajectories.of(model, range(seed, seed + count), model.shape, dtype=torch.float64)
    ends = converged(process, model.denoised, process.sigma(process.t_max) * found.noise, 60)
    return replace(found, ends=ends)


@pytest.fixture(scope="module")
def tuned() -> scoresde.TunedSolver:
    return tune(EXACT["low rank"](VP()), nfe=[1, 6], shape=(64,), seeds=SEEDS, dtype=torch.float64)


# --- σ*


@pytest.mark.parametrize("name", EXACT)
def test_the_noise_scale_is_the_same_on_every_process(name: str) -> None:
    found = [noise_scale(model, shape=model.shape, dtype=torch.float64) for model in map(EXACT[name], PROCESSES)]
    assert max(found) / min(found) < 1.1


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_it_is_the_same_for_every_prediction_type(prediction: str) -> None:
    process = VP()
    model = EXACT["ring"](process)

    def net(x: Tensor, t: Tensor) -> Tensor:
        a, b = model._conversion("sample", prediction, x, t)
        return a * x + b * model.denoised(x, t)

    own = ScoreModel(net, process, prediction)
    expected = noise_scale(model, shape=(2,), dtype=torch.float64)
    assert noise_scale(own, shape=(2,), dtype=torch.float64) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_it_has_the_unit_of_the_data(factor: float) -> None:
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = torch.stack([angles.cos(), angles.sin()], 1)
    found = [
        noise_scale(
            scoresde.exact.GaussianMixture(VE(1e-4, 1e4), torch.ones(8), s * means, torch.full((8,), (0.05 * s) ** 2)),
            shape=(2,),
            dtype=torch.float64,
        )
        for s in (1.0, factor)
    ]
    assert found[1] / found[0] == pytest.approx(factor, rel=0.15)  # as coarsely as levels are looked at


def test_the_error_of_a_network_at_high_noise_is_none_of_the_data_s_motion() -> None:
    process = EDM()
    model = EXACT["low rank"](process)
    wrong = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8

    def net(x: Tensor, t: Tensor) -> Tensor:
        level = t[:, None].to(x.dtype)
        return model.denoised(x, t) + 0.01 * level * torch.sin(3 * level.log() + x / level @ wrong)

    plain = noise_scale(model, shape=(64,), dtype=torch.float64)
    assert noise_scale(ScoreModel(net, process, "sample"), shape=(64,), dtype=torch.float64) < 1.3 * plain


def test_where_no_motion_can_be_told_from_the_network_s_error_all_of_it_counts() -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return (t[:, None].to(x.dtype) ** 2).expand_as(x)  # faster the higher the level, as an error's motion is

    found = noise_scale(ScoreModel(net, EDM(), "sample"), shape=(2,), dtype=torch.float64)
    assert found == pytest.approx(80 / math.sqrt(2), rel=0.15)  # where half of D is gone


def test_a_single_point_has_no_noise_scale() -> None:
    model = ScoreModel(lambda x, t: torch.zeros_like(x), VP(), "sample")
    with pytest.raises(ValueError, match="moves at no noise level"):
        noise_scale(model, shape=(2,))


# --- fits


def test_trajectories_start_where_samples_do_and_plans_take_them_there() -> None:
    process = VP()
    model = EXACT["ring"](process)
    own = Trajectories.of(model, range(7, 11), (2,), dtype=torch.float64, batch_size=3)
    numbers = for_all(process, 5, 1.0)
    expected = sample(model, solvers.get("auto", scale=1.0), nfe=5, shape=(4, 2), seeds=7, dtype=torch.float64).samples
    torch.testing.assert_close(own.follow(numbers), expected, rtol=1e-9, atol=1e-9)
    plan = planned("auto", scale=1.0).plan(process, solvers.grids.get("auto", scale=1.0)(process, 5), "sample")
    torch.testing.assert_close(own.planned(plan), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", [VP(), Flow()], ids=lambda process: process.name)
def test_a_run_from_a_step_on_is_the_run_from_the_start(process: Process) -> None:
    own, numbers = trajectories("ring", process, 3), for_all(process, 5, 1.0)
    prefix: list[Any] = []
    own.follow(numbers, prefix)
    for number in free(5, ("level", "offset", "history"), 2):
        other = moved(numbers, [number], [0.1])
        torch.testing.assert_close(own.follow(other, prefix, since=number.since), own.follow(other), rtol=0, atol=0)


def test_a_column_is_the_derivative_and_its_step_stays_above_rounding() -> None:
    own, numbers = trajectories("low rank", EDM(), 6), for_all(EDM(), 4, 2.0)
    coarse = replace(own, noise=own.noise.float(), ends=own.known_ends.float())
    found = []
    for each in (own, coarse):
        state = State.at([each], numbers, (1.0,))
        step = spacing(each, numbers, state.prefixes[0])
        which = free(4, ("level", "history"), 2)
        columns = jacobian(each, numbers, which, state.prefixes[0], step)
        found.append(normal_matrix(columns, state.samples(0) - each.known_ends, state.weights[0]))
        assert 1e-4 <= step <= 0.1
    which, small = free(4, ("level", "history"), 2), 1e-6
    ahead = [own.follow(moved(numbers, [number], [small])) for number in which]
    behind = [own.follow(moved(numbers, [number], [-small])) for number in which]
    moves = torch.stack([(a - b).flatten() / (2 * small) for a, b in zip(ahead, behind, strict=True)])
    weight = state.weights[0][0]  # the same for all at quantile 1
    expected = (moves @ moves.T * weight).numpy()
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(found[0][0] - expected) / scale).max() < 0.01
    assert (np.abs(found[1][0] - expected) / scale).max() < 0.05


def test_samples_may_be_fitted_to_vary_as_the_converged_ones_do() -> None:
    own = trajectories("low rank", EDM(), 48)
    start, which = for_all(EDM(), 3, 2.0), free(3, ("level", "history"), 2)

    vary = Variances(own.known_ends, 1.0)
    plain, held = (levenberg_marquardt([own], start, which, iterations=20, variances=w) for w in (0.0, 1000.0))
    off = [np.square(vary.rows(own.follow(each.numbers))).sum() for each in (plain, held)]
    assert off[1] < 0.5 * off[0]
    assert loss([own], held.numbers) > plain.loss


def test_slopes_of_variances_are_derivatives() -> None:
    own, numbers = trajectories("low rank", EDM(), 12), for_all(EDM(), 4, 2.0)
    vary, number, small = Variances(own.known_ends, 3.0), free(4, ("level",), 0)[0], 1e-5
    ahead, behind = (own.follow(moved(numbers, [number], [by])) for by in (small, -small))
    slopes = vary.slopes(own.follow(numbers), (ahead - behind) / (2 * small))
    np.testing.assert_allclose(slopes, (vary.rows(ahead) - vary.rows(behind)) / (2 * small), rtol=1e-5)
    np.testing.assert_allclose(vary.rows(own.known_ends), 0, atol=1e-12)


def test_a_fit_finds_the_plan_that_the_ends_were_made_by() -> None:
    process = EDM()
    own = trajectories("low rank", process, 16)
    true = for_all(process, 4, 2.0)
    own = replace(own, ends=own.follow(true))
    start = moved(true, free(4, ("level", "history"), 2), np.resize([0.1, -0.1, 0.05], 8))
    found = levenberg_marquardt([own], start, free(4, ("level", "history"), 2), iterations=40, ridge=0.0)
    assert found.loss < loss([own], start) - math.log(1000)


def test_some_far_samples_do_not_spoil_the_fit_of_the_others() -> None:
    process = EDM()
    own = trajectories("low rank", process, 40)
    true = for_all(process, 3, 2.0)
    ends = own.follow(true)
    ends[0] += 30.0  # in another basin
    own = replace(own, ends=ends)
    start = moved(true, [Number("level", 1), Number("level", 2)], [0.3, -0.2])
    found = levenberg_marquardt([own], start, free(3, ("level",), 2), iterations=30)
    assert np.allclose(np.log(found.numbers.levels[1:]), np.log(true.levels[1:]), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_levels_stay_in_order_in_a_fit(dtype: torch.dtype) -> None:
    own = trajectories("points", VP(), 12)
    rounded = own.model

    def net(x: Tensor, t: Tensor) -> Tensor:
        return rounded.denoised(x, t).to(dtype).to(x.dtype)

    own = replace(own, model=ScoreModel(net, VP(), "sample"))
    top = own.first * 0.999
    crowded = Numbers((own.first, top, 0.998 * top, 1.0, 0.999), ((), (0.0,), *[(0.0, 0.0)] * 3))
    found = levenberg_marquardt([own], crowded, free(5, ("level", "history"), 2), iterations=8).numbers
    assert (np.diff(np.log(found.levels)) < 0).all()


def test_no_level_is_put_in_below_the_least_that_the_network_knows() -> None:
    own = trajectories("points", VP(), 12)
    low = Numbers((own.first, 1.0, 0.9995 * own.last), ((), (0.0,), (0.0, 0.0)))
    found = inserted([own], low, 2).numbers
    assert len(found) == 4 and found.levels[-1] >= 0.99 * own.last


@every_process
def test_one_evaluation_more_is_no_worse_a_start(process: Process) -> None:
    own = trajectories("low rank", process, 12)
    before = for_all(process, 3, 2.0)
    assert inserted([own], before, 2).loss < loss([own], before)


# --- the teacher


def test_the_converged_solution_is_checked_by_halving_its_steps() -> None:
    own = Trajectories.of(EXACT["low rank"](VP()), range(8), (64,), dtype=torch.float64)
    plain = own.planned(fixed.candidates(own.model.process, 5, "sample")[0][1])
    found = teacher.converged(own, plain)
    finer = own.planned(teacher.plan(own, 4 * found.steps))
    assert float(found.trajectories.errors(finer).median()) < 0.02 * float(found.trajectories.errors(plain).median())


def test_a_model_without_a_converged_solution_is_refused() -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(1e6 * x)  # rougher than any number of steps

    own = Trajectories.of(ScoreModel(net, VP(), "sample"), range(4), (2,), dtype=torch.float64)
    with pytest.raises(NotConvergedError, match="the median sample still changes"):
        teacher.converged(own, own.follow(for_all(VP(), 4, 1.0)), most=128)


# --- the whole


def test_tuned_samples_are_nearer_to_the_converged_ones_than_those_of_any_fixed_solver(
    tuned: scoresde.TunedSolver,
) -> None:
    model, report = EXACT["low rank"](VP()), tuned.members[6].report
    assert tuned.members[6].numbers is not None
    assert report["taken"]["mean"] < 0.5 * report["fixed"]["mean"]
    fresh = trajectories("low rank", VP(), 32, seed=0)
    errors = fresh.errors(sample(model, tuned, nfe=6, shape=(32, 64), seeds=0, dtype=torch.float64).samples)
    rivals = [fresh.errors(fresh.planned(plan)).mean() for _, plan in fixed.candidates(VP(), 6, "sample")]
    assert float(errors.mean()) < float(min(rivals))


def test_where_nothing_is_gained_the_fixed_solver_stays(tuned: scoresde.TunedSolver) -> None:
    report = tuned.members[1].report
    assert tuned.members[1].numbers is None
    assert report["taken"] == report["fixed"] and report["variance"]["taken"] == report["variance"]["fixed"]


def test_a_sample_in_another_mode_is_lost_and_one_that_is_merely_off_its_end_is_not() -> None:
    random = torch.Generator().manual_seed(0)
    modes = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    where = torch.arange(30) % 3
    ends = modes[where] + 0.02 * torch.randn((30, 2), generator=random, dtype=torch.float64)
    samples = ends + 0.05 * torch.randn((30, 2), generator=random, dtype=torch.float64)
    samples[7], samples[20] = modes[0], math.nan
    assert procedure._lost(samples, ends) == [7, 20]
    assert procedure._lost(modes[where], modes[where]) == []  # without any spread within modes
    assert procedure._lost(ends.flip(0)[:, None, None], ends[:, None, None]) == [i for i in range(30) if i % 3 != 1]
    assert procedure._lost(torch.zeros(5, 3), torch.zeros(5, 3)) == []


def test_the_report_says_which_samples_were_lost(tuned: scoresde.TunedSolver) -> None:
    for member in tuned.members.values():
        lost, errors = member.report["lost"], member.report["samples"]
        for way in ("fixed", "taken"):
            kept = [error for index, error in enumerate(errors[way]) if index not in lost[way]]
            assert all(errors[way][index] > min(kept, default=0.0) for index in lost[way])
    assert tuned.members[1].report["lost"]["taken"] == tuned.members[1].report["lost"]["fixed"] != []
    assert tuned.members[6].report["lost"]["taken"] == []


def test_a_plan_is_taken_where_it_is_better_beyond_doubt() -> None:
    """By its mean; or by its logarithms, where a few samples make the mean uncertain, and its tail is no heavier."""
    fixed = torch.full((32,), 0.2) * torch.linspace(0.5, 1.5, 32)
    half, few = 0.5 * fixed, fixed.clone()
    few[:30] *= 0.1
    few[30:] = torch.tensor([0.5, 2.6])  # two samples at a border of basins
    assert procedure.accepted(fixed, half, beyond=lambda: 9)
    assert procedure.accepted(fixed, few, beyond=lambda: procedure.BEYOND)
    assert not procedure.accepted(fixed, few, beyond=lambda: procedure.BEYOND + 1)
    few[30:] *= 2  # now the mean is higher
    assert not procedure.accepted(fixed, few, beyond=lambda: 0)
    assert not procedure.accepted(fixed, fixed, beyond=lambda: 0)


def test_fit_choice_and_judgement_see_different_trajectories() -> None:
    own = trajectories("ring", VP(), 40)
    parts = procedure._split(own)
    assert [len(part) for part in parts] == [20, 10, 10]
    rows = {tuple(row) for part in parts for row in part.noise.tolist()}
    assert len(rows) == 40


def test_a_plan_that_pulls_samples_together_is_not_chosen_for_its_lower_error() -> None:
    own = trajectories("low rank", VP(), 60)
    ends, random = own.known_ends, torch.Generator().manual_seed(0)
    base = ends + 0.5 * torch.randn(ends.shape, generator=random, dtype=torch.float64)
    shrunk = ends.mean(0) + 0.6 * (ends - ends.mean(0))
    assert float(own.errors(shrunk).mean()) < float(own.errors(base).mean())
    spaces = spread.spaces(ends)
    assert not procedure.as_well(spaces, shrunk, base - 0.5 * (base - ends), ends)
    assert procedure.as_well(spaces, base, base, ends)


def test_images_and_vectors_have_features_that_tell_distributions_apart() -> None:
    for shape, names in (((64, 3, 12, 12), ["random", "texture"]), ((64, 20), ["random"]), ((64, 1, 7, 9), ["random"])):
        one, two = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        found = spread.spaces(one)
        assert list(found) == names
        for space in found.values():
            assert space.features(one).shape == (64, spread.SIZE)
            assert space.distance(one, one) < 1e-9 < space.distance(one, two) < space.distance(one, 2 * two)


def pictures(count: int, seed: int) -> Tensor:
    """White squares of several sizes on a black ground."""
    random, found = torch.Generator().manual_seed(seed), -torch.ones(count, 1, 16, 16)
    places = torch.randint(3, 8, (count, 3), generator=random).tolist()
    for picture, (size, top, left) in zip(found, places, strict=True):
        picture[0, top - 2 : top - 2 + size, left - 2 : left - 2 + size] = 1
    return found


def test_texture_sees_faint_noise_on_the_ground_which_an_error_hardly_sees() -> None:
    ends, random = pictures(64, 0), torch.Generator().manual_seed(1)
    noisy = ends + 0.03 * torch.randn(ends.shape, generator=random)
    others = ends.roll(1, 0)  # a hundred times the squared error, and the same texture
    assert float((others - ends).square().mean()) > 100 * float((noisy - ends).square().mean())
    found = spread.spaces(ends)["texture"]
    assert found.distance(others, ends) < 0.1 < 10 < found.distance(noisy, ends)
    farther, doubt = found.farther(noisy, others, ends)
    assert farther > 3 * doubt
    assert not procedure.as_well({"texture": found}, noisy, others, ends)
    assert procedure.as_well({"texture": found}, others, noisy, ends)
    scaled = spread.spaces(5 * ends)["texture"]  # units of the state do not matter
    assert math.isclose(scaled.distance(5 * noisy, 5 * ends), found.distance(noisy, ends), rel_tol=1e-6)


def test_texture_is_finite_where_all_converged_samples_are_alike() -> None:
    for ends in (torch.zeros(8, 1, 16, 16), pictures(1, 0).expand(8, -1, -1, -1)):
        noisy = ends + 0.03 * torch.randn(ends.shape, generator=torch.Generator().manual_seed(1))
        found = spread.spaces(ends)["texture"]
        assert 0 == found.distance(ends, ends) < found.distance(noisy, ends) < math.inf
        assert not procedure.as_well({"texture": found}, noisy, ends, ends)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, procedure.Candidate]:
    """What a tuning chooses from."""
    chosen, found = procedure._Tuning._chosen, dict[str, procedure.Candidate]()

    def seen(self: procedure._Tuning, count: int, plain: procedure.Candidate, others: list[procedure.Candidate]):
        found.update({each.name: each for each in others})
        return chosen(self, count, plain, others)

    monkeypatch.setattr(procedure._Tuning, "_chosen", seen)
    return found


def test_pictures_have_plans_that_end_plainly(offered: dict[str, procedure.Candidate]) -> None:
    model = scoresde.exact.DataPoints(VP(), pictures(60, 3), bandwidth=0.1)
    found = tune(model, nfe=4, shape=(1, 16, 16), seeds=range(48), target="distribution").members[4]
    numbers = {name: each.numbers for name, each in offered.items()}
    names = ("the plan for all models", "the plan for all models with a plain end", "fitted", "fitted with a plain end")
    general, bare, whole, plain = (numbers[name] for name in names)
    held = numbers["fitted but for a plain end"]
    assert general is not None and bare == replace(general, history=(*general.history[:-1], ()))
    assert whole is not None and plain is not None and held is not None
    assert any(whole.history[-1]) and not any(plain.history[-1]) and not any(held.history[-1])
    assert plain.levels[-1] != whole.levels[-1] and held.levels[-1] == general.levels[-1]
    assert held.levels[1:-1] != general.levels[1:-1]
    assert f"{found.fixed}, told of less noise at first" in numbers
    assert found.report["texture"]["taken"] < found.report["texture"]["fixed"]


@pytest.mark.parametrize("well", [True, False])
def test_other_ends_are_fitted_where_the_fitted_plan_may_not_be_chosen(
    offered: dict[str, procedure.Candidate], monkeypatch: pytest.MonkeyPatch, well: bool
) -> None:
    model = scoresde.exact.DataPoints(VP(), pictures(60, 3), bandwidth=0.1)
    monkeypatch.setattr(procedure, "as_well", lambda *_: well)
    tune(model, nfe=2, shape=(1, 16, 16), seeds=range(16))
    assert ("fitted with a plain end" in offered) is not well
    assert "fitted" in offered


def test_a_stopped_tuning_goes_on_and_ends_as_if_it_had_not_been(tuned: scoresde.TunedSolver, tmp_path: Path) -> None:
    model = EXACT["low rank"](VP())
    options: dict[str, Any] = {"nfe": [1, 6], "shape": (64,), "seeds": SEEDS, "dtype": torch.float64}

    def stop(line: str) -> None:
        if line.startswith("1 evaluation"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(model, **options, folder=tmp_path, progress=stop)
    said: list[str] = []
    again = tune(model, **options, folder=tmp_path, progress=said.append)
    assert again.members == tuned.members and not [line for line in said if line.startswith("converged")]
    with pytest.raises(ValueError, match="holds another tuning"):
        tune(model, **{**options, "seeds": range(16)}, folder=tmp_path)


@pytest.mark.parametrize("effort", ["quick", "thorough"])
@pytest.mark.parametrize("target", ["error", "distribution"])
def test_every_effort_and_target_gives_a_solver(effort: str, target: str) -> None:
    found = tune(EXACT["ring"](Flow()), nfe=2, shape=(2,), seeds=range(16), effort=effort, target=target)
    assert sample(EXACT["ring"](Flow()), found, nfe=2, shape=(3, 2), seeds=0).nfe == 2


def test_conditions_are_given_row_by_row() -> None:
    def net(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return 10.0 * label[:, None] + torch.tanh(x)

    label = torch.arange(20) % 3
    found = tune(
        ScoreModel(net, EDM(), "sample"), nfe=3, shape=(2,), seeds=range(20), cond={"label": label}, batch_size=7
    )
    assert found.members[3].report["fixed"]["mean"] < 1  # with another's label it would be 10 or 20


BETAS = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


@pytest.mark.parametrize("told", [torch.round, torch.trunc], ids=["rounded", "cut"])
def test_where_a_network_is_asked_at_whole_times_these_are_what_is_fitted_and_run(told: Any, tmp_path: Path) -> None:
    process, asked = VPDiscrete(), list[float]()
    exact = EXACT["points"](process)

    def net(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t[0]))
        return exact.denoised(x, t.double())

    model = ScoreModel(net, process, "sample", time_input=lambda t: told(t).long())
    found = tune(model, nfe=4, shape=exact.shape, seeds=SEEDS, dtype=torch.float64, target="error")
    numbers, report = found.members[4].numbers, found.members[4].report
    assert numbers is not None and report["taken"]["mean"] < 0.8 * report["fixed"]["mean"]
    asked.clear()
    samples = sample(model, found, nfe=4, shape=(32, *exact.shape), seeds=0, dtype=torch.float64).samples
    # The state has the noise of the time that the network is told; the first, noise alone, may be told less.
    levels = (numbers.told or numbers.levels[0], *numbers.levels[1:])
    expected = [process.time(-math.log(level)) for level in levels]
    whole = [round(time) for time in expected]
    assert asked == whole and np.allclose(whole, expected, rtol=0, atol=2e-3)
    starts = Trajectories.of(model, range(32), exact.shape, dtype=torch.float64)
    torch.testing.assert_close(samples, starts.follow(numbers), rtol=1e-9, atol=1e-9)
    found.save(tmp_path / "tuned.json")
    scheduler = Scheduler.from_config({**BETAS, "prediction_type": "sample"}, tuned=tmp_path / "tuned.json")
    scheduler.set_timesteps(4)
    fed = scheduler.timesteps.tolist()
    assert [round(t) for t in fed] == [int(t) for t in fed] == whole


@pytest.mark.parametrize("offset", [0.0, 0.2, -0.2])
def test_between_whole_times_d_is_linear_and_at_them_it_is_the_network_s(offset: float) -> None:
    process = VPDiscrete()
    exact = EXACT["ring"](process)
    rounded = ScoreModel(lambda x, t: exact.denoised(x, t.double()), process, "sample", time_input=torch.round)
    own = Trajectories.of(rounded, range(8), (2,), dtype=torch.float64)
    between = replace(own, between=True)
    for t in (400.0, 400.25, 400.5, 700.75):
        level = math.exp(-process.half_log_snr(t) - offset)  # of the state; the network is told t
        found = between.denoised(own.noise, level, offset)
        scale = process.alpha(t) * level
        torch.testing.assert_close(found, exact.denoised(scale * own.noise, t), rtol=0, atol=2e-5)
        if t == 400.0:
            torch.testing.assert_close(found, own.denoised(own.noise, level, offset), rtol=1e-12, atol=1e-12)


def test_times_are_whole_by_what_the_network_answers() -> None:
    def whole(process: Process, time_input: Any, net: Any = None) -> bool:
        exact = EXACT["ring"](process)
        model = ScoreModel(
            net or (lambda x, t: exact.denoised(x, t.double())), process, "sample", time_input=time_input
        )
        return Trajectories.of(model, range(2), (2,), dtype=torch.float64).asks_whole_times()

    for told in (torch.round, torch.floor, torch.ceil):
        assert whole(VPDiscrete(), told) and not whole(VP(), told)
    assert not whole(VPDiscrete(), None) and not whole(VPDiscrete(), None, lambda x, t: torch.tanh(x))


@pytest.mark.parametrize("count", [2, 5, 9])
def test_levels_at_whole_times_stay_apart(count: int) -> None:
    process = VPDiscrete(np.linspace(0.05, 0.5, 8))
    first = math.exp(-process.half_log_snr(process.t_max))
    crowded = Numbers(tuple(first * 0.999**step for step in range(count)), ((), *[(0.0,)] * (count - 1)))
    for numbers in (crowded, replace(crowded, offsets=(0.0, *[0.5] * (count - 1)))):
        found = on_whole_times(numbers, process)
        times = [process.time(-math.log(level)) for level in found.levels]
        if count == 9:  # more than there are
            assert found is numbers
            continue
        assert (
            times == pytest.approx([round(time) for time in times], abs=2e-3) and len(set(map(round, times))) == count
        )
        told = [process.time(-math.log(level) - found.offset(step)) for step, level in enumerate(found.levels)]
        assert told == pytest.approx([round(time) for time in told], abs=2e-3)


ANGLES = torch.arange(7, dtype=torch.float64) * (2 * math.pi / 7)
MIXTURE = {
    "weights": torch.ones(7),
    "means": 1.5 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1),
    "variances": torch.linspace(0.02, 0.1, 7)[[0, 4, 2, 6, 1, 5, 3]],
    "labels": list(range(7)),
}
NONE = {"label": -1}  # the label that stands for the whole mixture


@pytest.mark.parametrize("process", [EDM(), Flow()], ids=lambda process: process.name)
def test_tuned_on_some_labels_and_scales_it_is_better_on_fresh_ones(process: Process) -> None:
    model = scoresde.exact.GaussianMixture(process, **MIXTURE)
    over = scoresde.guidance.ClassifierFree(model, NONE, scale=(1.0, 3.0))
    label = torch.arange(64) % 6
    found = tune(over, nfe=4, shape=(2,), seeds=SEEDS[:64], cond={"label": label}, dtype=torch.float64, target="error")
    numbers = found.members[4].numbers
    assert numbers is not None and found.about["guidance"] == "classifier_free(scale=1 to 3)"
    errors: dict[str, list[float]] = {}
    for scale in (1.0, 1.7, 3.0):
        own = scoresde.guidance.ClassifierFree(model, NONE, scale=scale)
        cond = {"label": torch.full((48,), 6)}  # which was not fitted
        starts = Trajectories.of(own, range(48), (2,), cond=cond, dtype=torch.float64)
        fresh = replace(starts, ends=starts.planned(teacher.plan(starts, 128)))
        samples = sample(own, found, nfe=4, shape=(48, 2), cond=cond, seeds=0, dtype=torch.float64).samples
        torch.testing.assert_close(samples, fresh.follow(numbers), rtol=1e-6, atol=1e-6)
        errors.setdefault("tuned", []).append(float(fresh.errors(samples).mean()))
        for name, grid in (("auto", "auto"), ("uni_pc", "quadratic"), ("dpmpp_2m", "log_snr")):
            plan = fixed.Fixed(name, {}, grid).plan(process, 4, own.prediction)
            errors.setdefault(name, []).append(float(fresh.errors(fresh.planned(plan)).mean()))
    means = {name: np.log(found).mean() for name, found in errors.items()}
    assert means.pop("tuned") < min(means.values()), errors
    with pytest.raises(ValueError, match=r"tuned for the guidance 'classifier_free\(scale=1 to 3\)'"):
        found.check_model(scoresde.guidance.ClassifierFree(model, NONE, scale=3.5))


def test_scales_of_a_range_are_spread_over_every_part_and_label() -> None:
    model = scoresde.exact.GaussianMixture(VP(), **MIXTURE)
    over = scoresde.guidance.ClassifierFree(model, NONE, scale=(1.0, 4.0))
    starts = started(over, range(60), (2,), {"label": torch.arange(60) % 3}, None, torch.float64, None)
    scales = starts.cond["guidance_scale"]
    assert torch.equal(scales.sort().values, torch.linspace(1, 4, 60))
    whole = replace(starts, ends=starts.noise)
    few = [scales[starts.cond["label"] == label] for label in range(3)]
    for part in (*(part.cond["guidance_scale"] for part in procedure._split(whole)), *few):
        assert float(part.min()) < 1.5 and float(part.max()) > 3.5 and abs(float(part.mean()) - 2.5) < 0.4
    given = started(
        over, range(2), (2,), {"label": torch.zeros(2), "guidance_scale": torch.ones(2)}, None, torch.float32, None
    )
    assert torch.equal(given.cond["guidance_scale"], torch.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nfe": 0}, "nfe must be one or more numbers of evaluations of at least 1"),
        ({"nfe": []}, "nfe must be one or more"),
        ({"seeds": range(15)}, "16 different seeds or more, got 15"),
        ({"seeds": [1] * 20}, "16 different seeds or more, got 1"),
        ({"effort": "quik"}, "unknown effort 'quik'"),
        ({"target": "fid"}, "unknown target 'fid'"),
        ({"cond": {"label": torch.zeros(3)}}, "must have the batch of 16 first"),
    ],
    ids=range(7),
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_evaluated(change: dict[str, Any], message: str) -> None:
    def net(x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        raise AssertionError

    options: dict[str, Any] = {"nfe": 3, "shape": (2,), "seeds": range(16), **change}
    with pytest.raises(ValueError, match=message):
        tune(ScoreModel(net, VP(), "sample"), **options)

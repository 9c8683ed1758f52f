from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from scoresde.exact import Gaussian
from scoresde.noise import Noise, begun_at, normal
from solvers import PlannedSolver

PROCESSES = {"vp": scoresde.VP(), "edm": scoresde.EDM(), "flow": scoresde.Flow()}
ADAPTIVE = [name for name in solvers.names() if solvers.get(name).adaptive]
GUIDED = ["ddim_cfg_pp", "dpmpp_2m_cfg_pp"]  # for guided models alone: test_guidance
ON_A_GRID = [name for name in solvers.names() if name not in (*ADAPTIVE, *GUIDED)]
CHURN, RK4 = solvers.get("heun", s_churn=8.0), solvers.get("pf_ode", method="rk4")


def gaussian(process: scoresde.Process, prediction: str = "sample") -> Gaussian:
    factor = torch.tensor([[0.9, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.2, 0.1, 0.3]], dtype=torch.float64)
    return Gaussian(process, [0.5, -1.0, 0.2], factor @ factor.T, prediction=prediction)


class Watched:
    """A model around another one that keeps the times it was called at and the batches it was given."""

    def __init__(self, model: scoresde.ScoreModel):
        self.calls: list[tuple[float, int]] = []
        self.model = scoresde.ScoreModel(self, model.process, model.prediction)
        self.inner = model.net

    def __call__(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        self.calls.append((float(t[0]), len(x)))
        return self.inner(x, t, **cond)


VP = gaussian(PROCESSES["vp"])


# evaluations and steps


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", [*ON_A_GRID, CHURN, RK4, *ADAPTIVE], ids=str)
def test_nfe_is_the_number_of_calls_that_the_network_saw(solver: Any, process: str) -> None:
    watched = Watched(gaussian(PROCESSES[process]))
    steps = None if solver in ADAPTIVE else 6
    result = scoresde.sample(watched.model, solver, steps=steps, shape=(2, 3), seeds=0)
    assert result.nfe == len(watched.calls) >= 6
    assert sum(result.evaluations) == sum(size for _, size in watched.calls)


def test_nfe_counts_what_each_sample_took_and_not_the_batches() -> None:
    watched = Watched(VP)
    result = scoresde.sample(watched.model, "heun", steps=4, shape=(5, 3), seeds=0, batch_size=2)
    assert result.nfe == 7
    assert [size for _, size in watched.calls] == [2] * 3 * 7
    assert result.batch_size == 2 and result.samples.shape == (5, 3)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", [*ON_A_GRID, CHURN, RK4], ids=str)
def test_a_budget_of_evaluations_buys_the_largest_number_of_steps_that_fits(solver: Any, process: str) -> None:
    model = gaussian(PROCESSES[process])
    for budget in (5, 10, 12):
        result = scoresde.sample(model, solver, nfe=budget, shape=(1, 3), seeds=0)
        steps = len(result.times) - 1
        assert result.nfe <= budget
        assert scoresde.sample(model, solver, steps=steps, shape=(1, 3), seeds=0).times == result.times
        assert scoresde.sample(model, solver, steps=steps + 1, shape=(1, 3), seeds=0).nfe > budget


def test_one_step_is_one_denoise() -> None:
    result = scoresde.sample(VP, "ddim", nfe=1, shape=(4, 3), seeds=3, dtype=torch.float64)
    start = VP.process.sigma(1.0) * normal(torch.arange(3, 7), 0, 3)
    assert result.times == (1.0, 0.0)
    torch.testing.assert_close(result.samples, VP.denoised(start, 1.0), rtol=0, atol=1e-14)


# seeds


def test_a_first_seed_stands_for_consecutive_seeds() -> None:
    first = scoresde.sample(VP, "ddpm", steps=4, shape=(3, 3), seeds=5)
    listed = scoresde.sample(VP, "ddpm", steps=4, shape=(3, 3), seeds=[5, 6, 7])
    assert first.seeds == listed.seeds == [5, 6, 7]
    assert torch.equal(first.samples, listed.samples)


def test_a_repeated_seed_is_the_same_noise_under_ten_labels() -> None:
    means = torch.eye(10, 4) * 3
    mixture = scoresde.exact.GaussianMixture(
        scoresde.VP(), torch.ones(10), means, torch.full((10,), 0.1), labels=range(10)
    )
    keep: dict[str, Any] = {"solver": "ddpm", "steps": 8, "shape": (10, 4), "trajectory": True}
    labels = scoresde.sample(mixture, seeds=[42] * 10, cond={"label": torch.arange(10)}, **keep)
    assert labels.trajectory is not None
    assert torch.equal(labels.trajectory[0], labels.trajectory[0, :1].expand(10, 4))
    assert labels.samples[:, :4].argmax(1)[:4].tolist() == [0, 1, 2, 3]
    # Every later draw is shared too: one label under one seed gives one sample.
    equal = scoresde.sample(mixture, seeds=[42] * 10, cond={"label": torch.full((10,), 3)}, **keep)
    assert torch.equal(equal.samples, equal.samples[:1].expand(10, 4))
    torch.testing.assert_close(equal.samples[0], labels.samples[3], rtol=0, atol=1e-5)


def test_seeds_of_none_are_fresh_and_their_record_repeats_the_run() -> None:
    fresh = scoresde.sample(VP, "ddpm", steps=4, shape=(3, 3))
    other = scoresde.sample(VP, "ddpm", steps=4, shape=(3, 3))
    again = scoresde.sample(VP, "ddpm", steps=4, shape=(3, 3), seeds=fresh.seeds)
    assert len(set(fresh.seeds + other.seeds)) == 6
    assert torch.equal(again.samples, fresh.samples)


def test_draw_0_is_the_initial_state_and_reserved_for_it() -> None:
    """The same state, given or drawn, meets the same noise afterwards."""
    drawn = scoresde.sample(VP, "ddpm", steps=5, shape=(4, 3), seeds=9, dtype=torch.float64)
    start = VP.process.sigma(drawn.times[0]) * Noise(range(9, 13), (3,), torch.float64)()
    given = scoresde.sample(VP, "ddpm", steps=5, x_init=start, seeds=9)
    assert torch.equal(given.samples, drawn.samples)


def test_the_initial_state_is_left_as_it_was() -> None:
    start = torch.ones(2, 3)
    scoresde.sample(VP, "heun", steps=3, x_init=start, seeds=0)
    assert torch.equal(start, torch.ones(2, 3))


# grids, plans and own solvers


def test_a_grid_is_a_name_a_grid_or_times_of_any_kind() -> None:
    def run(grid: Any, steps: int | None = None) -> Tensor:
        result = scoresde.sample(VP, "dpmpp_2m", steps=steps, grid=grid, shape=(3, 3), seeds=0)
        assert result.times == tuple(times)
        return result.samples

    rule = solvers.grids.get("karras")
    times = rule(VP.process, 6)
    named = run("karras", 6)
    for grid, steps in ((rule, 6), (times, None), (times.tolist(), None), (torch.tensor(times), None)):
        assert torch.equal(run(grid, steps), named)


def test_no_grid_is_the_recommended_one() -> None:
    for name in ON_A_GRID:
        solver = solvers.get(name)
        result = scoresde.sample(VP, solver, steps=4, shape=(1, 3), seeds=0)
        assert result.times == tuple(solver.recommended(VP.process, 4))


def test_a_grid_may_end_before_zero_noise() -> None:
    """Without the last denoise, DDIM on many steps follows the exact solution down to the last time."""
    times = solvers.grids.get("log_snr")(VP.process, 2001)[:-1]
    result = scoresde.sample(VP, "ddim", grid=times, shape=(4, 3), seeds=0, dtype=torch.float64)
    start = VP.process.sigma(times[0]) * normal(torch.arange(4), 0, 3)
    assert (result.samples - VP.solution(start, times[0], times[-1])).abs().max() < 5e-3


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "ddpm"])
def test_a_plan_runs_like_its_solver_also_from_a_file(name: str, tmp_path: Path) -> None:
    expected = scoresde.sample(VP, name, steps=5, shape=(3, 3), seeds=0)
    solver = solvers.get(name)
    assert isinstance(solver, solvers.PlannedSolver)
    plan = solver.plan(VP.process, expected.times, VP.prediction)
    plan.save(tmp_path / "plan.json")
    for each in (plan, solvers.Plan.load(tmp_path / "plan.json")):
        result = scoresde.sample(VP, each, shape=(3, 3), seeds=0)
        assert torch.equal(result.samples, expected.samples)
        assert (result.nfe, result.times) == (expected.nfe, expected.times)


def test_a_solver_of_ones_own_is_used_by_name(passing_solvers: None) -> None:
    @solvers.solver("midpoint_in_lambda", order=2, reference="this test", grid="log_snr")
    def midpoint(steps, x, predict, at=0.5):  # type: ignore[no-untyped-def]
        for t, s in steps:
            m = steps.at(t.lam + at * (s.lam - t.lam))
            start = predict(x, t)
            middle = predict(m.alpha * start.x0 + m.sigma * start.epsilon, m)
            x = yield (s.alpha / t.alpha) * x - s.sigma * np.expm1(s.lam - t.lam) * middle.epsilon

    def error(steps: int) -> float:
        times = solvers.grids.get("log_snr")(VP.process, steps)[:-1]
        result = scoresde.sample(VP, "midpoint_in_lambda", grid=times, shape=(8, 3), seeds=0, dtype=torch.float64)
        assert result.nfe == 2 * (steps - 1)
        start = VP.process.sigma(times[0]) * normal(torch.arange(8), 0, 3)
        return float((result.samples - VP.solution(start, times[0], times[-1])).abs().max())

    assert "midpoint_in_lambda" in solvers.names()
    assert error(41) / error(81) == pytest.approx(4, rel=0.3)
    custom = scoresde.sample(VP, solvers.get("midpoint_in_lambda", at=0.4), nfe=10, shape=(1, 3), seeds=0)
    assert custom.times == tuple(solvers.grids.get("log_snr", end="by_steps")(VP.process, 5))


# the probability-flow ODE


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("method", ["dopri5", "bosh3", "RK45", "DOP853", "LSODA"])
def test_adaptive_methods_agree_with_the_exact_solution(method: str, process: str) -> None:
    model = gaussian(PROCESSES[process])
    ends = model.process.t_max, model.process.t_min
    start = model.process.sigma(ends[0]) * normal(torch.arange(3), 0, 3)
    exact = model.solution(start, *ends)
    solver = solvers.get("pf_ode", method=method, rtol=1e-6, atol=1e-6)
    between = scoresde.sample(model, solver, grid=ends, x_init=start, seeds=0)
    torch.testing.assert_close(between.samples, exact, rtol=0, atol=1e-4)
    clean = scoresde.sample(model, solver, shape=(3, 3), seeds=0, dtype=torch.float64)
    torch.testing.assert_close(clean.samples, model.denoised(exact, ends[1]), rtol=0, atol=1e-4)
    assert clean.nfe == between.nfe + 1
    assert clean.times == (ends[0], model.process.t_clean)


@pytest.mark.parametrize("process", PROCESSES)
def test_rk4_on_a_grid_converges_to_the_exact_solution(process: str) -> None:
    model = gaussian(PROCESSES[process])

    def error(steps: int) -> float:
        times = solvers.grids.get("quadratic")(model.process, steps)
        result = scoresde.sample(model, RK4, steps=steps, grid="quadratic", shape=(8, 3), seeds=0, dtype=torch.float64)
        assert result.nfe == 4 * (steps - 1) + 1
        start = model.process.sigma(times[0]) * normal(torch.arange(8), 0, 3)
        exact = model.denoised(model.solution(start, times[0], times[-2]), times[-2])
        return float((result.samples - exact).abs().max())

    assert error(12) < 0.05
    assert error(48) < 1e-4


# what a caller sees on the way


@pytest.mark.parametrize("solver", ["dpmpp_2m", "ddpm", "dpm_solver_3", RK4], ids=str)
def test_the_trajectory_holds_the_state_at_every_time(solver: Any) -> None:
    ask: dict[str, Any] = {"shape": (5, 3), "seeds": 0, "trajectory": True}
    whole = scoresde.sample(VP, solver, steps=6, batch_size=2, **ask)
    states = whole.trajectory
    assert states is not None and states.shape == (7, 5, 3)
    assert whole.trajectory_times == whole.times
    assert torch.equal(states[0], VP.process.sigma(1.0) * Noise(range(5), (3,), torch.float32)())
    assert torch.equal(states[-1], whole.samples)
    for count in (1, 3):
        part = scoresde.sample(VP, solver, grid=whole.times[: count + 1], batch_size=2, **ask)
        assert part.trajectory is not None
        torch.testing.assert_close(part.trajectory, states[: count + 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_an_adaptive_trajectory_has_its_two_ends(name: str) -> None:
    result = scoresde.sample(VP, name, shape=(2, 3), seeds=0, trajectory=True)
    assert result.trajectory_times == (1.0, 0.0)
    assert result.trajectory is not None
    assert torch.equal(result.trajectory[1], result.samples)


@pytest.mark.parametrize("name", ON_A_GRID)
def test_a_callback_sees_each_state_which_is_never_written_to_again(name: str) -> None:
    seen: list[tuple[Tensor, Tensor, float]] = []

    def look(x: Tensor, t: float) -> None:
        seen.append((x, x.clone(), t))

    result = scoresde.sample(VP, name, steps=5, shape=(2, 3), seeds=0, callback=look, trajectory=True)
    assert tuple(t for _, _, t in seen) == result.times[1:]
    assert result.trajectory is not None
    for (kept, copied, _), state in zip(seen, result.trajectory[1:], strict=True):
        assert torch.equal(kept, copied)
        assert torch.equal(kept, state)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("name", ON_A_GRID)
def test_what_the_network_was_given_and_returned_is_never_written_to(name: str, prediction: str) -> None:
    exact = gaussian(PROCESSES["vp"], prediction)
    seen: list[tuple[Tensor, Tensor]] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        out = exact.net(x, t)
        seen.extend((tensor, tensor.clone()) for tensor in (x, out))
        return out

    scoresde.sample(scoresde.ScoreModel(net, exact.process, prediction), name, steps=5, shape=(2, 3), seeds=0)
    assert len(seen) >= 10
    assert all(torch.equal(kept, copied) for kept, copied in seen)


@pytest.mark.parametrize("solver", ["ddim", "heun", "dpm_solver_2", RK4], ids=str)
def test_the_run_goes_on_from_the_state_that_a_callback_returns(solver: Any) -> None:
    times = tuple(solvers.grids.get("quadratic")(VP.process, 6))
    put = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]])
    edited = scoresde.sample(
        VP, solver, grid=times, shape=(2, 3), seeds=0, callback=lambda x, t: put if t == times[3] else None
    )
    direct = scoresde.sample(VP, solver, grid=times[3:], x_init=put, seeds=0)
    torch.testing.assert_close(edited.samples, direct.samples, rtol=0, atol=1e-6)


def test_a_callback_has_the_last_word() -> None:
    result = scoresde.sample(
        VP, "dpmpp_2m", steps=4, shape=(2, 3), seeds=0, callback=lambda x, t: x.clamp(-0.125, 0.125)
    )
    assert float(result.samples.abs().max()) <= 0.125


def test_samples_are_decoded_batch_by_batch() -> None:
    sizes = []

    def decode(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return torch.cat([x, -x], dim=1)

    plain = scoresde.sample(VP, "ddim", steps=4, shape=(5, 3), seeds=0, batch_size=2)
    decoded = scoresde.sample(VP, "ddim", steps=4, shape=(5, 3), seeds=0, batch_size=2, decode=decode)
    assert torch.equal(decoded.samples, torch.cat([plain.samples, -plain.samples], dim=1))
    assert sizes == [2, 2, 2]


def test_progress_is_silent_unless_asked_for_and_never_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    ask: dict[str, Any] = {"solver": "heun", "steps": 4, "shape": (3, 3), "seeds": 0, "batch_size": 2}
    scoresde.sample(VP, **ask)
    assert capfd.readouterr() == ("", "")
    scoresde.sample(VP, progress=True, **ask)
    out, err = capfd.readouterr()
    assert out == ""
    assert "14/14" in err  # two batches of 7 evaluations


@pytest.mark.parametrize("solver", ["heun", "rk_adaptive"])
def test_progress_may_be_a_function_that_is_told_of_every_sample(
    solver: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[float] = []
    steps = None if solver == "rk_adaptive" else 4
    scoresde.sample(VP, solver, steps=steps, shape=(7, 3), seeds=0, batch_size=2, progress=told.append)
    assert sum(told) == pytest.approx(7)
    assert sum(worth > 0 for worth in told) == (4 if steps is None else 4 * 7)  # four batches, of 7 evaluations each
    assert capfd.readouterr() == ("", "")


# conditions, dtypes


@pytest.mark.parametrize("batch_size", [None, 2, 4, 8])
def test_each_sample_gets_its_own_part_of_nested_conditions(batch_size: int | None) -> None:
    """The model knows x0 from its conditions, so DDIM's last denoise must return them."""

    def net(x: Tensor, t: Tensor, a: Tensor, more: dict[str, Any], scale: float) -> Tensor:
        assert len(x) == len(a) == len(more["b"][0]) == (batch_size or 5)
        return scale * (a + more["b"][0] * more["c"][1])

    a, b, c = torch.arange(5.0)[:, None].expand(5, 3), torch.arange(5.0)[:, None] * 10, torch.rand(5, 1)
    result = scoresde.sample(
        scoresde.ScoreModel(net, scoresde.VP(), "sample"),
        "ddim",
        steps=3,
        shape=(5, 3),
        seeds=0,
        batch_size=batch_size,
        cond={"a": a, "more": {"b": [b], "c": ("text", c)}, "scale": 2.0},
    )
    torch.testing.assert_close(result.samples, 2 * (a + b * c))


@pytest.mark.parametrize(
    ("asked", "start", "expected"),
    [
        (None, None, torch.float32),
        (torch.float64, None, torch.float64),
        (None, torch.float64, torch.float64),
        (None, torch.bfloat16, torch.float32),
        (torch.float32, torch.float64, torch.float32),
    ],
)
def test_the_state_is_kept_in_the_dtype_asked_for(
    asked: torch.dtype | None, start: torch.dtype | None, expected: torch.dtype
) -> None:
    origin: dict[str, Any] = {"shape": (2, 3)} if start is None else {"x_init": torch.ones(2, 3, dtype=start)}
    seen = []
    result = scoresde.sample(
        VP, "heun", steps=3, seeds=0, dtype=asked, callback=lambda x, t: seen.append(x.dtype), **origin
    )
    assert result.samples.dtype == expected
    assert set(seen) == {expected}


def test_a_bfloat16_network_gets_its_own_dtype_and_float32_times_under_a_float32_state() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16))
            self.seen: set[tuple[torch.dtype, torch.dtype]] = set()

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.seen.add((x.dtype, t.dtype))
            return self.scale * x

    net = Net()
    result = scoresde.sample(
        scoresde.ScoreModel(net, scoresde.VP()), "ddim", steps=3, shape=(2, 3), seeds=0, device="cpu"
    )
    assert net.seen == {(torch.bfloat16, torch.float32)}
    assert result.samples.dtype == torch.float32
    assert result.samples.device.type == "cpu"
    assert not torch.equal(result.samples, result.samples.bfloat16().float())


def test_gradients_are_not_recorded() -> None:
    net = torch.nn.Linear(3, 3)
    model = scoresde.ScoreModel(lambda x, t: net(x), scoresde.VP())
    assert not scoresde.sample(model, "ddim", steps=2, shape=(2, 3), seeds=0).samples.requires_grad


def test_predictions_of_all_types_give_the_same_samples() -> None:
    found = [
        scoresde.sample(
            gaussian(PROCESSES["vp"], kind), "dpm_solver_2", nfe=8, shape=(2, 3), seeds=0, dtype=torch.float64
        )
        for kind in ("epsilon", "sample", "v_prediction", "score", "flow")
    ]
    for first, second in itertools.pairwise(found):
        torch.testing.assert_close(first.samples, second.samples, rtol=0, atol=1e-10)


@pytest.mark.parametrize("device", [3, object(), "gpu", "cuda:99", "meta"])
def test_a_device_that_cannot_hold_numbers_here_is_refused(device: Any) -> None:
    for model in (
        scoresde.ScoreModel(lambda x, t: x, scoresde.VP()),
        scoresde.ScoreModel(torch.nn.Linear(3, 3), scoresde.VP()),
    ):
        with pytest.raises(ValueError, match="^device = |^the state would be on device"):
            scoresde.sample(model, "ddim", steps=3, shape=(2, 3), seeds=0, device=device)


def test_a_sampler_is_resolved_once_and_gives_what_sample_gives() -> None:
    model = scoresde.exact.Gaussian(scoresde.VP(), torch.zeros(3), torch.eye(3))
    asked: list[tuple[Any, dict[str, Any]]] = [
        ("dpmpp_2m", {"nfe": 6}),
        (solvers.get("heun"), {"steps": 3, "grid": "karras"}),
        ("ddim", {"grid": [1.0, 0.5, 0.0]}),
        ("rk_adaptive", {}),
    ]
    for solver, how in asked:
        sampler = scoresde.Sampler(model, solver, **how)
        with mock.patch.object(PlannedSolver, "plan", side_effect=AssertionError("planned again")):
            found = [sampler.sample(shape=(4, 3), seeds=first) for first in (0, 4)]
        for first, result in zip((0, 4), found, strict=True):
            expected = scoresde.sample(model, solver, shape=(4, 3), seeds=first, **how)
            assert torch.equal(result.samples, expected.samples)
            assert result.times == sampler.times == expected.times
        if sampler.plan is None:
            assert sampler.nfe is None and repr(sampler).endswith("steps of its own)")
        else:
            assert sampler.nfe == found[0].nfe == sampler.plan.nfe
            again = scoresde.Sampler(model, sampler.plan)
            assert torch.equal(again.sample(shape=(4, 3), seeds=0).samples, found[0].samples)
            assert repr(again).startswith(f"Sampler({sampler.plan.solver}, ")
    with pytest.raises(ValueError, match="give exactly one of steps and nfe"):
        scoresde.Sampler(model)
    with pytest.raises(TypeError, match="model must be a scoresde.ScoreModel or a Checkpoint, got int"):
        scoresde.Sampler(3, nfe=5)  # type: ignore[arg-type]


# A work in parts


@pytest.mark.parametrize("solver", ["euler_maruyama", "ddpm", "dpmpp_2m_sde", "er_sde", "adaptive_sde"])
def test_parts_of_one_work_with_one_seed_are_as_if_with_three(solver: str) -> None:
    """Data N(0, 1): the standard deviation is that of one part, above which repeated draws would raise it."""
    process = scoresde.VP()
    model = scoresde.ScoreModel(lambda x, t: x * process.sigma(t.double())[:, None].to(x.dtype), process)
    times = [float(t) for t in solvers.grids.get("quadratic", end="by_steps")(process, 30)]
    cuts = [(0, 10), (10, 20), (20, 30)]
    grids = [(times[a], times[b]) if solver == "adaptive_sde" else times[a : b + 1] for a, b in cuts]
    n = 20_000
    found = scoresde.sample(model, solver, grid=grids[0], shape=(n, 1), seeds=0)
    assert found.noise_from is None
    for grid in grids[1:]:
        found = scoresde.sample(model, solver, grid=grid, x_init=found.samples, seeds=0)
        assert found.noise_from == pytest.approx(process.half_log_snr(grid[0]))
    whole = scoresde.sample(
        model, solver, grid=(times[0], times[-1]) if len(grid) == 2 else times, shape=(n, 1), seeds=0
    )
    assert float(found.samples.std()) == pytest.approx(float(whole.samples.std()), abs=0.03)


def test_draws_of_parts_are_keyed_by_where_they_begin_and_others_are_as_ever() -> None:
    process = scoresde.VP()
    keys = [begun_at(process, t) for t in (process.t_max, 0.7, 0.5, 0.2, 0.01)]
    assert keys[0] == 0 and len(set(keys)) == 5
    draws = [Noise([3], (4,), torch.float64, "cpu", key)() for key in keys]
    assert torch.equal(draws[0], normal(torch.tensor([3]), 0, 4))
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(draws, 2))
    level = next(t for t in np.linspace(0.1, 0.9, 9) if abs(process.half_log_snr(t)) < 10)
    assert 0 < begun_at(process, level) < 2**32
    assert begun_at(scoresde.EDM(), 1.0) == 1 << 31  # λ = 0


def test_a_deterministic_run_says_no_level_that_keys_its_draws() -> None:
    found = scoresde.sample(VP, "ddim", grid=[0.5, 0.2], x_init=torch.ones(2, 3), seeds=0)
    assert found.noise_from is None


def test_the_state_is_in_the_network_s_dtype_by_request() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.scale * x

    model = scoresde.ScoreModel(Net(), scoresde.VP())
    small = scoresde.sample(model, "dpmpp_2m", steps=4, shape=(2, 5), seeds=0, dtype="network")
    wide = scoresde.sample(model, "dpmpp_2m", steps=4, shape=(2, 5), seeds=0)
    assert small.samples.dtype == torch.bfloat16 and wide.samples.dtype == torch.float32
    torch.testing.assert_close(small.samples.float(), wide.samples, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("seeds", [torch.tensor(5), np.int64(5), np.array(5), torch.tensor([5, 6]), np.array([5, 6])])
def test_seeds_come_as_numbers_and_arrays(seeds: Any) -> None:
    assert scoresde.sample(VP, "ddim", steps=1, shape=(2, 3), seeds=seeds).seeds == [5, 6]


@pytest.mark.parametrize(
    ("seeds", "words"), [(torch.Generator(), "initial_seed"), ("42", "'42'"), (None.__class__, "type")]
)
def test_what_is_no_seed_is_refused_by_its_argument(seeds: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"seeds must be .*{words}"):
        scoresde.sample(VP, "ddim", steps=1, shape=(2, 3), seeds=seeds)


def test_a_list_as_long_as_the_batch_is_no_condition_and_a_tuple_is_the_same_for_all() -> None:
    seen = []

    def network(x: Tensor, t: Tensor, words: Any) -> Tensor:
        seen.append(words)
        return 0 * x

    model = scoresde.ScoreModel(network, scoresde.VP())
    with pytest.raises(
        TypeError, match=r"cond\['words'\] is a list of 2, as many as there are samples.*a tensor, or a tuple"
    ):
        scoresde.sample(model, "ddim", steps=1, shape=(2, 3), seeds=0, cond={"words": ["a", "b"]})
    for same in (("a", "b"), ["a", "b", "c"]):
        scoresde.sample(model, "ddim", steps=1, shape=(2, 3), seeds=0, cond={"words": same}, batch_size=1)
        assert seen[-1] == same


def test_adaptive_sde_gives_what_each_sample_gets_alone_in_float32() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 3, 3, padding=1))
    model, n = scoresde.ScoreModel(lambda x, t: net(x), scoresde.VP()), 16
    batch = scoresde.sample(model, "adaptive_sde", shape=(n, 3, 8, 8), seeds=range(n))
    for i in range(n):
        alone = scoresde.sample(model, "adaptive_sde", shape=(1, 3, 8, 8), seeds=[i])
        assert alone.evaluations[0] == batch.evaluations[i]
        off = (alone.samples[0] - batch.samples[i]).abs().max() / batch.samples[i].abs().max()
        assert float(off) < 1e-3


def test_models_checkpoints_and_results_print_themselves_in_a_line() -> None:
    digits = scoresde.models.load("mnist")
    network = "ScoreModel(UNet, epsilon on VP(beta_min=0.1, beta_max=20.0))"
    assert repr(digits.model) == network
    assert repr(digits) == f"Checkpoint(shape (1, 28, 28), 10 classes, {network})"
    guided = scoresde.guidance.ClassifierFree(digits.model, {"label": 10}, scale=2.0)
    assert repr(guided).startswith("ClassifierFree(") and "2" in repr(guided)
    exact = scoresde.exact.GaussianMixture(scoresde.Flow(), weights=[1.0], means=[[0.0]], variances=[1.0])
    assert repr(exact) == "GaussianMixture(sample on Flow())"
    assert repr(scoresde.ScoreModel(lambda x, t: x, scoresde.EDM())).startswith("ScoreModel(<lambda>, epsilon on EDM(")
    for seeds, told in ((5, "seeds 5 to 8"), ([7, 1, 3, 4], "seeds 7, 1, 3, 4")):
        result = scoresde.sample(exact, "ddim", steps=2, shape=(4, 1), seeds=seeds)
        assert repr(result) == f"Result(4 of shape (1,), float32 on cpu, 2 NFE, {told})"
    assert repr(scoresde.sample(exact, "ddim", steps=2, shape=(1, 1), seeds=9)).endswith("2 NFE, seed 9)")
    many = scoresde.sample(exact, "ddim", steps=2, shape=(6, 1), seeds=[9, 3, 1, 2, 8, 7])
    assert repr(many).endswith("seeds 9, 3, 1, 2, …)")


def test_a_checkpoint_is_sampled_like_its_model_with_its_grid_and_decoder() -> None:
    digits = scoresde.models.load("mnist")
    wanted = scoresde.sample(digits.model, "ddim", nfe=3, shape=(2, *digits.shape), seeds=[4, 9])
    found = scoresde.sample(digits, "ddim", nfe=3, seeds=[4, 9])
    assert torch.equal(found.samples, wanted.samples)
    with pytest.raises(ValueError, match="exactly one of shape"):
        scoresde.sample(digits, "ddim", nfe=3, seeds=4)
    asking = replace(digits, grid=solvers.grids.get("uniform"), decode=lambda x: x[:, :, :1])
    assert (
        scoresde.Sampler(asking, "ddim", nfe=3).times
        == scoresde.Sampler(digits.model, "ddim", nfe=3, grid="uniform").times
    )
    assert scoresde.Sampler(asking, "ddim", nfe=3, grid="karras").times != scoresde.Sampler(asking, "ddim", nfe=3).times
    for own in ("tuned", solvers.get("auto", scale=3.0)):  # which have grids of their own
        assert scoresde.Sampler(asking, own, nfe=5).times == scoresde.Sampler(digits.model, own, nfe=5).times
    assert scoresde.sample(asking, "ddim", nfe=3, seeds=range(2)).samples.shape == (2, 1, 1, 28)
    kept = scoresde.sample(asking, "ddim", nfe=3, seeds=range(2), decode=lambda x: x)
    assert kept.samples.shape == (2, 1, 28, 28)

"""Solvers in which every sample has its own steps: what a sample gets and pays does not depend on its neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from benchmarks.orders.cases import PROCESSES
from scoresde.exact import Gaussian, GaussianMixture
from scoresde.noise import Noise
from solvers.adaptive.bridge import Increment, nothing_known
from solvers.adaptive.controllers import Controller
from solvers.adaptive.loop import Active
from solvers.certificate.mixture import MIXTURE, trajectories
from solvers.certificate.slopes import FIRST, LAST, smooth_grid

STEPPING: dict[str, tuple[str, dict[str, Any]]] = {
    "heun_euler": ("rk_adaptive", {"method": "heun_euler"}),
    "bosh3": ("rk_adaptive", {"method": "bosh3"}),
    "dopri5": ("rk_adaptive", {"method": "dopri5"}),
    "tsit5": ("rk_adaptive", {"method": "tsit5"}),
    "dpm_12": ("dpm_adaptive", {"order": 2}),
    "dpm_23": ("dpm_adaptive", {}),
    "dpm_23_published": ("dpm_adaptive", {"controller": "published"}),
    "dpm_23_pid": ("dpm_adaptive", {"pcoeff": 0.2, "icoeff": 0.6, "dcoeff": 0.1}),
    "dpm_12_eta": ("dpm_adaptive", {"order": 2, "eta": 1.0}),
    "adaptive_sde": ("adaptive_sde", {"rtol": 0.1, "atol": 0.05}),
}
ODES = [name for name in STEPPING if "eta" not in name and name != "adaptive_sde"]
every_one = pytest.mark.parametrize("name", STEPPING)
every_process = pytest.mark.parametrize("process", PROCESSES)


def stepping(name: str, **options: Any) -> solvers.Solver:
    return solvers.get(STEPPING[name][0], **{**STEPPING[name][1], **options})


class Rows:
    """E[x0 | x_t] of data ½ N(−m, v) + ½ N(m, v) with an m and v for each row; counts what each row was evaluated."""

    SPREAD = ((0.0, 1.0), (1.0, 0.1), (2.0, 0.01), (0.0, 0.3), (1.0, 0.001), (3.0, 0.05))  # easy and hard ones

    def __init__(self, process: scoresde.Process, which: list[int]):
        self.process = process
        self.m, self.v = torch.tensor([self.SPREAD[i] for i in which], dtype=torch.float64).T[..., None]
        self.counts, self.calls, self.times = torch.zeros(len(which), dtype=torch.int64), 0, []

    def __call__(self, x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        assert x.shape[:1] == t.shape == rows.shape and t.dtype == torch.float64
        self.calls += 1
        self.counts[rows] += 1
        self.times.append((t.clone(), rows.clone()))
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        m, v = self.m[rows], self.v[rows]
        gain = alpha * v / (alpha**2 * v + sigma**2)
        side = torch.tanh((alpha * m * x).sum(1, keepdim=True) / (alpha**2 * v + sigma**2))
        return side * m + gain * (x - alpha * side * m)


def noises(process: scoresde.Process, seeds: list[int]) -> tuple[Tensor, Noise]:
    noise = Noise(seeds, (3,), torch.float64)
    return process.sigma(process.t_max) * noise(), noise


@every_process
@every_one
def test_a_batch_costs_the_sum_of_its_samples_alone_and_gives_each_the_same(name: str, process: str) -> None:
    solver, on = stepping(name), PROCESSES[process]
    together, ends = Rows(on, list(range(6))), (on.t_max, on.t_clean)
    found = solver.run(on, ends, together, *noises(on, list(range(6))), prediction="sample")
    for i in range(6):
        alone = Rows(on, [i])
        expected = solver.run(on, ends, alone, *noises(on, [i]), prediction="sample")
        assert alone.calls == alone.counts[0] == together.counts[i]
        torch.testing.assert_close(found[i], expected[0], rtol=1e-12, atol=1e-12)
    least, most = int(together.counts.min()), int(together.counts.max())
    assert least < 0.8 * most
    if name == "heun_euler":  # a rejected step costs one evaluation less than an accepted one
        assert most <= together.calls < 1.3 * most
    else:
        assert together.calls == most


@every_one
def test_samples_leave_the_batch_when_they_are_done_and_take_the_denoise_together(name: str) -> None:
    process = PROCESSES["VP"]
    model = Rows(process, list(range(6)))
    stepping(name).run(process, (1.0, 0.0), model, *noises(process, list(range(6))), prediction="sample")
    sizes = [len(rows) for _, rows in model.times]
    assert sizes[0] == sizes[-1] == 6 and sizes[-2] < 6
    assert (model.times[-1][0] == process.t_min).all()
    assert all((rows.diff() > 0).all() for _, rows in model.times)
    assert any(len(t.unique()) == len(t) == 6 for t, _ in model.times)  # each at a time of its own


@every_process
@every_one
def test_no_evaluation_is_beyond_the_ends(name: str, process: str) -> None:
    on = PROCESSES[process]
    ends = smooth_grid(on, "uniform", 1)
    model = Rows(on, list(range(6)))
    stepping(name).run(on, ends, model, *noises(on, list(range(6))), prediction="sample")
    times = torch.cat([t for t, _ in model.times])
    assert ends[0] * (1 - 1e-14) < float(times.max()) <= ends[0] and float(times.min()) >= ends[-1]


def exact(process: scoresde.Process) -> GaussianMixture:
    return GaussianMixture(process, MIXTURE.weights, MIXTURE.means[:, None], MIXTURE.variances)


def ode_error(solver: solvers.Solver, process: scoresde.Process) -> float:
    times = smooth_grid(process, "uniform", 1)
    start, end = (torch.from_numpy(values)[:, None] for values in trajectories(FIRST, LAST))
    norms = [math.hypot(process.alpha(t), process.sigma(t)) for t in times]
    model = exact(process)
    found = solver.run(process, times, on_rows(model), norms[0] * start, prediction="sample")
    return float((found / norms[1] - end).square().mean().sqrt())


@every_process
@pytest.mark.parametrize("name", ODES)
def test_the_error_follows_the_tolerance(name: str, process: str) -> None:
    tolerances = (1e-3, 1e-4, 1e-5) if name in ("heun_euler", "dpm_12") else (1e-3, 1e-5, 1e-7)
    errors = [ode_error(stepping(name, rtol=value, atol=value), PROCESSES[process]) for value in tolerances]
    assert all(error < 20 * value for error, value in zip(errors[1:], tolerances[1:], strict=True))
    slope = math.log(errors[0] / errors[-1]) / math.log(tolerances[0] / tolerances[-1])
    assert slope > 0.7


@pytest.mark.parametrize("frame", ["edm", "data", "flow", "vp"])
def test_every_frame_leads_to_the_solution(frame: str) -> None:
    for process in PROCESSES.values():
        solver = solvers.get("rk_adaptive", method="dopri5", rtol=1e-7, atol=1e-7, frame=frame)
        assert ode_error(solver, process) < 2e-6


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_adaptive_takes_the_steps_of_the_planned_dpm_solver(order: int) -> None:
    process, model = PROCESSES["VP"], Rows(PROCESSES["VP"], [1])
    x, noise = noises(process, [0])
    found = solvers.get("dpm_adaptive", order=order).run(process, (1.0, 1e-3), model, x, noise, prediction="sample")
    begins = [float(t[0]) for t, _ in model.times[::order]]
    grid = [t for t, later in zip(begins, [*begins[1:], 0.0], strict=True) if later < t]  # a rejected one comes again
    assert len(grid) > 5
    plan = solvers.get(f"dpm_solver_{order}").plan(process, [*grid, 1e-3], "sample")  # type: ignore[attr-defined]
    expected = plan.run(lambda x, t: model(x, torch.tensor([t], dtype=torch.float64), torch.tensor([0])), x)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def on_rows(model: scoresde.ScoreModel) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda x, t, rows: model.net(x, t)


@every_one
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_prediction_types_agree(name: str, kind: str) -> None:
    process, times = PROCESSES["VP"], (1.0, 0.05)
    found = []
    for prediction in ("sample", kind):
        model = Gaussian(process, [0.5, -1.0, 0.2], torch.eye(3) * 0.1, prediction=prediction)
        x, noise = noises(process, [0, 1, 2])
        run = stepping(name).run(process, times, on_rows(model), x, noise, prediction=prediction)
        found.append(run)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)


@every_one
def test_what_the_model_was_given_and_returned_is_never_written_to(name: str) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    rows_model = Rows(PROCESSES["VP"], list(range(6)))

    def predict(x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        out = rows_model(x, t, rows)
        seen.extend((tensor, tensor.clone()) for tensor in (x, t, rows, out))
        return out

    x, noise = noises(PROCESSES["VP"], list(range(6)))
    start = x.clone()
    stepping(name).run(PROCESSES["VP"], (1.0, 0.0), predict, x, noise, prediction="sample")
    assert torch.equal(x, start) and all(torch.equal(kept, copied) for kept, copied in seen)


# through scoresde.sample


def labelled(process: scoresde.Process) -> GaussianMixture:
    """Class 0 is one wide Gaussian, class 1 many narrow ones far apart."""
    means = torch.tensor([[0.0, 0, 0], [3, 0, 0], [-3, 1, 0], [0, 3, 3], [1, -3, 2]], dtype=torch.float64)
    return GaussianMixture(process, torch.ones(5), means, [1.0, 0.01, 0.02, 0.01, 0.03], labels=[0, 1, 1, 1, 1])


@pytest.mark.parametrize("process", ["VP", "Flow"])
@pytest.mark.parametrize("name", ["heun_euler", "dopri5", "dpm_23", "dpm_12_eta", "adaptive_sde"])
def test_through_sample_each_seed_and_label_has_its_own_steps(name: str, process: str) -> None:
    model, rows = labelled(PROCESSES[process]), []
    inner = model.net

    def net(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        assert len(x) == len(t) == len(label)
        rows.append(len(x))
        return inner(x, t, label=label)

    watched = scoresde.ScoreModel(net, model.process, model.prediction)
    seeds, labels = [5, 7, 5, 2**40, 9], torch.tensor([0, 1, 1, 0, 1])
    ask: dict[str, Any] = {"solver": stepping(name), "dtype": torch.float64}
    whole = scoresde.sample(watched, shape=(5, 3), seeds=seeds, cond={"label": labels}, **ask)
    assert sum(rows) == sum(whole.evaluations)
    assert whole.nfe == max(whole.evaluations) > min(whole.evaluations)
    assert len(rows) == whole.nfe or name == "heun_euler"
    parts = scoresde.sample(watched, shape=(5, 3), seeds=seeds, cond={"label": labels}, batch_size=2, **ask)
    assert sum(rows) == 2 * sum(whole.evaluations)  # not padded
    alone = [
        scoresde.sample(watched, shape=(1, 3), seeds=[seed], cond={"label": label}, **ask)
        for seed, label in zip(seeds, labels.split(1), strict=True)
    ]
    for other in (parts.samples, torch.cat([one.samples for one in alone])):
        torch.testing.assert_close(other, whole.samples, rtol=1e-11, atol=1e-11)
    assert parts.evaluations == whole.evaluations == [one.nfe for one in alone]


def test_every_solver_says_what_each_sample_cost() -> None:
    model = labelled(PROCESSES["VP"])
    planned = scoresde.sample(model, "heun", steps=4, shape=(5, 3), seeds=0, batch_size=2)
    assert planned.evaluations == [planned.nfe] * 5 == [7] * 5
    library = scoresde.sample(model, "pf_ode", shape=(5, 3), seeds=0)
    assert library.evaluations == [library.nfe] * 5


@every_one
def test_the_hook_sees_the_end_alone_where_all_samples_meet(name: str) -> None:
    model, seen = labelled(PROCESSES["VP"]), []
    found = scoresde.sample(
        model,
        stepping(name),
        shape=(3, 3),
        seeds=0,
        trajectory=True,
        callback=lambda x, t: seen.append(t) or x.clamp(-1, 1),
    )
    assert seen == [0.0] and found.trajectory_times == (1.0, 0.0)
    assert found.trajectory is not None and torch.equal(found.trajectory[1], found.samples)
    assert float(found.samples.abs().max()) <= 1


# the noise of rejected steps


def brownian(next_size: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], forget: bool = False) -> Tensor:
    """B(1) of many samples whose steps are judged by their increments."""
    count, generator = 40_000, torch.Generator().manual_seed(0)
    at = torch.ones(count, dtype=torch.float64)
    zeros = torch.zeros(count, 1, dtype=torch.float64)
    active = Active(torch.arange(count), zeros, at, 0.3 * at, 0 * at, {}, zeros)
    active.memory = nothing_known(active)
    while (active.at > 0).any():
        target = (active.at - active.size).clamp(min=0)
        normal = torch.randn(count, 1, generator=generator, dtype=torch.float64)
        increment = Increment(active, target, normal)
        accepted, active.size = next_size(active.at - increment.to, increment.value[:, 0])
        active.memory = nothing_known(active) if forget else increment.remembered(accepted)
        active.x = active.x + increment.value * accepted[:, None]
        active.at = increment.to.where(accepted, active.at)
    return active.x[:, 0]


def judged(h: Tensor, increment: Tensor) -> tuple[Tensor, Tensor]:
    """Large increments are rejected, but not for ever."""
    accepted = (increment.abs() < 1.2 * h.sqrt()) | (h < 0.011)
    return accepted, torch.where(accepted, 1.5 * h, 0.4 * h).clamp(0.01, 0.4)


def test_a_path_stays_brownian_however_its_steps_are_judged() -> None:
    end = brownian(judged)
    se = 1 / math.sqrt(len(end))
    assert abs(float(end.mean())) < 4 * se
    assert abs(float(end.square().mean()) - 1) < 4 * math.sqrt(2) * se
    assert abs(float((end**4).mean()) - 3) < 4 * math.sqrt(96) * se
    assert float(brownian(judged, forget=True).square().mean()) < 0.8


def spread_error(tolerance: float) -> float:
    """Relative error of the variance that adaptive_sde leaves of Gaussian data."""
    process, count = PROCESSES["VP"], 20_000
    model = Gaussian(process, torch.zeros(1), torch.eye(1) * 0.0625)
    noise = Noise(range(count), (1,), torch.float64)
    x = math.sqrt(process.alpha(1.0) ** 2 * 0.0625 + process.sigma(1.0) ** 2) * noise()
    solver = solvers.get("adaptive_sde", rtol=tolerance, atol=tolerance)
    end = solver.run(process, (1.0, 0.01), on_rows(model), x, noise, prediction="sample")
    exactly = process.alpha(0.01) ** 2 * 0.0625 + process.sigma(0.01) ** 2
    return abs(float(end.var()) / exactly - 1)


def test_the_weak_error_of_adaptive_sde_falls_with_the_tolerance_because_rejections_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loose, tight = spread_error(0.2), spread_error(0.03)
    assert tight < 0.05 and tight < 0.5 * loose
    kept = Increment.remembered

    def forget(self: Increment, accepted: Tensor) -> dict[str, Tensor]:
        return {name: torch.zeros_like(value) for name, value in kept(self, accepted).items()}

    monkeypatch.setattr(Increment, "remembered", forget)
    assert spread_error(0.03) > 0.2


# control


def test_the_controller_is_the_textbook_rule_and_remembers_accepted_steps_alone() -> None:
    error = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    none = torch.full((3, 2), math.nan, dtype=torch.float64)
    accepted, factor, past = Controller(3)(error, none)
    assert accepted.tolist() == [True, False, True]
    torch.testing.assert_close(factor, 0.9 * error ** (-1 / 3), rtol=1e-6, atol=0)
    assert past[0].tolist() == pytest.approx([2.0, 2.0], rel=1e-6) and past[1].isnan().all()
    again = Controller(3, 0.4, 0.3)(error, past)[1]
    before = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(again, 0.9 * error ** (-0.7 / 3) * before ** (0.4 / 3), rtol=1e-6, atol=0)


# refusals


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("rk_adaptive", {"method": "dopri6"}, "unknown method 'dopri6' of rk_adaptive; did you mean 'dopri5'"),
        ("rk_adaptive", {"rtol": 0.0}, "rk_adaptive needs positive tolerances, got rtol = 0.0"),
        ("rk_adaptive", {"frame": "edn"}, "unknown frame 'edn'; did you mean 'edm'"),
        ("dpm_adaptive", {"order": 1}, "dpm_adaptive has orders 2 and 3, got 1"),
        ("dpm_adaptive", {"atol": -1.0}, "dpm_adaptive needs positive tolerances, got rtol = 0.05 and atol = -1.0"),
        ("dpm_adaptive", {"h_init": 0.0}, "positive h_init, got 0.0"),
        ("dpm_adaptive", {"eta": 1.5}, "eta between 0 and 1, got 1.5"),
        ("dpm_adaptive", {"accept_safety": 1.0}, "accept_safety between 0 and 1, got 1.0"),
        ("dpm_adaptive", {"controller": "pidd"}, "unknown controller 'pidd' of dpm_adaptive; did you mean 'pid'"),
        ("adaptive_sde", {"atol": math.nan}, "adaptive_sde needs positive tolerances, got rtol = 0.02 and atol = nan"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        solvers.get(name, **options)


def test_runs_that_cannot_be_are_refused() -> None:
    flow, x = PROCESSES["Flow"], torch.ones(2, 3, dtype=torch.float64)
    model = Rows(flow, [0, 1])
    with pytest.raises(ValueError, match="the frame 'edm' is infinite at t = 1.0, where α = 0; take flow or vp"):
        solvers.get("rk_adaptive", frame="edm").run(flow, (1.0, 0.1), model, x, prediction="sample")
    with pytest.raises(ValueError, match="dpm_adaptive takes two end times, got 3 times"):
        solvers.get("dpm_adaptive").run(flow, (1.0, 0.5, 0.1), model, x, prediction="sample")
    with pytest.raises(ValueError, match="'adaptive_sde' draws noise: give noise="):
        solvers.get("adaptive_sde").run(flow, (1.0, 0.1), model, x, prediction="sample")
    with pytest.raises(TypeError, match="rk_adaptive chooses its own steps"):
        solvers.get("rk_adaptive").nfe(flow, (1.0, 0.1))
    for name in ("rk_adaptive", "dpm_adaptive"):
        with pytest.raises(ValueError, match="predicts 'epsilon' says nothing about x0 at t = 1.0"):
            solvers.get(name).run(flow, (1.0, 0.1), model, x, prediction="epsilon")


@every_one
def test_steps_that_become_too_small_name_their_samples(name: str) -> None:
    process, rows_model = PROCESSES["VP"], Rows(PROCESSES["VP"], [0, 1, 2])

    def predict(x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        broken = (rows[:, None] == 1) & (t[:, None] < 0.5)
        return rows_model(x, t, rows).masked_fill(broken, math.nan)

    with pytest.raises(ValueError, match=r"became too small to move on for samples \[1\]: .* too tight for float64"):
        stepping(name).run(process, (1.0, 0.0), predict, *noises(process, [0, 1, 2]), prediction="sample")

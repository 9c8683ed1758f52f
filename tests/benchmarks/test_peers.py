"""benchmarks/peers/compare.py counts, compares and reports right; the peer here is diffusers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import solvers
from benchmarks.peers import adapters
from benchmarks.peers import compare as peers
from benchmarks.peers import grids as peer_grids
from benchmarks.peers import problems as peer_problems
from benchmarks.peers.problems import Joined, Source
from benchmarks.peers.report import OURS, cells, mean, singles, summary
from benchmarks.tuning import problems
from benchmarks.tuning.problems import planned
from scoresde.exact import DataPoints, GaussianMixture
from scoresde.process import EDM, VP, Flow, Process

RING = peer_problems.sources(None, ["ring"])
PROCESSES = {"VP": VP(), "EDM": EDM()}


@pytest.fixture(scope="module", params=PROCESSES)
def joined(request: pytest.FixtureRequest) -> Joined:
    return Joined.of(RING, PROCESSES[request.param])


@pytest.fixture(scope="module")
def diffusers() -> adapters.Peer:
    return adapters.load("diffusers")


def mixture() -> tuple[Source, GaussianMixture]:
    """Three components of rank 2 in 12 dimensions, rotated and as they are."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(3, 12, 2, generator=generator, dtype=torch.float64)).Q
    spreads, weights = torch.tensor([[1.0, 0.3], [0.5, 0.2], [2.0, 0.1]]).double(), torch.tensor([0.5, 0.3, 0.2])
    source = peer_problems.rotated("small", weights.double(), means, axes, spreads, 0.01, samples=32, seed=2)
    return source, GaussianMixture(VP(), weights, means, [0.01] * 3, axes * spreads[:, None].sqrt())


@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=lambda process: process.name)
def test_the_denoiser_is_that_of_the_exact_model(process: Process) -> None:
    for source in (mixture()[0], *RING):
        for t in (process.t_min, 0.3 * process.t_max, process.t_max):
            x = process.alpha(t) * source.means[:1] + process.sigma(t) * source.draws
            torch.testing.assert_close(source.on(process)(x, t), source.model(process).denoised(x, t))


def test_a_kernel_density_is_that_of_the_points() -> None:
    points = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).double()
    flat = torch.zeros(40, 5, 0).double()
    source = Source("points", 5, points[:8], torch.full((40,), 1 / 40).double(), points, 0.04, flat, flat[:, 0])
    model = DataPoints(EDM(), points, bandwidth=0.2)
    for level in (0.01, 0.5, 20.0):
        x = level * points[:8]
        torch.testing.assert_close(source.denoised(x, level), model.denoised(x, level))


def test_errors_in_the_rotated_coordinates_are_those_of_the_states() -> None:
    source, model = mixture()
    rotated = peer_problems.exact(source, VP(), steps=100)
    plan = planned("dpmpp_2m").plan(VP(), solvers.grids.get("log_snr")(VP(), 6), "sample")
    start = VP().sigma(1.0) * peer_problems._draws(32, 12, 2)
    converged = problems.converged(VP(), model.denoised, start, 100)
    each = (plan.run(model.denoised, start) - converged).square().mean(1)
    assert rotated.errors(plan.run(rotated.predict, rotated.start)) == pytest.approx(
        (each.mean().sqrt().item(), each.sqrt().median().item())
    )
    assert rotated.error(plan) == pytest.approx(each.mean().sqrt().item())


def test_evaluations_are_counted_by_rows_and_end_with_the_budget() -> None:
    counted = peers.Counted(torch.zeros(4, 1, 1, 2), lambda x, level: x, budget=2)
    denoised = counted.on(VP())
    denoised(torch.zeros(4, 1, 1, 2), 0.5)
    assert counted.evaluations == 1
    for _ in range(4):
        denoised(torch.zeros(1, 1, 1, 2), 0.5)
    assert counted.evaluations == 2
    with pytest.raises(peers.SpentError):
        denoised(torch.zeros(1, 1, 1, 2), 0.5)


@pytest.mark.parametrize(
    ("solver", "steps"), [("ddim", 9), ("heun", 5), ("dpm_solver_3", 3)], ids=lambda value: str(value)
)
def test_the_most_steps_that_a_budget_allows_are_taken(joined: Joined, solver: str, steps: int) -> None:
    chosen, rule = planned(solver), solvers.grids.get("log_snr")
    known: peers.Steps = {}
    found = peers.entries(joined, peers.ours(chosen, rule, joined.process, True), solver, [9], known)
    assert known.get((solver, 9), 9) == steps
    plan = chosen.plan(joined.process, rule(joined.process, steps), "sample")
    problem = peer_problems.builders(None, ["ring"])["ring"](joined.process)
    assert found[9] == (plan.nfe, {"ring": pytest.approx(problem.errors(plan.run(problem.predict, problem.start)))})


FIRST_ORDER = {
    "DPMSolverMultistepScheduler algorithm_type=dpmsolver++ solver_order=1": "",
    "DPMSolverMultistepScheduler algorithm_type=dpmsolver solver_order=1": "sigma_min",
    "UniPCMultistepScheduler solver_order=1 solver_type=bh2 predict_x0=True disable_corrector=all": "",
    "EulerDiscreteScheduler": "",
}


@pytest.mark.parametrize("grid", ["karras", "exponential"])
@pytest.mark.parametrize("solver", FIRST_ORDER)
def test_first_order_on_diffusers_grids_is_ddim(
    joined: Joined, diffusers: adapters.Peer, solver: str, grid: str
) -> None:
    final = FIRST_ORDER[solver] or "zero"
    runs = [run for run in peer_grids.runs("diffusers", joined.process) if run.grid == grid]
    (run,) = (
        run
        for run in runs
        if run.solver.startswith(f"{solver} final_sigmas_type={final}") and run.options.get("lower_order_final", True)
    )
    ours = peers.ours(planned("ddim"), solvers.grids.get(grid), joined.process, True)
    beside = peers.entries(joined, ours, "ddim", [8 if final == "zero" else 9], {})
    theirs = peers.entries(joined, peers.theirs(diffusers, run), "theirs", [8], {})[8]
    if final == "zero":
        assert theirs == (8, {"ring": pytest.approx(beside[8][1]["ring"], rel=1e-4)})
    else:  # ours denoises at the end, theirs leaves the noise of the last level
        assert theirs[1]["ring"] != pytest.approx(beside[9][1]["ring"], rel=1e-4)


def test_diffusers_own_ddim_is_ours_on_its_timesteps(joined: Joined, diffusers: adapters.Peer) -> None:
    if joined.process != VP():
        return
    (run,) = (
        run
        for run in peer_grids.runs("diffusers", VP())
        if run.label == "DDIMScheduler set_alpha_to_one=True | leading"
    )
    theirs = peers.entries(joined, peers.theirs(diffusers, run), "ddim", [10], {})[10]
    times = [*(index / 1000 for index in range(901, 0, -100)), 0.0]
    problem = joined.problems[0]
    x = planned("ddim").plan(VP(), times, "sample").run(problem.predict, joined.start[:, 0, 0])
    assert theirs == (10, {"ring": pytest.approx(problem.errors(x), rel=1e-6)})


def test_every_scheduler_of_diffusers_gives_a_result_and_uses_its_budget(
    joined: Joined, diffusers: adapters.Peer
) -> None:
    runs = sorted(peer_grids.runs("diffusers", joined.process), key=lambda run: run.grid.startswith("exponential"))
    chosen = {run.function: run for run in runs}
    assert len(chosen) == 16
    for name, run in chosen.items():
        (evaluations, errors) = peers.entries(joined, peers.theirs(diffusers, run), name, [14], {})[14]
        assert evaluations == 13 if "Heun" in name or "KDPM2" in name else evaluations == 14, run.label
        assert errors["ring"][0] < 0.5, run.label


def test_absent_peers_and_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "UniPC", "--problems", "ring", "--nfe", "5", "--peers", str(tmp_path)]
    peers.main([*arguments, "--out", str(tmp_path / "peers.md")])
    assert "Absent: UniPC (no clone named UniPC in the folder given by --peers)." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        peers.main(["--data", str(tmp_path), "--problems", "MNIST"])
    assert f"MNIST needs mnist.npz.xz in the folder given by --data, got {tmp_path}" in capsys.readouterr().err


def kept() -> dict[str, Any]:
    """Errors of ours, auto and two peers on one problem."""

    def entry(evaluations: int, rmse: float) -> list[Any]:
        return [evaluations, {"ring": [rmse, rmse / 10]}]

    errors = {
        OURS: {"a | x": {"5": entry(5, 0.4), "8": entry(8, 0.1)}, "b | x": {"5": entry(5, 0.2), "8": entry(8, 0.3)}},
        "auto": {"auto": {"5": entry(5, 0.3), "8": entry(8, 0.2)}},
        "UniPC": {"c | y": {"5": entry(5, 0.1), "8": entry(8, 0.9)}},
        "azula": {"d | z": {"5": entry(4, 0.4), "8": entry(8, 0.2)}, "e | z": {"8": entry(8, math.nan)}},
    }
    return {"versions": {}, "absent": {}, "seconds": {}, "doubts": {}, "errors": {"VP": errors}}


def test_a_cell_holds_the_best_of_all_that_took_no_more_evaluations() -> None:
    five, eight = (c for c in cells(kept()) if c.measure == "RMSE")
    assert (five.ours, five.peer, five.ratio, five.auto) == ((0.2, "b | x"), (0.1, "UniPC", "c | y"), 2.0, 0.3)
    # UniPC's run with 5 evaluations is better than its run with 8, and within the budget; auto is taken as it is.
    assert (eight.ours, eight.peer, eight.ratio, eight.auto) == ((0.1, "a | x"), (0.1, "UniPC", "c | y"), 1.0, 0.2)
    assert [c.least for c in cells(kept()) if c.measure == "median"] == pytest.approx([0.01, 0.01])


def test_the_best_single_configuration_has_the_least_mean_ratio_to_the_best_of_all() -> None:
    best, other = singles(kept(), cells(kept()), ["VP"])
    assert (best.label, best.mean, best.worst) == ("d | z", pytest.approx(mean([4, 2])), 4)
    assert (other.label, other.mean) == ("c | y", pytest.approx(mean([1, 9])))


def test_the_summary_counts_cells_and_takes_geometric_means() -> None:
    row = next(line for line in summary(kept(), cells(kept())) if line.startswith("| VP | RMSE"))
    numbers = [text.strip() for text in row.split("|")[3:-1]]
    assert numbers == ["1 of 2", "1.414", "1.414", "2.00", "2.449", "2.449", "2.83, 4.00"]


def test_a_cache_is_enough_for_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache.json").write_text(json.dumps(kept()))
    peers.main(["--only", "--cache", str(tmp_path / "cache.json"), "--out", str(tmp_path / "peers.md")])
    text = (tmp_path / "peers.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "azula: configurations: 2 on VP (1 without a finite result)." in text
    assert len(json.loads((tmp_path / "peers.json").read_text())["cells"]) == 4
    assert (tmp_path / "peers.png").stat().st_size > 1000

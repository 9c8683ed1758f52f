"""Every deterministic solver converges with the order that it declares, on an exact score."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import solvers
from benchmarks.docs.pages import ours
from benchmarks.orders import convergence as certificate
from benchmarks.orders.cases import DEFAULTS, DETERMINISTIC, PROCESSES, STOCHASTIC, VARIANTS, Case, label
from benchmarks.orders.report import failures, rows_of
from scoresde.exact import GaussianMixture
from solvers import PlannedSolver
from solvers.certificate.mixture import MIXTURE, predictor, trajectories
from solvers.certificate.orders import OrderCertificate, certify_order, ode_error, ode_order
from solvers.certificate.slopes import SHAPES, Slopes, settle, smooth_grid
from solvers.coefficients import histories

every_process = pytest.mark.parametrize("process", PROCESSES)
PAIRS = [(process, shape) for process in PROCESSES for shape in SHAPES]
# `make certify` measures each case on all nine pairs: here defaults on three, variants on one, in turn.
TRIED = [
    (case, process, SHAPES[(i + j) % len(SHAPES)])
    for i, case in enumerate(DEFAULTS)
    for j, process in enumerate(PROCESSES)
] + [(case, *PAIRS[i % len(PAIRS)]) for i, case in enumerate(VARIANTS)]


def told(value: Any) -> str:
    return label(*value).replace("`", "") if isinstance(value, tuple) else value


@pytest.mark.parametrize(("case", "process", "shape"), TRIED, ids=told)
def test_a_solver_converges_with_its_declared_order(case: Case, process: str, shape: str) -> None:
    found = certify_order(solvers.get(case[0], **case[1]), PROCESSES[process], shape)
    assert found.holds, (found.declared, found.total.slopes, found.start and found.start.slopes)


def test_every_solver_of_a_declared_order_on_a_grid_is_measured() -> None:
    for solver in ours():
        if solver.per_sample or (solver.order, solver.weak_order) == (None, None):
            continue
        assert solver.name in [name for name, _ in (STOCHASTIC if solver.stochastic else DETERMINISTIC)], solver.name


def test_the_recorded_certificate_is_that_of_these_solvers() -> None:
    results = json.loads(certificate.RESULTS.read_text(encoding="utf-8"))
    for section, cases in (("order", DETERMINISTIC), ("weak_order", STOCHASTIC)):
        expected = {(*told_with_order(case), process, shape) for case in cases for process, shape in PAIRS}
        found = {
            (label(row["solver"], row["options"]), row["declared"], process, shape)
            for row, process, shape, _ in rows_of(results, section)
        }
        assert found == expected, "run `make certify`"
    assert failures(results) == []


def told_with_order(case: Case) -> tuple[str, int | None]:
    solver = solvers.get(case[0], **case[1])
    return label(*case), solver.weak_order if solver.stochastic else solver.order


def test_a_part_that_is_measured_again_goes_into_the_results_that_are_there() -> None:
    before = json.loads(certificate.RESULTS.read_text(encoding="utf-8"))
    new = {"environment": {"seconds": 1}, "order": [{**before["order"][3], "declared": 7}], "weak_order": []}
    result = certificate.joined(before, new)
    assert [row["declared"] for row in result["order"]].count(7) == 1 and result["order"][3]["declared"] == 7
    assert result["order"][4:] == before["order"][4:] and result["weak_order"] == before["weak_order"]
    assert result["environment"]["seconds"] == before["environment"]["seconds"] + 1


def test_certify_fails_where_an_order_does_not_hold(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    results = json.loads(certificate.RESULTS.read_text(encoding="utf-8"))
    results["order"][0]["processes"]["EDM"]["shapes"]["karras"]["holds"] = False
    monkeypatch.setattr(certificate, "measure", lambda *_: results)
    with pytest.raises(SystemExit, match="1 declared orders do not hold:\n`auto` on EDM, karras: declared 3, measured"):
        certificate.main(["--out", str(tmp_path / "table.md")])
    assert "`auto` on EDM, karras" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8")) == results


def test_a_wrong_coefficient_is_caught() -> None:
    def lopsided(steps: Any, x: Any, predict: Any) -> Any:
        """Heun's method with weights 0.52 and 0.48."""
        for t, s in steps:
            first = predict(x, t).epsilon
            change = s.sigma / s.alpha - t.sigma / t.alpha
            second = predict(s.alpha * (x / t.alpha + change * first), s).epsilon
            x = yield s.alpha * (x / t.alpha + change * (0.52 * first + 0.48 * second))

    wrong = PlannedSolver(
        lopsided, {}, name="lopsided", reference="", order=2, weak_order=None, grid="uniform", to_clean=False
    )
    found = ode_order(wrong, PROCESSES["EDM"], "karras")
    assert found.order is None or found.order < 1.8


@pytest.mark.parametrize(("name", "options", "claimed"), [("deis", {"order": 4}, 4), ("uni_pc", {"order": 3}, 4)])
def test_a_cold_start_that_claims_its_full_order_is_caught(name: str, options: dict[str, Any], claimed: int) -> None:
    solver = solvers.get(name, **options)
    assert solver.order is not None and solver.order < claimed
    solver.order = claimed
    assert not certify_order(solver, PROCESSES["VP"], "karras").holds


def test_a_starter_that_loses_the_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, options, order in (("deis", {"order": 4}, 3), ("uni_pc", {"order": 3}, 3), ("dpmpp_3m", {}, 2)):
        solver = solvers.get(name, **options, starter="singlestep")
        assert certify_order(solver, PROCESSES["EDM"], "quadratic").holds
        with monkeypatch.context() as patch:
            patch.setitem(histories.BY_ORDER, order, "euler")
            assert not certify_order(solver, PROCESSES["EDM"], "quadratic").holds, name


def falling(order: float) -> Slopes:
    return Slopes([16, 32, 64, 128], [2.0 ** (-order * k) for k in range(4)])


def test_a_cold_start_is_measured_by_what_it_adds() -> None:
    assert OrderCertificate(2, falling(4), start=falling(2)).holds
    assert not OrderCertificate(4, falling(4), start=falling(2)).holds
    assert not OrderCertificate(2, falling(4)).holds
    assert not OrderCertificate(2, falling(1), start=falling(2)).holds


def test_a_method_may_exceed_its_order_only_where_that_is_known() -> None:
    assert OrderCertificate(2, falling(4), favourable=True).holds
    assert not OrderCertificate(5, falling(4), favourable=True).holds
    assert certify_order(solvers.get("pndm"), PROCESSES["EDM"], "uniform").exceeds


def test_the_order_is_that_of_the_last_settled_slopes() -> None:
    assert settle(lambda n: 1 / n**2 + 10 / n**4, floor=1e-12).order == pytest.approx(2, abs=0.05)
    assert settle(lambda n: 1e-3, floor=1e-12).order == 0
    assert settle(lambda n: 1e-13, floor=1e-12).order is None
    assert Slopes([8, 16, 32, 64], [1.0, 0.5, 0.1, 0.05]).order is None


@every_process
def test_orders_are_measured_against_the_exact_score(process: str) -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    forward = PROCESSES[process]
    model = GaussianMixture(forward, MIXTURE.weights, MIXTURE.means[:, None], MIXTURE.variances)
    for half_log_snr in (-1.5, 0.3, 2.0):
        t = forward.time(half_log_snr)
        expected = model.denoised(x[:, None], t)[:, 0]
        torch.testing.assert_close(predictor(forward)(x, t), expected, rtol=1e-12, atol=1e-12)


def test_the_reference_solution_is_better_than_rounding_needs() -> None:
    """Trajectories of the probability-flow ODE carry quantiles to quantiles, which bisection finds."""
    start, end = trajectories(-1.5, 2.0)

    def quantile(y: np.ndarray, half_log_snr: float) -> np.ndarray:
        alpha = (1 + np.exp(-2 * half_log_snr)) ** -0.5
        sigma = (1 + np.exp(2 * half_log_snr)) ** -0.5
        spread = (alpha**2 * MIXTURE.variances + sigma**2).sqrt()
        z = (torch.from_numpy(y)[:, None] - alpha * MIXTURE.means) / spread
        return (MIXTURE.weights * torch.special.ndtr(z)).sum(1).numpy()

    np.testing.assert_allclose(quantile(start, -1.5), quantile(end, 2.0), rtol=0, atol=1e-12)


@every_process
def test_the_error_of_an_adaptive_solver_follows_its_tolerance(process: str) -> None:
    forward = PROCESSES[process]
    errors = []
    for tolerance in (1e-4, 1e-6, 1e-8):
        solver = solvers.get("pf_ode", rtol=tolerance, atol=tolerance)
        errors.append(ode_error(solver, forward, smooth_grid(forward, "uniform", 1)))
        assert errors[-1] < 10 * tolerance
    assert errors == sorted(errors, reverse=True)

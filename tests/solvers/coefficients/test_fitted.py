"""Plans as tables of numbers: what they can say, and that known methods are among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import solvers
from benchmarks.tuning.problems import exact, planned
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers import PlannedSolver
from solvers.coefficients.fitted import Numbers, adams, bracket, follow, for_all, rows
from solvers.grids import universal

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)


def solver(history: object, offsets: object = (), skipped: int = 0, told: float | None = None) -> PlannedSolver:
    options = {"history": history, "offsets": offsets, "told": told, "skipped": skipped}
    names = {"name": "numbers", "reference": "", "order": None, "weak_order": None, "grid": "auto"}
    return PlannedSolver(follow, options, **names, to_clean=True, from_noise=True)


@given(st.lists(st.floats(-5, 5), max_size=5))
def test_weights_sum_to_one_and_give_the_coefficients_back(row: list[float]) -> None:
    assert sum(bracket(row)) == pytest.approx(1, abs=1e-12)
    assert rows(bracket(row)) == pytest.approx(row, abs=1e-12)


@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=lambda process: process.name)
def test_the_numbers_of_adams_methods_make_their_samples(process: Process) -> None:
    problem = exact("low rank", process, samples=4, steps=10)
    times = solvers.grids.get("karras")(process, 9)
    levels = [math.exp(-process.half_log_snr(t)) for t in times[:-1]]
    named = planned("eab", order=3, frame="data", variable="lambda")
    found = solver(tuple(map(tuple, adams(levels)))).plan(process, times, "sample").run(problem.predict, problem.start)
    expected = named.plan(process, times, "sample").run(problem.predict, problem.start)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_process
@given(scale=st.floats(0.05, 20), count=st.sampled_from([1, 2, 3, 5, 8]), seed=st.integers(0, 99))
def test_data_without_spread_are_met_exactly_whatever_the_numbers(
    process: Process, scale: float, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    numbers = for_all(process, count, scale)
    history = tuple(tuple(random.normal(size=min(index, 3))) for index in range(count))
    offsets = (0.0, *random.normal(size=count - 1) / 10)
    times = [process.t_max, *(process.time(-math.log(level)) for level in numbers.levels[1:]), process.t_clean]

    def predict(x: Tensor, t: float) -> Tensor:
        return torch.full_like(x, 0.7)

    start = torch.randn(3, 2, dtype=torch.float64)
    found = solver(history, offsets).plan(process, times, "sample").run(predict, start)
    torch.testing.assert_close(found, torch.full_like(start, 0.7), rtol=1e-9, atol=1e-9)


def test_an_offset_asks_the_network_at_its_level_and_scales_the_state_with_it() -> None:
    process, asked = VP(), []

    def predict(x: Tensor, t: float) -> Tensor:
        asked.append((process.half_log_snr(t), x / process.alpha(t)))
        return torch.zeros_like(x)

    times = [process.t_max, process.time(0.0), process.t_clean]
    start = torch.ones(1, 1, dtype=torch.float64)
    for offset in (0.0, 0.3):
        solver(((), (0.0,)), (0.0, offset)).plan(process, times, "sample").run(predict, start)
    assert asked[3][0] == pytest.approx(-0.3, abs=1e-9) and asked[1][0] == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(asked[3][1], asked[1][1])  # y, whatever level is told


@every_process
@pytest.mark.parametrize(("offset", "told"), [(-9.0, 1e-9), (9.0, None)])
def test_beyond_the_ends_of_a_process_the_network_is_asked_at_the_ends(
    process: Process, offset: float, told: float | None
) -> None:
    asked: list[float] = []

    def predict(x: Tensor, t: float) -> Tensor:
        asked.append(t)
        return torch.full_like(x, 0.7)

    times = [process.t_max, process.time(0.0), process.t_clean]
    start = process.sigma(process.t_max) * torch.ones(1, 2, dtype=torch.float64)
    found = solver(((), (0.0,)), (0.0, offset), told=told).plan(process, times, "sample").run(predict, start)
    torch.testing.assert_close(found, torch.full_like(start, 0.7))
    assert all(process.t_min * (1 - 1e-9) <= t <= process.t_max * (1 + 1e-9) for t in asked)


@every_process
@pytest.mark.parametrize(("told", "skipped"), [(None, 0), (9.0, 0), (9.0, 1), (1e6, 0)])
def test_noise_alone_is_told_to_be_less_and_is_so_where_there_is_more(
    process: Process, told: float | None, skipped: int
) -> None:
    asked: list[tuple[float, Tensor]] = []

    def predict(x: Tensor, t: float) -> Tensor:
        asked.append((math.exp(-process.half_log_snr(t)), x / process.sigma(t)))
        return torch.full_like(x, 0.7)

    times = [process.t_max, process.time(0.0), process.t_clean]
    z = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    plan = solver(((), (0.0,), (0.0,))[: 2 + skipped], told=told, skipped=skipped).plan(process, times, "sample")
    found = plan.run(predict, process.sigma(process.t_max) * z)
    torch.testing.assert_close(found, torch.full_like(z, 0.7))
    first = math.exp(-process.half_log_snr(process.t_max))
    less = told == 9 and skipped == 0 and 9 < first < math.inf
    assert asked[0][0] == pytest.approx(9.0 if less else first, rel=1e-9)
    torch.testing.assert_close(asked[0][1], z)  # z is kept, and so is where the step leads
    assert asked[1][0] == pytest.approx(1, rel=1e-9)
    torch.testing.assert_close(asked[1][1], z + (0.7 - 0.7 / first))


def test_an_error_that_grows_with_the_noise_does_not_reach_the_samples() -> None:
    problem = exact("low rank", EDM(), samples=16, steps=100)
    random = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(problem.start[0].numel(), 8, generator=random, dtype=torch.float64)).Q

    def predict(x: Tensor, t: float) -> Tensor:
        off = 0.05 * EDM().sigma(t) * (x / EDM().sigma(t)).flatten(1) @ turned @ turned.T
        return problem.predict(x, t) + off.reshape(x.shape)

    scale = 1.0
    numbers = for_all(EDM(), 8, scale)
    assert numbers.told == universal.TOLD * scale
    times = [EDM().t_max, *(EDM().time(-math.log(level)) for level in numbers.levels[1:]), EDM().t_clean]
    apart = []
    for told in (numbers.told, None):
        plan = solver(numbers.history, told=told).plan(EDM(), times, "sample")
        samples, exactly = (plan.run(each, problem.start) for each in (predict, problem.predict))
        apart.append(float((samples - exactly).square().mean().sqrt()))
    assert apart[0] < 0.5 * apart[1]


@every_process
@pytest.mark.parametrize("scale", [1e-3, 0.3, 4.0, 300.0])
def test_levels_for_all_models_fall_within_every_process(process: Process, scale: float) -> None:
    for count in [1, *universal.tables()]:
        numbers = for_all(process, count, scale)
        least, most = (math.exp(-process.half_log_snr(t)) for t in (process.t_min, process.t_max))
        assert len(numbers) == count and numbers.levels[0] == most
        assert numbers.levels[-1] >= least * (1 - 1e-9) or count == 1
        assert numbers.told is None or max(numbers.levels[1:], default=0) < numbers.told < most < math.inf
        assert len(solvers.grids.get("auto", scale=scale)(process, count)) == count + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (1.0, 2.0)}, "must fall strictly"),
        ({"levels": (1.0, 0.0)}, "stay above 0"),
        ({"levels": (1.0,)}, "n levels, n rows"),
        ({"history": ((), (1.0, 2.0))}, "step 1 has at most 1 finite"),
        ({"history": ((), (math.nan,))}, "step 1 has at most 1 finite"),
        ({"offsets": (0.1, 0.0)}, "the first offset 0"),
        ({"offsets": (0.0, math.inf)}, "must be finite"),
        ({"told": 0.0}, "finite and above 0"),
        ({"told": math.inf}, "finite and above 0"),
    ],
)
def test_numbers_that_are_no_plan_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Numbers(**{"levels": (2.0, 1.0), "history": ((), (0.5,)), **changes})  # type: ignore[arg-type]

"""Refinement by gradients: they are those of the loss, they lower it, and networks without are left alone."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.tuning.problems import EXACT, converged
from scoresde import ScoreModel, tune
from scoresde.process import EDM, VP, Flow, Process, VPDiscrete
from scoresde.tuning import procedure
from scoresde.tuning.fit import QUANTILES, Number, State, free, levenberg_marquardt, loss, moved, on_whole_times
from scoresde.tuning.refine import gradient, refined
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers, for_all

ALL = ("told", "level", "offset", "history")


@cache
def trajectories(process: Process, count: int = 16, steps: int = 24) -> Trajectories:
    model = EXACT["points"](process)
    found = Trajectories.of(model, range(count), model.shape, dtype=torch.float64)
    return replace(
        found, ends=converged(process, model.denoised, process.sigma(process.t_max) * found.noise, steps), unit=1.5
    )


def perturbed(numbers: Numbers, size: float, seed: int = 0) -> Numbers:
    which = free(len(numbers), ALL, 7)
    return moved(numbers, which, size * np.random.default_rng(seed).standard_normal(len(which)))


def differences(own: Trajectories, numbers: Numbers, kinds: tuple[str, ...] = ALL, by: float = 1e-5) -> np.ndarray:
    def run(number: Number, by: float) -> float:
        return loss([own], moved(numbers, [number], [by]))

    return np.array([(run(each, by) - run(each, -by)) / (2 * by) for each in free(len(numbers), kinds, 7)])


def slope(own: Trajectories, numbers: Numbers, step: float = 1e-6) -> np.ndarray:
    return gradient(own, State.at([own], numbers, QUANTILES), free(len(numbers), ALL, 7), QUANTILES, step)


class Net(nn.Module):
    """A network that is not the best at anything, with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
        random = torch.Generator().manual_seed(3)
        for parameter in self.inner.parameters():
            nn.init.normal_(parameter, std=0.5, generator=random)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.inner(torch.cat([x, t[:, None]], 1))


def of_network(net: object, prediction: str = "epsilon", dtype: torch.dtype = torch.float32) -> Trajectories:
    model = ScoreModel(net, VP(), prediction)  # pyright: ignore[reportArgumentType]
    own = Trajectories.of(model, range(12), (2,), dtype=dtype)
    return replace(own, ends=own.follow(for_all(VP(), 12, 1.0)))


# --- the gradient


@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=lambda process: process.name)
def test_the_gradient_is_that_of_the_loss_in_every_number(process: Process) -> None:
    own, numbers = trajectories(process), perturbed(for_all(process, 5, 1.0), 0.05)
    expected = differences(own, numbers)
    np.testing.assert_allclose(slope(own, numbers), expected, atol=1e-5 * np.abs(expected).max())
    assert (numbers.told is None) == (process.name == "flow")
    kinds = {number.kind for number, value in zip(free(5, ALL, 7), expected, strict=True) if value}
    assert kinds == set(ALL) - ({"told"} if numbers.told is None else set())


@pytest.mark.parametrize("step", [1e-4, 0.02])
def test_how_far_a_network_is_told_of_other_noise_matters_little(step: float) -> None:
    own, numbers = trajectories(VP()), perturbed(for_all(VP(), 5, 1.0), 0.05)
    exact = slope(own, numbers)
    assert np.linalg.norm(slope(own, numbers, step) - exact) < 2e-3 * np.linalg.norm(exact)


def test_batches_add_up() -> None:
    own, numbers = trajectories(VP()), perturbed(for_all(VP(), 5, 1.0), 0.05)
    np.testing.assert_allclose(slope(replace(own, batch_size=5), numbers), slope(own, numbers), rtol=1e-6, atol=1e-8)


def test_beyond_the_ends_of_a_process_nothing_changes_what_is_told() -> None:
    own, plain = trajectories(VP()), for_all(VP(), 5, 1.0)
    most, least = math.log(own.first / plain.levels[1]), math.log(own.last / plain.levels[4])
    numbers = Numbers(plain.levels, plain.history, (0.0, most + 0.5, 0.0, 0.0, least - 0.5), told=2 * own.first)
    found, expected = slope(own, numbers), differences(own, numbers)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    values = dict(zip(free(5, ALL, 7), found, strict=True))
    assert not any(values[each] for each in (Number("told", 0), Number("offset", 1), Number("offset", 4)))


def test_a_sample_without_error_has_a_gradient_too() -> None:
    own, numbers = trajectories(VP()), for_all(VP(), 5, 1.0)
    ends = own.known_ends.clone()
    ends[3] = own.follow(numbers)[3]
    assert np.isfinite(slope(replace(own, ends=ends), numbers)).all()


# --- the descent


def test_it_goes_on_where_levenberg_marquardt_ends_and_lowers_what_was_moved_away() -> None:
    own, plain, which = trajectories(VP()), for_all(VP(), 5, 1.0), free(5, ALL, 7)
    fitted = levenberg_marquardt([own], plain, which, iterations=8)
    further = refined(own, fitted.numbers, which, steps=15)
    assert further is not None and further.loss < fitted.loss - 0.005
    away = perturbed(fitted.numbers, 0.03)
    back = refined(own, away, which, steps=15)
    assert back is not None and back.loss < loss([own], away) - 0.5
    assert back.loss == loss([own], back.numbers)


def test_numbers_that_may_not_move_stay_and_none_is_no_descent() -> None:
    own, start = trajectories(VP()), perturbed(for_all(VP(), 4, 1.0), 0.05)
    found = refined(own, start, free(4, ("history",), 1), steps=3)
    assert found is not None and found.numbers != start
    assert replace(found.numbers, history=start.history) == start
    assert [row[1:] for row in found.numbers.history] == [row[1:] for row in start.history]
    same = refined(own, start, [], steps=3)
    assert same is not None and same.numbers == start


def test_a_level_that_can_go_no_lower_holds_nothing_back() -> None:
    own, plain, which = trajectories(VP()), for_all(VP(), 4, 1.0), free(4, ALL, 7)
    low = replace(plain, levels=(*plain.levels[:3], own.last), history=((), (1.0,), (0.4, -0.2), (1.0, 0.0, 0.0)))
    found = refined(own, low, which, steps=8)
    assert found is not None and found.loss < loss([own], low) - 0.5
    assert (np.diff(np.log(found.numbers.levels)) < 0).all() and found.numbers.levels[-1] >= 0.999 * own.last


def test_at_whole_times_coefficients_are_refined() -> None:
    process = VPDiscrete()
    own = trajectories(process)
    model = own.model

    def net(x: Tensor, t: Tensor) -> Tensor:
        return model.denoised(x, t.round())

    table = replace(own, model=ScoreModel(net, process, "sample"))
    assert table.asks_whole_times()
    start = perturbed(on_whole_times(for_all(process, 5, 1.0), process), 0.0)
    found = refined(table, start, free(5, ("history",), 7), steps=10)
    assert found is not None and found.loss < loss([table], start) - 0.05
    assert found.numbers.levels == start.levels


# --- networks


def test_a_network_is_left_as_it_was() -> None:
    net = Net()
    net.inner[0].bias.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in net.parameters()]
    own = replace(of_network(net), batch_size=5)
    start = for_all(VP(), 4, 1.0)
    found = refined(own, start, free(4, ALL, 7), steps=4)
    assert found is not None and found.loss < loss([own], start)
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    assert all(parameter.grad is None for parameter in net.parameters()) and net.training
    assert torch.is_grad_enabled()


def test_it_is_told_of_every_evaluation() -> None:
    told, asked, net = [0], [0], Net()

    def count(x: Tensor, t: Tensor) -> Tensor:
        asked[0] += len(x)
        return net(x, t)

    def tell(states: int) -> None:
        told[0] += states

    own = of_network(count)
    asked[0] = 0
    refined(replace(own, tell=tell), for_all(VP(), 3, 1.0), free(3, ALL, 2), steps=2)
    # What is computed again ends as soon as all that the gradient needs is there, which may be before it is told.
    assert 0.5 * asked[0] < told[0] <= asked[0]


def without_gradient(x: Tensor, t: Tensor) -> Tensor:
    with torch.no_grad():
        return Net()(x, t)


def rounding(x: Tensor, t: Tensor) -> Tensor:
    return (256 * Net()(x, t)).round() / 256  # its derivative is 0 almost everywhere


class Remote(torch.autograd.Function):
    """A network whose backward pass nobody wrote."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.tanh()


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("net", [without_gradient, rounding, lambda x, t: Remote.apply(x)], ids=["no", "round", "far"])
def test_networks_without_gradients_are_not_refined(net: object, prediction: str) -> None:
    own = of_network(net, prediction)
    assert refined(own, for_all(VP(), 4, 1.0), free(4, ALL, 7), steps=2) is None


def test_gradients_may_be_those_of_16_bits() -> None:
    net = Net().to(torch.bfloat16)
    own = of_network(lambda x, t: net(x.bfloat16(), t.bfloat16()).to(x.dtype))
    start = for_all(VP(), 4, 1.0)
    found = refined(own, start, free(4, ("level", "history"), 2), steps=4)
    assert found is not None and found.loss <= loss([own], start)


# --- tuning


def test_a_thorough_tuning_offers_what_gradients_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    offered, own = dict[str, Numbers | None](), list[Trajectories]()
    chosen = procedure._Tuning._chosen

    def seen(self: procedure._Tuning, count: int, plain: procedure.Candidate, others: list[procedure.Candidate]):
        offered.update({each.name: each.numbers for each in others})
        own.append(self.fit)
        return chosen(self, count, plain, others)

    monkeypatch.setattr(procedure._Tuning, "_chosen", seen)
    monkeypatch.setitem(procedure.EFFORTS, "thorough", 3)
    model = EXACT["points"](VP())
    tune(model, nfe=2, shape=model.shape, seeds=range(16), dtype=torch.float64, effort="thorough")
    assert list(offered)[-2:] == ["fitted with all of the history", "refined by gradients"]
    before, after = list(offered.values())[-2:]
    assert before is not None and after is not None and loss(own, after) < loss(own, before)
    monkeypatch.setattr(procedure, "refined", lambda *args, **options: None)
    offered.clear()
    tune(model, nfe=2, shape=model.shape, seeds=range(16), dtype=torch.float64, effort="thorough")
    assert list(offered)[-1] == "fitted with all of the history"

"""Sample i depends on its own seed and nothing else: bits at one batch size, rounding otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import scoresde
import solvers
from scoresde.exact import DataPoints, GaussianMixture
from scoresde.networks.unet import UNet

SOLVERS = {
    "euler_maruyama": "euler_maruyama",
    "ddpm": "ddpm",
    "ddim": solvers.get("ddim", eta=0.7),
    "heun": solvers.get("heun", s_churn=4.0),
    "dpm_solver_3": "dpm_solver_3",
    "dpmpp_2m": "dpmpp_2m",
    "rk4": solvers.get("pf_ode", method="rk4"),
}
IMAGE = (1, 8, 8)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def mixture() -> scoresde.ScoreModel:
    with seeded(1):
        means, factors = torch.randn(6, *IMAGE), 0.3 * torch.randn(6, 64, 2)
    return GaussianMixture(scoresde.VP(), torch.ones(6), means, torch.full((6,), 0.05), factors, labels=[0, 1, 2] * 2)


def points() -> scoresde.ScoreModel:
    with seeded(2):
        return DataPoints(scoresde.Flow(), torch.rand(50, *IMAGE), torch.arange(50) % 3, 0.05)


def network() -> scoresde.ScoreModel:
    """A U-Net of random weights; the layers that training starts from zero are filled too, or it would be linear."""
    with seeded(3):
        net = UNet(in_channels=1, channels=(32, 64), depth=1, num_classes=3, fold=2)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    net = net.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    return scoresde.ScoreModel(net, scoresde.VP(), "v_prediction", time_input=lambda t: 1000 * t)


MODELS = {"mixture": mixture(), "points": points(), "network": network()}


def labels(seeds: list[int]) -> Tensor:
    return torch.tensor([seed % 3 for seed in seeds])


def run(
    model: scoresde.ScoreModel, solver: Any, seeds: list[int], image: tuple[int, ...] = IMAGE, **ask: Any
) -> Tensor:
    """Samples of these seeds, each under a label that belongs to its seed."""
    cond = {"label": labels(seeds)}
    ask.setdefault("nfe", 9)
    return scoresde.sample(model, solver, shape=(len(seeds), *image), seeds=seeds, cond=cond, **ask).samples


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("model", MODELS)
def test_requests_of_1_7_and_64_samples_give_equal_bits_at_one_batch_size(model: str, solver: str) -> None:
    many = run(MODELS[model], SOLVERS[solver], list(range(64)), batch_size=16)
    for count in (1, 7):
        few = run(MODELS[model], SOLVERS[solver], list(range(count)), batch_size=16)
        assert torch.equal(few, many[:count])
    later = run(MODELS[model], SOLVERS[solver], list(range(40, 47)), batch_size=16)
    assert torch.equal(later, many[40:47])
    assert float(many[0].sub(many[3]).abs().max()) > 0.01


@pytest.fixture(scope="module")
def bundled() -> scoresde.models.Checkpoint:
    return scoresde.models.load("mnist")


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_the_bundled_network_gives_equal_bits_at_one_batch_size(
    solver: str, bundled: scoresde.models.Checkpoint
) -> None:
    def samples(first: int, count: int, **ask: Any) -> Tensor:
        cond = {"label": torch.arange(first, first + count) % bundled.classes}
        shape = (count, *bundled.shape)
        return scoresde.sample(
            bundled.model, SOLVERS[solver], steps=3, shape=shape, seeds=first, cond=cond, **ask
        ).samples

    many = samples(0, 64, batch_size=16)
    for count in (1, 7):
        assert torch.equal(samples(0, count, batch_size=16), many[:count])
        assert torch.equal(samples(64 - count, count, batch_size=16), many[-count:])
    assert float((samples(0, 64) - many).abs().max()) <= 1e-3


@pytest.mark.parametrize("model", ["mixture", "network"])
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_seeds_in_any_order_and_any_neighbours_give_equal_bits(model: str, data: st.DataObject) -> None:
    seeds = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=10))
    chosen = data.draw(st.lists(st.sampled_from(range(len(seeds))), min_size=1, max_size=10))
    every = run(MODELS[model], "ddpm", seeds, batch_size=4, nfe=3)
    some = run(MODELS[model], "ddpm", [seeds[i] for i in chosen], batch_size=4, nfe=3)
    assert torch.equal(some, every[chosen])


@pytest.mark.parametrize("model", MODELS)
def test_work_that_is_split_or_taken_up_again_gives_equal_bits(model: str) -> None:
    whole = run(MODELS[model], "ddpm", list(range(10)), batch_size=4)
    for cut in (1, 4, 7):
        parts = [run(MODELS[model], "ddpm", part, batch_size=4) for part in (list(range(cut)), list(range(cut, 10)))]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-3), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
def test_other_batch_sizes_change_samples_by_rounding_alone(
    model: str, solver: str, dtype: torch.dtype, bound: float
) -> None:
    exact = MODELS[model]
    if model == "network" and dtype == torch.float64:
        net = network().net
        assert isinstance(net, torch.nn.Module)
        exact = scoresde.ScoreModel(net.double(), exact.process, exact.prediction, time_input=exact.time_input)
    together = run(exact, SOLVERS[solver], list(range(9)), dtype=dtype)
    scale = float(together.abs().max())
    for size in (1, 4, 16):
        other = run(exact, SOLVERS[solver], list(range(9)), dtype=dtype, batch_size=size)
        assert float((other - together).abs().max()) <= bound * max(1.0, scale)
    alone = torch.cat([run(exact, SOLVERS[solver], [seed], dtype=dtype) for seed in range(9)])
    assert float((alone - together).abs().max()) <= bound * max(1.0, scale)


def test_the_batch_size_that_was_used_is_recorded_for_a_restart() -> None:
    ask: dict[str, Any] = {"steps": 3, "shape": (5, *IMAGE)}
    for size in (None, 2):
        first = scoresde.sample(MODELS["mixture"], "ddpm", batch_size=size, **ask)
        again = scoresde.sample(MODELS["mixture"], "ddpm", batch_size=first.batch_size, seeds=first.seeds, **ask)
        assert first.batch_size == size
        assert torch.equal(first.samples, again.samples)

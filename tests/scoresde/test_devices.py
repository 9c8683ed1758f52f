"""Devices without float64, as Apple's and some of Intel's are: the meta device stands for them, where any raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import scoresde
import solvers
from scoresde import guidance, process
from scoresde.energy import Energy
from scoresde.noise import Noise
from scoresde.score import as_times, expand
from solvers import PlannedSolver

GUIDED = ("ddim_cfg_pp", "euler_cfg_pp", "dpmpp_2m_cfg_pp")
PLANNED = [name for name in solvers.names() if isinstance(solvers.get(name), PlannedSolver) and name not in GUIDED]
X = (2, 3, 8, 8)


class NoFloat64(TorchDispatchMode):
    """Every tensor of float64 that an operation makes on the meta device is an error."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, Tensor) and tensor.device.type == "meta" and tensor.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
        return out


@pytest.fixture(autouse=True)
def without_float64() -> Iterator[None]:
    with NoFloat64():
        yield


def state() -> Tensor:
    return torch.zeros(X, device="meta")


def model(which: process.Process, prediction: str = "epsilon", **options: Any) -> scoresde.ScoreModel:
    net = nn.Conv2d(3, 3, 3, padding=1).to("meta")
    return scoresde.ScoreModel(lambda x, t, **cond: net(x) + expand(t, x), which, prediction, **options)


def test_the_stand_in_has_no_float64() -> None:
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(1, dtype=torch.float64, device="meta")


@pytest.mark.parametrize("name", process.PROCESSES.names())
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_a_model_is_evaluated_in_every_view(name: str, prediction: str) -> None:
    found = model(process.get(name), prediction, time_input=lambda t: 999 * t)
    t = 0.5 * (found.process.t_min + found.process.t_max)
    for view in (found.output, found.score, found.denoised, found.epsilon):
        for time in (t, torch.full((2,), t, device="meta")):
            out = view(state(), time)
            assert out.dtype == torch.float32 and out.device.type == "meta"


def test_a_model_is_seen_on_another_process_and_guided() -> None:
    vp = model(scoresde.VP())
    assert vp.on(scoresde.EDM()).output(state(), 2.0).device.type == "meta"
    text = torch.zeros(1, 4, device="meta")
    free = guidance.ClassifierFree(vp, {"text": text}, scale=2.0, low=0.1, high=5.0)
    assert free.output(state(), 0.5, text=text.expand(2, 4)).dtype == torch.float32
    energy = Energy(scoresde.VP(), lambda x, t: x.flatten(1).square().sum(1))
    assert energy.output(state(), 0.5).dtype == torch.float32


@pytest.mark.parametrize("name", PLANNED)
def test_every_plan_runs_with_noise_of_its_seeds(name: str) -> None:
    found = model(scoresde.VP())
    solver: Any = solvers.get(name)
    plan = solver.plan(found.process, solver.recommended(found.process, 4), "epsilon")
    noise = Noise([1, 2], X[1:], torch.float32, "meta")
    out = plan.run(found.output, state(), noise)
    assert out.shape == X and out.dtype == torch.float32


def test_times_and_draws_are_those_of_the_cpu() -> None:
    assert as_times(0.3, state()).dtype == torch.float64 and as_times(0.3, state()).device.type == "cpu"
    assert torch.equal(as_times(0.3, state()), as_times(0.3, torch.zeros(X)))
    noise = Noise([1, 2], (5,), torch.float32, "meta")
    assert noise().device.type == "meta" and noise(torch.tensor([1])).shape == (1, 5)


def test_a_state_in_float64_is_refused_by_the_device() -> None:
    class There(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x * self.scale

    found = scoresde.ScoreModel(There(), scoresde.VP())
    refused: Callable[..., Any] = pytest.MonkeyPatch
    with refused.context() as patch:
        patch.setattr("scoresde.sampling.has_float64", lambda device: False)
        with pytest.raises(ValueError, match="device = 'cpu' has no float64: take dtype = torch.float32"):
            scoresde.sample(found, steps=2, shape=(1, 2), dtype=torch.float64)

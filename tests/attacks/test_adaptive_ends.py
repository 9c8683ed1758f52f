"""Adaptive solvers come to an end: samples, or a line that says which samples, where, and what would do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from solvers.errors import StepsError

VP, EDM = scoresde.VP(), scoresde.EDM()
KINDS: dict[str, dict[str, Any]] = {
    "rk_adaptive": {"method": "dopri5"},
    "rk_adaptive heun_euler": {"method": "heun_euler"},
    "dpm_adaptive": {},
    "dpm_adaptive published": {"controller": "published"},
    "adaptive_sde": {},
    **{f"pf_ode {method}": {"method": method} for method in ("dopri5", "RK45", "DOP853", "Radau", "BDF", "LSODA")},
}


def get(kind: str, **options: Any) -> solvers.Solver:
    return solvers.get(kind.split()[0], **KINDS[kind], **options)


class Counted:
    """A network that counts the calls of it."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]):
        self.function, self.calls = function, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.function(x, t[:, None])


def run(kind: str, net: Callable[[Tensor, Tensor], Tensor], process: scoresde.Process = VP, **options: Any) -> Tensor:
    model = scoresde.ScoreModel(net, process)
    return scoresde.sample(model, get(kind, **options), shape=(2, 3), seeds=[7, 9]).samples


def rough(x: Tensor, t: Tensor) -> Tensor:
    """No step is short enough for it."""
    return 100.0 * torch.sin(1e5 * x).sign()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_at_its_ceiling_of_evaluations_and_says_how_far_it_came(kind: str) -> None:
    net = Counted(rough)
    with pytest.raises(StepsError) as raised:
        run(kind, net, max_nfe=60)
    text = str(raised.value)
    ceiling = (
        r" has come to t = (0\.\d+|1) in max_nfe = 60 evaluations for seeds \[7, 9\]: raise rtol = \S+ and atol = "
    )
    small = r"became too small to move on for seeds \[(7|9|7, 9)\]: at t = (0\.\d+|1) the model is not smooth"
    assert re.search(ceiling, text) or re.search(small, text), text
    assert net.calls <= 60
    assert "\n" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_ceiling_that_is_not_reached_changes_nothing(kind: str) -> None:
    net = Counted(lambda x, t: 0.3 * x)
    free = run(kind, net, rtol=0.01, atol=0.01)
    assert torch.equal(run(kind, net, rtol=0.01, atol=0.01, max_nfe=net.calls), free)


@pytest.mark.parametrize("max_nfe", [0, -1, 1.5, True, math.inf, math.nan, "many", None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_ceiling_is_a_whole_number(kind: str, max_nfe: Any) -> None:
    with pytest.raises(ValueError, match=f"needs a whole number of at least 1 as max_nfe, got {max_nfe}"):
        get(kind, max_nfe=max_nfe)


@pytest.mark.parametrize("kind", KINDS)
def test_tolerances_that_float32_cannot_keep_are_refused_before_the_network_is_asked(kind: str) -> None:
    net = Counted(lambda x, t: 0.3 * x)
    for process in (VP, EDM):
        with pytest.raises(ValueError, match="cannot keep rtol = 1e-12 and atol = 1e-12 in float32, whose numbers are"):
            run(kind, net, process, rtol=1e-12, atol=1e-12)
    assert net.calls == 0
    assert run(kind, net, rtol=1e-12, atol=0.1).isfinite().all()
    with pytest.raises(ValueError, match="cannot keep rtol = 1e-1[78]( and atol = 1e-1[78] in float64)?"):
        scoresde.sample(
            scoresde.ScoreModel(net, VP),
            get(kind, rtol=1e-17, atol=1e-18),
            shape=(2, 3),
            seeds=0,
            dtype=torch.float64,
        )


@pytest.mark.parametrize("kind", ["rk_adaptive", "pf_ode dopri5", "pf_ode DOP853"])
def test_the_tightest_tolerances_that_are_taken_come_to_an_end(kind: str) -> None:
    tolerance = 1.01 * float(np.finfo(np.float32).eps)
    loose, tight = (run(kind, Counted(lambda x, t: 0.3 * x), rtol=tol, atol=tol) for tol in (1e-5, tolerance))
    torch.testing.assert_close(tight, loose, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_ends_the_run_at_once_with_its_seed(kind: str, value: float) -> None:
    def broken(x: Tensor, t: Tensor) -> Tensor:
        output = 0.3 * x
        output[1:][(t < 0.5)[1:, 0]] = value  # of the second sample, or of what is left of the batch
        return output

    net = Counted(broken)
    with pytest.raises(scoresde.sampling.NonFiniteError, match=r"at t = 0\.\d+ is not finite for seeds \[[79]\]"):
        run(kind, net)
    assert net.calls < 500


@pytest.mark.parametrize("kind", ["rk_adaptive", "dpm_adaptive", "adaptive_sde", "pf_ode RK45", "pf_ode LSODA"])
def test_a_state_that_explodes_is_named(kind: str) -> None:
    """The solution grows beyond all bounds at a time that is not zero."""
    net = Counted(lambda x, t: -1e4 * x * x.abs())
    with pytest.raises(
        (StepsError, scoresde.sampling.NonFiniteError), match=r"(?=.* seeds \[).*t = (0\.9\d*|1)\b"
    ) as raised:
        run(kind, net)
    assert "assert" not in str(raised.value).lower() and net.calls < 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_solver_by_itself_names_the_samples_of_the_batch(kind: str) -> None:
    def broken(x: Tensor, t: Any, rows: Tensor | None = None) -> Tensor:
        return torch.where(torch.as_tensor(t).reshape(-1, 1) < 0.5, math.nan, 0.3 * x)

    noise = scoresde.noise.Noise([1, 2], (3,), torch.float32)
    with pytest.raises(StepsError, match=r"for samples \[(0|1|0, 1)\]: "):
        get(kind).run(VP, [1.0, 0.0], broken, torch.ones(2, 3), noise)


@pytest.mark.parametrize("kind", KINDS)
def test_an_assertion_of_the_network_s_own_stays_what_it_is(kind: str) -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("the network's own")

    with pytest.raises(AssertionError, match="the network's own"):
        run(kind, net)


def test_seeds_are_named_in_whatever_batch_they_are() -> None:
    def net(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return torch.where(label[:, None] > 0, rough(x, t), 0.3 * x)

    model, labels = scoresde.ScoreModel(net, VP), torch.tensor([0, 0, 0, 1, 0])
    for name in ("rk_adaptive", "dpm_adaptive", "adaptive_sde"):
        with pytest.raises(StepsError, match=r"for seeds \[13\]: "):
            scoresde.sample(
                model,
                solvers.get(name, max_nfe=400),
                shape=(5, 3),
                seeds=10,
                cond={"label": labels},
                batch_size=2,
            )

"""Our solvers behind the signature of k-diffusion's sampling functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from scoresde.integrations.k_diffusion import intervals, sampler
from scoresde.process import EDM
from solvers import PlannedSolver, grids

SIGMAS = torch.tensor(grids.get("karras")(EDM(0.1, 20.0), 6), dtype=torch.float64)


def denoiser(x: Tensor, sigma: Tensor, scale: float = 1.0) -> Tensor:
    assert sigma.shape == (len(x),)
    level = sigma.reshape(-1, 1)
    return scale * x / (1 + level**2) + 0.1 * torch.sin(x)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return 20 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)


def ours(name: str, **options: Any) -> Tensor:
    model = scoresde.ScoreModel(lambda x, t: denoiser(x, t, 0.9), EDM(0.05, 20.0), "sample")
    grid = SIGMAS.tolist()
    return scoresde.sample(model, solvers.get(name, **options), x_init=start(), grid=grid, seeds=[1, 2, 3]).samples


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("euler", {}),
        ("heun", {"s_churn": 3.0}),
        ("uni_pc", {"order": 3}),
        ("dpmpp_3m", {}),
        ("dpmpp_2s", {}),
        ("dpmpp_3m_sde", {}),
        ("seeds_3", {}),
    ],
    ids=str,
)
def test_it_is_our_loop_on_those_sigmas(name: str, options: dict[str, Any]) -> None:
    found = sampler(name, **options)(denoiser, start(), SIGMAS, {"scale": 0.9}, disable=True, seeds=[1, 2, 3])
    torch.testing.assert_close(found, ours(name, **options), rtol=1e-12, atol=1e-12)


def test_euler_is_the_formula_of_the_paper_and_the_callback_sees_its_steps() -> None:
    """Karras et al. 2022, Algorithm 1 without the correction: d = (x − D)/σ, x ← x + (σ' − σ) d."""
    x, expected, seen = start(), [], []
    for i in range(len(SIGMAS) - 1):
        denoised = denoiser(x, SIGMAS[i].expand(3))
        expected.append({"x": x, "i": i, "sigma": SIGMAS[i], "sigma_hat": SIGMAS[i], "denoised": denoised})
        x = x + (SIGMAS[i + 1] - SIGMAS[i]) * (x - denoised) / SIGMAS[i]
    found = sampler("euler")(denoiser, start(), SIGMAS, callback=seen.append, disable=True)
    torch.testing.assert_close(found, x)
    for one, other in zip(seen, expected, strict=True):
        assert set(one) == set(other)
        for key in other:
            torch.testing.assert_close(torch.as_tensor(one[key]).double(), torch.as_tensor(other[key]).double())


def test_the_callback_is_called_once_a_step_with_the_churned_level() -> None:
    seen: list[dict[str, Any]] = []
    sampler("heun", s_churn=1.2, s_tmax=10.0)(denoiser, start(), SIGMAS, callback=seen.append, disable=True)
    assert [one["i"] for one in seen] == list(range(6))
    for one in seen:
        factor = 1.2 if one["sigma"] <= 10 else 1.0
        assert one["sigma_hat"] == pytest.approx(factor * float(one["sigma"]))


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "seeds_3", "predictor_corrector"])
def test_noise_is_asked_for_between_levels_that_do_not_overlap(name: str) -> None:
    asked: list[tuple[float, float]] = []

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        asked.append((float(sigma), float(sigma_next)))
        return torch.zeros(3, 5, dtype=torch.float64)

    sampler(name)(denoiser, start(), SIGMAS, disable=True, noise_sampler=noise)
    assert asked[0][0] == SIGMAS[0] and asked[-1][1] == SIGMAS[-2]
    for (first, last), (following, _) in zip(asked, asked[1:], strict=False):
        assert first > last == following
    if name in ("euler_ancestral", "dpmpp_2m_sde"):
        assert asked == list(zip(SIGMAS[:-2].tolist(), SIGMAS[1:-1].tolist(), strict=True))


def test_stages_take_the_noise_up_to_their_own_level() -> None:
    solver = solvers.get("dpmpp_sde")
    assert isinstance(solver, PlannedSolver)
    found = list(intervals(solver.plan(EDM(), [8.0, 2.0, 0.5], "sample")))
    expected = [(8.0, 4.0), (4.0, 2.0), (2.0, 1.0), (1.0, 0.5)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_it_may_end_above_zero_and_keeps_the_dtype() -> None:
    levels = SIGMAS[:4]
    found = sampler("dpmpp_2m")(denoiser, start(), levels, disable=True)
    rest = sampler("ddim")(denoiser, found, SIGMAS[3:5], disable=True)
    torch.testing.assert_close(sampler("ddim")(denoiser, found, [*SIGMAS[3:5].tolist()], disable=True), rest)
    half = sampler("dpmpp_2m")(denoiser, start(torch.float32).half(), levels, disable=True)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), found, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("dpm_adaptive", {}, "'dpm_adaptive' chooses its steps as it goes"),
        ("unipcc", {}, "unknown solver 'unipcc'; did you mean 'uni"),
        ("ddim", {"sigmas": [1.0, 2.0]}, "decrease strictly"),
        ("ddpm", {"seeds": [1]}, "1 seeds for a batch of 3"),
        ("ddpm", {"seeds": [1, 2, 3], "noise_sampler": lambda *levels: None}, "noise_sampler or seeds, not both"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampler(name)(denoiser, start(), **{"sigmas": SIGMAS, "disable": True, **arguments})

"""Predictor–corrector sampling with Langevin steps by norms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from scoresde.exact import Gaussian, GaussianMixture
from scoresde.noise import Noise

PROCESSES = {"VP": scoresde.VP(), "EDM": scoresde.EDM(), "Flow": scoresde.Flow()}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_step_is_the_predictor_s_and_the_paper_s_corrector(process: str) -> None:
    on = PROCESSES[process]
    model = Gaussian(on, [0.5, -1.0, 0.2], torch.diag(torch.tensor([0.5, 0.1, 1.0])))
    t, s = (on.time(value) for value in (-1.0, 0.0))
    draws = [torch.randn(4, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3)]
    x = draws[2] * on.sigma(t)

    def run(name: str, **options: Any) -> Tensor:
        noise, predict = iter(draws).__next__, model.denoised
        return solvers.get(name, **options).run(on, [t, s], predict, x, noise, prediction="sample")

    predicted = run("predictor_corrector", strength=1e-300)  # whose Langevin step is then none
    score = model.score(predicted, s)
    length = (
        [math.dist(row, [0, 0, 0]) for row in draws[1].tolist()],
        [math.dist(row, [0, 0, 0]) for row in score.tolist()],
    )
    sizes = [2 * (on.alpha(t) / on.alpha(s)) ** 2 * (0.2 * z / g) ** 2 for z, g in zip(*length, strict=True)]
    size = torch.tensor(sizes, dtype=torch.float64)[:, None]
    expected = predicted + size * score + (2 * size).sqrt() * draws[1]
    torch.testing.assert_close(run("langevin_pc", snr=0.2), expected, rtol=1e-12, atol=1e-12)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    model = GaussianMixture(PROCESSES["VP"], [1, 1], [[3.0, 0, 0], [0, -3.0, 1]], [0.001, 1.0], labels=[0, 1])
    labels = torch.tensor([0, 1, 0])
    ask: dict[str, Any] = {"solver": "langevin_pc", "nfe": 21, "dtype": torch.float64}
    whole = scoresde.sample(model, shape=(3, 3), seeds=[4, 5, 6], cond={"label": labels}, **ask)
    assert whole.evaluations == [21] * 3  # ten steps with a Langevin step each, and the denoise
    for i in range(3):
        alone = scoresde.sample(model, shape=(1, 3), seeds=[4 + i], cond={"label": labels[i : i + 1]}, **ask)
        torch.testing.assert_close(alone.samples[0], whole.samples[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("corrections", [1, 3])
def test_evaluations_are_known_beforehand(corrections: int) -> None:
    process, calls = PROCESSES["Flow"], []
    solver = solvers.get("langevin_pc", corrections=corrections)
    times = solver.recommended(process, 5)
    noise = Noise([0, 1], (3,), torch.float64)

    def predict(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return 0.5 * x

    solver.run(process, times, predict, noise(), noise, prediction="sample")
    assert solver.nfe(process, times) == len(calls)


def test_its_langevin_steps_leave_the_error_that_their_size_has() -> None:
    """x ← (1 − a) x + √(2a) σ ξ with a = 2 snr² holds the variance σ²/(1 − a/2)."""
    process, snr = PROCESSES["EDM"], 0.3
    model = Gaussian(process, torch.zeros(512), torch.zeros(512, 512))  # p_t is N(0, σ² I)
    noise = Noise(range(40), (512,), torch.float64)
    times = [1.0, 1.0 - 1e-9]
    solver = solvers.get("langevin_pc", snr=snr, corrections=60)
    x = solver.run(process, times, model.denoised, noise(), noise, prediction="sample")
    assert float(x.square().mean()) == pytest.approx(1 / (1 - snr**2), rel=0.03)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"snr": 0.0}, "langevin_pc needs a positive snr, got 0.0"),
        ({"corrections": 0}, "langevin_pc needs 1 to 1000 corrections, got 0"),
        ({"eta": -1.0}, "at least 0 and finite, got eta = -1.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        solvers.get("langevin_pc", **options)

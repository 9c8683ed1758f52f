"""Plans as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import scoresde
import solvers
from scoresde.process import Process
from scoresde.report import plans

MODELS: dict[str, tuple[Process, str]] = {
    "VP, epsilon": (scoresde.VP(), "epsilon"),
    "VP, v": (scoresde.VP(), "v_prediction"),
    "EDM, sample": (scoresde.EDM(), "sample"),
    "flow": (scoresde.Flow(), "flow"),
}


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m", "uni_pc", "deis", "dpm_solver_3", "ipndm", "auto"])
@pytest.mark.parametrize("model", MODELS)
def test_the_shares_of_a_plan_make_its_states_from_what_the_network_says_of_the_data(name: str, model: str) -> None:
    process, prediction = MODELS[model]
    solver = solvers.get(name)
    plan = scoresde.Sampler(scoresde.ScoreModel(lambda x, t: x, process, prediction), solver, nfe=8).plan
    assert plan is not None
    levels, counts = plans.shares(plan)
    assert counts.shape == (len(plan.times) - 1, len(levels)) and len(levels) == plan.nfe
    random, data, states = torch.Generator().manual_seed(0), list[Tensor](), list[Tensor]()

    def predict(x: Tensor, t: float) -> Tensor:
        out = torch.randn(x.shape, generator=random, dtype=torch.float64)
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        a, b = solvers.prediction.convert(prediction, "sample", alpha, sigma)
        data.append(a * x + b * out)
        return out

    x = torch.randn(3, generator=random, dtype=torch.float64)
    plan.run(predict, x, step=lambda x, t: states.append(x.clone()))
    left = np.stack([states[step].numpy() for step in range(len(states))]) - counts @ torch.stack(data).numpy()
    scale = np.abs(counts).sum(1, keepdims=True) * max(float(each.abs().max()) for each in data) + 1
    remaining = (left / x.numpy()).mean(1)  # of the first state, as much in each of its numbers
    assert np.abs((left - remaining[:, None] * x.numpy()) / scale).max() < 1e-9
    assert counts[-1].sum() == pytest.approx(1, abs=1e-9)  # at no noise: data without spread are met exactly


def test_the_picture_is_there_for_noise_alone_and_for_one_evaluation(tmp_path: Path) -> None:
    asked: list[tuple[Any, ...]] = [
        (scoresde.Flow(), "flow", 4),
        (scoresde.VP(), "epsilon", 1),
        (scoresde.VP(), "sample", 30),
    ]
    for index, (process, prediction, nfe) in enumerate(asked):
        plan = scoresde.Sampler(scoresde.ScoreModel(lambda x, t: x, process, prediction), "ddim", nfe=nfe).plan
        assert plan is not None
        plans.draw(plan, tmp_path / f"{index}.png")
        with Image.open(tmp_path / f"{index}.png") as image:
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 20

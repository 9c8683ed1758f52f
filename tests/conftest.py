"""What several files test with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import scoresde
from scoresde import models
from solvers.catalogue import SOLVERS


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small network that says something different for each class."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    network = {"name": "unet", "channels": [16, 32], "depth": 1, "in_channels": 1, "num_classes": 10}
    net = models.build(network, (1, 8, 8))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    models.save(
        Path(folder),
        net,
        network="unet",
        process=scoresde.VP(),
        prediction="epsilon",
        shape=(1, 8, 8),
        classes=10,
        time_scale=1000.0,
    )
    return str(folder)


@pytest.fixture
def passing_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered in a test is gone after it."""
    kept = SOLVERS.names()  # which loads all of them, to stay when the copy goes
    monkeypatch.setattr(SOLVERS, "_makers", {name: SOLVERS[name] for name in kept})

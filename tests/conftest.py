"""What several files test with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.config_store import ConfigStore
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import scoresde
from scoresde import models, plugins
from scoresde.commands import app
from solvers.catalogue import SOLVERS
from solvers.registry import PLUGIN


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
def passing_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What plugins add in a test is gone after it."""
    for registry in plugins.GROUPS.values():
        monkeypatch.setattr(registry, "_makers", {name: registry[name] for name in registry.names()})
    monkeypatch.setattr(plugins, "_digests", {})
    monkeypatch.setattr(app, "_PLUGGED", {})
    yield
    for group, names in app._PLUGGED.items():
        for name in names:
            del ConfigStore.instance().repo[group][f"{name}.yaml"]
    for name in [name for name in sys.modules if name.startswith(PLUGIN)]:
        del sys.modules[name]


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are a dot: drawing them is most of what a tiny run takes."""

    def dot(figure: Any, path: Path, **_: Any) -> None:
        Image.new("L", (1, 1)).save(path, "PNG")

    monkeypatch.setattr(Figure, "savefig", dot)


@pytest.fixture
def passing_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered in a test is gone after it."""
    kept = SOLVERS.names()  # which loads all of them, to stay when the copy goes
    monkeypatch.setattr(SOLVERS, "_makers", {name: SOLVERS[name] for name in kept})

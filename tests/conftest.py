"""What several files test with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Installed:
    """An environment that has the project from a wheel alone, and what was added to it."""

    wheel: Path
    home: Path
    added: set[str]

    def run(self, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in a folder."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [str(self.home / "bin" / program), *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The project as a wheel, in an environment of its own.

    Its dependencies are borrowed through a path file, which reads no path files in turn, so that the checkout's
    editable install stays out of sight.
    """
    folder = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).resolve().parents[1]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    home = folder / "environment"
    venv.create(home, with_pip=True)
    (site,) = home.glob("lib/python*/site-packages")
    before = {path.name for path in site.iterdir()}
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    added = {path.name for path in site.iterdir()} - before
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Installed(wheel, home, added)


class Processes(list[subprocess.Popen[str]]):
    """Several processes of one command, which nobody supervises."""

    def ends(self) -> list[tuple[int, str, str]]:
        """Exit status, output and errors of each, all of which end by themselves."""
        said = [process.communicate(timeout=240) for process in self]
        return [(process.returncode, *words) for process, words in zip(self, said, strict=True)]


@pytest.fixture(scope="session")
def several() -> Callable[..., AbstractContextManager[Processes]]:
    """``scoresde`` with these arguments in so many processes, which are gone at the end of the block."""

    @contextmanager
    def start(count: int, *arguments: str) -> Iterator[Processes]:
        with socket.socket() as free, ExitStack() as stack:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
            free.close()
            run = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            processes = Processes()
            for rank in range(count):
                process = subprocess.Popen(
                    [sys.executable, "-m", "scoresde", *arguments],
                    env={**os.environ, **run, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                processes.append(stack.enter_context(process))
                stack.callback(process.kill)
            yield processes

    return start


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

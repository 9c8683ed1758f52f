"""Plugins: whatever people register in a file of theirs is a choice like ours, and part of what a run is."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import solvers
from scoresde import plugins
from scoresde.commands.main import main
from solvers import registry

pytestmark = pytest.mark.usefixtures("passing_plugins")
SOLVER = """
from solvers import solver

@solver("plugged", order=1, reference="a test")
def plugged(steps, x, predict, slower=1):
    '''DDIM.

    Args:
        slower: nothing.
    '''
    for t, s in steps:
        p = predict(x, t)
        x = yield s.alpha * p.x0 + s.sigma * p.epsilon
"""
EVERYTHING = """
import numpy as np
from torch import nn

import scoresde
from scoresde.metrics.spaces import SPACES, PixelSpace
from scoresde.networks import NETWORKS
from scoresde.process import PROCESSES
from solvers.grids.grid import rule


@rule()
def halving(process, steps):
    '''By halves.

    Source: a test.
    '''
    return process.t_max * 0.5 ** np.arange(steps)


class Faster(scoresde.VP):
    '''VP, faster.'''

    name = "faster"

    def __init__(self, beta: float = 30.0):
        super().__init__(0.1, beta)
        self.beta = beta

    def config(self):
        return {"name": self.name, "beta": self.beta}


PROCESSES.add("faster", Faster)


class Net(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 0, width: int = 8):
        super().__init__()
        self.config = {"in_channels": in_channels, "num_classes": num_classes, "width": width}
        self.layers = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.Conv2d(width, in_channels, 1))

    def forward(self, x, t, label=None):
        return self.layers(x)


NETWORKS.add("tiny_net", Net)


@scoresde.guidance.register
class Louder(scoresde.guidance.Rescale):
    '''Rescaled twice.'''

    name = "louder"


def dots(shape, *, device="cpu"):
    '''Pixels.'''
    return PixelSpace(shape)


SPACES.add("dots", dots)
"""


def file(folder: Path, text: str, name: str = "plug.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run(*arguments: Any) -> int:
    return main([str(item) for item in arguments])


def test_what_a_plugin_contains_is_part_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = file(tmp_path, SOLVER), tmp_path / "out"
    command = ["sample", f"plugins=[{path}]", "solver=plugged", "nfe=3", "n=2", f"out={out}"]
    assert run(*command) == 0
    assert run(*command) == 0 and "already" in capsys.readouterr().out
    again = [sys.executable, "-m", "scoresde", *command]
    file(tmp_path, SOLVER + "\n")
    ended = subprocess.run(again, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "other values of plugins.plug.py" in ended.stderr


def test_nothing_is_loaded_because_a_folder_names_it(tmp_path: Path) -> None:
    path, out, trap = file(tmp_path, SOLVER), tmp_path / "out", tmp_path / "trap.py"
    assert run("sample", f"plugins=[{path}]", "solver=plugged", "nfe=3", "n=2", f"out={out}") == 0
    file(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')", "trap.py")
    config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    (out / "config.yaml").write_text(yaml.safe_dump({**config, "plugins": [str(trap)]}), encoding="utf-8")
    assert run("sample", f"plugins=[{path}]", "solver=plugged", "nfe=3", "n=2", f"out={out}") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1 +", "line 1: SyntaxError"),
        ("import solvers\n\nsolvers.nothing_there", "line 3: AttributeError"),
        (SOLVER.replace('"plugged"', '"heun"'), "there already is a solver named 'heun'"),
        ("raise SystemError('no\\nmore')", "SystemError: no"),
    ],
)
def test_a_plugin_that_fails_is_one_line(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sample", f"plugins=[{file(tmp_path, text)}]", "n=2", f"out={tmp_path / 'out'}") == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and "plug.py" in said
    assert not (tmp_path / "out").exists()
    assert solvers.get("heun").order == 2


def test_a_plugin_that_is_not_there_or_no_list_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, words in (("[nope.py]", "no plugin at 'nope.py'"), ("[a,", "plugins are written plugins=[mine.py]")):
        assert run("sample", f"plugins={given}", f"out={tmp_path / 'out'}") in (1, 2)
        assert words in capsys.readouterr().err
    first, second = file(tmp_path, SOLVER), tmp_path / "other"
    second.mkdir()
    with pytest.raises(ValueError, match=r"two plugins are called 'plug.py'"):
        plugins.load([first, file(second, SOLVER)])


def test_grids_processes_networks_guidance_and_spaces_are_choices_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin, out = f"plugins=[{file(tmp_path, EVERYTHING)}]", tmp_path / "out"
    assert run("sample", plugin, "grid=halving", "process=faster", "process.beta=25", "n=2", "nfe=3", f"out={out}") == 0
    assert "on the grid halving(), faster process" in capsys.readouterr().out
    guided = ["guidance=louder", "guidance.of={name: classifier_free}"]
    assert run("sample", plugin, *guided, "n=2", "nfe=3", f"out={tmp_path / 'guided'}") == 0
    train = ["data=digits", "network=tiny_net", "network.width=4", "epochs=1", "batch_size=512", "warmup=1", "every=9"]
    assert run("train", plugin, *train, f"out={tmp_path / 'trained'}") == 0
    model = ["model=folder", f"model.path={tmp_path / 'trained' / 'model'}"]
    assert run("sample", plugin, *model, "n=2", "nfe=3", f"out={tmp_path / 'digits'}") == 0
    bundled = Path(plugins.__file__).parent / "models" / "mnist"
    capsys.readouterr()
    measured = ["metrics=true", "features=dots", "features.shape=[1,28,28]", f"reference={bundled}"]
    assert run("sample", plugin, *measured, "n=4", "nfe=3", f"out={tmp_path / 'm'}") == 1
    assert "784" in capsys.readouterr().err  # the reference is in another space than ours


def test_a_plugged_solver_is_made_again_in_a_process_that_knows_nothing_of_it(tmp_path: Path) -> None:
    plugins.load([file(tmp_path, SOLVER)])
    made = solvers.get("plugged", slower=2)
    assert repr(pickle.loads(pickle.dumps(made))) == repr(made)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(repr, (made,)) == "plugged(slower=2)"


def test_a_package_s_plugin_is_imported_when_its_name_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "site"
    info = home / "their_solvers-1.2.dist-info"
    info.mkdir(parents=True)
    file(home, SOLVER, "their_solvers.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-solvers\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[scoresde.plugins]\ntheirs = their_solvers\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(home))
    registry.installed.cache_clear()
    assert [entry.name for entry in metadata.entry_points(group=registry.ENTRY_POINTS)] == ["theirs"]
    assert solvers.get("heun").name == "heun" and "their_solvers" not in sys.modules
    out = tmp_path / "out"
    assert run("sample", "solver=plugged", "solver.slower=3", "nfe=3", "n=2", f"out={out}") == 0
    assert yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["plugins"] == {"their-solvers": "1.2"}
    registry.installed.cache_clear()
    sys.modules.pop("their_solvers")

"""The worked example of CONTRIBUTING.md is code that runs: one function, one command."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import solvers
from scoresde import EDM, VP, Flow
from scoresde.commands import choices
from scoresde.commands.main import main
from solvers.catalogue import SOLVERS
from solvers.certificate.orders import ode_order
from solvers.certificate.slopes import SHAPES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", text, re.DOTALL))


@pytest.fixture(scope="module")
def ab2(blocks, tmp_path_factory) -> Iterator[None]:
    """Import the solver file, which registers it, as its place in the package would; gone afterwards."""
    kept = {name: SOLVERS[name] for name in SOLVERS.names()}
    path = tmp_path_factory.mktemp("example") / "ab2.py"
    path.write_text(blocks["solvers/methods/ab2.py"], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ab2_of_contributing", path)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    SOLVERS._makers = kept


def test_the_config_file_that_is_written_holds_the_function_s_defaults(ab2):
    config = yaml.safe_load(choices.text(SOLVERS, "ab2"))
    assert solvers.get(config.pop("name")).options == config
    assert "  # edm, data, flow, vp, or null for the process's own" in choices.text(SOLVERS, "ab2")


@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=lambda process: process.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_example_reaches_the_order_it_declares(ab2, process, shape):
    assert ode_order(solvers.get("ab2"), process, shape).order == pytest.approx(2, abs=0.2)


def test_the_command_runs_it_from_its_config_file(ab2, tmp_path):
    conf = tmp_path / "conf" / "solver"
    conf.mkdir(parents=True)
    (conf / "ab2.yaml").write_text(choices.text(SOLVERS, "ab2"), encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["--config-dir", str(tmp_path / "conf"), "solver=ab2", "nfe=4", "n=2", f"out={out}"]
    assert main(["sample", *arguments]) == 0
    assert (out / "samples.npz").exists()

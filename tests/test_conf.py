"""The configurations say what the registries say."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import solvers
from benchmarks.docs import pages
from scoresde import process as processes
from scoresde import tuned
from scoresde.commands.app import config_folder
from scoresde.exact import DENSITIES
from scoresde.models import DIFFUSERS, NETWORKS, bundled
from scoresde.networks import CONVERTED
from scoresde.training import Settings

CONF = config_folder()
FILES = sorted(CONF.rglob("*.yaml"))


def group(name: str) -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (CONF / name).glob("*.yaml")}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    values = inspect.signature(function).parameters.values()
    return {value.name: value.default for value in values if value.name != "self"}


def test_every_solver_has_its_file_and_every_file_its_solver() -> None:
    assert sorted(group("solver")) == sorted([*solvers.names(), *solvers.aliases(), tuned.NAME])


@pytest.mark.parametrize("name", solvers.aliases())
def test_an_alias_s_file_is_that_of_its_solver(name: str) -> None:
    assert group("solver")[name] == {"defaults": [solvers.aliases()[name]]}
    assert solvers.get(name).options == solvers.get(solvers.aliases()[name]).options


@pytest.mark.parametrize("name", solvers.names())
def test_a_solver_file_gives_every_option_with_its_default(name: str) -> None:
    options = group("solver")[name]
    assert options.pop("name") == name
    assert options == dict(solvers.get(name).options)


@pytest.mark.parametrize("name", pages.configurations())
def test_what_is_written_from_signatures_and_docstrings_is_up_to_date(name: str) -> None:
    assert (CONF / name).read_text(encoding="utf-8") == pages.configurations()[name], "run `make docs`"


def test_nothing_else_lies_among_what_is_written() -> None:
    written = {CONF / name for name in pages.configurations()}
    exact = {CONF / "model" / f"{name}.yaml" for name in DENSITIES}
    assert {path for path in FILES if path.parent.name in ("solver", "grid")} == written - exact
    assert exact < written


def test_every_grid_has_its_file_and_the_recommended_one_names_none() -> None:
    grids = group("grid")
    assert grids.pop("recommended") == {"name": None}
    assert grids.pop("times") == {"name": "times", "times": "???"}
    assert sorted(grids) == solvers.grids.names()


@pytest.mark.parametrize("name", solvers.grids.names())
def test_a_grid_file_gives_every_option_with_its_default(name: str) -> None:
    options = group("grid")[name]
    assert options.pop("name") == name
    assert options == dict(solvers.grids.get(name).options)


def test_every_process_has_its_file_and_the_native_one_names_none() -> None:
    files = group("process")
    assert files.pop("native") == {"name": None}
    assert files.keys() == processes.PROCESSES.keys()
    for name, options in files.items():
        assert options.pop("name") == name
        assert options == parameters(processes.PROCESSES[name])


def test_every_network_has_its_file_with_all_that_the_data_do_not_decide() -> None:
    files = group("network")
    assert files.keys() == NETWORKS.keys() - set(CONVERTED)
    for name, options in files.items():
        assert options.pop("name") == name
        known = {key: list(v) if isinstance(v, tuple) else v for key, v in parameters(NETWORKS[name]).items()}
        assert options == {key: value for key, value in known.items() if key not in NETWORKS.given}


def test_every_bundled_and_every_exact_model_has_its_file() -> None:
    files = group("model")
    assert files.pop("folder") == {"path": "???"}
    assert files.pop("diffusers") == {"id": "???", "path": f"{DIFFUSERS}${{model.id}}"}
    for name in DENSITIES:
        options = files.pop(name)
        assert options.pop("name") == name
        assert options == {key: value for key, value in parameters(DENSITIES[name]).items() if key != "process"}
    assert all(options == {"path": name} for name, options in files.items())
    assert bundled().keys() <= files.keys()


def test_training_settings_are_those_of_the_library() -> None:
    config = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    for field in fields(Settings):
        assert field.name in config
        value = config[field.name]
        assert field.default in (MISSING, tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_no_configuration_names_a_python_target(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "_target_" not in text
    assert "!!python" not in text


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in FILES
        if (path.parent.name in ("solver", "grid") and path.stem not in {"recommended", *solvers.aliases()})
        or (path.parent.name == "model" and path.stem in DENSITIES)
    ],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_option_of_a_solver_grid_or_density_is_explained_beside_it(path: Path) -> None:
    first, name, *options = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert name == f"name: {path.stem}"
    assert all("  # " in line for line in options)

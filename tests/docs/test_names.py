"""docs/names.md and docs/which_solver.md speak of solvers, grids and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import solvers
from benchmarks.agreement import sde
from benchmarks.agreement.table import ROWS

DOCS = Path(__file__).parents[2] / "docs"
NAMES = (DOCS / "names.md").read_text(encoding="utf-8")
TYPED = re.findall(r"`((?:solver|grid)=[^`]+)`", NAMES)


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_to_be_typed_is_a_choice_with_its_options(typed: str) -> None:
    words = dict(word.split("=", 1) for word in typed.split())
    for kind, get in (("solver", solvers.get), ("grid", solvers.grids.get)):
        name = words.pop(kind, None)
        options = {key.split(".")[1]: yaml.safe_load(words[key]) for key in words if key.startswith(f"{kind}.")}
        if name is not None and name != "recommended":
            assert get(name, **options).options.items() >= options.items()


def test_what_is_called_measured_stands_in_the_tables_of_agreement() -> None:
    measured = {(row.peer, row.function) for row in ROWS} | {(row.peer, row.function) for row in sde.ROWS}
    found = 0
    for line in NAMES.splitlines():
        if not line.startswith("|") or "| measured" not in line:
            continue
        cells = [re.findall(r"`(\w+)`", cell) for cell in line.split("|")]
        for peer, names in zip(("ComfyUI", "k-diffusion", "diffusers"), cells[2:5], strict=True):
            for name in names:
                if name.endswith("Scheduler") or name.startswith("sample_"):
                    found += 1
                    assert (peer, name) in measured, (peer, name)
    assert found > 25


def test_solvers_that_are_recommended_are_there() -> None:
    page = (DOCS / "which_solver.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z][a-z0-9_]+)`", page)) - {"decode", "end", "by_steps"}
    known = {*solvers.names(), *solvers.aliases(), *solvers.grids.names()}
    options = {option for name in solvers.names() for option in solvers.get(name).options}
    assert named <= known | options | {"bh1", "bh2", "vary_coeff", "tuned"}, named - known - options
    assert set(solvers.names()) <= named  # every solver has its place

"""The Python in README.md runs as it stands; the pages that are made from code are of this code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import solvers
from benchmarks.docs import pages as solver_docs
from solvers import Solver

ROOT = Path(__file__).parents[2]
PAGES = sorted(solver_docs.DOCS.glob("*.md"))
OURS = solver_docs.ours()
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_the_readme_s_code_runs(block, capsys, passing_solvers):
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", ["solvers.md", "grids.md"])
def test_a_generated_page_is_up_to_date(page):
    assert (solver_docs.DOCS / page).read_text(encoding="utf-8") == solver_docs.pages()[page], "run `make docs`"


def _bare(name: str) -> str:
    return re.sub("[-_]", "", name).lower()


@pytest.mark.parametrize("solver", OURS, ids=lambda solver: solver.name)
def test_every_solver_says_what_it_computes_when_to_use_it_and_whose_it_is(solver: Solver):
    text = solver_docs.docstring(solver)
    body = " ".join(text.paragraphs)
    others = {_bare(name) for name in solvers.names()} - {_bare(solver.name)}
    assert re.search("[=~Σ∫φ]", body) or any(name in _bare(body) for name in others), "neither a formula nor another's"
    assert len(text.sections["Use"]) > 20 and text.sections["Use"].endswith(".")
    assert re.search(r"[A-Z].* \d{4}", solver.reference)
    options = {name for names in text.arguments for name in names.split(", ")}
    assert options == set(solver.options)


@pytest.mark.parametrize("solver", OURS, ids=lambda solver: solver.name)
def test_every_solver_s_page_shows_what_was_measured_of_each_order_that_it_declares(solver: Solver):
    page = solver_docs.pages()["solvers.md"]
    section = page.split(f"### `{solver.name}`")[1].split("###")[0].replace("\n  ", " ")
    declared = re.search(r"\*\*Order\*\*: (.*)", section)
    found = re.search(r"\*\*Measured\*\*: (.*)", section)
    assert declared and found
    shown = [float(order) for order in re.findall(r"order (?:of the start )?(\d\.\d\d)", found[1])]
    for order in re.findall(r"\d(?= from|,|$| with)", declared[1].removeprefix("weak ")):
        assert any(abs(value - int(order)) < 0.2 for value in shown), (declared[1], found[1])


def test_links_between_pages_lead_somewhere():
    anchors = {page: set(re.findall(r"^### `(.+)`$", text, re.MULTILINE)) for page, text in solver_docs.pages().items()}
    anchors["certificate.md"] = set()
    for page in anchors:
        text = (solver_docs.DOCS / page).read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
            assert (solver_docs.DOCS / (target or page)).exists(), target
            assert not anchor or anchor in anchors[target or page], (page, target, anchor)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in PAGES)])
def test_links_to_files_lead_somewhere(page: str):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("page", [*(path.name for path in ROOT.glob("*.md")), *(f"docs/{path.name}" for path in PAGES)])
def test_prose_has_one_width(page: str):
    fence = False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        fence ^= line.lstrip().startswith("```")
        table = line.startswith("|") and line.endswith("|")
        prose = not fence and not table and not line.lstrip().startswith(("#", "```", "!["))
        prose &= not line.startswith("    ")
        assert not prose or len(line) <= 120 or " " not in line.strip(), line

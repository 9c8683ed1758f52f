"""SECURITY.md says nothing that no test holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = re.sub(r"\n  (?=\S)", " ", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))  # an entry is a line
NAMED = re.findall(r"\[([\w/]+\.py): (test_\w*)\]", PAGE)


def names_in(name: str) -> list[str]:
    path = ROOT / "tests" / name if "/" in name else ROOT / "tests" / "attacks" / name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_every_sentence_names_tests_that_exist() -> None:
    assert len(NAMED) > 40
    for name, beginning in NAMED:
        assert any(test.startswith(beginning) for test in names_in(name)), (name, beginning)


def test_every_promise_has_its_test_behind_it() -> None:
    trusted, _, promises = PAGE.partition("## What is not trusted")
    assert "features.trust=true" in trusted
    promises = promises.partition("## Reporting")[0]
    lines = [line for line in promises.splitlines() if line.startswith(("- ", "| ")) and "held by" not in line]
    assert len(lines) > 30
    for line in lines:
        assert re.search(r"\[[\w/]+\.py: test_", line), line

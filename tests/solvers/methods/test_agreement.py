"""Our solvers give the numbers of diffusers' schedulers; benchmarks/agreement/ode.py compares with all other peers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.agreement import ode as agreement
from benchmarks.agreement.table import ROWS, Row
from benchmarks.peers import adapters

ROWS_OF_DIFFUSERS = [row for row in ROWS if row.peer == "diffusers"]


def name(row: Row) -> str:
    return row.function.removesuffix("Scheduler") + "".join(
        f"-{value}" for key, value in row.options.items() if key != "inner"
    )


@pytest.fixture(scope="module")
def diffusers() -> adapters.Peer:
    return adapters.load("diffusers")


@pytest.mark.parametrize("row", [row for row in ROWS_OF_DIFFUSERS if row.same], ids=name)
def test_agrees_with_diffusers(diffusers: adapters.Peer, row: Row) -> None:
    found = agreement.difference(diffusers, row)
    assert found is not None
    assert (found <= agreement.TOLERANCE) == (not row.note)


@pytest.mark.parametrize("row", [row for row in ROWS_OF_DIFFUSERS if row.right], ids=name)
def test_reaches_the_order_that_diffusers_claims(row: Row) -> None:
    assert agreement.order(lambda problem: problem.ours(row.beside), row, row.claim, 1e-10) > row.claim - 0.3


def test_every_row_that_must_differ_says_why() -> None:
    for row in ROWS:
        assert row.same or row.note or row.flaw, row


def test_the_report_says_which_peers_are_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "UniPC", "--only", "diff-sampler", "--peers", str(tmp_path), "--out", str(tmp_path / "a.md")]
    agreement.main(arguments)
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert set(json.loads((tmp_path / "a.json").read_text())["absent"]) == {"UniPC", "diff-sampler"}
    for peer in ("UniPC", "diff-sampler"):
        assert f"Absent: {peer} (no clone named {peer} in the folder given by --peers)." in text

"""scoresde certify: the orders of a solver, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scoresde.commands.main import main


def test_an_order_is_measured_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["certify", "solver=heun", "processes=[vp,flow]", "shapes=karras", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "declares order 2" in said and said.count("holds") == 2
    rows = json.loads((out / "certificate.json").read_text(encoding="utf-8"))["measured"]
    assert [row["process"] for row in rows] == ["vp", "flow"]
    assert all(abs(row["measured"] - 2) < 0.2 for row in rows)


@pytest.mark.usefixtures("passing_plugins")
def test_an_order_that_does_not_hold_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "boasting.py"
    plugin.write_text(
        '"""Euler that boasts."""\n'
        "from solvers import solver\n\n\n"
        '@solver("boasting", order=2, reference="a test")\n'
        "def boasting(steps, x, predict):\n"
        "    for t, s in steps:\n"
        "        p = predict(x, t)\n"
        "        x = yield s.alpha * p.x0 + s.sigma * p.epsilon\n",
        encoding="utf-8",
    )
    arguments = [f"plugins=[{plugin}]", "solver=boasting", "processes=vp", "shapes=[karras]", f"out={tmp_path / 'o'}"]
    assert main(["certify", *arguments]) == 1
    assert "boasting declares order 2, which does not hold on vp, karras steps (1 of 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solver=pf_ode"], "chooses its own steps"),
        (["processes=[vp,edn]"], "unknown processes 'edn'; did you mean 'edm'"),
        (["shapes=[]"], "shapes must name one or more"),
        (["solver=hein"], "unknown solver 'hein'; did you mean 'heun'"),
    ],
)
def test_nothing_is_written_for_what_cannot_be_measured(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certify", *arguments, f"out={tmp_path / 'out'}"]) in (1, 2)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

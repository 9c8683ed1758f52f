"""The page from an empty folder to an integrator that is certified, seen and compared: walked, in small."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.commands.main import main
from scoresde.networks import NETWORKS
from solvers import Plan
from solvers.registry import PLUGIN

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"
SMALL = {
    "certify": ["processes=[vp]", "shapes=[uniform]"],
    "plan": [],
    "sample": ["n=20"],
    "bench": ["nfe=[6]", "n=8", "batch_size=8", "reference_nfe=12"],
}


def blocks(page: str) -> list[tuple[str, str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(sh|text|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def walked(line: str, small: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command of a page prints, which ends as the page says."""
    command, _, refusal = line.partition("  # fails: ")
    _, name, *words = shlex.split(command)
    status = main([name, *words, *(small.get(name, []) if not refusal else [])])
    said = capsys.readouterr()
    assert (status == 0) == (not refusal), (line, said.err)
    assert refusal in said.err, said.err
    return said.out + said.err


def alike(line: str) -> str:
    """A line with other numbers and spaces, and intervals or none."""
    return " ".join(re.sub(NUMBER, "0", re.sub(rf" ± {NUMBER}%?", "", line)).split())


def test_the_page_is_walked_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passing_plugins: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (_, plugin), *rest = blocks("researcher.md")
    Path("second_look.py").write_text(plugin, encoding="utf-8")
    said, commands, refusals = "", 0, 0
    for kind, block in rest:
        if kind == "sh":
            said = "".join(walked(line, SMALL, capsys) for line in block.splitlines())
            commands, refusals = commands + len(block.splitlines()), refusals + block.count("# fails: ")
        elif kind == "text":
            printed = {alike(line) for line in said.splitlines()}
            for line in block.splitlines():
                assert line == "…" or alike(line) in printed, line
        else:  # in a new Python, where the file has not been read as a plugin before
            monkeypatch.setitem(sys.modules, "second_look", sys.modules[f"{PLUGIN}second_look"])
            exec(compile(block, "researcher.md", "exec"), {})
            assert capsys.readouterr().out.splitlines() == re.findall(r"# prints (.*)", block)
    assert (commands, refusals) == (9, 4)
    assert Plan.load("plan/plan.json").nfe == 5
    assert np.load("ring/samples.npz")["samples"].shape == (20, 2)
    for picture in ("plan/plan.png", "ring/samples.png", "ring/trajectories.png", "compared/samples.png", "paths.png"):
        assert np.asarray(Image.open(picture).convert("RGB")).std() > 5, picture
    assert 'alt="points: second_look(share=0), 6 evaluations"' in Path("compared/report.html").read_text("utf-8")


def test_a_process_a_network_and_a_density_of_ones_own_are_made_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passing_plugins: None
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    text = (DOCS / "yours.md").read_text(encoding="utf-8")
    found = blocks("yours.md")
    own = [block for kind, block in found if kind == "python" and ".add(" in block]
    files = dict(zip(re.findall(r"`(\w+\.py)`:", text), own, strict=True))
    assert files.keys() == {"mine.py", "schedule.py", "cross.py"}
    names: dict[str, Any] = {}
    commands = 0
    for kind, block in found:
        if kind == "python" and (file := next((name for name, b in files.items() if b == block), None)):
            Path(file).write_text(block, encoding="utf-8")
        elif kind == "sh":
            for line in block.splitlines():
                with monkeypatch.context() as passing:
                    if "plugins=" not in line:  # as in a process of its own
                        ours = {name: NETWORKS[name] for name in NETWORKS if name != "small"}
                        passing.setattr(NETWORKS, "_makers", ours)
                    walked(line, {}, capsys)
                commands += 1
        elif kind == "python":
            names |= vars(sys.modules[f"{PLUGIN}mine"])
            exec(compile(block, "yours.md", "exec"), names)
            assert capsys.readouterr().out.splitlines() == re.findall(r"^[^#].*# prints (.*)", block, re.MULTILINE)
    assert commands == 7
    for folder, shape in (("drawn", (4, 1, 8, 8)), ("late", (50, 2)), ("crossed", (50, 2))):
        assert np.load(f"{folder}/samples.npz")["samples"].shape == shape

"""The code of the how-tos runs, block after block, beside what a page loads, and prints what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.agreement import tiny_pipelines
from scoresde.commands.main import main

DOCS = Path(__file__).parents[2] / "docs"
LOADED = {
    "auto.md": {},
    "bench.md": {},
    "diffusers.md": {"stable-diffusion": tiny_pipelines.stable_diffusion},
    "flow.md": {},
    "k_diffusion.md": {},
    "getting_started.md": {},
    "loading.md": {},
    "python.md": {},
    "training.md": {},
    "tuned.md": {},
}


@pytest.mark.parametrize("page", LOADED)
def test_the_code_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, passing_solvers: None
) -> None:
    for folder, build in LOADED[page].items():
        build().save_pretrained(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    out = ""
    for block in blocks:
        exec(compile(block, page, "exec"), names)
        out += (shown := capsys.readouterr().out)
        if said := re.findall(r"# prints (.*)", block):
            assert [line for line in shown.splitlines() if line] == said, block
    assert blocks and out.strip()


def test_the_commands_for_a_pipeline_run_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, unplotted: None
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tiny_pipelines.stable_diffusion().save_pretrained("stable-diffusion")
    Path("prompts.txt").write_text("a red cat\ntwo dogs\n")
    for name in ("sketch.png", "mask.png"):
        Image.linear_gradient("L").save(name)
    text = (DOCS / "diffusers.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    assert len(lines) == 6
    for number, line in enumerate(lines):
        assert main([*shlex.split(line)[1:], f"out={number}"]) == 0, capsys.readouterr().err
    assert len(list(tmp_path.glob("*/images/*.png"))) == 5 * 4 and Path("5", "report.html").is_file()


def test_the_first_commands_run_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "getting_started.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert (tmp_path / "first" / "grid.png").is_file() and (tmp_path / "compared" / "report.html").is_file()
    assert sorted(path.name for path in (tmp_path / "swept").iterdir() if path.is_dir()) == [
        "solver=ddim",
        "solver=dpmpp_2m",
    ]

"""The code of the how-tos runs, block after block, in a folder that holds what a page loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import tiny_pipelines

DOCS = Path(__file__).parents[1] / "docs"
LOADED = {"diffusers.md": {"stable-diffusion": tiny_pipelines.stable_diffusion}, "k_diffusion.md": {}}


@pytest.mark.parametrize("page", LOADED)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for folder, build in LOADED[page].items():
        build().save_pretrained(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert len(blocks) > 2 and capsys.readouterr().out.strip()

"""What several files test with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scoresde.commands.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unplotted: None
) -> Run:
    """``scoresde train`` in an empty folder: status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["train", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are a dot: drawing them is most of what a tiny run takes."""

    def dot(figure: Any, path: Path, **_: Any) -> None:
        Image.new("L", (1, 1)).save(path)

    monkeypatch.setattr("scoresde.commands.train.Figure.savefig", dot)

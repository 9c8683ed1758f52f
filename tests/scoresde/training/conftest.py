"""What several files test with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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

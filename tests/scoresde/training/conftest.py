"""What several files test with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are a dot: drawing them is most of what a tiny run takes."""

    def dot(figure: Any, path: Path, **_: Any) -> None:
        Image.new("L", (1, 1)).save(path)

    monkeypatch.setattr("scoresde.commands.train.Figure.savefig", dot)

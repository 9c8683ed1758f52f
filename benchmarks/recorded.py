"""Where what the scripts here measure is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scoresde.files import replacing

RESULTS = Path(__file__).parent / "results"


def write(path: Path, lines: Sequence[str]) -> None:
    """Write a page; without empty lines at its end."""
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")

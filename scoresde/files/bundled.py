"""Where the models that come with the package lie."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
DEFAULT = MODELS / "mnist"  # whose feature space and statistics are used where no others are named


def bundled() -> dict[str, Path]:
    """Folders of the models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob("*/config.json"))}

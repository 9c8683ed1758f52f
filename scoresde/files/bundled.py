"""Model folders: what their files are called, and where those lie that come with the package."""

from __future__ import annotations

from pathlib import Path

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODELS = Path(__file__).parents[1] / "models"
DEFAULT = MODELS / "mnist"  # whose feature space and statistics are used where no others are named


def bundled() -> dict[str, Path]:
    """Folders of the models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob(f"*/{CONFIG}"))}

"""Model folders: what their files are called, and where those lie that come with the package."""

from __future__ import annotations

from pathlib import Path

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODELS = Path(__file__).parents[1] / "models"
CHECKOUT = Path(__file__).parents[2] / "benchmarks" / "models"  # too large for the wheel
DEFAULT = MODELS / "mnist"  # whose feature space and statistics are used where no others are named


def bundled() -> dict[str, Path]:
    """Folders of the models that come with the package, and of those that only a checkout has, by name."""
    homes = [CHECKOUT, MODELS] if (CHECKOUT.parents[1] / "pyproject.toml").is_file() else [MODELS]
    return {path.parent.name: path.parent for home in homes for path in sorted(home.glob(f"*/{CONFIG}"))}

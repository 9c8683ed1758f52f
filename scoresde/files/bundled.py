"""Model folders: what their files are called, and where those lie that come with the package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from solvers.errors import nearest

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODELS = Path(__file__).parents[1] / "models"
CHECKOUT = Path(__file__).parents[2] / "benchmarks" / "models"  # too large for the wheel
DEFAULT = MODELS / "mnist"  # whose feature space and statistics are used where no others are named


class CheckpointError(ValueError):
    """A model that cannot be used, with its path and the reason."""


def bundled() -> dict[str, Path]:
    """Folders of the models that come with the package, and of those that only a checkout has, by name."""
    homes = [CHECKOUT, MODELS] if (CHECKOUT.parents[1] / "pyproject.toml").is_file() else [MODELS]
    return {path.parent.name: path.parent for home in homes for path in sorted(home.glob(f"*/{CONFIG}"))}


def find(name_or_folder: str | Path, exact: Iterable[str] = ()) -> Path:
    """The folder of a bundled model's name, or the given folder; ``exact`` are names of models that have none.

    Raises:
        CheckpointError: it is neither (the nearest name is given), or a file.
    """
    known, name = bundled(), str(name_or_folder)
    folder = known.get(name) or Path(name_or_folder).expanduser()
    if folder.is_file():
        raise CheckpointError(
            f"{name!r} is a file, and models are folders: load its weights into your network "
            "(net.load_state_dict(torch.load(…, weights_only=True)), often under 'state_dict' or 'ema') and give that "
            "to scoresde.ScoreModel; scoresde convert edm reads EDM's pickles"
        )
    if not folder.is_dir():
        hint = nearest(name, [*known, *exact])
        raise CheckpointError(f"no model {name!r}: neither a folder nor a bundled or exact model{hint}")
    return folder

"""Statistics of images in files: ours, and those of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoresde.files import regular
from scoresde.files.arrays import Npz
from scoresde.files.pickles import NUMPY, Meaning, Name, PickleError, load, told
from scoresde.metrics.moments import Moments
from scoresde.metrics.spaces.space import Space


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance from elsewhere.

    Attributes:
        space: name of the feature space, as the user says; such files do not.
        mean: (size,), float64.
        covariance: (size, size), float64.
        count: of the images; None where the file does not say.
    """

    space: str
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int | None = None

    def __post_init__(self) -> None:
        mean, covariance = self.mean, self.covariance
        if not (
            mean.ndim == 1
            and len(mean) > 0
            and covariance.shape == (len(mean), len(mean))
            and np.isfinite(mean).all()
            and np.isfinite(covariance).all()
            and np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-6 * np.abs(covariance).max())
            and np.linalg.eigvalsh(covariance)[0] >= -1e-6 * np.trace(covariance)
        ):
            raise ValueError(
                f"a mean of shape {mean.shape} and a covariance of shape {covariance.shape} are no finite mean and "
                "positive semi-definite covariance"
            )


def load_moments(path: str | Path, space: Space, entry: str = "fid") -> Moments | Statistics:
    """Moments for a feature space, from a file of ours or of another program.

    - ours, ``Moments.save``: knows its space and count;
    - npz with ``mu`` and ``sigma``, as EDM, pytorch-fid and others write it: ``space`` is taken on trust, the count is
      unknown;
    - pickle of {"num_images", "fid": {"mu", "sigma"}, "fd_dinov2": …}, as EDM2 writes it, read without running
      anything that is in it.

    Args:
        path: the file; one that ends in ``.pkl`` is a pickle.
        space: what the features were made by.
        entry: which of a pickle's statistics.

    Raises:
        ValueError: the file is missing, damaged or foreign, of another space, or of another number of features.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"no file at {str(path)!r}")
    regular(path)
    try:
        found = _unpickled(path, space, entry) if path.suffix == ".pkl" else _from_npz(path, space)
    except PickleError as error:
        raise ValueError(f"{str(path)!r} is damaged or foreign: it {error}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged or foreign: {error}") from error
    moments = Moments.load(path) if found is None else found
    if (len(moments.mean), moments.space) != (space.size, space.name):
        raise ValueError(
            f"{str(path)!r} holds moments of {len(moments.mean)} features in {moments.space!r}, not of {space.size} in "
            f"{space.name!r}"
        )
    return moments


def _from_npz(path: Path, space: Space) -> Statistics | None:
    """Statistics of another program; None if the file is one of ours."""
    with Npz(path) as arrays:
        if "mu" in arrays and "sigma" in arrays:
            return _statistics(arrays["mu"], arrays["sigma"], space, None)
        if "format" not in arrays:
            raise ValueError(f"it holds {arrays.files[:10]}, neither 'format' nor 'mu' and 'sigma'")
    return None


def _unpickled(path: Path, space: Space, entry: str) -> Statistics:
    content = load(path, NUMPY, _foreign)
    if not isinstance(content, dict) or not isinstance(content.get(entry), dict):
        held = told(content) if isinstance(content, dict) else type(content).__name__
        raise PickleError(f"holds {held or 'nothing'}, not {entry!r}")
    count, (mean, covariance) = content.get("num_images"), (content[entry].get(key) for key in ("mu", "sigma"))
    if not isinstance(mean, np.ndarray) or not isinstance(covariance, np.ndarray):
        raise PickleError(f"has no arrays 'mu' and 'sigma' in its {entry!r}")
    if count is not None and (type(count) is not int or count < 1):
        raise PickleError(f"is of {told([count])} images")
    return _statistics(mean, covariance, space, count)


def _statistics(mean: NDArray[Any], covariance: NDArray[Any], space: Space, count: int | None) -> Statistics:
    if mean.dtype.kind not in "fiu" or covariance.dtype.kind not in "fiu":
        raise ValueError(f"a mean of {mean.dtype} and a covariance of {covariance.dtype} are no numbers")
    if mean.shape != (space.size,):  # before work that takes the cube of it
        raise ValueError(f"it holds a mean of shape {mean.shape}, not of the {space.size} features of {space.name!r}")
    return Statistics(space.name, np.asarray(mean, np.float64), np.asarray(covariance, np.float64), count)


def _foreign(name: Name) -> Meaning:
    raise PickleError(f"names {name}, where only numbers and arrays are expected")

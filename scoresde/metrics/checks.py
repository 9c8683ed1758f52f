"""What every figure needs of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_finite(features: NDArray[Any], space: str = "") -> None:
    """Refuse features from which no figure follows.

    Args:
        features: (n, size).
        space: name of the feature space, for the message.

    Raises:
        ValueError: some are not finite; says how many.
    """
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        where = f" in {space}" if space else ""
        raise ValueError(f"{int((~finite).sum())} of {len(features)} features{where} are not finite")

"""ε ↔ x0 ↔ v ↔ score ↔ flow velocity: every conversion between prediction types, in one place.

With x = α x0 + σ ε, each type is a combination r x0 + s ε:

    ============== =============== ==========================================
    type           r, s            what it is
    ============== =============== ==========================================
    epsilon        0, 1            the noise
    sample         1, 0            the data (x0)
    v_prediction   −σ/n, α/n       n = √(α² + σ²); on VP processes α ε − σ x0
    score          0, −1/σ         ∇log p_t(x) = −ε/σ
    flow           −1, 1           the velocity ε − x0 of rectified flow
    ============== =============== ==========================================

so that any type follows linearly from x and any other: see :func:`convert`. v is normalised by n so that on every
process it is the slope of x/n over atan2(σ, α), and on EDM's process minus EDM's preconditioned output (σ_data = 1).

Sources: Ho et al. 2020 (ε); Salimans & Ho 2022, Progressive distillation, app. D (v); Song et al. 2021 (score);
Lipman et al. 2023 (flow).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from solvers.errors import known

_BASIS: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "epsilon": lambda alpha, sigma, norm: (0.0, 1.0),
    "sample": lambda alpha, sigma, norm: (1.0, 0.0),
    "v_prediction": lambda alpha, sigma, norm: (-sigma / norm, alpha / norm),
    "score": lambda alpha, sigma, norm: (0.0, -1.0 / sigma),
    "flow": lambda alpha, sigma, norm: (-1.0, 1.0),
}

TYPES = tuple(_BASIS)


def check(prediction: str) -> str:
    """The prediction type itself, if there is one of that name.

    Raises:
        ValueError: there is none; the nearest name is given.
    """
    return known("prediction type", prediction, TYPES)


def defined(prediction: str, alpha: float, sigma: float) -> bool:
    """Whether x0 and ε both follow from x and this prediction at this α and σ (not so for ε and score at α = 0)."""
    if prediction == "score":
        return alpha > 0 and sigma > 0
    p, q = _BASIS[prediction](alpha, sigma, math.hypot(alpha, sigma))
    return alpha * q - sigma * p != 0


def convert(source: str, target: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """Coefficients (a, b) with target = a x + b source.

    From x = α x0 + σ ε and source = p x0 + q ε, target = r x0 + s ε is

        [(r q − s p) x + (s α − r σ) source] / (α q − σ p).

    Args:
        source, target: prediction types.
        alpha, sigma: floats or tensors, α and σ at the time of the evaluation.
    """
    if source == target:
        return 0.0, 1.0
    norm = (alpha**2 + sigma**2) ** 0.5
    p, q = _BASIS[source](alpha, sigma, norm)
    r, s = _BASIS[target](alpha, sigma, norm)
    determinant = alpha * q - sigma * p
    return (r * q - s * p) / determinant, (s * alpha - r * sigma) / determinant

"""One model output, seen as any prediction type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Views:
    """What ``predict(x, t)`` returns to a solver: the same evaluation as ε, x0, v, score or flow velocity.

    Args:
        get: gives the view of an output, by the name of the output and the prediction type.
        output: the model's own output (``"model"``) or one of its extra outputs by name.
    """

    def __init__(self, get: Callable[[str, str], Any], output: str = "model"):
        self._get, self._output = get, output

    @property
    def x0(self) -> Any:
        """E[x0 | x_t]."""
        return self._get(self._output, "sample")

    @property
    def epsilon(self) -> Any:
        """E[ε | x_t]."""
        return self._get(self._output, "epsilon")

    @property
    def v(self) -> Any:
        """(α ε − σ x0)/√(α² + σ²)."""
        return self._get(self._output, "v_prediction")

    @property
    def score(self) -> Any:
        """∇log p_t(x) = −ε/σ."""
        return self._get(self._output, "score")

    @property
    def flow(self) -> Any:
        """ε − x0."""
        return self._get(self._output, "flow")

    def extra(self, output: str) -> Views:
        """Another output of the same evaluation, such as the unconditional prediction of a guided model."""
        return Views(self._get, output)

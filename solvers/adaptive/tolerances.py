"""What a run of adaptive steps may be asked for."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

MAX_NFE = 10_000


def check_tolerances(name: str, rtol: float, atol: float, max_nfe: int) -> None:
    """Refuse options that no adaptive run can have.

    Raises:
        ValueError: a tolerance that is not positive, or a ceiling of evaluations that is no whole number of at least 1.
    """
    if not all(isinstance(tolerance, Real) and 0 < tolerance < math.inf for tolerance in (rtol, atol)):
        raise ValueError(f"{name} needs positive tolerances, got rtol = {rtol} and atol = {atol}")
    whole = isinstance(max_nfe, Real) and not isinstance(max_nfe, bool) and max_nfe % 1 == 0
    if not (whole and 1 <= max_nfe < math.inf):
        raise ValueError(f"{name} needs a whole number of at least 1 as max_nfe, got {max_nfe}")


def check_resolved(name: str, rtol: float, atol: float, x: Tensor) -> None:
    """Refuse tolerances that no step on such states can keep.

    Raises:
        ValueError: both are below the relative spacing of the dtype's numbers.
    """
    spacing = torch.finfo(x.dtype).eps
    if max(rtol, atol) < spacing:
        finer = "" if x.dtype == torch.float64 else ", or keep the state in float64"
        raise ValueError(
            f"{name} cannot keep rtol = {rtol:g} and atol = {atol:g} in {dtype_name(x)}, whose numbers are "
            f"{spacing:.2g} apart: give tolerances of {10 * spacing:.0e} and more{finer}"
        )


def dtype_name(x: Tensor) -> str:
    """``float32`` and the like."""
    return str(x.dtype).removeprefix("torch.")

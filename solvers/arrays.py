"""Functions that numpy and torch spell alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def namespace(values: Any) -> Any:
    """torch for tensors, numpy for everything else: the two spell the functions used here alike."""
    return torch if isinstance(values, torch.Tensor) else np

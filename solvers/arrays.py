"""What tensors and arrays have in common, and what not every device has."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def namespace(values: Any) -> Any:
    """torch for tensors, numpy for everything else: the two spell the functions used here alike."""
    return torch if isinstance(values, torch.Tensor) else np


def wide(device: torch.device) -> torch.device:
    """Where float64 goes that belongs to tensors on a device: there, or to the CPU if it has none."""
    return device if has_float64(device) else torch.device("cpu")


def has_float64(device: torch.device) -> bool:
    """Whether there are float64 tensors on a device; Apple's and some of Intel's have none."""
    if device.type in ("cpu", "cuda"):
        return True
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True

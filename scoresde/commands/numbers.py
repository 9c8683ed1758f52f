"""Numbers from a configuration, checked before anything heavy is loaded."""

from __future__ import annotations

import math
from typing import Any


def whole_number(key: str, value: Any, least: int = 1) -> int:
    """The value, if it is a whole number of at least ``least``.

    Raises:
        ValueError: names the key and its value.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1e4, in a file
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key} must be a whole number of at least {least}, got {value!r}")
    return value


def positive(key: str, value: Any) -> float:
    """The value, if it is a finite number above zero.

    Raises:
        ValueError: names the key and its value.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{key} must be a number above 0, got {value!r}")
    return float(value)

"""Large matrices of pairs, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

ENTRIES = 2**23  # of a block, 64 MiB in float64


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of 0 … rows − 1, for blocks of a matrix with so many columns."""
    step = max(1, ENTRIES // max(1, columns))
    return (slice(first, first + step) for first in range(0, rows, step))

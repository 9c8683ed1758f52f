"""Levels and coefficients for all models, in multiples of one number of the model, σ*.

σ* is the noise level σ/α around which a model's denoised samples move. The tables were fitted to a family of exact
problems together (benchmarks/tuning/universal.py); :mod:`solvers.coefficients.fitted` says what the numbers are.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

from solvers.steps import Process

FILE = Path(__file__).with_suffix(".json")
FEWEST = 5  # evaluations from which the solver auto takes them; below, the least error is blurred, and quality decides


class Table(NamedTuple):
    """Levels of all steps but the first, in multiples of σ*, and the rows of history of all steps."""

    levels: tuple[float, ...]
    history: tuple[tuple[float, ...], ...]


@cache
def tables() -> dict[int, Table]:
    """By the number of evaluations."""
    found = json.loads(FILE.read_text(encoding="utf-8"))["plans"]
    return {
        int(count): Table(tuple(plan["levels"]), tuple(map(tuple, plan["history"]))) for count, plan in found.items()
    }


def levels(process: Process, steps: int, scale: float) -> list[float]:
    """The noise levels σ/α of so many noisy times; the first is that of t_max.

    They are pressed into the levels of the process, which changes them where they come near its ends alone: w = α/σ
    becomes √(w² + w(t_max)²), and then s = 1/w becomes √(s² + s(t_min)²).

    Raises:
        KeyError: there is no table for so many.
    """
    noisiest, cleanest = (math.exp(-process.half_log_snr(t)) for t in (process.t_max, process.t_min))
    own = tables()[steps].levels if steps > 1 else ()
    return [noisiest, *(math.hypot(1 / math.hypot(1 / (scale * level), 1 / noisiest), cleanest) for level in own)]

"""Levels and coefficients for all models, in multiples of one number of the model, σ*.

σ* is the noise level σ/α around which a model's denoised samples move. The tables were fitted to a family of exact
problems together (benchmarks/tuning/universal.py); :mod:`solvers.coefficients.fitted` says what the numbers are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from solvers.steps import Process

FILE = Path(__file__).with_suffix(".json")


TOLD = 20.0  # multiples of σ* that the network is told at first, where there is more noise: there it hardly errs yet


class Table(NamedTuple):
    """Levels of all steps but the first, in multiples of σ*, and the rows of history of all steps."""

    levels: tuple[float, ...]
    history: tuple[tuple[float, ...], ...]


# With 2 to 4 evaluations the plan of least error is blurred, and quality decides. These were found by trying, on the
# family and on the bundled model with other seeds (benchmarks/tuning/few.py, quality.py). What a network says at the
# highest level is mostly error: the last step does without it.
BY_QUALITY = {
    2: Table((0.46,), ((), (0.0,))),
    3: Table((1.0, 0.25), ((), (0.95,), (0.2, 0.0))),
    4: Table((1.3, 0.4, 0.1), ((), (1.1,), (0.32, -0.15), (0.5, -0.05))),
}


@cache
def tables() -> dict[int, Table]:
    """Those of least error, by the number of evaluations."""
    found = json.loads(FILE.read_text(encoding="utf-8"))["plans"]
    return {
        int(count): Table(tuple(plan["levels"]), tuple(map(tuple, plan["history"]))) for count, plan in found.items()
    }


@cache
def chosen() -> dict[int, Table]:
    """Those of the solver auto, from 2 evaluations on: ``BY_QUALITY``, and beyond it those of least error."""
    return BY_QUALITY | {count: table for count, table in tables().items() if count > max(BY_QUALITY)}


def told(levels: Sequence[float], scale: float) -> float | None:
    """The level that a network is told first, on these levels; None where it is that of the state.

    Where α = 0 at first D is no multiple of the level, and neither is its error.
    """
    return TOLD * scale if max(levels[1:], default=math.inf) < TOLD * scale < levels[0] < math.inf else None


def levels(process: Process, table: Table, scale: float) -> list[float]:
    """The noise levels σ/α of a table's noisy times; the first is that of t_max.

    They are pressed into the levels of the process, which changes them where they come near its ends alone: w = α/σ
    becomes √(w² + w(t_max)²), and then s = 1/w becomes √(s² + s(t_min)²).
    """
    noisiest, cleanest = (math.exp(-process.half_log_snr(t)) for t in (process.t_max, process.t_min))
    return [
        noisiest,
        *(math.hypot(1 / math.hypot(1 / (scale * level), 1 / noisiest), cleanest) for level in table.levels),
    ]

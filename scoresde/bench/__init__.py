"""Steps against quality: every solver at every budget, on one model, from the same seeds."""

from scoresde.bench.cases import Case, cases, describe, expand
from scoresde.bench.joined import join
from scoresde.bench.rows import Estimate, Failure, Outcome, Row
from scoresde.bench.run import Bench, Settings
from scoresde.bench.store import read

__all__ = [
    "Bench",
    "Case",
    "Estimate",
    "Failure",
    "Outcome",
    "Row",
    "Settings",
    "cases",
    "describe",
    "expand",
    "join",
    "read",
]

"""Steps against quality: every solver at every budget, on one model, from the same seeds."""

from scoresde.bench.run import SHOWN, Bench, Outcome, Row, describe, table

__all__ = ["SHOWN", "Bench", "Outcome", "Row", "describe", "table"]

"""Steps against quality: every solver at every budget, on one model, from the same seeds."""

from scoresde.bench.run import ROWS, SHOWN, Bench, Outcome, Row, describe, table

__all__ = ["ROWS", "SHOWN", "Bench", "Outcome", "Row", "describe", "table"]

"""What a benchmark found, with every name in it such that it can be printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from scoresde.bench.rows import Failure, Outcome, Row, Timing
from scoresde.files.text import plain

R = TypeVar("R", Row, Failure, Timing)


def printable(outcome: Outcome, how: Callable[[object], str] = plain) -> Outcome:
    """The outcome with every text in it as ``how`` makes it: of rows, configuration and environment."""
    return replace(
        outcome,
        rows=[_row(row, how) for row in outcome.rows],
        converged=_row(outcome.converged, how),
        config=nested(outcome.config, how),
        environment=nested(outcome.environment, how),
        labels=nested(outcome.labels, how),
        failures=[_row(failure, how) for failure in outcome.failures],
        timings=[_row(timing, how) for timing in outcome.timings],
    )


def _row(row: R, how: Callable[[object], str]) -> R:
    texts = {field.name: getattr(row, field.name) for field in fields(row)}
    return replace(row, **{name: how(value) for name, value in texts.items() if isinstance(value, str)})


def nested(content: Any, how: Callable[[object], str] = plain) -> Any:
    """The same of settings, whatever is in them."""
    if isinstance(content, Mapping):
        return {nested(key, how): nested(value, how) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [nested(value, how) for value in content]
    return how(content) if isinstance(content, str) else content

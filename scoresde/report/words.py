"""What the figures are and are not, in words: for the table's head and the report's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scoresde.bench.rows import Outcome, Row
from scoresde.report.curves import usual, varied
from scoresde.report.quantities import METRICS, count, text

INTERVALS = (
    "Intervals are 95 % over draws of the samples: the uncertainty that comes from these samples and not others. They "
    "say nothing about other models, feature spaces or reference sets. Rows share their seeds, so that a difference "
    "between two rows is often surer than overlapping intervals suggest."
)


def model(config: Mapping[str, Any]) -> str | None:
    """What a configuration calls its model."""
    chosen = config.get("model")
    return chosen.get("path") if isinstance(chosen, Mapping) else chosen


def samples(rows: Sequence[Row]) -> str:
    """``500 samples each``, or the range where it is not the same for all."""
    least, most = min(row.samples for row in rows), max(row.samples for row in rows)
    return f"{least:,} samples each" if least == most else f"{least:,} to {most:,} samples each"


def spaces(outcome: Outcome) -> str:
    """The feature space, or all of them."""
    return ", ".join(dict.fromkeys(row.feature_space for row in (*outcome.rows, outcome.converged)))


def fid(outcome: Outcome) -> str:
    """Feature space, sample count and floors; and what ``own_fd`` is, where it was measured."""
    return f"{_fid(outcome)}{_own_fd(outcome)}"


def _own_fd(outcome: Outcome) -> str:
    if (floor := outcome.converged.metrics.get("own_fd")) is None:
        return ""
    return (
        f" {METRICS['own_fd'].label}: from as many of the model's own converged samples, of other seeds, which have "
        f"the network's error too; its floor, the converged samples of these seeds: {text(floor)}."
    )


def _fid(outcome: Outcome) -> str:
    floors, metrics = outcome.floors, outcome.converged.metrics
    seeds = [text(metrics["fid"])] if "fid" in metrics else []
    seeds += [f"{metrics['own_class'].value:.1%} of their class"] if "own_class" in metrics else []
    if not spaces(outcome):
        return f"No distance of distributions was measured; {samples(outcome.rows)}."
    start = f"FID in {spaces(outcome)}, {samples(outcome.rows)}; smaller is better."
    if outcome.own:
        return (
            f"{start} Compared with as many of the model's own converged samples, of other seeds; floor, its converged "
            f"samples of these seeds: {', '.join(seeds)}."
        )
    if floors is None:
        return f"{start} Floors are not known; the model's converged solution: {', '.join(seeds)}."
    spread = "" if floors.spread is None else f" ± {floors.spread:.2f} from one set to another"
    return (
        f"{start} Floors at the same count: real test "
        f"images {floors.real.value:.2f}{spread}, the model's converged solution {floors.converged.value:.2f}"
        + (f" (these seeds: {', '.join(seeds)})." if seeds else ".")
    )


def error(outcome: Outcome) -> str:
    """What the error is measured from."""
    return (
        "Error: root mean square per pixel, images in [−1, 1], from the converged solution of the same seeds "
        f"({outcome.converged.name}, {count(outcome.converged.nfe)} NFE; its own distance from half the NFE is "
        f"{outcome.reference_error:.1e}). Solvers that draw noise have none."
    )


def conditions(outcome: Outcome) -> str:
    """Guidance, precision and compile mode: of all rows, or of those whose curve does not name another."""
    names = varied(outcome.rows)
    values = {name: usual(outcome.rows, name) for name in ("guidance", "dtype", "compile")}
    values["dtype"] = f"network in {values['dtype']}"
    return ", ".join(f"{value} unless named" if name in names else value for name, value in values.items())

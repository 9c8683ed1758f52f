"""What the figures are and are not, in words: for the table's head and the report's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scoresde.bench.rows import Outcome, Row
from scoresde.report.choice import recommendations
from scoresde.report.curves import curves, usual, varied
from scoresde.report.quantities import count, described, distance, text

INTERVALS = (
    "Intervals are 95 % over draws of the samples: the uncertainty that comes from these samples and not others. They "
    "say nothing about other models, feature spaces or reference sets. Rows share their seeds, so that a difference "
    "between two rows is often surer than overlapping intervals suggest."
)


def title(outcome: Outcome) -> str:
    """Solvers compared on what: the models that the rows name."""
    names = ", ".join(dict.fromkeys(row.model for row in outcome.rows if row.model))
    return f"Solvers compared on {names}" if names else "Solvers compared"


def verdict(outcome: Outcome) -> str:
    """What was found, in a sentence: the best at each budget, and from where on it cannot be told from others."""
    found = [
        (each, pick) for each in recommendations(outcome.rows) if (pick := each.distance or each.error) is not None
    ]
    if not found:
        return "No row has a finite distance or error."
    labels = {index: curve.label for curve in curves(outcome.rows) for index in curve.rows}
    label = described(distance(outcome.rows) if found[0][0].distance else "error").label
    ranges: list[list[Any]] = []
    for each, pick in found:
        if not ranges or ranges[-1][0] != labels[pick.row]:
            ranges.append([labels[pick.row], each.budget, each.budget])
        ranges[-1][2] = each.budget
    told = [f"{name} with {count(low)}{'' if low == high else f' to {count(high)}'}" for name, low, high in ranges]
    best = f"Smallest {label}: {', '.join(told)} model evaluations"
    last, pick = found[-1]
    if not pick.ties:
        return f"{best}."
    return (
        f"{best}; with {count(last.budget)} it is level, within its interval, with {len(pick.ties)} of "
        f"{len(set(labels.values())) - 1} others, and {labels[pick.cheapest]} is there with "
        f"{count(outcome.rows[pick.cheapest].nfe)}."
    )


def runs(outcome: Outcome) -> str:
    """Models, seeds and versions, as far as the rows name them."""
    rows = outcome.rows
    told = []
    if models := list(dict.fromkeys(row.model for row in rows if row.model)):
        told.append(f"model {', '.join(models)}")
    if seeds := sorted({seed for row in rows for seed in row.seeds}):
        several = max(len(row.seeds) for row in rows)
        told.append(f"seeds from {', '.join(map(str, seeds))} on")
        if several > 1:
            told.append(f"rows of up to {several} runs: mean, and in braces the lowest and the highest of them")
    if versions := list(dict.fromkeys(row.versions for row in rows if row.versions)):
        told.append("; ".join(versions))
    return "; ".join(told)


def few(outcome: Outcome) -> str:
    """A warning where samples are fewer than features; "" where they are not, or nothing was measured of features."""
    least = min(row.samples for row in outcome.rows)
    if not least < outcome.features or not in_space(outcome):
        return ""
    return (
        f"{least:,} samples are fewer than the {outcome.features:,} numbers of the feature space: their covariance has "
        "not its full rank, and the distance is mostly that of too few samples. It ranks solvers at one count; as a "
        "figure of quality it says little."
    )


def samples(rows: Sequence[Row]) -> str:
    """``500 samples each``, or the range where it is not the same for all."""
    least, most = min(row.samples for row in rows), max(row.samples for row in rows)
    return f"{least:,} samples each" if least == most else f"{least:,} to {most:,} samples each"


def spaces(outcome: Outcome) -> str:
    """The feature space, or all of them; "" for none."""
    return ", ".join(
        dict.fromkeys(row.feature_space for row in (*outcome.rows, outcome.converged) if row.feature_space)
    )


def in_space(outcome: Outcome) -> list[str]:
    """Which distances were measured in the feature space."""
    found = {name for row in (*outcome.rows, outcome.converged) for name in row.metrics}
    return [name for name in ("fid", "kid", "precision", "recall", "sliced_wasserstein") if name in found]


def fid(outcome: Outcome) -> str:
    """Feature space, sample count and floors; what ``own_fd`` is, where it was measured. Of points their distance."""
    if outcome.points:
        return _points(outcome)
    return f"{_fid(outcome)}{_own_fd(outcome)}"


def _points(outcome: Outcome) -> str:
    floor = outcome.converged.metrics.get("sliced_wasserstein")
    known = "" if floor is None else f" Floor, the model's converged solution of these seeds: {text(floor)}."
    return (
        f"Sliced Wasserstein distance to {spaces(outcome)}, {samples(outcome.rows)}; smaller is better, and at finite "
        f"counts it does not reach 0.{known}"
    )


def _own_fd(outcome: Outcome) -> str:
    if (floor := outcome.converged.metrics.get("own_fd")) is None or outcome.others:
        return ""
    return (
        f" {described('own_fd').label}: from as many of the model's own converged samples, of other seeds, which have "
        f"the network's error too; its floor, the converged samples of these seeds: {text(floor)}."
    )


def _fid(outcome: Outcome) -> str:
    floors, metrics = outcome.floors, outcome.converged.metrics
    seeds = [text(metrics["fid"])] if "fid" in metrics else []
    seeds += [f"{metrics['own_class'].value:.1%} of their class"] if "own_class" in metrics else []
    if not (measured := in_space(outcome)):
        return f"No distance of distributions was measured; {samples(outcome.rows)}."
    if "fid" not in measured:
        told = ", ".join(described(name).label for name in measured)
        return f"{told} in {spaces(outcome)}, {samples(outcome.rows)}."
    start = f"FID in {spaces(outcome)}, {samples(outcome.rows)}; smaller is better."
    if outcome.own:
        return (
            f"{start} Compared with as many of the model's own converged samples, of other seeds; floor, its converged "
            f"samples of these seeds: {', '.join(seeds)}."
        )
    if outcome.others:
        known = [f"{each.converged.model} {text(each.converged.metrics.get('fid'))}" for each in outcome.limits]
        return f"{start} The models' converged solutions: {', '.join(known)}."
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
    per = "coordinate" if outcome.points else "pixel, images in [−1, 1]"
    return (
        f"Error: root mean square per {per}, from the converged solution of the same seeds "
        f"({outcome.converged.name}, {count(outcome.converged.nfe)} NFE; its own distance from half the NFE is "
        f"{outcome.reference_error:.1e}). Solvers that draw noise have none."
    )


def conditions(outcome: Outcome) -> str:
    """Guidance, precision and compile mode: of all rows, or of those whose curve does not name another."""
    names = varied(outcome.rows)
    values = {name: usual(outcome.rows, name) for name in ("guidance", "dtype", "compile")}
    values["dtype"] = f"{'computed' if outcome.points else 'network'} in {values['dtype']}"
    return ", ".join(f"{value} unless named" if name in names else value for name, value in values.items())

"""Several benchmarks as one: of other seeds, models or machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from scoresde.bench.rows import Estimate, Failure, Limits, Outcome, Row, Timing

T = TypeVar("T")
BACKGROUND = 255  # around pictures that are smaller than those of other models


def join(outcomes: Mapping[str, Outcome]) -> Outcome:
    """One outcome of several, by their names: rows that differ in nothing but their seeds become one.

    A joined row has the mean of each metric and, as ``spread``, the lowest and the highest value of the runs. The
    interval of a mean of k runs of disjoint seeds has the sides √(Σ side²)/k, since they are independent draws; where
    seeds occur in several runs, Σ side/k. Rows of other models stay apart, and where the same seeds were taken with
    other versions or on another machine, the rows of each, which ``folder`` names then.

    Raises:
        ValueError: none are given; or they cannot stand in one table: figures in several feature spaces, of one model
            against several references, or some from real images and some from the model's own converged samples.
    """
    if not outcomes:
        raise ValueError("nothing to join")
    _check(outcomes)
    found = list(outcomes.values())
    groups: dict[str, list[tuple[Row, Tensor]]] = {}
    for name, outcome in outcomes.items():
        for row, image in zip(outcome.rows, outcome.images, strict=False):
            groups.setdefault(_key(row), []).append((replace(row, folder=name), image))
    models: dict[str, list[tuple[Limits, Tensor]]] = {}
    for outcome in found:
        for limits, image in zip(outcome.limits, outcome.images[len(outcome.rows) :], strict=True):
            models.setdefault(limits.converged.model, []).append((limits, image))
    runs = [members for group in groups.values() for members in _by_machine(group)]
    rows = [_mean([row for row, _ in members]) for members in runs]
    first, *others = [_limits([limits for limits, _ in members]) for members in models.values()]
    pictures = _stacked([members[0][1] for members in (*runs, *models.values())])
    labels = [outcome.labels[: pictures.shape[1]] for outcome in found]
    there = {_asked(row) for row in rows}
    return Outcome(
        rows,
        first.converged,
        first.reference_error,
        first.floors,
        pictures,
        labels[0] if all(each == labels[0] for each in labels) else [],
        config={name: outcome.config for name, outcome in outcomes.items()},
        environment=_common({name: outcome.environment for name, outcome in outcomes.items()}),
        failures=[failure for outcome in found for failure in outcome.failures if _asked(failure) not in there],
        own=found[0].own,
        features=found[0].features,
        others=others,
        timings=_timings(outcomes),
    )


def _timings(outcomes: Mapping[str, Outcome]) -> list[Timing]:
    """Of all, each once: where one was taken on several machines those of each, which ``folder`` names then."""
    found: dict[tuple[object, ...], list[Timing]] = {}
    for name, outcome in outcomes.items():
        for each in outcome.timings:
            key = (*_asked(each), each.batch, each.model)
            found.setdefault(key, []).append(replace(each, folder=name))
    single = all(len(members) == 1 for members in found.values())
    return [replace(each, folder="" if single else each.folder) for members in found.values() for each in members]


def _check(outcomes: Mapping[str, Outcome]) -> None:
    spaces = {row.feature_space: name for name, outcome in outcomes.items() for row in outcome.rows}
    if len(spaces) > 1:
        told = "; ".join(f"{name} in {space or 'none'}" for space, name in spaces.items())
        raise ValueError(f"distances in several feature spaces cannot stand in one table: {told}")
    own = {outcome.own: name for name, outcome in outcomes.items()}
    if len(own) > 1:
        raise ValueError(
            f"{own[True]} compares with the model's own converged samples and {own[False]} with real images: their "
            "distances cannot stand in one table"
        )
    references: dict[str, tuple[Any, str]] = {}
    for name, outcome in outcomes.items():
        reference, model = (outcome.config.get("inputs") or {}).get("reference"), outcome.converged.model
        before, other = references.setdefault(model, (reference, name))
        if reference != before:
            raise ValueError(f"{other} and {name} compare the samples of {model} with other images: join those alone")


def _key(row: Row) -> str:
    """What rows that become one have in common."""
    alike = (row.solver, row.name, row.options, row.grid, row.budget, row.guidance, row.dtype, row.compile)
    return json.dumps([*alike, row.samples, row.model], sort_keys=True)


def _by_machine(members: Sequence[tuple[Row, Tensor]]) -> list[list[tuple[Row, Tensor]]]:
    """The runs that become one row: all, or those of each machine where several have the same seeds."""
    seen: dict[tuple[int, ...], str] = {}
    alone = all(seen.setdefault(row.seeds, row.versions) == row.versions for row, _ in members)
    parts: dict[str, list[tuple[Row, Tensor]]] = {}
    for row, image in members:
        parts.setdefault("" if alone else row.versions, []).append((row, image))
    names = {key: "" if alone else ", ".join(row.folder for row, _ in part) for key, part in parts.items()}
    return [[(replace(row, folder=names[key]), image) for row, image in part] for key, part in parts.items()]


def _asked(row: Row | Failure | Timing) -> tuple[object, ...]:
    return row.solver, row.grid, row.budget, row.guidance, row.dtype, row.compile


def _mean(rows: Sequence[Row]) -> Row:
    """The row of several runs."""
    first = rows[0]
    if len(rows) == 1:
        return first
    names = [name for name in first.metrics if all(name in row.metrics for row in rows)]
    estimates = {name: [row.metrics[name] for row in rows] for name in names}
    return replace(
        first,
        nfe=sum(row.nfe for row in rows) / len(rows),
        seconds=sum(row.seconds for row in rows) / len(rows),
        metrics={name: _estimate(values, _apart(rows)) for name, values in estimates.items()},
        spread={
            name: (min(e.value for e in values), max(e.value for e in values)) for name, values in estimates.items()
        },
        seeds=tuple(seed for row in rows for seed in row.seeds),
        versions="; ".join(dict.fromkeys(row.versions for row in rows)),
    )


def _apart(rows: Sequence[Row]) -> bool:
    """Whether no seed is in two of the runs."""
    firsts = sorted(seed for row in rows for seed in row.seeds)
    return all(after - before >= rows[0].samples for before, after in zip(firsts, firsts[1:], strict=False))


def _estimate(values: Sequence[Estimate], independent: bool) -> Estimate:
    mean = sum(each.value for each in values) / len(values)
    sides = [
        (each.value - each.low, each.high - each.value)
        for each in values
        if each.low is not None and each.high is not None
    ]
    if len(sides) < len(values):
        return Estimate(mean)
    below, above = (
        (math.hypot(*side) if independent else sum(side)) / len(values) for side in zip(*sides, strict=True)
    )
    return Estimate(mean, mean - below, mean + above)


def _limits(limits: Sequence[Limits]) -> Limits:
    """Of one model, of several runs: the floors, which are of no run, are those of the first."""
    error = max(each.reference_error for each in limits)
    return Limits(_mean([each.converged for each in limits]), error, limits[0].floors)


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures of several models in one: as many as all have, in colour if any is, the smaller ones in the middle.

    Raises:
        ValueError: images and points, or points of several dimensions.
    """
    if any(each.ndim == 2 for each in pictures):
        if len({each.shape[1:] for each in pictures}) > 1:
            raise ValueError("points stand on one page with points of the same dimension alone")
        return torch.stack([each[: min(map(len, pictures))] for each in pictures])
    shown, channels = min(len(each) for each in pictures), max(each.shape[1] for each in pictures)
    height, width = (max(each.shape[side] for each in pictures) for side in (2, 3))
    made = []
    for each in pictures:
        down, right = height - each.shape[2], width - each.shape[3]
        around = (right // 2, right - right // 2, down // 2, down - down // 2)
        made.append(F.pad(each[:shown].expand(-1, channels, -1, -1), around, value=BACKGROUND))
    return torch.stack(made)


def _common(named: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Of several environments: what they have in common once, the rest with the names of those that have it."""
    made: dict[str, str] = {}
    for key in dict.fromkeys(key for each in named.values() for key in each):
        values: dict[str, list[str]] = {}
        for name, each in named.items():
            values.setdefault(each.get(key, "unknown"), []).append(name)
        made[key] = "; ".join(
            f"{value} ({', '.join(names)})" if len(values) > 1 else value for value, names in values.items()
        )
    return made

"""Solvers that know the model: ``tuned`` from its file, ``auto`` with the model's σ*."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import scoresde
import solvers
from scoresde import models, tuned
from scoresde.bench.cases import recorded
from scoresde.files import digest
from scoresde.files.text import say
from scoresde.models import Checkpoint
from scoresde.runs import record
from scoresde.score import ScoreModel
from solvers import Solver

AUTO = "auto"
SEEDS = range(16)


def named(name: str, options: Mapping[str, Any], place: models.Place) -> tuple[Solver, dict[str, Any]]:
    """The solver of a configuration as far as it can be known before the model, and what is recorded of it.

    Args:
        name, options: of the solver.
        place: of the model, beside which ``tuned`` looks for its file.

    Raises:
        ValueError: unknown name, or an option out of range.
    """
    given = dict(options)
    if name == tuned.NAME:
        found = tuned.named(name, **{**given, "path": given.get("path") or models.beside(place)})
        assert isinstance(found, tuned.TunedSolver)
        foreign = {"foreign": True} if found.foreign else {}
        return found, {"name": name, **foreign, "sha256": digest(str(found.path))}
    found = solvers.get(name, **given)
    return found, {"name": name, **recorded(found.name, given)}


def fitted(solver: Solver, model: ScoreModel, checkpoint: Checkpoint, out: Path | None = None) -> Solver:
    """``auto`` with the σ* of a model where it has none: the one that is known, or one that is measured and said.

    Args:
        solver: any; others are given back as they are.
        model: on its process, and guided.
        checkpoint: the model's.
        out: a folder of results, whose record of σ* goes before.
    """
    if solver.name != AUTO or solver.options["scale"] is not None:
        return solver
    before = (record.recorded(out) or {}).get("solver") if out is not None else None
    if isinstance(before, Mapping) and before.get("name") == AUTO:
        return solvers.get(AUTO, scale=before["scale"]) if before.get("scale") else solver
    known = tuned.of(model, AUTO)
    if known.options["scale"] is not None:
        return known
    scale = measured(model, checkpoint)
    say(f"note: solver=auto measured this model's noise scale, {scale:g}; solver.scale={scale:g} says so at once")
    return solvers.get(AUTO, scale=scale)


def measured(model: ScoreModel, checkpoint: Checkpoint) -> float:
    """σ* of a model, over its classes in turn.

    Raises:
        ValueError: its denoised samples do not move, or are not finite.
    """
    label = torch.arange(len(SEEDS)) % max(checkpoint.classes, 1)
    cond = {"label": label} if checkpoint.classes else {}
    scale = scoresde.noise_scale(model, shape=checkpoint.shape, seeds=SEEDS, cond=cond)
    return float(f"{scale:.{tuned.DIGITS}g}")
